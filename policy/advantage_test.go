package policy

import (
	"math"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/fault"
)

func TestReward(t *testing.T) {
	for _, c := range []struct{ y, f, want float64 }{{1, 1, 1}, {0, 1, .5}, {1, 0, .5}, {.5, .25, .8}} {
		got, err := Reward(c.y, c.f)
		if err != nil || math.Abs(got-c.want) > 1e-12 {
			t.Errorf("Reward(%v,%v) = %v, %v; want %v", c.y, c.f, got, err, c.want)
		}
	}
	for _, c := range [][2]float64{{math.NaN(), 0}, {0, math.Inf(1)}} {
		if _, err := Reward(c[0], c[1]); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("Reward(%v) err = %v, want an item error", c, err)
		}
	}
}

func TestCredits(t *testing.T) {
	pos, neg, err := Counterfactual([]float64{.9, .8}, []float64{.7, .8}, []float64{.95, .6})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{.2, 0} {
		near(t, "pos", pos[i], want)
	}
	for i, want := range []float64{-.05, .2} {
		near(t, "neg", neg[i], want)
	}
	pos, neg, err = Crossed([][]float64{{1, 2, 3}, {3, 4, 5}})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "row mean", pos[1], 4)
	near(t, "column mean", neg[2], 4)
	if _, _, err := Crossed([][]float64{{1}, {1, 2}}); err == nil {
		t.Error("ragged rewards were taken")
	}
}

func drawGroups(t *rapid.T) []Group {
	groups := make([]Group, rapid.IntRange(1, 6).Draw(t, "groups"))
	for g := range groups {
		for range rapid.IntRange(1, 6).Draw(t, "alternatives") {
			groups[g].Texts = append(groups[g].Texts, Text{
				Reward: rapid.Float64Range(.2, 1).Draw(t, "reward"), Rejected: rapid.IntRange(0, 9).Draw(t, "rejected") == 0,
			})
		}
	}
	return groups
}

// Without clipping and penalties the advantages of a group sum to zero, adding a constant to the rewards of one pair changes nothing (no leak between
// pairs), and scaling all rewards changes nothing.
func TestAdvantageProperties(t *testing.T) {
	s := DefaultSettings()
	s.MaxAdvantage, s.RejectedPenalty = math.Inf(1), 0
	rapid.Check(t, func(t *rapid.T) {
		groups := drawGroups(t)
		adv, scale := Advantages(groups, nil, s)
		if scale < 1e-4 {
			t.Skip("no differences to scale")
		}
		moved := make([]Group, len(groups))
		shift, factor := rapid.Float64Range(-1, 1).Draw(t, "shift"), rapid.Float64Range(.1, 10).Draw(t, "factor")
		for g := range groups {
			sum := 0.0
			for i, a := range adv[g] {
				sum += a
				text := groups[g].Texts[i]
				text.Reward = factor * (text.Reward + shift*float64(g+1))
				moved[g].Texts = append(moved[g].Texts, text)
			}
			if math.Abs(sum) > 1e-6 {
				t.Fatalf("group %d sums to %v", g, sum)
			}
		}
		again, _ := Advantages(moved, nil, s)
		for g := range adv {
			for i := range adv[g] {
				if math.Abs(adv[g][i]-again[g][i]) > 1e-6 {
					t.Fatalf("advantage [%d][%d] moved from %v to %v", g, i, adv[g][i], again[g][i])
				}
			}
		}
	})
}

func TestRejectedTextsArePushedDown(t *testing.T) {
	groups := []Group{{Texts: []Text{{Reward: .9}, {Reward: .8}, {Rejected: true, Reward: math.NaN()}, {Reward: .85, Loose: true}}}}
	adv, _ := Advantages(groups, nil, DefaultSettings())
	if a := adv[0][2]; !(a < 0) {
		t.Errorf("rejected text has advantage %v", a)
	}
	sum := 0.0
	for _, a := range adv[0] {
		sum += a
	}
	near(t, "sum with penalties", sum, 0)
}

func TestEqualRewardsGiveNothing(t *testing.T) {
	groups := []Group{{Texts: []Text{{Reward: .9}, {Reward: math.Nextafter(.9, 1)}}}}
	adv, _ := Advantages(groups, nil, DefaultSettings())
	if math.Abs(adv[0][0]) > 1e-6 {
		t.Errorf("a rounding error became an advantage of %v", adv[0][0])
	}
}

func TestCriticIsTheBaselineOfLonePairs(t *testing.T) {
	c, err := NewCritic(1, 1e-6)
	if err != nil {
		t.Fatal(err)
	}
	lone := []Group{{Features: []float64{.5}, Texts: []Text{{Reward: 1}}}}
	if adv, _ := Advantages(lone, c, DefaultSettings()); adv[0][0] != 0 {
		t.Errorf("an untrained critic was used: %v", adv[0][0])
	}
	for i := range 20 {
		x := float64(i) / 20
		c.Observe([]float64{x}, .6+.2*x)
	}
	near(t, "prediction", math.Round(c.Predict([]float64{.5})*1e4)/1e4, .7)
	adv, scale := Advantages(lone, c, DefaultSettings())
	if math.Abs(scale-.3) > 1e-4 || math.Abs(adv[0][0]-1) > 1e-9 {
		t.Errorf("advantage %v at scale %v, want 1 at .3", adv[0][0], scale)
	}
	if c.Observe([]float64{math.NaN()}, 1) || c.Observe([]float64{1, 2}, 1) || c.Observe([]float64{1}, math.Inf(1)) {
		t.Error("an unusable observation was taken")
	}
}

func TestKLEstimatesAndController(t *testing.T) {
	// Exact expectation over a two-token policy: k1 and k3 are unbiased, k3 is never negative.
	p, q := []float64{.8, .2}, []float64{.5, .5}
	var k KL
	exact := 0.0
	for i := range p {
		var one KL
		one.addToken(math.Log(p[i] / q[i]))
		if one.K3 < 0 {
			t.Errorf("k3 = %v", one.K3)
		}
		k.K1 += p[i] * one.K1
		k.K3 += p[i] * one.K3
		exact += p[i] * math.Log(p[i]/q[i])
	}
	near(t, "k1", k.K1, exact)
	near(t, "k3", k.K3, exact)
	s := DefaultSettings()
	if b := nextBeta(1, 12, s); math.Abs(b-math.Exp(.2)) > 1e-12 {
		t.Errorf("above the target: %v", b)
	}
	if b := nextBeta(1, 0, s); !(b < 1) {
		t.Errorf("below the target: %v", b)
	}
	if b := nextBeta(s.BetaMax, 1e9, s); b != s.BetaMax {
		t.Errorf("β left its bounds: %v", b)
	}
}
