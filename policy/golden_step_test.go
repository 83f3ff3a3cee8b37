package policy

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// goldenStep is a case of testdata/steps.json, which scripts/reference/ppo_loss.py computes with PyTorch.
type goldenStep struct {
	Name     string
	Settings struct {
		Credit       string
		ClipLow      float64 `json:"clip_low"`
		ClipHigh     float64 `json:"clip_high"`
		Beta         float64
		BetaRate     float64 `json:"beta_rate"`
		BetaMin      float64 `json:"beta_min"`
		BetaMax      float64 `json:"beta_max"`
		TargetKL     float64 `json:"target_kl"`
		Rejected     float64
		Loose        float64
		MaxAdvantage float64 `json:"max_advantage"`
	}
	Critic *struct {
		Ridge float64
		Seen  []struct {
			Features []float64
			Reward   float64
		}
	}
	Pairs []struct {
		Y          float64
		Features   []float64
		Predicted  [][]float64
		WithoutPos []float64 `json:"without_pos"`
		WithoutNeg []float64 `json:"without_neg"`
		Pos, Neg   []goldenText
	}
	Want struct {
		Credit []struct{ Pos, Neg []float64 }
		Scale  float64
		KL     float64
		Beta   float64

		Advantages []float64   // per text
		PerToken   [][]float64 `json:"per_token"`
	}
}

type goldenText struct {
	Old, Ref, New []float32
	Flag          string
}

// credit gives the sentences of a pair their rewards, as the setting says.
func (c *goldenStep) credit(t *testing.T, p int) (pos, neg []float64) {
	t.Helper()
	pair := c.Pairs[p]
	reward := func(predicted float64) float64 {
		r, err := Reward(pair.Y, predicted)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	all := make([][]float64, len(pair.Predicted))
	var both, noPos, noNeg []float64
	for i, row := range pair.Predicted {
		for _, predicted := range row {
			all[i] = append(all[i], reward(predicted))
		}
		both, noPos, noNeg = append(both, all[i][i]), append(noPos, reward(pair.WithoutPos[i])), append(noNeg, reward(pair.WithoutNeg[i]))
	}
	var err error
	switch c.Settings.Credit {
	case "crossed":
		pos, neg, err = Crossed(all)
	case "side":
		pos, neg, err = Counterfactual(both, noPos, noNeg)
	default:
		pos, neg = both, both
	}
	if err != nil {
		t.Fatal(err)
	}
	return pos, neg
}

// captured is a trainer that answers the case's new log probabilities and notes what it was sent.
type captured struct {
	lps    map[int][]float32 // by the first new token, which tells texts apart
	data   []Datum
	config map[string]float64
}

func (c *captured) ForwardBackward(_ context.Context, data []Datum, _ string, config map[string]float64) (*Pass, error) {
	c.data, c.config = append(c.data, data...), config
	out := &Pass{}
	for _, d := range data {
		row := make([]float32, len(d.Targets))
		copy(row[1:], c.lps[int(d.Targets[1])])
		out.Logprobs = append(out.Logprobs, row)
	}
	return out, nil
}

func (*captured) OptimStep(context.Context, AdamStep) error { return nil }

// Every option of a step, from ratings to what the training server is asked for, and the weight of the next step. The loss and its gradient
// for the same cases are checked where they are computed, in internal/lm.
func TestGoldenSteps(t *testing.T) {
	text, err := os.ReadFile("testdata/steps.json")
	var cases []goldenStep
	if err == nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil || len(cases) < 14 {
		t.Fatal(err, len(cases))
	}
	close := func(t *testing.T, what string, got, want float64) {
		t.Helper()
		if !(math.Abs(got-want) <= 1e-6*(math.Abs(want)+1e-3)) {
			t.Errorf("%s is %.12g, want %.12g", what, got, want)
		}
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			s := DefaultSettings()
			g := c.Settings
			s.Epochs, s.Minibatch, s.VocabSize, s.Placeholder = 1, 1000, 100000, 1
			s.ClipLow, s.ClipHigh, s.Beta, s.BetaRate, s.BetaMin, s.BetaMax, s.TargetKL = g.ClipLow, g.ClipHigh, g.Beta, g.BetaRate, g.BetaMin, g.BetaMax, g.TargetKL
			s.RejectedPenalty, s.LoosePenalty, s.MaxAdvantage = g.Rejected, g.Loose, g.MaxAdvantage
			var critic *Critic
			if c.Critic != nil {
				if critic, err = NewCritic(1, c.Critic.Ridge); err != nil {
					t.Fatal(err)
				}
				for _, seen := range c.Critic.Seen {
					critic.Observe(seen.Features, seen.Reward)
				}
			}
			server := &captured{lps: map[int][]float32{}}
			var groups []Group
			serial := 0
			order := map[int64]int{} // by the first new token
			for p, pair := range c.Pairs {
				pos, neg := c.credit(t, p)
				for side, texts := range [][]goldenText{pair.Pos, pair.Neg} {
					credit, want := pos, c.Want.Credit[p].Pos
					if side == 1 {
						credit, want = neg, c.Want.Credit[p].Neg
					}
					group := Group{Features: pair.Features}
					for i, one := range texts {
						close(t, "credit", credit[i], want[i])
						x := Text{Prompt: []int32{5, 6}, Logprobs: one.Old, Ref: one.Ref, Reward: credit[i], Sentence: "a", Rejected: one.Flag == "rejected", Loose: one.Flag == "loose"}
						for k := range one.Old {
							x.Tokens = append(x.Tokens, int32(1000*(serial+1)+k))
						}
						order[int64(x.Tokens[0])], server.lps[int(x.Tokens[0])] = serial, one.New
						serial++
						group.Texts = append(group.Texts, x)
					}
					groups = append(groups, group)
				}
			}
			adv, scale := Advantages(groups, critic, s)
			close(t, "scale", scale, c.Want.Scale)
			n := 0
			for _, row := range adv {
				for _, a := range row {
					close(t, "advantage", a, c.Want.Advantages[n])
					n++
				}
			}
			o, err := NewOptimizer(s, server, nil, critic)
			if err != nil {
				t.Fatal(err)
			}
			m, err := o.Step(t.Context(), groups)
			if err != nil {
				t.Fatal(err)
			}
			close(t, "KL", m.KL.K1, c.Want.KL)
			close(t, "next KL weight", m.BetaNext, c.Want.Beta)
			close(t, "lower clip", server.config["clip_low_threshold"], 1-g.ClipLow)
			close(t, "upper clip", server.config["clip_high_threshold"], 1+g.ClipHigh)
			if len(server.data) != serial {
				t.Fatalf("%d data were sent, want %d", len(server.data), serial)
			}
			for _, d := range server.data {
				want := c.Want.PerToken[order[d.Targets[1]]]
				for k, w := range want {
					close(t, "advantage of a token", float64(d.Advantages[k+1]), w)
				}
			}
		})
	}
}
