package policy

import (
	"context"
	"math"
	"math/rand/v2"

	"recpie/internal/fault"
)

// Optimizer makes PPO steps. It holds what one step hands to the next: β, the projection with its moments, the critic. It is not safe for concurrent use.
type Optimizer struct {
	set        Settings
	trainer    Trainer
	projection *Projection // nil: no soft prompt
	critic     *Critic     // nil: no baseline for pairs with one usable alternative
	beta       float64
	step       int
}

// NewOptimizer returns an optimizer that trains through trainer. projection and critic may be nil.
func NewOptimizer(s Settings, trainer Trainer, projection *Projection, critic *Critic) (*Optimizer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &Optimizer{set: s, trainer: trainer, projection: projection, critic: critic, beta: s.Beta}, nil
}

// Beta returns the KL coefficient of the next step.
func (o *Optimizer) Beta() float64 { return o.beta }

// example is a text with its advantages, ready for every pass of a step.
type example struct {
	datum    Datum
	consumer []float32
	ref      []float32 // [len(Tokens)]
	first    int       // position that predicts the first new token
}

// Step makes one PPO step on freshly sampled groups. On an error nothing can be assumed about the weights on the server, since a pass may have
// been applied: restore the trainer and this optimizer from the checkpoint before the step. The metrics are filled as far as the step came.
func (o *Optimizer) Step(ctx context.Context, groups []Group) (Metrics, error) {
	m := Metrics{Step: o.step + 1, Beta: o.beta, BetaNext: o.beta}
	groups, reasons, err := o.quarantine(groups)
	m.Quarantined = reasons
	if err != nil {
		return m, err
	}
	m.describe(groups)
	advGT, scale := Advantages(groups, o.critic, o.set)
	m.Scale = scale
	examples, err := o.examples(groups, advGT)
	if err != nil {
		return m, err
	}
	if err := o.passes(ctx, examples, &m); err != nil {
		return m, err
	}
	o.observe(groups)
	o.beta = nextBeta(o.beta, m.KL.K1, o.set)
	o.step++
	m.BetaNext = o.beta
	m.Alarms = o.set.Limits.check(m)
	return m, nil
}

// examples spreads each text's advantage over its tokens and subtracts the token's own KL term. A token is charged for its own divergence only, not
// for that of the tokens after it: this is the gradient of the divergence at each visited state, still zero only at the reference, with far less noise.
func (o *Optimizer) examples(groups []Group, advGT [][]float64) ([]example, error) {
	var out []example
	for g, group := range groups {
		for i, t := range group.Texts {
			if len(t.Tokens) == 0 {
				continue
			}
			adv := make([]float64, len(t.Tokens))
			for k := range adv {
				adv[k] = advGT[g][i]
				if o.beta > 0 {
					adv[k] -= o.beta * (float64(t.Logprobs[k]) - float64(t.Ref[k]))
				}
			}
			d, err := newDatum(t, adv, o.softRows(), o.set.VocabSize, o.set.Placeholder)
			if err != nil {
				return nil, err
			}
			out = append(out, example{d, group.Consumer, t.Ref, len(t.Prompt) - 1})
		}
	}
	return out, nil
}

// passes runs the epochs. It stops early when the KL of an epoch so far exceeds twice the target: always after an optimiser step, so that no gradient
// stays behind on the server, and never before the first, so that a policy that has drifted can still come back.
func (o *Optimizer) passes(ctx context.Context, examples []example, m *Metrics) error {
	rng := rand.New(rand.NewPCG(o.set.Seed, uint64(o.step)))
	var clipped, tokens float64
	defer func() {
		n := math.Max(1, float64(m.Updates))
		m.Loss, m.SoftGrad, m.ClipShare = m.Loss/n, m.SoftGrad/n, clipped/math.Max(1, tokens)
	}()
	for epoch := range o.set.Epochs {
		order := rng.Perm(len(examples))
		var kl, sequences float64
		for start := 0; start < len(order); start += o.set.Minibatch {
			batch := make([]example, 0, o.set.Minibatch)
			for _, i := range order[start:min(start+o.set.Minibatch, len(order))] {
				batch = append(batch, examples[i])
			}
			seen, err := o.update(ctx, batch, m)
			if err != nil {
				return err
			}
			if epoch == 0 && start == 0 {
				m.SamplerGap = seen.gap / math.Max(1, seen.tokens)
			}
			clipped, tokens = clipped+seen.clipped, tokens+seen.tokens
			kl, sequences = kl+seen.kl, sequences+float64(len(batch))
			m.KLAfter = kl / sequences
			if o.set.TargetKL > 0 && m.KLAfter > 2*o.set.TargetKL {
				m.EarlyStop = true
				return nil
			}
		}
	}
	return nil
}

// observation sums over the new tokens of a minibatch.
type observation struct{ tokens, gap, clipped, kl float64 }

func (o *Optimizer) update(ctx context.Context, batch []example, m *Metrics) (observation, error) {
	data := make([]Datum, len(batch))
	total := 0.0
	for _, e := range batch {
		total += float64(len(e.datum.Tokens) - e.first)
	}
	for i, e := range batch {
		d := e.datum
		// The server sums over tokens. Dividing here makes the loss a mean, so that its gradient clipping means the same for every batch.
		d.Advantages = make([]float32, len(e.datum.Advantages))
		for k, a := range e.datum.Advantages {
			d.Advantages[k] = float32(float64(a) / total)
		}
		if o.projection != nil {
			rows, err := o.projection.Forward(e.consumer)
			if err != nil {
				return observation{}, err
			}
			d.Embeds = rows
		}
		data[i] = d
	}
	pass, err := o.trainer.ForwardBackward(ctx, data, "ppo", map[string]float64{
		"clip_low_threshold": 1 - o.set.ClipLow, "clip_high_threshold": 1 + o.set.ClipHigh,
	})
	if err != nil {
		return observation{}, err
	}
	seen, err := o.inspect(batch, pass)
	if err != nil {
		return seen, err
	}
	if o.projection != nil {
		for i, e := range batch {
			if err := o.projection.Backward(e.consumer, pass.EmbedGrads[i]); err != nil {
				o.projection.Clear()
				return seen, fault.New(fault.Fatal, "policy: gradient of the soft rows", err)
			}
		}
	}
	if err := o.trainer.OptimStep(ctx, o.set.Adapter); err != nil {
		if o.projection != nil {
			o.projection.Clear()
		}
		return seen, err
	}
	if o.projection != nil {
		norm, err := o.projection.Step(o.set.Projection)
		if err != nil {
			return seen, err
		}
		m.SoftGrad += norm
	}
	m.Loss += pass.LossSum
	m.Updates++
	return seen, nil
}

// inspect checks the shapes and the finiteness of what the server returned, before anything is applied, and sums what the metrics need.
func (o *Optimizer) inspect(batch []example, pass *Pass) (observation, error) {
	const op = "policy: training server's answer"
	var s observation
	if len(pass.Logprobs) != len(batch) || o.projection != nil && len(pass.EmbedGrads) != len(batch) {
		return s, fault.Newf(fault.Endpoint, op, "%d rows of logprobs and %d of gradients for %d data", len(pass.Logprobs), len(pass.EmbedGrads), len(batch))
	}
	if !finite(pass.LossSum) {
		return s, fault.Newf(fault.Fatal, op, "the loss is %v", pass.LossSum)
	}
	for i, e := range batch {
		lps := pass.Logprobs[i]
		if len(lps) != len(e.datum.Targets) {
			return s, fault.Newf(fault.Endpoint, op, "datum %d: %d logprobs for %d targets", i, len(lps), len(e.datum.Targets))
		}
		for k := e.first; k < len(lps); k++ {
			lp, old, adv := float64(lps[k]), float64(e.datum.Logprobs[k]), float64(e.datum.Advantages[k])
			if !finite(lp) {
				return s, fault.Newf(fault.Fatal, op, "datum %d, position %d: logprob %v", i, k, lp)
			}
			s.tokens++
			s.gap += math.Abs(lp - old)
			if len(e.ref) > 0 {
				s.kl += lp - float64(e.ref[k-e.first])
			}
			w := math.Exp(math.Min(lp-old, maxLogRatio))
			if adv > 0 && w > 1+o.set.ClipHigh || adv < 0 && w < 1-o.set.ClipLow {
				s.clipped++
			}
		}
	}
	return s, nil
}

// observe teaches the critic each group's mean reward, after the step that used it: a baseline must not have seen what it is subtracted from.
func (o *Optimizer) observe(groups []Group) {
	if o.critic == nil {
		return
	}
	for _, g := range groups {
		sum, n := 0.0, 0.0
		for _, t := range g.Texts {
			if !t.Rejected {
				sum, n = sum+t.Reward, n+1
			}
		}
		if n > 0 {
			o.critic.Observe(g.Features, sum/n)
		}
	}
}

func (o *Optimizer) softRows() int {
	if o.projection == nil {
		return 0
	}
	return o.projection.Rows
}
