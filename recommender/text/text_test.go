package text

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"recpie/internal/dataset"
)

// Documents of two subjects that share no word but the commonest fall into two directions; a subject's documents are alike.
func TestSubjectsSeparate(t *testing.T) {
	var docs []string
	for k := range 40 {
		if k%2 == 0 {
			docs = append(docs, fmt.Sprintf("the pool and the beach %s", []string{"sand", "sun", "sand sun", "sea sun"}[k/2%4]))
		} else {
			docs = append(docs, fmt.Sprintf("the lobby and the desk %s", []string{"clerk", "queue", "clerk queue", "key queue"}[k/2%4]))
		}
	}
	l := FitLSA(docs, 2)
	if l == nil || l.Dim != 2 {
		t.Fatalf("%+v", l)
	}
	cosine := func(a, b string) float64 {
		x, y := make([]float32, 2), make([]float32, 2)
		l.Vector(x, a)
		l.Vector(y, b)
		var xy, xx, yy float64
		for k := range x {
			xy += float64(x[k] * y[k])
			xx += float64(x[k] * x[k])
			yy += float64(y[k] * y[k])
		}
		return xy / math.Sqrt(xx*yy)
	}
	if c := cosine("Sand, sea!", "sun"); c < .9 {
		t.Errorf("one subject: cosine %.3f", c)
	}
	if c := cosine("sand and sea", "clerk"); math.Abs(c) > .3 {
		t.Errorf("two subjects: cosine %.3f", c)
	}
	zero := make([]float32, 2)
	if l.Vector(zero, "nothing known"); zero[0] != 0 || zero[1] != 0 {
		t.Errorf("unknown words: %v", zero)
	}
	if FitLSA([]string{"one", "two"}, 3) != nil {
		t.Error("two words that nobody repeats make directions")
	}
}

// The directions are orthonormal, and those of the matrix' largest singular values: no random direction keeps more of it.
func TestDirections(t *testing.T) {
	rows := [][]entry{{{0, 3}}, {{1, 2}}, {{2, 1}}, {{0, 3}, {1, -.1}}, {{3, .5}}}
	d := directions(rows, 4, 2)
	kept := func(dirs []float32, dim int) (sum float64) {
		for _, row := range rows {
			for j := range dim {
				dot := 0.0
				for _, e := range row {
					dot += float64(e.weight * dirs[int(e.word)*dim+j])
				}
				sum += dot * dot
			}
		}
		return sum
	}
	for i := range 2 {
		for j := range 2 {
			dot := 0.0
			for c := range 4 {
				dot += float64(d[c*2+i] * d[c*2+j])
			}
			if want := map[bool]float64{true: 1, false: 0}[i == j]; math.Abs(dot-want) > 1e-5 {
				t.Errorf("directions %d and %d: %v", i, j, dot)
			}
		}
	}
	// The two largest squared singular values are those of the block of the first two columns: 9+9, 4+.01, and a product of −.3.
	trace, det := 22.01, 18*4.01-.09
	if want := trace; math.Abs(kept(d, 2)-want) > 1e-3 {
		t.Errorf("two directions keep %v of %v (determinant %v)", kept(d, 2), want, det)
	}
}

func reviewed(t *testing.T, change func([]dataset.Event)) (*dataset.Dataset, *dataset.View, *dataset.Split) {
	t.Helper()
	words := []string{"clean quiet room", "loud dirty room", "friendly staff breakfast", "cold breakfast noise", "quiet staff view", "view pool clean"}
	var events []dataset.Event
	for u := range 12 {
		for k := range 8 {
			events = append(events, dataset.Event{User: fmt.Sprintf("u%02d", u), Item: fmt.Sprintf("i%02d", (u*3+k*5)%16), Rating: float64(1 + (u+k)%5), Time: int64(k), HasTime: true, Row: len(events),
				Outcomes: []dataset.Field{{Name: "review", Value: words[(u*5+k)%6] + " " + words[(u+k*k)%6]}}})
		}
	}
	if change != nil {
		change(events)
	}
	items := []dataset.Item{{ID: "i00", Title: "Sea house", Profile: "a house by the sea"}, {ID: "i01", Title: "Sea inn"}, {ID: "i02", Title: "Sea lodge"}}
	ds, err := dataset.New("hotels", dataset.Spec{Min: 1, Max: 5, Review: "review"}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds, split.TrainView(ds), split
}

// With vocabulary and directions held fixed, a record's row does not depend on its own review, and does on others' of its item.
func TestOwnReviewIsLeftOut(t *testing.T) {
	ds, view, split := reviewed(t, nil)
	table := Build(view)
	if table.Dim() != 2*ReviewDim+ItemDim {
		t.Fatalf("rows of %d numbers", table.Dim())
	}
	rec := split.Train[5]
	row := func(r int32) []float32 {
		out := make([]float32, table.Dim())
		table.Row(out, r)
		return out
	}
	before := row(rec)
	own := table.reviews[int(rec)*ReviewDim : (int(rec)+1)*ReviewDim]
	was := slices.Clone(own)
	for k := range own { // another review in its place
		own[k] += 1
		table.users.total[int(ds.Records[rec].User)*ReviewDim+k]++
		table.items.total[int(ds.Records[rec].Item)*ReviewDim+k]++
	}
	for k, x := range row(rec) {
		if math.Abs(float64(x-before[k])) > 1e-5 {
			t.Fatalf("number %d: %v with its own review, %v with another", k, before[k], x)
		}
	}
	var neighbour int32 = -1
	for _, r := range view.OfUser(ds.Records[rec].User) {
		if r != rec {
			neighbour = r
		}
	}
	with := row(neighbour)
	copy(own, was)
	for k := range was {
		table.users.total[int(ds.Records[rec].User)*ReviewDim+k]--
		table.items.total[int(ds.Records[rec].Item)*ReviewDim+k]--
	}
	if slices.Equal(with, row(neighbour)) {
		t.Error("another record of the user does not see the review")
	}
}

// Reviews that the view does not show change nothing.
func TestInvisibleReviews(t *testing.T) {
	_, view, split := reviewed(t, nil)
	_, changed, _ := reviewed(t, func(events []dataset.Event) {
		for k := range events {
			if events[k].Time >= 6 {
				events[k].Outcomes[0].Value = "entirely other words about nothing"
			}
		}
	})
	a, b := Build(view), Build(changed)
	x, y := make([]float32, a.Dim()), make([]float32, b.Dim())
	for _, part := range [][]int32{split.Train, split.Val, split.Test} {
		for _, r := range part {
			a.Row(x, r)
			b.Row(y, r)
			if !slices.Equal(x, y) {
				t.Fatalf("record %d: %v and %v", r, x, y)
			}
		}
	}
}
