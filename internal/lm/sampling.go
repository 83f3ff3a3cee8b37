package lm

import (
	"bytes"
	"math"
	"math/rand/v2"
	"slices"

	"recpie/internal/tokenizer"
	"recpie/internal/torch"
)

// sampler draws the tokens of one row from its own random stream, so that neighbours in a batch do not change what it draws.
type sampler struct {
	rng         *rand.Rand
	temperature float64
	topP        float64
	topK        int
	weights     []float64 // scratch
	order       []int32   // scratch
}

// newSampler makes the sampler of choice index of a request.
func newSampler(r *GenRequest, seed int64, index int) *sampler {
	s := &sampler{temperature: r.Temperature, topP: r.TopP, topK: r.TopK}
	s.rng = rand.New(rand.NewPCG(uint64(seed), 0x9e3779b97f4a7c15*uint64(index+1)))
	return s
}

// pick chooses a token and returns its log probability at temperature 1. Banned ids are never chosen. Temperature 0 is the likeliest token, the
// lowest id among equals. scratch has the length of the logits.
func (s *sampler) pick(logits, scratch []float32, banned []int32) (id int32, logprob float32) {
	truncated := s.topK > 0 && s.topK < len(logits) || s.topP > 0 && s.topP < 1
	switch {
	case len(banned) == 0 && s.temperature == 0:
		return torch.Choose(logits, 0, 0, scratch)
	case len(banned) == 0 && !truncated:
		return torch.Choose(logits, s.temperature, s.rng.Float64(), scratch)
	}
	norm := logNorm(logits, scratch)
	id = s.pickAmong(logits, banned)
	return id, logits[id] - norm
}

// pickAmong is pick where ids are left out.
func (s *sampler) pickAmong(logp []float32, banned []int32) int32 {
	if s.temperature == 0 {
		return argmax(logp, banned)
	}
	if cap(s.weights) < len(logp) {
		s.weights = make([]float64, len(logp))
	}
	w := s.weights[:len(logp)]
	top := float64(slices.Max(logp))
	inv := 1 / s.temperature
	for i, l := range logp {
		w[i] = math.Exp((float64(l) - top) * inv)
	}
	for _, id := range banned {
		w[id] = 0
	}
	if s.topK > 0 && s.topK < len(w) || s.topP > 0 && s.topP < 1 {
		s.truncate(w)
	}
	total := 0.0
	for _, v := range w {
		total += v
	}
	if !(total > 0) { // everything likely was banned and the rest underflowed
		return argmax(logp, banned)
	}
	u := s.rng.Float64() * total
	last := int32(-1)
	for i, v := range w {
		if v > 0 {
			last = int32(i)
			if u -= v; u < 0 {
				break
			}
		}
	}
	return last
}

// truncate zeroes what top-k and then top-p leave out: the nucleus is the smallest set of likeliest tokens whose mass reaches topP.
func (s *sampler) truncate(w []float64) {
	s.order = s.order[:0]
	for i, v := range w {
		if v > 0 {
			s.order = append(s.order, int32(i))
		}
	}
	slices.SortFunc(s.order, func(a, b int32) int {
		switch {
		case w[a] > w[b]:
			return -1
		case w[a] < w[b]:
			return 1
		default:
			return int(a - b)
		}
	})
	keep := len(s.order)
	if s.topK > 0 {
		keep = min(keep, s.topK)
	}
	if s.topP > 0 && s.topP < 1 {
		mass := 0.0
		for _, i := range s.order[:keep] {
			mass += w[i]
		}
		sum := 0.0
		for n, i := range s.order[:keep] {
			if sum += w[i]; sum >= s.topP*mass {
				keep = n + 1
				break
			}
		}
	}
	for _, i := range s.order[keep:] {
		w[i] = 0
	}
}

// argmax returns the likeliest id that is not banned.
func argmax(logp []float32, banned []int32) int32 {
	best := int32(-1)
	for i, l := range logp {
		if (best < 0 || l > logp[best]) && !slices.Contains(banned, int32(i)) {
			best = int32(i)
		}
	}
	return max(best, 0)
}

// rankOf returns 1 + the number of ids likelier than id.
func rankOf(logp []float32, id int32) int {
	n, v := 1, logp[id]
	for _, l := range logp {
		if l > v {
			n++
		}
	}
	return n
}

// alternatives returns the token itself first and then the k likeliest others (k-1 when the token is one of the k). norm is what the logits lie
// above their log probabilities.
func alternatives(logp []float32, norm float32, id int32, k int) []TokenLogprob {
	self := TokenLogprob{id, logp[id] - norm, rankOf(logp, id)}
	out := []TokenLogprob{self}
	best := make([]int32, 0, k+1) // sorted by falling probability, then by id
	for i, l := range logp {
		if len(best) == k && (k == 0 || l <= logp[best[k-1]]) {
			continue
		}
		at := len(best)
		for at > 0 && l > logp[best[at-1]] {
			at--
		}
		best = slices.Insert(best, at, int32(i))
		best = best[:min(len(best), k)]
	}
	for n, i := range best {
		if i != id {
			out = append(out, TokenLogprob{i, logp[i] - norm, n + 1})
		}
	}
	return out
}

// stopFinder looks for stop strings in the text as it grows, across the borders of tokens.
type stopFinder struct {
	stops   []string
	longest int
	text    []byte
}

func newStopFinder(stops []string) *stopFinder {
	f := &stopFinder{}
	for _, s := range stops {
		if s != "" {
			f.stops = append(f.stops, s)
			f.longest = max(f.longest, len(s))
		}
	}
	return f
}

// add appends a token's bytes and reports the first stop string that now occurs and where it begins. With search false it only
// appends.
func (f *stopFinder) add(token []byte, search bool) (stop string, cut int, ok bool) {
	start := max(0, len(f.text)-f.longest+1)
	f.text = append(f.text, token...)
	if !search {
		return "", 0, false
	}
	cut = -1
	for _, s := range f.stops {
		if i := bytes.Index(f.text[start:], []byte(s)); i >= 0 && (cut < 0 || start+i < cut) {
			stop, cut = s, start+i
		}
	}
	return stop, cut, cut >= 0
}

// before returns the text up to cut, as the tokenizer decodes it.
func (f *stopFinder) before(cut int) string { return tokenizer.Text(f.text[:cut]) }
