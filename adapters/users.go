package adapters

import (
	"crypto/sha256"
	"encoding/binary"

	"recpie/internal/fault"
)

// namesTensor holds what nameOf makes of the ids of the consumer table's users, in the order of its rows.
const namesTensor = "users"

// nameOf stands for a user's id: the first eight bytes of its digest. A version lies where servers read it, and need not say there who
// its users are; two of a million share eight bytes once in thirty million tables.
func nameOf(id string) int64 {
	sum := sha256.Sum256([]byte(id))
	return int64(binary.LittleEndian.Uint64(sum[:8]))
}

// Named returns the soft prompt with the ids of its users, so that a user's rows are found in data where the user stands in another
// place: ids[i] is the user of row i of the consumer table.
func (p *SoftPrompt) Named(ids []string) (*SoftPrompt, error) {
	names := make([]int64, len(ids))
	for i, id := range ids {
		names[i] = nameOf(id)
	}
	return p.named(names)
}

func (p *SoftPrompt) named(names []int64) (*SoftPrompt, error) {
	if len(names) != p.Users() {
		return nil, fault.Newf(fault.Fatal, "adapters: soft prompt", "%d users are named, the consumer table has %d", len(names), p.Users())
	}
	with := *p
	with.names, with.index = names, make(map[int64]int32, len(names))
	for i, n := range names {
		with.index[n] = int32(i)
	}
	if len(with.index) != len(names) {
		return nil, fault.Newf(fault.Fatal, "adapters: soft prompt", "two users have one name")
	}
	return &with, nil
}

// Find returns the row of the consumer table that belongs to a user, -1 for one who came after the version: Rows gives what an unknown
// user gets. ok is false for a soft prompt without names, which does not know whose its rows are.
func (p *SoftPrompt) Find(id string) (row int32, ok bool) {
	if p.names == nil {
		return -1, false
	}
	if i, known := p.index[nameOf(id)]; known {
		return i, true
	}
	return -1, true
}
