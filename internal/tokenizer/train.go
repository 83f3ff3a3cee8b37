package tokenizer

import (
	"container/heap"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
)

// TrainOptions sets the vocabulary of TrainBPE.
type TrainOptions struct {
	VocabSize    int      // ids wanted, special tokens and the 256 bytes included; fewer when the texts yield no more merges
	Special      []string // special tokens, which get the first ids in this order
	MinFrequency int      // a pair must occur this often to be merged; 0 means 2
}

// TrainBPE learns a byte-level BPE tokenizer with GPT-2's word pattern (Sennrich et al. 2016: the most frequent pair is merged,
// again and again; equal counts go to the pair of lower ids). The outcome depends on the texts and options alone and equals that of
// Python's BpeTrainer with the byte-level alphabet.
func TrainBPE(texts iter.Seq[string], o TrainOptions) (*Tokenizer, error) {
	if o.MinFrequency == 0 {
		o.MinFrequency = 2
	}
	vocab, err := startVocab(o)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: train: %w", err)
	}
	counts := map[string]int{}
	for text := range texts {
		scanGPT2(text, func(word string) { counts[word]++ })
	}
	tr := &trainer{vocab: vocab, ids: map[string]int32{}, where: map[uint64]map[int32]bool{}, counts: map[uint64]int{}}
	for i, tok := range vocab {
		tr.ids[tok] = int32(i)
	}
	for _, word := range slices.Sorted(maps.Keys(counts)) {
		ids := make([]int32, len(word))
		for i := range len(word) {
			ids[i] = tr.ids[string(byteChar[word[i]])]
		}
		tr.words = append(tr.words, trainWord{ids, counts[word]})
	}
	merges := tr.learn(o.VocabSize, o.MinFrequency)
	raw, err := byteLevelJSON(tr.vocab, len(o.Special), merges)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: train: %w", err)
	}
	return Parse(raw)
}

// startVocab returns the special tokens and the spellings of the bytes, these in the order of their characters.
func startVocab(o TrainOptions) ([]string, error) {
	if need := len(o.Special) + 256; o.VocabSize < need {
		return nil, fmt.Errorf("vocabulary of %d is too small for %d special tokens and the 256 bytes", o.VocabSize, len(o.Special))
	}
	vocab := slices.Clone(o.Special)
	for _, r := range slices.Sorted(maps.Keys(charByte)) {
		vocab = append(vocab, string(r))
	}
	seen := map[string]bool{}
	for _, tok := range vocab {
		if tok == "" || seen[tok] {
			return nil, fmt.Errorf("special token %q is empty, a single byte or given twice", tok)
		}
		seen[tok] = true
	}
	if o.MinFrequency < 0 {
		return nil, errors.New("negative minimal frequency")
	}
	return vocab, nil
}

type trainWord struct {
	ids   []int32
	count int
}

type trainer struct {
	vocab  []string
	ids    map[string]int32
	words  []trainWord
	counts map[uint64]int            // of each pair of neighbours
	where  map[uint64]map[int32]bool // words that held the pair when it was pushed
}

// pairCount is a heap entry; its count may be out of date, then it is pushed again with the true one.
type pairCount struct {
	pair  uint64
	count int
}

type pairHeap []pairCount

func (h pairHeap) Len() int { return len(h) }
func (h pairHeap) Less(i, j int) bool {
	return h[i].count > h[j].count || h[i].count == h[j].count && h[i].pair < h[j].pair
}
func (h pairHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *pairHeap) Push(x any)   { *h = append(*h, x.(pairCount)) }
func (h *pairHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// learn extends the vocabulary to size and returns the merges in order.
func (t *trainer) learn(size, minFrequency int) [][2]string {
	for i, w := range t.words {
		for j := 0; j+1 < len(w.ids); j++ {
			t.note(pairKey(w.ids[j], w.ids[j+1]), int32(i), w.count)
		}
	}
	h := make(pairHeap, 0, len(t.counts))
	for pair, n := range t.counts {
		h = append(h, pairCount{pair, n})
	}
	heap.Init(&h)
	var merges [][2]string
	for len(t.vocab) < size && len(h) > 0 {
		top := h[0]
		if now := t.counts[top.pair]; now != top.count {
			if now <= 0 {
				heap.Pop(&h)
				continue
			}
			h[0].count = now
			heap.Fix(&h, 0)
			continue
		}
		if top.count < minFrequency {
			break
		}
		heap.Pop(&h)
		a, b := int32(top.pair>>32), int32(uint32(top.pair))
		tok := t.vocab[a] + t.vocab[b]
		id, known := t.ids[tok] // another pair may spell the same token
		if !known {
			id = int32(len(t.vocab))
			t.ids[tok], t.vocab = id, append(t.vocab, tok)
		}
		merges = append(merges, [2]string{t.vocab[a], t.vocab[b]})
		for _, pair := range t.apply(top.pair, a, b, id) {
			heap.Push(&h, pairCount{pair, t.counts[pair]})
		}
	}
	return merges
}

func (t *trainer) note(pair uint64, word int32, count int) {
	t.counts[pair] += count
	if t.where[pair] == nil {
		t.where[pair] = map[int32]bool{}
	}
	t.where[pair][word] = true
}

// apply merges a and b to id in every word and returns the pairs whose counts grew.
func (t *trainer) apply(pair uint64, a, b, id int32) []uint64 {
	var grown []uint64
	words := slices.Sorted(maps.Keys(t.where[pair]))
	delete(t.where, pair)
	for _, wi := range words {
		w := &t.words[wi]
		ids := w.ids
		n := 0
		for i := 0; i < len(ids); i++ {
			if i+1 == len(ids) || ids[i] != a || ids[i+1] != b {
				ids[n] = ids[i]
				n++
				continue
			}
			if n > 0 {
				t.counts[pairKey(ids[n-1], a)] -= w.count
				key := pairKey(ids[n-1], id)
				t.note(key, wi, w.count)
				grown = append(grown, key)
			}
			if i+2 < len(ids) {
				t.counts[pairKey(b, ids[i+2])] -= w.count
				key := pairKey(id, ids[i+2])
				t.note(key, wi, w.count)
				grown = append(grown, key)
			}
			ids[n] = id
			n++
			i++
		}
		w.ids = ids[:n]
	}
	delete(t.counts, pair)
	slices.Sort(grown)
	return slices.Compact(grown)
}
