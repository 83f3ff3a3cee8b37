package recommender

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"recpie/internal/dataset"
	"recpie/recommender/bias"
)

// world is a small data set in which users like or dislike categories.
func world(t testing.TB, users, items, per int) (*dataset.Dataset, *dataset.Split) {
	t.Helper()
	rng := rand.New(rand.NewPCG(3, 3))
	var its []dataset.Item
	for i := range items {
		its = append(its, dataset.Item{ID: strconv.Itoa(i), Categories: []string{"kind" + strconv.Itoa(i%4)}})
	}
	var events []dataset.Event
	for u := range users {
		var taste [4]float64
		for c := range taste {
			taste[c] = .2 * rng.NormFloat64()
		}
		for k, i := range rng.Perm(items)[:per] {
			y := min(max(.6+taste[i%4]+.1*float64(i%7-3)/3+.1*rng.NormFloat64(), 0), 1)
			events = append(events, dataset.Event{User: strconv.Itoa(u), Item: strconv.Itoa(i), Rating: 1 + 4*y, Time: int64(k) * 5000, HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New("world", dataset.Spec{Min: 1, Max: 5}, its, events)
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds, split
}

func newData(t testing.TB, view *dataset.View) *Data {
	t.Helper()
	data, err := NewData(t.Context(), view, bias.Regularisers{User: 5, Item: 5}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// tiny is a network that trains in a moment.
func tiny() Settings {
	s := DefaultSettings(100)
	s.Dim, s.History, s.Hidden, s.Batch, s.MaxEpochs = 8, 5, [2]int{16, 8}, 64, 6
	s.LR, s.LRDecay, s.Pieces = 1e-3, 1, 4
	return s
}

func mustFit(t testing.TB, in Input) (*Model, *FitLog) {
	t.Helper()
	m, log, err := Fit(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, log
}

func mustPredict(t testing.TB, m *Model, recs []int32, e *Explanations) *Predictions {
	t.Helper()
	p, err := m.Predict(t.Context(), recs, e)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// noise gives every record one of 20 random vectors per side, and none to every seventh.
func noise(ds *dataset.Dataset, dim int) *Explanations {
	rng := rand.New(rand.NewPCG(5, 5))
	e := &Explanations{Vectors: &Vectors{Dim: dim, Data: make([]float32, 20*dim)}}
	for k := range e.Vectors.Data {
		e.Vectors.Data[k] = float32(rng.NormFloat64())
	}
	for r := range ds.Records {
		pos, neg := int32(rng.IntN(20)), int32(rng.IntN(20))
		if r%7 == 0 {
			pos, neg = -1, -1
		}
		e.Pos, e.Neg = append(e.Pos, pos), append(e.Neg, neg)
	}
	return e
}
