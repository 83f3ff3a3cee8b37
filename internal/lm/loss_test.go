package lm

import (
	"fmt"
	"math"
	"testing"
)

// Values and derivatives of every loss at points on both sides of the clips: values by the formulas of the training API, derivatives by differences,
// apart from cispo's, whose clipped ratio is held.
func TestLossesByTheirFormulas(t *testing.T) {
	clip := func(r, lo, hi float64) float64 { return math.Min(math.Max(r, lo), hi) }
	for _, c := range []struct {
		name  string
		cfg   map[string]float64
		value func(lp, old, a float64) float64
	}{
		{"importance_sampling", nil, func(lp, old, a float64) float64 { return -math.Exp(lp-old) * a }},
		{"ppo", nil, func(lp, old, a float64) float64 {
			r := math.Exp(lp - old)
			return -math.Min(r*a, clip(r, .8, 1.2)*a)
		}},
		{"ppo", map[string]float64{"clip_low_threshold": .5, "clip_high_threshold": 3}, func(lp, old, a float64) float64 {
			r := math.Exp(lp - old)
			return -math.Min(r*a, clip(r, .5, 3)*a)
		}},
		{"cispo", nil, func(lp, old, a float64) float64 { return -clip(math.Exp(lp-old), 0, 4) * lp * a }},
		{"cispo", map[string]float64{"clip_low_threshold": .8, "clip_high_threshold": 1.2}, func(lp, old, a float64) float64 {
			return -clip(math.Exp(lp-old), .8, 1.2) * lp * a
		}},
		{"dro", nil, func(lp, old, a float64) float64 { return -(lp*a - .025*(lp-old)*(lp-old)) }},
		{"dro", map[string]float64{"beta": 2}, func(lp, old, a float64) float64 { return -(lp*a - (lp-old)*(lp-old)) }},
	} {
		f, err := newLoss(c.name, c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, gone := range []float64{-2, -.4, -.1, 0, .1, .4, 2} {
			for _, a := range []float64{-1.5, .5} {
				d := &Datum{Logprobs: []float32{-3}, Advantages: []float32{float32(a)}}
				what := fmt.Sprint(c.name, " ", c.cfg, " at ", gone, ", A ", a)
				lp := -3 + gone
				v, g := f(d, 0, lp)
				near(t, what, v, c.value(lp, -3, a), 1e-6)
				const h = 1e-5
				want := (c.value(lp+h, -3, a) - c.value(lp-h, -3, a)) / (2 * h)
				if c.name == "cispo" {
					want = c.value(lp, -3, a) / lp
				}
				near(t, what+": derivative", g, want, 1e-4)
			}
		}
	}
}

func TestLossSettingsAreChecked(t *testing.T) {
	for name, cfg := range map[string]map[string]float64{
		"gspo": nil, "cross_entropy": {"beta": 1}, "importance_sampling": {"clip_low_threshold": 1}, "dro": {"beta": -1},
		"ppo": {"clip_low_threshold": 1.5}, "cispo": {"clip_high_threshold": math.NaN()},
	} {
		if _, err := newLoss(name, cfg); err == nil {
			t.Errorf("%s %v: accepted", name, cfg)
		}
	}
}
