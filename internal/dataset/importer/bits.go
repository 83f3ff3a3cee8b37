package importer

// bits is a set of numbers from 0, one bit each.
type bits []uint64

func (b *bits) set(i int64) {
	if n := int(i>>6) + 1; n > len(*b) {
		*b = append(*b, make([]uint64, n-len(*b))...)
	}
	(*b)[i>>6] |= 1 << (i & 63)
}

func (b bits) has(i int64) bool { return int(i>>6) < len(b) && b[i>>6]&(1<<(i&63)) != 0 }
