package importer

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"

	"recpie/internal/fault"
)

// ids numbers distinct strings from 0 in the order in which they come. A string costs its bytes, 8 for its place and 4 to 8 of the hash table: nothing
// that the garbage collector has to look at.
type ids struct {
	text  []byte   // all strings, one behind the other
	ends  []uint64 // of each string in text
	slots []uint32 // open addressing: number + 1, 0 is free; a power of two, at most two thirds full
	seed  maphash.Seed
}

func newIDs() *ids { return &ids{slots: make([]uint32, 1024), seed: maphash.MakeSeed()} }

func (t *ids) len() int { return len(t.ends) }

// at returns the bytes of string n. They must not be changed.
func (t *ids) at(n int32) []byte {
	from := uint64(0)
	if n > 0 {
		from = t.ends[n-1]
	}
	return t.text[from:t.ends[n]]
}

// number returns the number of s, a new one when s was not seen before.
func (t *ids) number(s string) (int32, error) {
	if 3*(len(t.ends)+1) > 2*len(t.slots) {
		t.grow()
	}
	i := t.slot(maphash.String(t.seed, s), func(n int32) bool { return string(t.at(n)) == s })
	if n := t.slots[i]; n > 0 {
		return int32(n - 1), nil
	}
	if len(t.ends) == math.MaxInt32 {
		return 0, fault.Newf(fault.Fatal, "import", "more than %d distinct ids", math.MaxInt32)
	}
	t.text = append(t.text, s...)
	t.ends = append(t.ends, uint64(len(t.text)))
	t.slots[i] = uint32(len(t.ends))
	return int32(len(t.ends) - 1), nil
}

// find returns the number of s when it has one.
func (t *ids) find(s string) (n int32, known bool) {
	i := t.slot(maphash.String(t.seed, s), func(n int32) bool { return string(t.at(n)) == s })
	return int32(t.slots[i]) - 1, t.slots[i] > 0
}

// slot returns the place of the string that is hashed so and is the same, or the free place where it belongs.
func (t *ids) slot(hash uint64, same func(int32) bool) uint64 {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i] != 0 && !same(int32(t.slots[i]-1)) {
		i = (i + 1) & mask
	}
	return i
}

func (t *ids) grow() {
	t.slots = make([]uint32, 2*len(t.slots))
	for n := range t.ends {
		i := t.slot(maphash.Bytes(t.seed, t.at(int32(n))), func(int32) bool { return false })
		t.slots[i] = uint32(n + 1)
	}
}

// sorted returns the numbers of the strings that keep keeps, in the order of the strings.
func (t *ids) sorted(keep func(int32) bool) []int32 {
	var order []int32
	for n := range int32(t.len()) {
		if keep(n) {
			order = append(order, n)
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return bytes.Compare(t.at(a), t.at(b)) })
	return order
}
