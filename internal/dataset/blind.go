package dataset

import (
	"math"
	"slices"
)

// Blind returns the data set and the split without test outcomes: the test part is empty, and the rating of every record that is neither
// training nor validation is NaN, its other outcomes are empty. Indexes and digest stay, so that what is computed through a TrainView
// stays too. What is chosen on validation alone gets these two, and cannot see more if it tried.
func (s *Split) Blind(ds *Dataset) (*Dataset, *Split) {
	known := make([]bool, len(ds.ratings))
	for _, part := range [][]int32{s.whole.Train, s.whole.Val} {
		for _, r := range part {
			known[r] = true
		}
	}
	blind := *ds
	blind.ratings = slices.Clone(ds.ratings)
	blind.outcomes = make([][]string, len(ds.outcomes))
	for c := range ds.outcomes {
		blind.outcomes[c] = slices.Clone(ds.outcomes[c])
	}
	for r, ok := range known {
		if ok {
			continue
		}
		blind.ratings[r] = math.NaN()
		for _, column := range blind.outcomes {
			column[r] = ""
		}
	}
	whole := *s.whole
	whole.Test, whole.whole = nil, &whole
	if s.whole == s {
		return &blind, &whole
	}
	part := *s
	part.Test, part.whole = nil, &whole
	return &blind, &part
}
