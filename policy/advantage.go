package policy

import "math"

// Text is one sampled explanation with what is known of it.
type Text struct {
	Prompt   []int32   // ids as the sampler returned them; soft rows stand as marker ids (≥ Settings.VocabSize)
	Tokens   []int32   // the new ids, as returned, end token included
	Logprobs []float32 // log π_old of Tokens, from the sampler
	Ref      []float32 // log π_ref of Tokens: the base model without adapter and soft rows
	Sentence string    // the parsed explanation; feeds the diversity alarm
	Raw      string    // what was written, for people to read; "" when nobody wants to
	Reward   float64   // this text's reward or credit; not read when Rejected
	Rejected bool      // the parser found no usable sentence
	Loose    bool      // usable, but not in the asked format
}

// Group holds the alternatives sampled for one pair (user, item) and one polarity.
type Group struct {
	Consumer []float32 // [D] the user's embedding behind the soft rows; nil when the prompt has none
	Features []float64 // for the critic; nil when there is none
	Texts    []Text
}

// scaleFloor keeps a batch without any difference between alternatives from having its rounding errors blown up to unit size.
const scaleFloor = 1e-6

// Advantages turns rewards into one advantage per text, [G][T], and returns the scale (the root mean square, in units of reward)
// that they were divided by:
//
//	A = (r − mean of the other usable alternatives of the same group) / scale, clipped to ±Settings.MaxAdvantage
//	A −= penalty − mean penalty of the batch        (penalties are in scaled units)
//
// With one usable alternative the critic's prediction takes the place of the mean, and without a critic A is 0. Before clipping and penalties
// the advantages of a group sum to zero. A rejected text gets the penalty only. The batch is never whitened: subtracting
// a batch mean would compare pairs with each other.
func Advantages(groups []Group, critic *Critic, s Settings) (advGT [][]float64, scale float64) {
	advGT = make([][]float64, len(groups))
	var square, count, penalties, texts float64
	for g, group := range groups {
		advGT[g] = make([]float64, len(group.Texts))
		usable, sum := 0, 0.0
		for _, t := range group.Texts {
			penalties += penalty(t, s)
			texts++
			if !t.Rejected {
				usable++
				sum += t.Reward
			}
		}
		for i, t := range group.Texts {
			if t.Rejected {
				continue
			}
			switch {
			case usable > 1:
				advGT[g][i] = t.Reward - (sum-t.Reward)/float64(usable-1)
			case critic != nil && critic.Ready():
				advGT[g][i] = t.Reward - critic.Predict(group.Features)
			default:
				continue
			}
			square += advGT[g][i] * advGT[g][i]
			count++
		}
	}
	if count > 0 {
		scale = math.Sqrt(square / count)
	}
	for g, group := range groups {
		for i, t := range group.Texts {
			a := advGT[g][i] / math.Max(scale, scaleFloor)
			a = math.Max(-s.MaxAdvantage, math.Min(s.MaxAdvantage, a))
			advGT[g][i] = a - (penalty(t, s) - penalties/texts)
		}
	}
	return advGT, scale
}

func penalty(t Text, s Settings) float64 {
	switch {
	case t.Rejected:
		return s.RejectedPenalty
	case t.Loose:
		return s.LoosePenalty
	default:
		return 0
	}
}
