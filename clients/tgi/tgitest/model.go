package tgitest

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"recpie/internal/tokenizer"
)

const (
	bos = 0
	eos = 1
)

var bytewise = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	plain, err := tokenizer.TrainBPE(func(func(string) bool) {}, tokenizer.TrainOptions{VocabSize: 258, Special: []string{"<s>", "</s>"}})
	if err != nil {
		return nil, err
	}
	var file map[string]any
	if err := json.Unmarshal(plain.JSON(), &file); err != nil {
		return nil, err
	}
	type object = map[string]any
	file["post_processor"] = object{"type": "TemplateProcessing", "pair": []any{}, "special_tokens": object{"<s>": object{"id": "<s>", "ids": []int{bos}, "tokens": []string{"<s>"}}},
		"single": []object{{"SpecialToken": object{"id": "<s>", "type_id": 0}}, {"Sequence": object{"id": "A", "type_id": 0}}}}
	raw, err := json.Marshal(file)
	if err != nil {
		return nil, err
	}
	return tokenizer.Parse(raw)
})

// model is a language model without weights: the logits of a token depend on the adapter and on the two tokens before it. It writes
// printable ASCII and the end token, so that no sampled text has two spellings.
type model struct {
	tok      *tokenizer.Tokenizer
	alphabet []int32
}

func newModel() (*model, error) {
	tok, err := bytewise()
	if err != nil {
		return nil, fmt.Errorf("tgitest: %w", err)
	}
	m := &model{tok: tok, alphabet: []int32{eos}}
	for c := byte(' '); c <= '~'; c++ {
		m.alphabet = append(m.alphabet, tok.Encode(string(rune(c)), false)...)
	}
	return m, nil
}

// logits are those of the alphabet, in its order.
func (m *model) logits(adapter string, before []int32) []float64 {
	h := fnv.New64a()
	fmt.Fprint(h, adapter, before[max(0, len(before)-2):])
	rng := rand.New(rand.NewPCG(h.Sum64(), 7))
	out := make([]float64, len(m.alphabet))
	for i := range out {
		out[i] = 2 * rng.NormFloat64()
	}
	out[0]-- // the end is rarer than a letter
	return out
}

// logprob is that of one token; those outside the alphabet, as of a prompt in another script, share a small constant.
func (m *model) logprob(adapter string, before []int32, id int32) float64 {
	if i := slices.Index(m.alphabet, id); i >= 0 {
		return logSoftmax(m.logits(adapter, before))[i]
	}
	return -20
}

func logSoftmax(x []float64) []float64 {
	top, sum := slices.Max(x), 0.0
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - top - math.Log(sum)
	}
	return out
}

// warp applies temperature, top_k and top_p, in TGI's order.
func warp(x []float64, p *parameters) []float64 {
	out := slices.Clone(x)
	if p.Temperature != nil {
		for i := range out {
			out[i] /= *p.Temperature
		}
	}
	order := make([]int, len(out)) // most likely first
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(math.Copysign(1, out[b]-out[a])) })
	keep := len(out)
	if p.TopK != nil {
		keep = min(keep, *p.TopK)
	}
	if p.TopP != nil {
		mass, lps := 0.0, logSoftmax(out)
		for n, i := range order {
			if mass += math.Exp(lps[i]); mass >= *p.TopP {
				keep = min(keep, n+1)
				break
			}
		}
	}
	for _, i := range order[keep:] {
		out[i] = math.Inf(-1)
	}
	return out
}

// next chooses a token and gives its log-probability as TGI does: under the distribution that it was sampled from.
func (m *model) next(p *parameters, before []int32, rng *rand.Rand) (id int32, logprob float64) {
	x := m.logits(p.known, before)
	if !p.sampling() {
		lps := logSoftmax(x)
		i := slices.Index(x, slices.Max(x))
		return m.alphabet[i], lps[i]
	}
	lps := logSoftmax(warp(x, p))
	u := rng.Float64()
	best := slices.Index(lps, slices.Max(lps)) // where rounding leaves u above the sum
	for i, lp := range lps {
		if u -= math.Exp(lp); u < 0 && !math.IsInf(lp, -1) {
			best = i
			break
		}
	}
	return m.alphabet[best], lps[best]
}
