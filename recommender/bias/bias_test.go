package bias

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"recpie/internal/dataset"
)

// world makes a data set of y = mu + b_u + b_i + noise on the scale 0..1.
func world(t testing.TB, users, items, per int, noise float64) (*dataset.Dataset, *dataset.Split) {
	t.Helper()
	rng := rand.New(rand.NewPCG(7, 7))
	bu, bi := make([]float64, users), make([]float64, items)
	for u := range bu {
		bu[u] = .15 * rng.NormFloat64()
	}
	for i := range bi {
		bi[i] = .1 * rng.NormFloat64()
	}
	var events []dataset.Event
	for u := range users {
		for k, i := range rng.Perm(items)[:per] {
			y := min(max(.6+bu[u]+bi[i]+noise*rng.NormFloat64(), 0), 1)
			events = append(events, dataset.Event{User: strconv.Itoa(u), Item: strconv.Itoa(i), Rating: y, Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New("world", dataset.Spec{Max: 1}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds, split
}

func rmse(p, y []float32) float64 {
	s := 0.0
	for i := range p {
		s += float64(p[i]-y[i]) * float64(p[i]-y[i])
	}
	return math.Sqrt(s / float64(len(p)))
}

func TestFitFindsTheBiases(t *testing.T) {
	ds, split := world(t, 200, 100, 30, .05)
	view := split.TrainView(ds)
	reg, err := Choose(view, split.Val)
	if err != nil {
		t.Fatal(err)
	}
	m, err := Fit(view, reg, 1)
	if err != nil {
		t.Fatal(err)
	}
	got := rmse(m.Predict(ds, split.Test), ds.Labels(split.Test))
	if got > .056 {
		t.Errorf("test RMSE %.4f with noise .05", got)
	}
	// Cross-fitted residuals on training rows look like test residuals; in-sample ones would be smaller.
	base := make([]float32, len(split.Train))
	for k, r := range split.Train {
		base[k] = min(max(m.Base[r], 0), 1)
	}
	cross, in := rmse(base, ds.Labels(split.Train)), rmse(m.Predict(ds, split.Train), ds.Labels(split.Train))
	if cross <= in || cross < .97*got {
		t.Errorf("train RMSE cross-fitted %.4f, in-sample %.4f, test %.4f", cross, in, got)
	}
}

func TestBaseIgnoresOwnAndInvisibleOutcomes(t *testing.T) {
	ds, split := world(t, 40, 30, 10, .1)
	reg := Regularisers{5, 5}
	m, err := Fit(split.TrainView(ds), reg, 3)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := ds.WithRatings(split.Test, make([]float64, len(split.Test)))
	if err != nil {
		t.Fatal(err)
	}
	m2, err := Fit(split.TrainView(changed), reg, 3)
	if err != nil {
		t.Fatal(err)
	}
	for r := range m.Base {
		if m.Base[r] != m2.Base[r] {
			t.Fatalf("base of record %d moved with test outcomes", r)
		}
	}
	moved := 0
	for _, r := range split.Train[:20] {
		one, err := ds.WithRatings([]int32{r}, []float64{0})
		if err != nil {
			t.Fatal(err)
		}
		m3, err := Fit(split.TrainView(one), reg, 3)
		if err != nil {
			t.Fatal(err)
		}
		if m3.Base[r] != m.Base[r] {
			t.Errorf("base of training record %d moved with its own outcome", r)
		}
		if m3.Mu != m.Mu {
			moved++
		}
	}
	if moved == 0 {
		t.Error("changing outcomes moved nothing: the test is blind")
	}
}

func TestErrors(t *testing.T) {
	ds, split := world(t, 10, 10, 6, .1)
	if _, err := Choose(split.TrainView(ds), nil); err == nil {
		t.Error("no validation records accepted")
	}
	if _, err := Fit(split.TrainView(ds), Regularisers{-1, 2}, 1); err == nil {
		t.Error("a negative regulariser accepted")
	}
}
