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

// Candidate is a pair at a moment: what a model would predict if the user met the item then.
type Candidate struct {
	Pair
	Time    int64 // Unix seconds
	HasTime bool
}

// With returns the view with candidates behind its records, candidate k as record first+k. Each gets a record of its own, also where its
// pair was rated or stands there twice: it has no outcome, and its history is all that the view shows of its user, so that the items of
// a list are judged alike. What the view shows, and so its digest, stays the same.
func (v *View) With(cs []Candidate) (_ *View, first int32, err error) {
	ds := *v.ds
	n := len(ds.Records)
	if len(cs) > math.MaxInt32-n {
		return nil, 0, fault.Newf(fault.Fatal, "dataset", "%d candidates beside %d records are more than can be numbered", len(cs), n)
	}
	ds.Records, ds.ratings = slices.Grow(ds.Records[:n:n], len(cs)), slices.Grow(ds.ratings[:n:n], len(cs))
	for k, c := range cs {
		if c.User < 0 || int(c.User) >= len(ds.Users) || c.Item < 0 || int(c.Item) >= len(ds.Items) {
			return nil, 0, fault.Newf(fault.Item, "dataset", "candidate %d names user %d of %d and item %d of %d", k, c.User, len(ds.Users), c.Item, len(ds.Items))
		}
		ds.Records = append(ds.Records, Record{User: c.User, Item: c.Item, Time: c.Time, HasTime: c.HasTime, Row: NoRow})
		ds.ratings = append(ds.ratings, math.NaN())
	}
	w := *v
	w.ds, w.visible = &ds, append(v.visible[:n:n], make([]bool, len(cs))...)
	return &w, int32(n), nil
}
