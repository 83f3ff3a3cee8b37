package dataset

import (
	"math"
	"slices"

	"recpie/internal/fault"
)

// Pair is a user and an item, by index.
type Pair struct{ User, Item int32 }

// NoRow is the Row of a candidate, which stands in no file.
const NoRow = -1

// Rated is the number of rated records: they come first in Records.
func (ds *Dataset) Rated() int { return int(ds.byUser[len(ds.Users)]) }

// WithCandidates returns the data set with further pairs behind its rated records, and the record of each pair. A pair that was rated
// keeps its record; the others become records without an outcome, which no view ever shows and no split contains, and whose history is
// all that a view shows of their user; the columns of outcomes end before them. What is not changed is shared with the original. A pair
// costs some 40 bytes.
func (ds *Dataset) WithCandidates(pairs []Pair) (*Dataset, []int32, error) {
	known := make(map[Pair]int32, len(ds.Records))
	for r, rec := range ds.Records {
		known[Pair{rec.User, rec.Item}] = int32(r)
	}
	c := *ds
	n := len(ds.Records)
	c.Records, c.ratings = slices.Grow(ds.Records[:n:n], len(pairs)), slices.Grow(ds.ratings[:n:n], len(pairs))
	recs := make([]int32, len(pairs))
	for i, p := range pairs {
		if p.User < 0 || int(p.User) >= len(ds.Users) || p.Item < 0 || int(p.Item) >= len(ds.Items) {
			return nil, nil, fault.Newf(fault.Item, "dataset", "pair %d names user %d of %d and item %d of %d", i, p.User, len(ds.Users), p.Item, len(ds.Items))
		}
		r, ok := known[p]
		if !ok {
			r = int32(len(c.Records))
			known[p] = r
			c.Records = append(c.Records, Record{User: p.User, Item: p.Item, Row: NoRow})
			c.ratings = append(c.ratings, math.NaN())
		}
		recs[i] = r
	}
	return &c, recs, nil
}
