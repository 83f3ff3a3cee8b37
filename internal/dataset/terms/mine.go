package terms

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"

	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
)

// Bounds on a word of the mined vocabulary: in at least lowShare and at most highShare of the reviews, in the place of a noun in at
// least nounShare of its uses, after a word of degree in at most degreeShare.
const (
	lowShare, highShare = .005, .8
	nounShare           = .12
	degreeShare         = .03
	fill                = 3 // an item of which too little is said gets the commonest terms up to this many
)

// mined is the vocabulary of nouns that reviews speak of, made anew for every fold.
type mined struct {
	words  []string // the union over folds, by name
	said   map[int32][]int32
	byFold [][][]int32 // per fold, per item
}

// uses counts a word in one fold.
type uses struct{ docs, all, noun, degree int32 }

// mine reads the visible reviews twice: once to count words by fold, once to find the chosen ones.
func mine(view *dataset.View, fold []int, opts Options) *mined {
	k := opts.Folds
	count := make(map[string][]uses)
	docs := make([]int32, k+1)
	for _, r := range view.Records() {
		text, _ := view.Review(r)
		tokens := tokenize(text)
		if len(tokens) == 0 {
			continue
		}
		docs[fold[r]]++
		seen := make(map[string]bool)
		for i, w := range tokens {
			if !content(w) {
				continue
			}
			u := count[w]
			if u == nil {
				u = make([]uses, k)
				count[w] = u
			}
			c := &u[fold[r]]
			c.all++
			if nounPlace(tokens, i) {
				c.noun++
			}
			if i > 0 && degree[tokens[i-1]] {
				c.degree++
			}
			if !seen[w] {
				seen[w] = true
				c.docs++
			}
		}
	}
	chosen := make([][]string, k+1)
	for f := range chosen {
		chosen[f] = choose(count, docs, f, opts.Words)
	}
	m := &mined{said: make(map[int32][]int32), byFold: make([][][]int32, k+1)}
	for _, words := range chosen {
		m.words = append(m.words, words...)
	}
	slices.Sort(m.words)
	m.words = slices.Compact(m.words)
	index := make(map[string]int32)
	for t, w := range m.words {
		index[w] = int32(t)
	}
	for _, r := range view.Records() {
		text, _ := view.Review(r)
		for _, w := range tokenize(text) {
			if t, ok := index[w]; ok && !slices.Contains(m.said[r], t) {
				m.said[r] = append(m.said[r], t)
			}
		}
		slices.Sort(m.said[r])
	}
	for f := range m.byFold {
		m.byFold[f] = m.candidates(view, fold, f, chosen[f], index, opts)
	}
	return m
}

// choose returns the commonest words that pass the bounds with fold left out, the commonest first.
func choose(count map[string][]uses, docs []int32, left, size int) []string {
	total := int32(0)
	for f, n := range docs {
		if f != left {
			total += n
		}
	}
	type scored struct {
		word string
		docs int32
	}
	var found []scored
	for w, u := range count {
		var c uses
		for f := range u {
			if f != left {
				c.docs, c.all, c.noun, c.degree = c.docs+u[f].docs, c.all+u[f].all, c.noun+u[f].noun, c.degree+u[f].degree
			}
		}
		share := float64(c.docs) / max(1, float64(total))
		n := float64(c.all)
		if c.docs >= 3 && share >= lowShare && share <= highShare && float64(c.noun) >= nounShare*n && float64(c.degree) <= degreeShare*n {
			found = append(found, scored{w, c.docs})
		}
	}
	slices.SortFunc(found, func(a, b scored) int { return cmp.Or(cmp.Compare(b.docs, a.docs), strings.Compare(a.word, b.word)) })
	found = found[:min(size, len(found))]
	words := make([]string, len(found))
	for i, s := range found {
		words[i] = s.word
	}
	return words
}

// candidates returns the terms of each item: those that the reviews outside the fold mention, by mentions × log inverse share.
func (m *mined) candidates(view *dataset.View, fold []int, left int, words []string, index map[string]int32, opts Options) [][]int32 {
	in := make(map[int32]bool, len(words))
	share := make(map[int32]float64)
	total := 0.0
	for _, w := range words {
		in[index[w]] = true
	}
	for _, r := range view.Records() {
		if fold[r] == left {
			continue
		}
		if said := m.said[r]; len(said) > 0 {
			total++
			for _, t := range said {
				share[t]++
			}
		}
	}
	out := make([][]int32, len(view.Dataset().Items))
	for i := range out {
		n := make(map[int32]float64)
		for _, r := range view.OfItem(int32(i)) {
			if fold[r] == left {
				continue
			}
			for _, t := range m.said[r] {
				if in[t] {
					n[t]++
				}
			}
		}
		terms := make([]int32, 0, len(n))
		for t := range n {
			terms = append(terms, t)
			n[t] *= math.Log((total + 1) / share[t])
		}
		slices.SortFunc(terms, func(a, b int32) int { return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a, b)) })
		terms = terms[:min(opts.Max, len(terms))]
		for _, w := range words {
			if t := index[w]; len(terms) < fill && !slices.Contains(terms, t) {
				terms = append(terms, t)
			}
		}
		out[i] = terms
	}
	return out
}

func (m *mined) names() []string { return m.words }

func (m *mined) itemTerms(fold int) [][]int32 { return m.byFold[fold] }

func (m *mined) spoken() bool { return true }

func (m *mined) mentions(rec int32, _ int) []int32 { return m.said[rec] }

// tokenize lower-cases words, puts plain plurals into the singular and keeps other signs as one token ".", which ends a phrase.
func tokenize(text string) []string {
	var tokens []string
	for _, part := range strings.FieldsFunc(strings.ToLower(text), unicode.IsSpace) {
		for part != "" {
			n := strings.IndexFunc(part, func(c rune) bool { return !unicode.IsLetter(c) && c != '\'' })
			switch {
			case n == 0:
				if len(tokens) > 0 && tokens[len(tokens)-1] != "." {
					tokens = append(tokens, ".")
				}
				part = strings.TrimLeftFunc(part, func(c rune) bool { return !unicode.IsLetter(c) })
				continue
			case n < 0:
				n = len(part)
			}
			if w := strings.TrimSuffix(strings.Trim(part[:n], "'"), "'s"); w != "" {
				tokens = append(tokens, aspects.Singular(w))
			}
			part = part[n:]
		}
	}
	return tokens
}

func content(w string) bool {
	return len(w) >= 3 && len(w) <= 20 && !stopWords[w] && !strings.Contains(w, "'")
}

// nounPlace says whether a word stands where nouns do: after an article, a possessive or a common adjective, and before what may
// follow a noun phrase.
func nounPlace(tokens []string, i int) bool {
	return i > 0 && beforeNoun[tokens[i-1]] && (i+1 == len(tokens) || afterNoun[tokens[i+1]])
}
