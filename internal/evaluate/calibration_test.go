package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// noisy draws predictions whose errors have the standard deviations sd, times wrong.
func noisy(rng *rand.Rand, n int, wrong float64) (pred, truth, sd []float32) {
	for range n {
		s, y := .05+.2*rng.Float64(), rng.Float64()
		pred, truth, sd = append(pred, float32(y)), append(truth, float32(y+s*rng.NormFloat64())), append(sd, float32(s*wrong))
	}
	return pred, truth, sd
}

// Where errors are as said, coverage is the level, slope 1, and a wrong factor is found and put right.
func TestRightUncertaintyIsCalledRight(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 1))
	pred, truth, sd := noisy(rng, 20000, .5)
	vp, vt, vs := noisy(rng, 20000, .5)
	factor, err := Recalibrate(vp, vt, vs)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "factor", factor, 2, .03)
	right, err := MeasureSpread(pred, truth, sd, factor)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := MeasureSpread(pred, truth, sd, 1)
	if err != nil {
		t.Fatal(err)
	}
	for k, c := range right.Coverage {
		near(t, "coverage", c.Share, c.Level, .015)
		if w := wrong.Coverage[k]; w.Share > c.Share-.1 || w.Level != c.Level {
			t.Errorf("intervals of half the width cover %v", w)
		}
	}
	if right.ENCE > .05 || wrong.ENCE < .8 || right.CRPS >= wrong.CRPS || right.NLL >= wrong.NLL || math.Abs(right.Sharpness-2*wrong.Sharpness) > .03 {
		t.Errorf("right %+v\nwrong %+v", right, wrong)
	}
	for k, b := range right.Bins {
		near(t, "RMSE of a bin", b.RMSE, b.SD, 4*b.SE)
		if k > 0 && b.SD <= right.Bins[k-1].SD || b.N != 2000 {
			t.Errorf("bin %d: %+v", k, b)
		}
	}
	c, err := Calibrate(pred, truth)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "slope", c.Slope, 1, 4*c.SlopeSE)
	if c.Error > .01 || len(c.Bins) != 10 {
		t.Errorf("%+v", c)
	}
}

// Predictions pulled twice too far from the middle have slope one half.
func TestBoldPredictionsHaveASmallSlope(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 2))
	pred, truth, _ := noisy(rng, 5000, 1)
	for i := range pred {
		pred[i] = .5 + 2*(pred[i]-.5)
	}
	c, err := Calibrate(pred, truth)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "slope", c.Slope, .5, 4*c.SlopeSE)
	near(t, "intercept", c.Intercept, .25, .02)
	if c.Bins[0].Prediction > c.Bins[0].Truth || c.Bins[9].Prediction < c.Bins[9].Truth || c.Error < .2 {
		t.Errorf("%+v", c)
	}
}

func TestClickCalibrationByHand(t *testing.T) {
	c, err := CalibrateClick([]float32{.5, .5, 1, 0}, []float32{.75, .5, .8, .2})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Brier", *c.Brier, (.25+.25)/4, 1e-7)
	near(t, "error", c.Error, 0, 1e-7)
	if len(c.Bins) != 1 || c.Bins[0].N != 4 {
		t.Errorf("%+v: bins of fewer than %d records", c.Bins, leastInBin)
	}
}

// Bins hold every record once, those of one value together, in ascending order.
func TestEqualParts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		xs := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 12), func(k int) float32 { return float32(k) }), 1, 300).Draw(rt, "values")
		seen, last := 0, float32(-1)
		parts := equalParts(ascending(xs), func(i int) float32 { return xs[i] })
		for _, part := range parts {
			if len(part) == 0 || xs[part[0]] <= last {
				rt.Fatalf("a part of %d begins at %v after %v", len(part), xs[part[0]], last)
			}
			last = xs[part[len(part)-1]]
			seen += len(part)
		}
		apart := make([]float32, rapid.IntRange(1, 500).Draw(rt, "distinct"))
		for i := range apart {
			apart[i] = float32(i)
		}
		even := equalParts(ascending(apart), func(i int) float32 { return apart[i] })
		for _, part := range even {
			if d := len(part) - len(apart)/len(even); d < 0 || d > 1 || len(even) > 1 && len(part) < leastInBin {
				rt.Fatalf("a part of %d, of %d values in %d parts", len(part), len(apart), len(even))
			}
		}
		if seen != len(xs) || len(parts) > reliabilityBins {
			rt.Fatalf("%d of %d records in %d parts", seen, len(xs), len(parts))
		}
	})
}

func TestCalibrationRefuses(t *testing.T) {
	ok, nan := []float32{.5, .25}, []float32{.5, float32(math.NaN())}
	for name, err := range map[string]error{
		"lengths":      second(Calibrate(ok, ok[:1])),
		"nothing":      second(Calibrate(nil, nil)),
		"NaN":          second(Calibrate(nan, ok)),
		"NaN truth":    second(CalibrateClick(ok, nan[1:])),
		"no deviation": second(MeasureSpread(ok, ok, []float32{.1, 0}, 1)),
		"few of them":  second(MeasureSpread(ok, ok, ok[:1], 1)),
		"factor":       second(MeasureSpread(ok, ok, ok, 0)),
		"no errors":    second(Recalibrate(ok, ok, ok)),
	} {
		if err == nil {
			t.Errorf("%s: measured", name)
		}
	}
}
