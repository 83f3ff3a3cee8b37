package lm

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// The loss and its gradient of whole PPO steps, and that of the form for servers without ppo (importance sampling with clipped tokens zeroed), beside
// PyTorch's: the cases of policy/testdata/steps.json, which scripts/reference/ppo_loss.py writes.
func TestGoldenPPOLoss(t *testing.T) {
	text, err := os.ReadFile("../../policy/testdata/steps.json")
	type sampled struct{ Old, New []float32 }
	var cases []struct {
		Name     string
		Settings struct {
			ClipLow  float64 `json:"clip_low"`
			ClipHigh float64 `json:"clip_high"`
		}
		Pairs []struct{ Pos, Neg []sampled }
		Want  struct {
			Loss      float64
			PerToken  [][]float32 `json:"per_token"`
			Gradients [][]float64
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil || len(cases) < 14 {
		t.Fatal(err, len(cases))
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			lo, hi := 1-c.Settings.ClipLow, 1+c.Settings.ClipHigh
			ppo, err := newLoss("ppo", map[string]float64{"clip_low_threshold": lo, "clip_high_threshold": hi})
			if err != nil {
				t.Fatal(err)
			}
			is, err := newLoss("importance_sampling", nil)
			if err != nil {
				t.Fatal(err)
			}
			loss, n := 0.0, 0
			for _, pair := range c.Pairs {
				for _, one := range append(append([]sampled{}, pair.Pos...), pair.Neg...) {
					d := &Datum{Logprobs: one.Old, Advantages: c.Want.PerToken[n]}
					zeroed := &Datum{Logprobs: one.Old, Advantages: append([]float32{}, d.Advantages...)}
					for i, lp := range one.New {
						v, g := ppo(d, i, float64(lp))
						want := c.Want.Gradients[n][i]
						if !(math.Abs(g-want) <= 1e-6*(math.Abs(want)+1e-4)) {
							t.Errorf("gradient of text %d, token %d is %.10g, want %.10g", n, i, g, want)
						}
						loss += v
						r := math.Exp(float64(lp - one.Old[i]))
						if a := d.Advantages[i]; a > 0 && r > hi || a < 0 && r < lo {
							zeroed.Advantages[i] = 0
						}
						if _, g := is(zeroed, i, float64(lp)); !(math.Abs(g-want) <= 1e-6*(math.Abs(want)+1e-4)) {
							t.Errorf("by importance sampling it is %.10g, want %.10g", g, want)
						}
					}
					n++
				}
			}
			if !(math.Abs(loss-c.Want.Loss) <= 1e-6*(math.Abs(c.Want.Loss)+1e-3)) {
				t.Errorf("the loss is %.10g, want %.10g", loss, c.Want.Loss)
			}
		})
	}
}
