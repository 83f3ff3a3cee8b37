package policy

import (
	"context"

	"recpie/internal/fault"
)

// Datum is one training example of the training API: position i of Tokens predicts Targets[i], so Tokens is the sequence without its last id and
// Targets the sequence without its first. All slices but the last two have length N.
type Datum struct {
	Tokens     []int32   // a placeholder id stands where a soft row enters
	Targets    []int64   // placeholders too, at positions that carry no advantage
	Logprobs   []float32 // log π_old of the new tokens, 0 on the prompt
	Advantages []float32 // per token, 0 on the prompt
	Embeds     []float32 // [K·H] soft rows, nil without
	EmbedPos   []int64   // [K] where they stand in Tokens
}

// Pass is what a forward-backward pass returns.
type Pass struct {
	Logprobs   [][]float32 // [data][N] of Targets under the current weights
	EmbedGrads [][]float32 // [data][K·H] gradient of LossSum with respect to Embeds, empty for data without
	LossSum    float64     // summed over tokens and data
}

// AdamStep holds the numbers of one optimiser step on the server.
type AdamStep struct{ LR, Beta1, Beta2, Eps, WeightDecay, ClipNorm float64 }

// Trainer is the part of the training API that a step needs. ForwardBackward accumulates the gradient of the named loss ("ppo": the clipped
// surrogate of Schulman et al. 2017 as a negative sum, config holding the ratio bounds clip_low_threshold and clip_high_threshold);
// OptimStep applies and clears it.
type Trainer interface {
	ForwardBackward(ctx context.Context, data []Datum, loss string, config map[string]float64) (*Pass, error)
	OptimStep(ctx context.Context, p AdamStep) error
}

// newDatum builds the example of one text from the ids that the sampler returned: it is never tokenised again, because decoding and encoding
// need not give the same ids back. Ids ≥ vocabSize in the prompt are markers of soft rows and become the placeholder. The embeddings are
// filled in at each pass, as the projection moves between passes. tokenAdv has one advantage per new token.
func newDatum(t Text, tokenAdv []float64, softRows int, vocabSize, placeholder int32) (Datum, error) {
	const op = "policy: training data"
	switch {
	case len(t.Prompt) == 0 || len(t.Tokens) == 0:
		return Datum{}, fault.Newf(fault.Item, op, "%d prompt ids and %d new ids: both are needed", len(t.Prompt), len(t.Tokens))
	case len(t.Logprobs) != len(t.Tokens) || len(tokenAdv) != len(t.Tokens):
		return Datum{}, fault.Newf(fault.Item, op, "%d new ids, %d logprobs, %d advantages", len(t.Tokens), len(t.Logprobs), len(tokenAdv))
	}
	n := len(t.Prompt) + len(t.Tokens) - 1
	seq := append(append(make([]int32, 0, n+1), t.Prompt...), t.Tokens...)
	d := Datum{Targets: make([]int64, n), Logprobs: make([]float32, n), Advantages: make([]float32, n)}
	for i, id := range seq {
		if id < 0 || i >= len(t.Prompt) && id >= vocabSize {
			return Datum{}, fault.Newf(fault.Item, op, "id %d at position %d is outside the vocabulary of %d", id, i, vocabSize)
		}
		if id >= vocabSize {
			d.EmbedPos = append(d.EmbedPos, int64(i))
			seq[i] = placeholder
		}
	}
	if len(d.EmbedPos) != softRows {
		return Datum{}, fault.Newf(fault.Item, op, "the prompt has %d marker ids for %d soft rows", len(d.EmbedPos), softRows)
	}
	d.Tokens = seq[:n]
	for i := range n {
		d.Targets[i] = int64(seq[i+1])
	}
	first := len(t.Prompt) - 1 // the position that predicts the first new token
	for i := range t.Tokens {
		d.Logprobs[first+i] = t.Logprobs[i]
		d.Advantages[first+i] = float32(tokenAdv[i])
	}
	return d, nil
}
