package tokenizer

import (
	"container/heap"
	"unicode/utf8"
)

// merge is what a pair of neighbouring tokens becomes; pairs of lower rank go first.
type merge struct {
	rank, id int32
}

func pairKey(a, b int32) uint64 { return uint64(uint32(a))<<32 | uint64(uint32(b)) }

// bpe is byte-pair encoding, over bytes (byteLevel) or characters with fallback to byte tokens.
type bpe struct {
	merges    map[uint64]merge
	byteLevel bool
	byteID    [256]int32       // token of a byte: its byte-level spelling, or <0xNN> for the fallback; −1 without
	charID    map[rune]int32   // characters that are tokens, when not byteLevel
	whole     map[string]int32 // words that are tokens and skip the merges (ignore_merges)
	fallback  bool
	unk       int32 // −1: what is not in the vocabulary vanishes
	fuseUnk   bool
	cache     *wordCache
}

func (m *bpe) encode(word string, out []int32) []int32 { return m.cache.get(word, out, m.split) }

func (m *bpe) bytesOf(token string) []byte {
	if m.byteLevel {
		if b, ok := unspell(token); ok {
			return b
		}
	} else if b, ok := fallbackByte(token); ok && m.fallback {
		return []byte{b}
	}
	return []byte(token)
}

// split appends the tokens of word, with no help from the cache.
func (m *bpe) split(word string, out []int32) []int32 {
	if id, ok := m.whole[word]; ok {
		return append(out, id)
	}
	from := len(out)
	out = m.symbols(word, out)
	n := m.mergeAll(out[from:])
	return out[:from+n]
}

// symbols appends the smallest tokens of word: its bytes or characters.
func (m *bpe) symbols(word string, out []int32) []int32 {
	from := len(out)
	unknown := func() {
		if m.unk >= 0 && !(m.fuseUnk && len(out) > from && out[len(out)-1] == m.unk) {
			out = append(out, m.unk)
		}
	}
	if m.byteLevel {
		for i := range len(word) {
			if id := m.byteID[word[i]]; id >= 0 {
				out = append(out, id)
			} else {
				unknown()
			}
		}
		return out
	}
	for i := 0; i < len(word); {
		r, n := utf8.DecodeRuneInString(word[i:])
		if id, ok := m.charID[r]; ok && (r != utf8.RuneError || n > 1) {
			out = append(out, id)
		} else if m.fallback && m.haveBytes(word[i:i+n]) {
			for j := i; j < i+n; j++ {
				out = append(out, m.byteID[word[j]])
			}
		} else {
			unknown()
		}
		i += n
	}
	return out
}

func (m *bpe) haveBytes(s string) bool {
	for i := range len(s) {
		if m.byteID[s[i]] < 0 {
			return false
		}
	}
	return true
}

// longWord is the number of symbols from which the heap beats scanning (measured).
const longWord = 24

// mergeAll merges neighbours in place by (rank, position) until no pair has a merge, and returns how many tokens are left.
func (m *bpe) mergeAll(ids []int32) int {
	if len(ids) >= longWord {
		return m.mergeHeap(ids)
	}
	const none = int32(1<<31 - 1)
	var next [longWord]merge // next[i] is the merge of ids[i] and ids[i+1]
	at := func(i int) merge {
		if mg, ok := m.merges[pairKey(ids[i], ids[i+1])]; ok {
			return mg
		}
		return merge{rank: none}
	}
	n := len(ids)
	for i := 0; i+1 < n; i++ {
		next[i] = at(i)
	}
	for n > 1 {
		best := 0
		for i := 1; i+1 < n; i++ {
			if next[i].rank < next[best].rank {
				best = i
			}
		}
		if next[best].rank == none {
			break
		}
		ids[best] = next[best].id
		copy(ids[best+1:n-1], ids[best+2:n])
		copy(next[best:n-2], next[best+1:n-1])
		n--
		if best > 0 {
			next[best-1] = at(best - 1)
		}
		if best+1 < n {
			next[best] = at(best)
		}
	}
	return n
}

type candidate struct {
	merge
	pos, end int32  // the left and the right symbol
	pair     uint64 // what they were; stale when they changed
}

type candidates []candidate

func (c candidates) Len() int { return len(c) }
func (c candidates) Less(i, j int) bool {
	return c[i].rank < c[j].rank || c[i].rank == c[j].rank && c[i].pos < c[j].pos
}
func (c candidates) Swap(i, j int) { c[i], c[j] = c[j], c[i] }
func (c *candidates) Push(x any)   { *c = append(*c, x.(candidate)) }
func (c *candidates) Pop() any {
	old := *c
	x := old[len(old)-1]
	*c = old[:len(old)-1]
	return x
}

// mergeHeap is mergeAll in O(n log n), over a doubly linked list of symbols.
func (m *bpe) mergeHeap(ids []int32) int {
	n := int32(len(ids))
	prev, next := make([]int32, n), make([]int32, n)
	for i := range n {
		prev[i], next[i] = i-1, i+1
	}
	h := make(candidates, 0, n)
	add := func(i int32, push func(candidate)) {
		if i < 0 || next[i] >= n {
			return
		}
		key := pairKey(ids[i], ids[next[i]])
		if mg, ok := m.merges[key]; ok {
			push(candidate{mg, i, next[i], key})
		}
	}
	for i := range n {
		add(i, func(c candidate) { h = append(h, c) })
	}
	heap.Init(&h)
	push := func(c candidate) { heap.Push(&h, c) }
	for len(h) > 0 {
		c := heap.Pop(&h).(candidate)
		// A merged-away symbol holds −1, so that its pair equals none.
		if next[c.pos] != c.end || ids[c.pos] < 0 || pairKey(ids[c.pos], ids[c.end]) != c.pair {
			continue
		}
		ids[c.pos], ids[c.end] = c.id, -1
		next[c.pos] = next[c.end]
		if next[c.pos] < n {
			prev[next[c.pos]] = c.pos
		}
		add(prev[c.pos], push)
		add(c.pos, push)
	}
	k := 0
	for i := int32(0); i < n; i = next[i] {
		ids[k] = ids[i]
		k++
	}
	return k
}
