package batchfile

import "math/bits"

// seen remembers 64-bit keys, each with the line it first stood on, in 12 bytes of table per slot and tables that are at least 7/9 full:
// at most 15.5 bytes per line once there are many. It grows shard by shard, so that growing never doubles it.
//
// A key's first byte chooses the shard. A slot's word holds the other 56 bits, the parts in use (2 bits, 0 in an empty slot) and the
// upper 6 bits of the line, whose lower 32 bits are apart.
type seen struct{ shards [256]shard }

type shard struct {
	words []uint64
	lines []uint32
	used  int
}

// all the parts of a key.
const allParts = 3

// add remembers the parts (bits 1 and 2) of a key, unless one of them is there already: then it returns the line that brought it.
// Lines are below 2^38.
func (s *seen) add(key uint64, parts uint8, line int64) (first int64, twice bool) {
	sh := &s.shards[key>>56]
	if sh.used >= len(sh.words)/8*7 {
		sh.grow()
	}
	word := key<<8 | uint64(parts)<<6 | uint64(line>>32)&0x3f
	for i := sh.slot(word); ; i = (i + 1) % len(sh.words) {
		w := sh.words[i]
		if w>>6&allParts == 0 {
			sh.words[i], sh.lines[i] = word, uint32(line)
			sh.used++
			return 0, false
		}
		if w>>8 == word>>8 && w>>6&uint64(parts) != 0 {
			return int64(w&0x3f)<<32 | int64(sh.lines[i]), true
		}
	}
}

// slot is where the search for a word begins: words lie in the order of their keys, nearly.
func (sh *shard) slot(word uint64) int {
	hi, _ := bits.Mul64(word&^0xff, uint64(len(sh.words)))
	return int(hi)
}

// grow makes room for an eighth more. Slots come in eights, so that the bound on their use is exact.
func (sh *shard) grow() {
	n := len(sh.words)/8 + len(sh.words)/64 + 1
	old := *sh
	sh.words, sh.lines = make([]uint64, 8*n), make([]uint32, 8*n)
	for i, w := range old.words {
		if w>>6&allParts == 0 {
			continue
		}
		j := sh.slot(w)
		for ; sh.words[j]>>6&allParts != 0; j = (j + 1) % len(sh.words) {
		}
		sh.words[j], sh.lines[j] = w, old.lines[i]
	}
}
