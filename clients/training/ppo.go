package training

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// ForwardBackward adds the gradient of the summed loss to the model's gradients. The loss is one of the names of package tinker, its
// configuration as they document. The request is in flight when this returns: an OptimStep may follow at once.
//
// ppo is trained on servers without that loss as well. The first pass of a session finds out what carries it there and is awaited: ppo
// itself; else importance_sampling with the advantages of clipped tokens zeroed; else cross_entropy with signed weights. The last two take
// a forward pass before, for the log-probabilities that say what is clipped, and have the same gradient; the loss returned is ppo's.
func (m *Model) ForwardBackward(ctx context.Context, data []Datum, loss string, cfg map[string]float64) (*Pending[*Pass], error) {
	const op = "training: forward_backward"
	if t := m.s.Traits(); t.SharedSlot && t.MeanGradients == Unknown {
		if err := m.Probe(ctx); err != nil {
			return nil, err
		}
	}
	if loss != tinker.LossPPO {
		return m.backward(ctx, op, data, loss, cfg)
	}
	for i, d := range data {
		if n := len(d.Tokens); len(d.Logprobs) != n || len(d.Advantages) != n {
			return nil, fault.Newf(fault.Item, op, "datum %d: %d tokens with %d logprobs and %d advantages", i, n, len(d.Logprobs), len(d.Advantages))
		}
	}
	if form := m.s.Traits().PPO; form != "" {
		return m.ppo(ctx, op, form, data, cfg)
	}
	var refusal error
	for _, form := range []string{tinker.LossPPO, tinker.LossImportanceSampling, tinker.LossCrossEntropy} {
		p, err := m.ppo(ctx, op, form, data, cfg)
		if err == nil {
			var pass *Pass
			if pass, err = p.Wait(ctx); err == nil {
				m.s.learn(func(t *Traits) { t.PPO = form })
				p.known = &pass
				return p, nil
			}
		}
		if refusal == nil {
			refusal = err
		}
		if !refusesLoss(err) {
			if p != nil && form == tinker.LossPPO { // accepted, and failed for another reason: waiting says so
				return p, nil
			}
			return nil, err
		}
	}
	return nil, refusal
}

// refusesLoss tells whether a server blames the request for its loss function. Servers word that differently, and a wrong guess does no
// harm: a form is remembered only when a pass of it has succeeded.
func refusesLoss(err error) bool {
	return fault.ClassOf(err) == fault.Item && strings.Contains(strings.ToLower(err.Error()), "loss")
}

// ppo sends a pass with ppo's gradient in the form of a loss that the server has.
func (m *Model) ppo(ctx context.Context, op, form string, data []Datum, cfg map[string]float64) (*Pending[*Pass], error) {
	if form == tinker.LossPPO {
		return m.backward(ctx, op, data, form, cfg)
	}
	clip, rest := clipOf(cfg)
	scored := slices.Clone(data)
	for i, d := range data {
		w := make([]float32, len(d.Tokens))
		for t, a := range d.Advantages {
			if a != 0 {
				w[t] = 1
			}
		}
		scored[i].Weights, scored[i].Logprobs, scored[i].Advantages = w, nil, nil
	}
	f, err := m.pass(ctx, op, scored, tinker.LossCrossEntropy, rest, true)
	if err != nil {
		return nil, err
	}
	now, err := f.Wait(ctx)
	if err != nil {
		return nil, err
	}
	same, sum, err := clip.emulate(data, now.Logprobs, form)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	p, err := m.backward(ctx, op, same, form, rest)
	if err != nil {
		return nil, err
	}
	p.then(func(pass **Pass) {
		(*pass).Logprobs, (*pass).Metrics[tinker.MetricLossSum] = now.Logprobs, sum
	})
	return p, nil
}

// backward sends a pass whose gradient is that of the summed loss, up to a factor that is the same for all data of a step. A server that takes the
// mean over a datum's tokens gets advantages times their number; the loss is then computed here.
func (m *Model) backward(ctx context.Context, op string, data []Datum, loss string, cfg map[string]float64) (*Pending[*Pass], error) {
	send := data
	mean := m.s.Traits().MeanGradients == Yes
	if mean {
		var err error
		if send, err = againstMean(data, loss); err != nil {
			return nil, fault.New(fault.Fatal, op, err)
		}
	}
	p, err := m.pass(ctx, op, send, loss, cfg, false)
	if err != nil {
		return nil, err
	}
	p.then(func(pass **Pass) {
		if mean {
			delete((*pass).Metrics, tinker.MetricLossSum)
		}
		(*pass).complete(data, loss, cfg)
	})
	return p, nil
}

// againstMean scales advantages by the number of tokens. Cross-entropy cannot be scaled so: its weights are what the mean divides by.
func againstMean(data []Datum, loss string) ([]Datum, error) {
	out := slices.Clone(data)
	for i, d := range data {
		if loss == tinker.LossCrossEntropy {
			if slices.ContainsFunc(d.Weights, func(w float32) bool { return w < 0 }) {
				return nil, fmt.Errorf("datum %d: the training server divides by the sum of the weights, so none may be negative", i)
			}
			continue
		}
		out[i].Advantages = make([]float32, len(d.Advantages))
		for t, a := range d.Advantages {
			out[i].Advantages[t] = a * float32(len(d.Tokens))
		}
	}
	return out, nil
}
