package policy

import "recpie/internal/fault"

// Reason says why a text was kept out of an update. The same words appear in metrics.
type Reason string

// The reasons of quarantine.
const (
	BadReward    Reason = "non_finite_reward"
	BadLogprob   Reason = "non_finite_logprob"
	BadReference Reason = "non_finite_reference"
	BadEmbedding Reason = "non_finite_embedding"
	BadLength    Reason = "length_mismatch"
	BadTokens    Reason = "bad_tokens" // ids outside the vocabulary, or markers that do not match the soft rows
)

// maxQuarantined is the share of a batch beyond which something upstream is broken and training stops.
const maxQuarantined = .01

// quarantine returns the groups without the texts that must not reach an update, and how many were left out for which reason.
// Texts that the sampler left empty are no fault: they carry no token to train on, but still count in penalties and format rates.
func (o *Optimizer) quarantine(groups []Group) ([]Group, map[Reason]int, error) {
	out := make([]Group, 0, len(groups))
	reasons := map[Reason]int{}
	texts, bad := 0, 0
	for _, g := range groups {
		kept := g
		kept.Texts = nil
		for _, t := range g.Texts {
			texts++
			if reason := o.fault(g, t); reason != "" {
				reasons[reason]++
				bad++
				continue
			}
			kept.Texts = append(kept.Texts, t)
		}
		if len(kept.Texts) > 0 {
			out = append(out, kept)
		}
	}
	if float64(bad) > maxQuarantined*float64(texts) {
		return nil, reasons, fault.WithHint(
			fault.Newf(fault.Fatal, "policy: step", "%d of %d texts are unusable (%v): the update was not made", bad, texts, reasons),
			"non-finite numbers come from the sampler, the reference scores or the recommender; look at the last metrics and restart from the checkpoint")
	}
	return out, reasons, nil
}

func (o *Optimizer) fault(g Group, t Text) Reason {
	n := len(t.Tokens)
	switch {
	case !t.Rejected && !finite(t.Reward):
		return BadReward
	case n == 0:
		return ""
	case len(t.Logprobs) != n || o.beta > 0 && len(t.Ref) != n:
		return BadLength
	case firstNonFinite(t.Logprobs) >= 0:
		return BadLogprob
	case firstNonFinite(t.Ref) >= 0:
		return BadReference
	}
	if o.projection != nil {
		if len(g.Consumer) != o.projection.Dim {
			return BadLength
		}
		if firstNonFinite(g.Consumer) >= 0 {
			return BadEmbedding
		}
	}
	if _, err := newDatum(t, make([]float64, n), o.softRows(), o.set.VocabSize, o.set.Placeholder); err != nil {
		return BadTokens
	}
	return ""
}
