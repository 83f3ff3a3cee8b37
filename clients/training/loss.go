package training

import (
	"fmt"
	"maps"
	"math"

	"recpie/internal/wire/tinker"
)

// bounds are those of the ratio in ppo: loss = −Σ min(r·A, clip(r, low, high)·A) with r = exp(lp − logprobs).
type bounds struct{ low, high float64 }

// clipOf reads the bounds out of a loss configuration, where they default to those of the protocol, and returns what else it holds.
func clipOf(cfg map[string]float64) (bounds, map[string]float64) {
	c := bounds{.8, 1.2}
	rest := maps.Clone(cfg)
	if v, ok := cfg[tinker.ConfigClipLow]; ok {
		c.low = v
	}
	if v, ok := cfg[tinker.ConfigClipHigh]; ok {
		c.high = v
	}
	delete(rest, tinker.ConfigClipLow)
	delete(rest, tinker.ConfigClipHigh)
	return c, rest
}

// token returns the loss of a token and its derivative by lp: zero where the clipped branch is the smaller one, since its ratio is a
// constant, and else that of importance sampling, −r·A.
func (c bounds) token(lp, old, advantage float32) (loss, slope float64) {
	if advantage == 0 {
		return 0, 0
	}
	a, r := float64(advantage), math.Exp(float64(lp)-float64(old))
	plain, clipped := r*a, min(max(r, c.low), c.high)*a
	if clipped < plain {
		return -clipped, 0
	}
	return -plain, -plain
}

// emulate turns ppo data into data of another loss with the same gradient at the current log-probabilities lp: importance_sampling with
// the advantages of clipped tokens zeroed, or cross_entropy with weights −∂loss/∂lp. It returns ppo's loss as well.
func (c bounds) emulate(data []Datum, lp [][]float32, as string) ([]Datum, float64, error) {
	out, sum := make([]Datum, len(data)), 0.
	for i, d := range data {
		coefficient := make([]float32, len(d.Tokens))
		for t, a := range d.Advantages {
			loss, slope := c.token(lp[i][t], d.Logprobs[t], a)
			sum += loss
			switch {
			case as == tinker.LossCrossEntropy:
				coefficient[t] = float32(-slope)
			case slope != 0:
				coefficient[t] = a
			}
		}
		if t := notFinite(coefficient); t >= 0 {
			return nil, 0, fmt.Errorf("datum %d: the ratio of token %d is out of range: log-probability %v, sampled with %v", i, t, lp[i][t], d.Logprobs[t])
		}
		out[i] = d
		if as == tinker.LossCrossEntropy {
			out[i].Weights, out[i].Logprobs, out[i].Advantages = coefficient, nil, nil
		} else {
			out[i].Advantages = coefficient
		}
	}
	if math.IsInf(sum, 0) || math.IsNaN(sum) {
		return nil, 0, fmt.Errorf("the loss is %v", sum)
	}
	return out, sum, nil
}

// lossSum computes a loss of the protocol from log-probabilities; ok is false for a loss that is not known here.
func lossSum(data []Datum, lp [][]float32, loss string, cfg map[string]float64) (sum float64, ok bool) {
	c, _ := clipOf(cfg)
	switch loss {
	case tinker.LossImportanceSampling:
		c = bounds{math.Inf(-1), math.Inf(1)}
	case tinker.LossPPO, tinker.LossCrossEntropy:
	default:
		return 0, false
	}
	for i, d := range data {
		for t := range d.Tokens {
			switch {
			case loss == tinker.LossCrossEntropy && d.Weights == nil: // all 1
				sum -= float64(lp[i][t])
			case loss == tinker.LossCrossEntropy:
				sum -= float64(d.Weights[t]) * float64(lp[i][t])
			case d.Advantages != nil && d.Logprobs != nil:
				l, _ := c.token(lp[i][t], d.Logprobs[t], d.Advantages[t])
				sum += l
			}
		}
	}
	return sum, true
}

// complete fills the sum of the losses in where the server sends none: from the definition of the loss, or else from its losses per token.
func (p *Pass) complete(data []Datum, loss string, cfg map[string]float64) {
	if _, sent := p.Metrics[tinker.MetricLossSum]; sent {
		return
	}
	if sum, ok := lossSum(data, p.Logprobs, loss, cfg); ok {
		p.Metrics[tinker.MetricLossSum] = sum
		return
	}
	if p.elementwise != nil {
		var sum float64
		for _, l := range p.elementwise {
			sum += float64(l)
		}
		p.Metrics[tinker.MetricLossSum] = sum
	}
}
