package prompts

import (
	"math/rand/v2"

	"recpie/internal/fault"
)

// Example is one pair of the warm-up corpus: what the model is shown and what it should answer.
type Example struct {
	Rec      int32
	Polarity Polarity
	Prompt   string
	Target   string
}

// WarmupExamples writes the corpus of the supervised warm-up, two examples per record, each target drawn by SampleHeuristic. The
// draw depends on seed, record and polarity alone, so a subset of rows gives a subset of examples. Rows must be visible: the corpus is
// of training records only. A record that fits no budget is left out.
func (r *Renderer) WarmupExamples(rows []int32, seed uint64) ([]Example, error) {
	out := make([]Example, 0, 2*len(rows))
	for _, rec := range rows {
		if rec < 0 || int(rec) >= len(r.ds.Records) || !r.view.Visible(rec) {
			return nil, fault.Newf(fault.Fatal, "prompts: warm-up", "record %d is not a training record", rec)
		}
		for _, pol := range Polarities {
			p, err := r.Render(rec, pol)
			if fault.ClassOf(err) == fault.Item && err != nil {
				continue
			}
			if err != nil {
				return nil, err
			}
			rng := rand.New(rand.NewPCG(seed, uint64(rec)<<1|uint64(pol)))
			out = append(out, Example{rec, pol, p.Text, r.SampleHeuristic(rec, pol, rng)})
		}
	}
	return out, nil
}
