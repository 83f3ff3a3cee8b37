package dataset

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Candidates change nothing that is said about rated records: split, views and histories stay; a candidate sees all that a view shows
// of its user.
func TestCandidatesStandBehindTheRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var events []Event
		users, items := []string{"a", "b", "c"}, []string{"p", "q", "r", "s", "t", "u", "v"}
		for _, u := range users {
			for k, i := range rapid.Permutation(items).Draw(t, "items")[:6] {
				events = append(events, Event{User: u, Item: i, Rating: float64(1 + k%5), Time: int64(k), HasTime: true, Row: len(events)})
			}
		}
		ds, err := New("x", Spec{Min: 1, Max: 5}, nil, events)
		if err != nil {
			t.Fatal(err)
		}
		pairs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Pair {
			return Pair{rapid.Int32Range(0, int32(len(ds.Users)-1)).Draw(t, "user"), rapid.Int32Range(0, int32(len(ds.Items)-1)).Draw(t, "item")}
		}), 1, 12).Draw(t, "pairs")
		with, recs, err := ds.WithCandidates(pairs)
		if err != nil {
			t.Fatal(err)
		}
		if with.Rated() != len(ds.Records) || ds.Rated() != len(ds.Records) {
			t.Fatalf("%d and %d rated records of %d", with.Rated(), ds.Rated(), len(ds.Records))
		}
		a, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		b, err := MakeSplit(with, SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if a.Digest != b.Digest || !slices.Equal(a.Test, b.Test) {
			t.Fatal("candidates changed the split")
		}
		va, vb := a.FinalView(ds), b.FinalView(with)
		if va.Digest() != vb.Digest() {
			t.Fatal("candidates changed what the view shows")
		}
		for r := range ds.Records {
			if !slices.Equal(va.History(int32(r)), vb.History(int32(r))) {
				t.Fatalf("candidates changed the history of record %d", r)
			}
		}
		for i, p := range pairs {
			rec := with.Records[recs[i]]
			if rec.User != p.User || rec.Item != p.Item {
				t.Fatalf("pair %d is record %v", i, rec)
			}
			if int(recs[i]) < with.Rated() {
				continue
			}
			if vb.Visible(recs[i]) || rec.Row != NoRow {
				t.Fatalf("candidate %d has an outcome", i)
			}
			if !slices.Equal(vb.History(recs[i]), vb.OfUser(p.User)) {
				t.Fatalf("candidate %d sees %v of its user's %v", i, vb.History(recs[i]), vb.OfUser(p.User))
			}
		}
	})
	ds, err := New("x", Spec{Min: 1, Max: 5}, nil, []Event{{User: "a", Item: "p", Rating: 3}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ds.WithCandidates([]Pair{{0, 1}}); err == nil {
		t.Error("an item that is not there was accepted")
	}
}

// Candidates of a view take records of their own, even twice, and leave what the view shows as it is.
func TestViewWith(t *testing.T) {
	var events []Event
	for u, user := range []string{"a", "b"} {
		for i := range 6 {
			events = append(events, Event{User: user, Item: string(rune('p' + i + u)), Rating: float64(1 + i%5), Time: int64(i), HasTime: true, Row: len(events)})
		}
	}
	ds, err := New("x", Spec{Min: 1, Max: 5}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	split, err := MakeSplit(ds, SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	v := split.FinalView(ds)
	rated := Candidate{Pair: Pair{0, 0}, Time: 9, HasTime: true}
	w, first, err := v.With([]Candidate{rated, rated, {Pair: Pair{1, 0}}})
	if err != nil {
		t.Fatal(err)
	}
	if int(first) != len(ds.Records) || len(w.Dataset().Records) != len(ds.Records)+3 || w.Dataset().Rated() != len(ds.Records) || len(ds.ratings) != len(events) {
		t.Fatalf("first %d, %d records, %d rated", first, len(w.Dataset().Records), w.Dataset().Rated())
	}
	if got := w.Dataset().Records[first+1]; got != (Record{User: 0, Item: 0, Time: 9, HasTime: true, Row: NoRow}) {
		t.Errorf("a candidate is %+v", got)
	}
	if w.Digest() != v.Digest() || !slices.Equal(w.OfUser(0), v.OfUser(0)) || !slices.Equal(w.OfItem(0), v.OfItem(0)) {
		t.Error("the view shows something else")
	}
	for r := first; r < first+3; r++ {
		if _, ok := w.Y(r); ok || w.Visible(r) {
			t.Errorf("candidate %d has an outcome", r)
		}
		if !slices.Equal(w.History(r), v.OfUser(w.Dataset().Records[r].User)) {
			t.Errorf("history of candidate %d: %v", r, w.History(r))
		}
	}
	again, next, err := w.With([]Candidate{{Pair: Pair{1, 1}}})
	if err != nil || next != first+3 || again.Visible(next) {
		t.Errorf("candidates behind candidates: first %d, %v", next, err)
	}
	for _, bad := range []Pair{{2, 0}, {0, 7}, {-1, 0}, {0, -1}} {
		if _, _, err := v.With([]Candidate{{Pair: bad}}); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}
