package dataset

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestViewShowsVisibleOutcomesOnly(t *testing.T) {
	ds := setOf(t, 6, 10)
	s := mustSplit(t, ds)
	for name, c := range map[string]struct {
		v    *View
		show [][]int32
		hide [][]int32
	}{
		"train": {s.TrainView(ds), [][]int32{s.Train}, [][]int32{s.Val, s.Test}},
		"final": {s.FinalView(ds), [][]int32{s.Train, s.Val}, [][]int32{s.Test}},
	} {
		for _, r := range slices.Concat(c.show...) {
			y, ok := c.v.Y(r)
			rating, ok2 := c.v.Rating(r)
			review, ok3 := c.v.Review(r)
			column, ok4 := c.v.Column(r, "review")
			if !ok || !ok2 || !ok3 || !ok4 || !c.v.Visible(r) || ds.Spec.Rating(float64(y)) != rating || review == "" || review != column || y != ds.Labels([]int32{r})[0] {
				t.Fatalf("%s: record %d: %v %v %q %q", name, r, y, rating, review, column)
			}
		}
		for _, r := range slices.Concat(c.hide...) {
			y, ok := c.v.Y(r)
			rating, ok2 := c.v.Rating(r)
			review, ok3 := c.v.Review(r)
			column, ok4 := c.v.Column(r, "review")
			aspects, ok5 := c.v.Aspects(r)
			if ok || ok2 || ok3 || ok4 || ok5 || c.v.Visible(r) || y != 0 || rating != 0 || review+column != "" || aspects != nil {
				t.Fatalf("%s shows record %d", name, r)
			}
		}
	}
	if s.TrainView(ds).Digest() == s.FinalView(ds).Digest() {
		t.Error("two views have one digest")
	}
}

func TestHistoryIsEarlierAndVisible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			return
		}
		for _, v := range []*View{s.TrainView(ds), s.FinalView(ds)} {
			byItem := 0
			for i := range ds.Items {
				byItem += len(v.OfItem(int32(i)))
			}
			if byItem != len(v.Records()) {
				t.Fatal("records by item do not add up")
			}
			for r := range ds.Records {
				var want []int32
				for o := range ds.Records[:r] {
					if ds.Records[o].User == ds.Records[r].User && v.Visible(int32(o)) {
						want = append(want, int32(o))
					}
				}
				if got := v.History(int32(r)); !slices.Equal(got, want) {
					t.Fatalf("history of %d is %v, want %v", r, got, want)
				}
			}
		}
	})
}

// What a view shows, its digest included, does not move when invisible outcomes do; and it does when visible ones do.
func TestInvisibleOutcomesMoveNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			return
		}
		old := s.FinalView(ds)
		changed := ds.PermuteOutcomes(s.Test, rapid.Int64().Draw(t, "seed"))
		s2, err := MakeSplit(changed, SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now := s2.FinalView(changed)
		if now.Digest() != old.Digest() || now.Mean() != old.Mean() {
			t.Fatal("a test outcome reached the view")
		}
		r := rapid.SampledFrom(s.Train).Draw(t, "record")
		rating, _ := old.Rating(r)
		changed, err = ds.WithRatings([]int32{r}, []float64{6 - rating})
		if err != nil {
			t.Fatal(err)
		}
		if rating != 3 && s.FinalView(changed).Digest() == old.Digest() {
			t.Fatal("a visible outcome is not in the digest")
		}
	})
}

func TestShuffledLabelsStayWithTheirUsers(t *testing.T) {
	ds := setOf(t, 8, 10)
	s := mustSplit(t, ds)
	recs := slices.Concat(s.Train, s.Val)
	shuffled := ds.ShuffleWithinUsers(recs, 3)
	moved := false
	for u := range ds.Users {
		from, to := ds.OfUser(int32(u))
		a, b := slices.Clone(ds.ratings[from:to]), slices.Clone(shuffled.ratings[from:to])
		moved = moved || !slices.Equal(a, b)
		if !slices.Equal(a[8:], b[8:]) {
			t.Fatal("a record outside the list has moved")
		}
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Fatal("a user has other ratings than before")
		}
	}
	if !moved {
		t.Error("nothing was shuffled")
	}
}
