package dataset

import "hash/fnv"

// Folds gives every visible record a fold in [0, k) by a hash of seed, user and item, and k to the other rated ones: what is said of a
// record is computed without its fold. The fold of a record depends on no outcome and on no other record.
func (v *View) Folds(k int, seed int64) []int {
	ds := v.ds
	fold := make([]int, ds.Rated())
	for r, rec := range ds.Records[:ds.Rated()] {
		fold[r] = k
		if !v.Visible(int32(r)) {
			continue
		}
		h := fnv.New64a()
		var bytes [8]byte
		for i := range bytes {
			bytes[i] = byte(seed >> (8 * i))
		}
		_, _ = h.Write(bytes[:])
		_, _ = h.Write([]byte(ds.Users[rec.User]))
		_, _ = h.Write([]byte{0})
		_, _ = h.Write([]byte(ds.Items[rec.Item].ID))
		x := h.Sum64()
		x ^= x >> 32 // FNV's low bits alone are poor
		x *= 0x9e3779b97f4a7c15
		fold[r] = int(x >> 32 % uint64(k))
	}
	return fold
}
