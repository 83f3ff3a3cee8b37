package dataset

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Blind hides the outcomes of all but training and validation records, and changes nothing that those who see only these can tell.
func TestBlind(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []Event
		for u := range rapid.IntRange(3, 8).Draw(t, "users") {
			for i := range rapid.IntRange(2, 14).Draw(t, "records") {
				events = append(events, Event{User: string(rune('a' + u)), Item: string(rune('A' + i)), Rating: float64(1 + (u+i)%5), Time: int64(i), HasTime: true,
					Outcomes: []Field{{"review", "fine"}}})
			}
		}
		for i := range 5 { // one user at least takes part
			events = append(events, Event{User: "z", Item: string(rune('A' + i)), Rating: 3, Time: int64(i), HasTime: true})
		}
		ds, err := New("blind", Spec{Domain: "movie", Min: 1, Max: 5, Review: "review"}, nil, events)
		if err != nil {
			t.Fatal(err)
		}
		split, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "sample") {
			split = split.SampleUsers(ds, Sample{Pairs: 10, Seed: 1})
		}
		before := slices.Clone(ds.ratings)
		blind, s := split.Blind(ds)
		if len(s.Test) != 0 || len(s.Whole().Test) != 0 || s.Digest != split.Digest || !slices.Equal(s.Train, split.Train) || !slices.Equal(s.Val, split.Val) {
			t.Fatal("the split has changed")
		}
		for r := range blind.Records {
			rec := int32(r)
			_, train := slices.BinarySearch(split.Whole().Train, rec)
			_, val := slices.BinarySearch(split.Whole().Val, rec)
			y := blind.Labels([]int32{rec})[0]
			if hidden := math.IsNaN(float64(y)); hidden == (train || val) || hidden && blind.outcomes[0][r] != "" {
				t.Fatalf("record %d: y %v, review %q", r, y, blind.outcomes[0][r])
			}
		}
		if s.TrainView(blind).Digest() != split.TrainView(ds).Digest() || s.FinalView(blind).Digest() != split.FinalView(ds).Digest() {
			t.Error("what may be seen has changed")
		}
		if !slices.Equal(ds.ratings, before) {
			t.Error("the data set itself has changed")
		}
	})
}
