package recommender

import (
	"math"
	"testing"

	"recpie/internal/dataset"
)

// A model on data with candidates predicts rated records as before, and a candidate that repeats a test record close to it: but for the
// half of the mean that it is compared with, they are the same.
func TestCandidatesArePredicted(t *testing.T) {
	ds, split := world(t, 40, 24, 12)
	data := newData(t, split.FinalView(ds))
	m, _ := mustFit(t, Input{Data: data, Train: split.Train, Settings: tiny(), Seed: 1, Epochs: 3})
	defer m.Close()
	var cs []dataset.Candidate
	for _, r := range split.Test {
		rec := ds.Records[r]
		cs = append(cs, dataset.Candidate{Pair: dataset.Pair{User: rec.User, Item: rec.Item}, Time: rec.Time, HasTime: rec.HasTime})
	}
	more, first, err := data.With(t.Context(), cs)
	if err != nil {
		t.Fatal(err)
	}
	on, err := m.On(more)
	if err != nil {
		t.Fatal(err)
	}
	recs := make([]int32, len(cs))
	for k := range recs {
		recs[k] = first + int32(k)
	}
	before, err := m.Predict(t.Context(), split.Test, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := on.Predict(t.Context(), split.Test, nil)
	if err != nil {
		t.Fatal(err)
	}
	asCandidates, err := on.Predict(t.Context(), recs, nil)
	if err != nil {
		t.Fatal(err)
	}
	far := 0.0
	for k := range recs {
		if before.Y[k] != after.Y[k] {
			t.Fatalf("record %d is predicted %v and with candidates %v", split.Test[k], before.Y[k], after.Y[k])
		}
		far = max(far, math.Abs(float64(before.Y[k]-asCandidates.Y[k])))
	}
	if far > .02 {
		t.Errorf("a candidate is predicted %.4f away from its record", far)
	}
	other := newData(t, split.TrainView(ds))
	if _, err := m.On(other); err == nil {
		t.Error("data of another view were taken")
	}
}
