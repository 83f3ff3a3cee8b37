package text

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"
)

const (
	maxWords    = 20000 // of a vocabulary, the most frequent
	leastDocs   = 3     // documents that a word must occur in
	commonShare = .3    // words in a larger share of the documents tell nothing
	longestWord = 40    // bytes
)

// LSA holds a vocabulary, its weights and Dim directions in the space of its words.
type LSA struct {
	Dim   int
	words map[string]int32
	idf   []float32
	dirs  []float32 // [words, Dim]
}

// entry is one word of a document with its weight.
type entry struct {
	word   int32
	weight float32
}

// FitLSA learns vocabulary, weights and at most dim directions from documents; nil when they share too few words. The same documents give
// the same result.
func FitLSA(docs []string, dim int) *LSA {
	counts := make(map[string]int32)
	for _, d := range docs {
		for w := range termCounts(d) {
			counts[w]++
		}
	}
	type word struct {
		text string
		n    int32
	}
	var kept []word
	for w, n := range counts {
		if n >= leastDocs && float64(n) <= max(commonShare*float64(len(docs)), leastDocs) {
			kept = append(kept, word{w, n})
		}
	}
	slices.SortFunc(kept, func(a, b word) int { return cmp.Or(cmp.Compare(b.n, a.n), strings.Compare(a.text, b.text)) })
	kept = kept[:min(len(kept), maxWords)]
	l := &LSA{Dim: min(dim, len(kept), len(docs)), words: make(map[string]int32, len(kept)), idf: make([]float32, len(kept))}
	if l.Dim < 1 {
		return nil
	}
	for k, w := range kept {
		l.words[w.text], l.idf[k] = int32(k), float32(1+math.Log(float64(len(docs)+1)/float64(w.n+1)))
	}
	rows := make([][]entry, len(docs))
	for k, d := range docs {
		rows[k] = l.weigh(d)
	}
	l.dirs = directions(rows, len(kept), l.Dim)
	return l
}

// Vector adds nothing for words outside the vocabulary; a document without known words is zero. dst has Dim numbers.
func (l *LSA) Vector(dst []float32, doc string) {
	clear(dst)
	for _, e := range l.weigh(doc) {
		for k, x := range l.dirs[int(e.word)*l.Dim : (int(e.word)+1)*l.Dim] {
			dst[k] += e.weight * x
		}
	}
}

// weigh returns the document's words with weight (1 + log tf)·idf, scaled to length 1, in the order of the vocabulary.
func (l *LSA) weigh(doc string) []entry {
	var row []entry
	norm := 0.0
	for w, n := range termCounts(doc) {
		k, ok := l.words[w]
		if !ok {
			continue
		}
		x := (1 + math.Log(float64(n))) * float64(l.idf[k])
		row = append(row, entry{k, float32(x)})
	}
	slices.SortFunc(row, func(a, b entry) int { return cmp.Compare(a.word, b.word) })
	for _, e := range row {
		norm += float64(e.weight) * float64(e.weight)
	}
	for k := range row {
		row[k].weight /= float32(math.Sqrt(norm))
	}
	return row
}

// termCounts counts the words of a document: runs of letters and digits of at least two, in lower case.
func termCounts(doc string) map[string]int {
	counts := make(map[string]int)
	for w := range strings.FieldsFuncSeq(doc, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		if len(w) > 1 && len(w) <= longestWord {
			counts[strings.ToLower(w)]++
		}
	}
	return counts
}
