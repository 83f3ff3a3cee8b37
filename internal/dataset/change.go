package dataset

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
)

// The functions of this file make copies of a data set with other outcomes: for checks that change them and look at what moves.
// Whatever is not changed is shared with the original.

// WithRatings gives the records recs other ratings.
func (ds *Dataset) WithRatings(recs []int32, ratings []float64) (*Dataset, error) {
	if len(recs) != len(ratings) {
		return nil, errors.New("dataset: as many ratings as records are needed")
	}
	c := *ds
	c.ratings = slices.Clone(ds.ratings)
	for i, r := range recs {
		c.ratings[r] = ratings[i]
	}
	return &c, nil
}

// WithColumn gives the records recs other values of an outcome column.
func (ds *Dataset) WithColumn(name string, recs []int32, values []string) (*Dataset, error) {
	at := ds.column(name)
	if at < 0 || len(recs) != len(values) {
		return nil, fmt.Errorf("dataset: column %q, %d records and %d values do not go together", name, len(recs), len(values))
	}
	c := *ds
	c.outcomes = slices.Clone(ds.outcomes)
	c.outcomes[at] = slices.Clone(ds.outcomes[at])
	for i, r := range recs {
		c.outcomes[at][r] = values[i]
	}
	return &c, nil
}

// PermuteOutcomes deals the whole outcomes of the records recs, rating and columns together, anew among them.
func (ds *Dataset) PermuteOutcomes(recs []int32, seed int64) *Dataset {
	return ds.deal(recs, rand.New(rand.NewPCG(uint64(seed), 0x9e21)).Perm(len(recs)))
}

// ShuffleWithinUsers deals the outcomes of the records recs anew among those of the same user. Nothing may predict such ratings
// better than the user's mean: it is a check for leaks.
func (ds *Dataset) ShuffleWithinUsers(recs []int32, seed int64) *Dataset {
	recs = slices.Sorted(slices.Values(recs))
	rng := rand.New(rand.NewPCG(uint64(seed), 0x5f0f))
	var from []int
	for len(from) < len(recs) {
		start, end := len(from), len(from)+1
		for end < len(recs) && ds.Records[recs[end]].User == ds.Records[recs[start]].User {
			end++
		}
		for _, i := range rng.Perm(end - start) {
			from = append(from, start+i)
		}
	}
	return ds.deal(recs, from)
}

// deal gives record recs[i] the outcome of recs[from[i]].
func (ds *Dataset) deal(recs []int32, from []int) *Dataset {
	c := *ds
	c.ratings = slices.Clone(ds.ratings)
	c.outcomes = make([][]string, len(ds.outcomes))
	for k := range c.outcomes {
		c.outcomes[k] = slices.Clone(ds.outcomes[k])
	}
	for i, r := range recs {
		source := recs[from[i]]
		c.ratings[r] = ds.ratings[source]
		for k := range c.outcomes {
			c.outcomes[k][r] = ds.outcomes[k][source]
		}
	}
	return &c
}
