package lm

import (
	"fmt"
	"math"
)

// A tokenLoss is one target's part of a loss and its derivative by the log probability lp. Everything that the training API's losses
// need of the model is lp, so their gradients are written in closed form here and the network sees Σ lp·derivative.
type tokenLoss func(d *Datum, i int, lp float64) (value, derivative float64)

// newLoss returns a loss by its name in the training API. Losses are sums over tokens and data.
//
//	cross_entropy         −Σ w·lp
//	importance_sampling   −Σ r·A                              r = exp(lp − logprobs)
//	ppo                   −Σ min(r·A, clip(r, lo, hi)·A)      lo, hi are bounds of the ratio
func newLoss(name string, cfg map[string]float64) (tokenLoss, error) {
	lo, hi := 0.8, 1.2
	for key, v := range cfg {
		switch {
		case math.IsNaN(v) || math.IsInf(v, 0):
			return nil, fmt.Errorf("%s is not finite", key)
		case key == "clip_low_threshold" && name == "ppo":
			lo = v
		case key == "clip_high_threshold" && name == "ppo":
			hi = v
		case key == cfgOnlyWeighted, key == cfgSharedGrads, key == cfgFreeze:
		default:
			return nil, fmt.Errorf("loss %s has no setting %q", name, key)
		}
	}
	switch name {
	case "cross_entropy":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			w := d.weight(i)
			return -w * lp, -w
		}, nil
	case "importance_sampling":
		return func(d *Datum, i int, lp float64) (float64, float64) {
			x := math.Exp(lp-float64(d.Logprobs[i])) * float64(d.Advantages[i])
			return -x, -x
		}, nil
	case "ppo":
		if !(lo >= 0 && lo <= hi) {
			return nil, fmt.Errorf("clip thresholds %g and %g are not in order", lo, hi)
		}
		return func(d *Datum, i int, lp float64) (float64, float64) {
			r, a := math.Exp(lp-float64(d.Logprobs[i])), float64(d.Advantages[i])
			free, clipped := r*a, min(max(r, lo), hi)*a
			if free <= clipped {
				return -free, -free
			}
			return -clipped, 0
		}, nil
	}
	return nil, fmt.Errorf("loss %q is not supported (cross_entropy, importance_sampling, ppo)", name)
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
	if loss == "cross_entropy" {
		return d.weight(i) != 0
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
