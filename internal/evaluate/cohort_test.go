package evaluate

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestGroupsByEdges(t *testing.T) {
	got := GroupByEdges("user_records", []int{0, 4, 5, 19, 20, 500, 1}, []int{0, 1, 5, 20})
	want := []Group{{"user_records", "0", []int{0}}, {"user_records", "1-4", []int{1, 6}}, {"user_records", "5-19", []int{2, 3}}, {"user_records", "20+", []int{4, 5}}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if got := GroupByEdges("x", []int{7}, []int{0, 1, 5, 20}); len(got) != 1 || got[0].Name != "5-19" {
		t.Errorf("empty bands are told of: %v", got)
	}
}

// Every record is in one band, bands ascend, and none is much larger than its share but for ties.
func TestGroupsByQuantiles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		counts := rapid.SliceOfN(rapid.IntRange(0, 40), 1, 80).Draw(rt, "counts")
		groups := GroupByQuantiles("x", counts, 5)
		var all []int
		last := -1
		for _, g := range groups {
			lo, hi := math.MaxInt, 0
			for _, i := range g.At {
				lo, hi = min(lo, counts[i]), max(hi, counts[i])
			}
			if lo <= last || len(g.At) == 0 || g.Name != band(lo, hi) {
				rt.Fatalf("band %s after %d holds %d to %d", g.Name, last, lo, hi)
			}
			last = hi
			all = append(all, g.At...)
		}
		slices.Sort(all)
		if len(all) != len(counts) || len(slices.Compact(all)) != len(counts) || len(groups) > 5 {
			rt.Fatalf("%d bands hold %d of %d records", len(groups), len(all), len(counts))
		}
	})
	counts := make([]int, 100)
	for i := range counts {
		counts[i] = i
	}
	for _, g := range GroupByQuantiles("x", counts, 5) {
		if len(g.At) != 20 {
			t.Errorf("band %s holds %d of 100 distinct counts", g.Name, len(g.At))
		}
	}
}

func TestCohortsByHand(t *testing.T) {
	truth, user := []float32{1, 0, .5, .75}, []int32{1, 1, 2, 3}
	systems := []Predicted{
		{"biases", [][]float32{{.5, .5, .5, .5}}},
		{"no_explanations", [][]float32{{.9, .1, .5, .7}, {.8, .2, .5, .7}}},
		{"heuristic", [][]float32{{1, 0, .5, .75}, {1, 0, .5, .75}}},
	}
	got, err := Cohorts([]Group{{"user_records", "1-4", []int{0, 1}}, {"user_records", "5-19", []int{2, 3}}}, systems, "no_explanations", truth, user)
	if err != nil {
		t.Fatal(err)
	}
	c := got[0]
	if c.N != 2 || c.Users != 1 || len(c.Systems) != 3 || got[1].Users != 2 {
		t.Fatalf("%+v", got)
	}
	near(t, "RMSE of the biases", c.Systems[0].RMSE, .5, 1e-7)
	near(t, "RMSE, mean over seeds", c.Systems[1].RMSE, .15, 1e-7)
	near(t, "MAE", c.Systems[1].MAE, .15, 1e-7)
	near(t, "AUC", c.Systems[1].AUC, 1, 0)
	near(t, "SE of one user", c.Systems[1].RMSESE, 0, 0)
	if c.Systems[1].Difference != nil {
		t.Error("a system is compared with itself")
	}
	// errors of both seeds together: sqrt((.01+.01+.04+.04)/4)
	near(t, "heuristic less no_explanations", c.Systems[2].Difference.RMSE, -math.Sqrt(.025), 1e-7)
	near(t, "biases less no_explanations", c.Systems[0].Difference.RMSE, .5-math.Sqrt(.025), 1e-7)
	// second group, users 2 and 3: squared errors 0 and .0025 in both seeds
	se := math.Sqrt(2*2*math.Pow((2*.0025-2*.00125)/(2*math.Sqrt(.00125)), 2)) / 4
	near(t, "SE of two users", got[1].Systems[1].RMSESE, se, 1e-6)
	if _, err := Cohorts([]Group{{"x", "y", []int{0}}}, []Predicted{{"bad", [][]float32{{float32(math.NaN()), 0, 0, 0}}}}, "", truth, user); err == nil {
		t.Error("a NaN prediction was measured")
	}
}
