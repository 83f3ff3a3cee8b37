package feature

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

// A candidate is described as a test record of the same pair and time is, bit by bit, whatever stands beside it.
func TestCandidatesAreDescribedAsTestRecords(t *testing.T) {
	same := 0
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		ds, split, err := random(seed, 12, 15, 6)
		if err != nil {
			t.Fatal(err)
		}
		view := split.FinalView(ds)
		table := build(t, view)
		var cs []dataset.Candidate
		for _, r := range split.Test {
			rec := ds.Records[r]
			cs = append(cs, dataset.Candidate{Pair: dataset.Pair{User: rec.User, Item: rec.Item}, Time: rec.Time, HasTime: rec.HasTime})
		}
		rng := rand.New(rand.NewPCG(seed, 2))
		order := rng.Perm(len(cs))
		mixed := make([]dataset.Candidate, 0, 2*len(cs))
		for _, k := range order {
			other := cs[k]
			other.Item = int32(rng.IntN(len(ds.Items)))
			mixed = append(mixed, cs[k], other)
		}
		with := func(cs []dataset.Candidate) (*world, *Table, int32) {
			v, first, err := view.With(cs)
			if err != nil {
				t.Fatal(err)
			}
			more, err := table.With(context.Background(), v, Options{})
			if err != nil {
				t.Fatal(err)
			}
			return newWorld(v, 1000), more, first
		}
		w, alone, first := with(cs)
		_, beside, firstMixed := with(mixed)
		for k, r := range split.Test {
			at := first + int32(k)
			if !slices.Equal(alone.Row(at), beside.Row(firstMixed+2*int32(slices.Index(order, k)))) {
				t.Fatalf("candidate %d depends on what stands beside it", k)
			}
			if w.half(at) != w.half(r) {
				continue // compared with the mean of the other half of the records
			}
			same++
			if !slices.Equal(alone.Row(at), table.Row(r)) {
				t.Fatalf("record %d as a candidate\n%v\nas itself\n%v", r, alone.Row(at), table.Row(r))
			}
		}
		if !slices.Equal(alone.Row(0), table.Row(0)) || int(first) != len(ds.Records) {
			t.Fatal("the rated records' rows have moved")
		}
	})
	if same == 0 {
		t.Error("no candidate could be compared")
	}
}

func TestCandidatesOfAnotherViewAreRefused(t *testing.T) {
	ds, split, err := random(3, 12, 15, 6)
	if err != nil {
		t.Fatal(err)
	}
	v, _, err := split.TrainView(ds).With([]dataset.Candidate{{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build(t, split.FinalView(ds)).With(t.Context(), v, Options{}); err == nil {
		t.Error("a table of the final view took candidates of the training view")
	}
}
