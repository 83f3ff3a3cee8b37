package training

import (
	"math"
	"math/rand/v2"
	"testing"

	"recpie/internal/wire/tinker"
)

// ppoLoss is ppo's loss of one token by its definition.
func ppoLoss(lp, old, a float64) float64 {
	r := math.Exp(lp - old)
	return -math.Min(r*a, math.Min(math.Max(r, .8), 1.2)*a)
}

// The losses that stand in for ppo have its derivative, by finite differences of its definition, at every token away from the bounds.
func TestEmulatedGradientIsPPOs(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	c, rest := clipOf(map[string]float64{"other": 1})
	if c.low != .8 || c.high != 1.2 || len(rest) != 1 {
		t.Fatalf("%+v, %v", c, rest)
	}
	clipped := 0
	for range 2000 {
		lp, a := float32(-5*rng.Float64()), float32(rng.NormFloat64())
		old := lp - float32(.4*rng.NormFloat64())
		r := math.Exp(float64(lp) - float64(old))
		if math.Abs(r-.8) < 1e-3 || math.Abs(r-1.2) < 1e-3 {
			continue
		}
		const h = 1e-6
		l, o, ad := float64(lp), float64(old), float64(a)
		want := (ppoLoss(l+h, o, ad) - ppoLoss(l-h, o, ad)) / (2 * h)
		d := []Datum{{Tokens: []int32{1}, Targets: []int64{2}, Logprobs: []float32{old}, Advantages: []float32{a}}}
		now := [][]float32{{lp}}
		for _, form := range []string{tinker.LossImportanceSampling, tinker.LossCrossEntropy} {
			same, sum, err := c.emulate(d, now, form)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(sum-ppoLoss(l, o, ad)) > 1e-6*math.Abs(sum)+1e-12 {
				t.Fatalf("%s: loss %v, want %v", form, sum, ppoLoss(l, o, ad))
			}
			moved := func(lp float64) float64 { // the loss that is sent, of float64 so that it can be differentiated
				if form == tinker.LossCrossEntropy {
					return -float64(same[0].Weights[0]) * lp
				}
				return -math.Exp(lp-o) * float64(same[0].Advantages[0])
			}
			if got := (moved(l+h) - moved(l-h)) / (2 * h); math.Abs(got-want) > 1e-5*math.Abs(want)+1e-8 {
				t.Fatalf("%s: derivative %v, want %v (ratio %v, advantage %v)", form, got, want, r, a)
			}
			if form == tinker.LossImportanceSampling && same[0].Advantages[0] == 0 {
				clipped++
			}
		}
		if d[0].Advantages[0] != a {
			t.Fatal("the caller's data were changed")
		}
	}
	if clipped < 100 {
		t.Errorf("only %d tokens were clipped", clipped)
	}
}

func TestRatioOutOfRange(t *testing.T) {
	d := []Datum{{Tokens: []int32{1}, Targets: []int64{2}, Logprobs: []float32{-1000}, Advantages: []float32{-1}}}
	if _, _, err := (bounds{.8, 1.2}).emulate(d, [][]float32{{0}}, tinker.LossCrossEntropy); err == nil {
		t.Error("an infinite loss was sent")
	}
}

func TestLossIsFilledIn(t *testing.T) {
	data := []Datum{{Tokens: []int32{1, 2}, Targets: []int64{2, 3}, Weights: []float32{2, -1}, Logprobs: []float32{-1, -1}, Advantages: []float32{1, -1}}}
	plain := []Datum{{Tokens: []int32{1, 2}, Targets: []int64{2, 3}}}
	lp := [][]float32{{-.5, -1}}
	e := math.Exp(.5)
	for name, tc := range map[string]struct {
		loss string
		data []Datum
		pass Pass
		want float64
	}{
		"cross-entropy":       {tinker.LossCrossEntropy, data, Pass{}, 0}, // −(2·−.5 − 1·−1)
		"weights left out":    {tinker.LossCrossEntropy, plain, Pass{}, 1.5},
		"importance sampling": {tinker.LossImportanceSampling, data, Pass{}, -e + 1},
		"ppo":                 {tinker.LossPPO, data, Pass{}, -1.2 + 1},
		"another loss":        {"cispo", data, Pass{elementwise: []float32{1, 2, 3}}, 6},
		"sent":                {tinker.LossPPO, data, Pass{Metrics: map[string]float64{tinker.MetricLossSum: 7}}, 7},
	} {
		p := tc.pass
		p.Logprobs = lp
		if p.Metrics == nil {
			p.Metrics = map[string]float64{}
		}
		p.complete(tc.data, tc.loss, nil)
		if got, ok := p.Metrics[tinker.MetricLossSum]; !ok || math.Abs(got-tc.want) > 1e-6 {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	p := Pass{Logprobs: lp, Metrics: map[string]float64{}}
	if p.complete(data, "cispo", nil); len(p.Metrics) != 0 {
		t.Errorf("a loss was made up: %v", p.Metrics)
	}
}
