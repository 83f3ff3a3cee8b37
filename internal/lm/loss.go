package lm

import (
	"fmt"
	"math"
)

// A tokenLoss is one target's part of a loss and its derivative by the log probability lp. Everything that the training API's losses
// need of the model is lp, so their gradients are written in closed form here and the network sees Σ lp·derivative.
type tokenLoss func(d *Datum, i int, lp float64) (value, derivative float64)

// newLoss returns a loss by its name in the training API. Losses are sums over tokens and data; r = exp(lp − logprobs), and lo, hi are bounds of it.
//
//	cross_entropy         −Σ w·lp                                  w of any sign, so that every function of lp can be trained
//	importance_sampling   −Σ r·A
//	ppo                   −Σ min(r·A, clip(r, lo, hi)·A)           lo .8, hi 1.2
//	cispo                 −Σ stop(clip(r, lo, hi))·lp·A            lo 0, hi 4 (MiniMax-M1, arXiv 2506.13585)
//	dro                   −Σ (lp·A − ½β(lp − logprobs)²)           β .05 (arXiv 2405.19107)
func newLoss(name string, cfg map[string]float64) (tokenLoss, error) {
	of := map[string]map[string]float64{
		"cross_entropy": {}, "importance_sampling": {}, "dro": {"beta": 0.05},
		"ppo":   {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2},
		"cispo": {"clip_low_threshold": 0, "clip_high_threshold": 4},
	}
	set := of[name]
	if set == nil {
		return nil, fmt.Errorf("loss %q is not supported (cross_entropy, importance_sampling, ppo, cispo, dro)", name)
	}
	for key, v := range cfg {
		_, known := set[key]
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return nil, fmt.Errorf("%s is not finite", key)
		case known:
			set[key] = v
		case key == cfgOnlyWeighted, key == cfgSharedGrads, key == cfgFreeze:
		default:
			return nil, fmt.Errorf("loss %s has no setting %q", name, key)
		}
	}
	lo, hi, beta := set["clip_low_threshold"], set["clip_high_threshold"], set["beta"]
	if !(lo >= 0 && lo <= hi) || beta < 0 {
		return nil, fmt.Errorf("loss %s: settings %v are out of range", name, set)
	}
	ratio := func(d *Datum, i int, lp float64) (r, a float64) {
		return math.Exp(lp - float64(d.Logprobs[i])), float64(d.Advantages[i])
	}
	switch name {
	case "cross_entropy":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			w := d.weight(i)
			return -w * lp, -w
		}, nil
	case "importance_sampling":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			r, a := ratio(d, i, lp)
			return -r * a, -r * a
		}, nil
	case "cispo":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			r, a := ratio(d, i, lp)
			w := min(max(r, lo), hi)
			return -w * lp * a, -w * a
		}, nil
	case "dro":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			a, gone := float64(d.Advantages[i]), lp-float64(d.Logprobs[i])
			return -(lp*a - beta/2*gone*gone), -(a - beta*gone)
		}, nil
	}
	return func(d *Datum, i int, lp float64) (float64, float64) {
		r, a := ratio(d, i, lp)
		free, clipped := r*a, min(max(r, lo), hi)*a
		if free <= clipped {
			return -free, -free
		}
		return -clipped, 0
	}, nil
}

// Settings of ours beside the losses' own.
const (
	// cfgOnlyWeighted = 1: targets of weight or advantage 0 are not scored; their returned log probability is 0.
	cfgOnlyWeighted = "logprobs_only_weighted"
	// cfgSharedGrads = 1: data with equal soft rows and beginnings are computed together; the gradient of their common rows comes
	// with the first of them, the others' is 0. Sums over such data are as without it.
	cfgSharedGrads = "shared_prompt_grads"
	// cfgFreeze = 1: no gradient for the adapter, only for the soft rows.
	cfgFreeze = "freeze_adapter"
)

func (d *Datum) weight(i int) float64 {
	if d.Weights == nil {
		return 1
	}
	return float64(d.Weights[i])
}

// counts reports whether target i can move the loss.
func (d *Datum) counts(i int, loss string) bool {
	switch loss {
	case "cross_entropy":
		return d.weight(i) != 0
	case "dro": // the distance to the sampler counts too; where nothing was sampled there is none
		return d.Advantages[i] != 0 || d.Logprobs[i] != 0
	}
	return d.Advantages[i] != 0
}

// check refuses data that do not fit the model or the loss.
func (d *Datum) check(m Config, loss string) error {
	n := len(d.Tokens)
	switch {
	case n == 0:
		return fmt.Errorf("no tokens")
	case n > m.positions():
		return fmt.Errorf("%w: %d of %d", ErrTooLong, n, m.positions())
	case len(d.Targets) != n:
		return fmt.Errorf("%d target_tokens for %d tokens", len(d.Targets), n)
	}
	for i, id := range d.Tokens {
		if id < 0 || int(id) >= m.VocabSize {
			return fmt.Errorf("token %d at %d is not in the vocabulary of %d", id, i, m.VocabSize)
		}
		if t := d.Targets[i]; t < 0 || t >= int64(m.VocabSize) {
			return fmt.Errorf("target %d at %d is not in the vocabulary of %d", t, i, m.VocabSize)
		}
	}
	inputs := []struct {
		name   string
		v      []float32
		wanted bool
	}{
		{"weights", d.Weights, false}, {"logprobs", d.Logprobs, loss != "cross_entropy"}, {"advantages", d.Advantages, loss != "cross_entropy"},
	}
	for _, in := range inputs {
		if in.v == nil && !in.wanted {
			continue
		}
		if len(in.v) != n {
			return fmt.Errorf("%d %s for %d tokens", len(in.v), in.name, n)
		}
		if i := notFinite(in.v); i >= 0 {
			return fmt.Errorf("%s: element %d is not finite", in.name, i)
		}
	}
	if len(d.Embeds) != len(d.EmbedPos)*m.HiddenSize {
		return fmt.Errorf("prompt_embeds has %d numbers for %d positions of width %d", len(d.Embeds), len(d.EmbedPos), m.HiddenSize)
	}
	if i := notFinite(d.Embeds); i >= 0 {
		return fmt.Errorf("prompt_embeds: element %d is not finite", i)
	}
	seen := map[int64]bool{}
	for _, p := range d.EmbedPos {
		if p < 0 || p >= int64(n) || seen[p] {
			return fmt.Errorf("prompt_embeds_positions: %d is out of range or occurs twice", p)
		}
		seen[p] = true
	}
	return nil
}

// notFinite returns the index of the first NaN or infinity, -1 without any.
func notFinite(v []float32) int {
	for i, x := range v {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return i
		}
	}
	return -1
}
