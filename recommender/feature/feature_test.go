package feature

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

// random makes a small data set with ties in time, missing times, categories and prices.
func random(seed uint64, users, items, per int) (*dataset.Dataset, *dataset.Split, error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var its []dataset.Item
	for i := range items {
		it := dataset.Item{ID: strconv.Itoa(i), Categories: []string{strconv.Itoa(i % 3), strconv.Itoa(i % 5)}}
		if i%4 != 0 {
			it.Price = "$" + strconv.Itoa(10+i)
		}
		its = append(its, it)
	}
	var events []dataset.Event
	for u := range users {
		for k, i := range rng.Perm(items)[:min(items, per+rng.IntN(4))] {
			events = append(events, dataset.Event{User: strconv.Itoa(u), Item: strconv.Itoa(i), Rating: float64(1 + rng.IntN(5)),
				Time: int64(k/2) * 40000, HasTime: rng.IntN(20) > 0, Row: len(events)})
		}
	}
	ds, err := dataset.New("random", dataset.Spec{Min: 1, Max: 5}, its, events)
	if err != nil {
		return nil, nil, err
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	return ds, split, err
}

func build(t rapid.TB, view *dataset.View) *Table {
	t.Helper()
	table, err := Build(context.Background(), view, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestTestOutcomesChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds, split, err := random(rapid.Uint64().Draw(t, "seed"), 12, 15, 6)
		if err != nil {
			t.Fatal(err)
		}
		ratings := make([]float64, len(split.Test))
		for k := range ratings {
			ratings[k] = float64(rapid.IntRange(1, 5).Draw(t, "rating"))
		}
		changed, err := ds.WithRatings(split.Test, ratings)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(build(t, split.FinalView(ds)).X, build(t, split.FinalView(changed)).X) {
			t.Fatal("features moved with test outcomes")
		}
	})
}

// A record's own outcome never enters its own features: they are identical, bit by bit, when it changes.
func TestOwnOutcomeNeverEnters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds, split, err := random(rapid.Uint64().Draw(t, "seed"), 12, 15, 6)
		if err != nil {
			t.Fatal(err)
		}
		r := rapid.SampledFrom(split.Train).Draw(t, "record")
		old := build(t, split.TrainView(ds))
		changed, err := ds.WithRatings([]int32{r}, []float64{float64(rapid.IntRange(1, 5).Draw(t, "rating"))})
		if err != nil {
			t.Fatal(err)
		}
		now := build(t, split.TrainView(changed))
		for c, name := range old.Names {
			if a, b := old.Row(r)[c], now.Row(r)[c]; a != b {
				t.Fatalf("%s of record %d went from %v to %v with its own outcome", name, r, a, b)
			}
		}
		if a, _ := split.TrainView(ds).Y(r); !slices.Equal(old.X, now.X) != (a != changed.Labels([]int32{r})[0]) {
			t.Fatal("the change reached no other record, or none was made and something moved")
		}
	})
}

// The sums with one record taken out are what a straightforward computation without it gives.
func TestAgainstDirectComputation(t *testing.T) {
	ds, split, err := random(5, 10, 12, 7)
	if err != nil {
		t.Fatal(err)
	}
	view := split.TrainView(ds)
	table := build(t, view)
	w := newWorld(view, 1000)
	column := func(name string) int { return slices.Index(table.Names, name) }
	for r := range ds.Records {
		r := int32(r)
		rec, k := ds.Records[r], half(uint64(r))
		others := func(i int32, not int32) (sum, n float64) { // deviations on item i by users other than not
			for _, v := range view.OfItem(i) {
				if ds.Records[v].User != not {
					sum, n = sum+w.dev[k][v], n+1
				}
			}
			return sum, n
		}
		s, n := others(rec.Item, rec.User)
		item := s / (n + shrink)
		var sum, count float64
		for _, j := range view.OfUser(rec.User) {
			if j != r {
				s, n := others(ds.Records[j].Item, rec.User)
				y, _ := view.Y(j)
				sum, count = sum+float64(y)-w.mu[k]-s/(n+shrink), count+1
			}
		}
		user := sum / (count + shrink)
		for name, want := range map[string]float64{"user_mean": user, "item_mean": item, "pair_mean": w.mu[k] + user + item,
			"user_count": math.Log1p(count), "item_count": math.Log1p(n)} {
			if got := float64(table.Row(r)[column(name)]); math.Abs(got-want) > 1e-6 {
				t.Errorf("record %d %s = %v, want %v", r, name, got, want)
			}
		}
		// Item neighbours: similarity by the other users' products.
		var num, weight float64
		for _, j := range view.OfUser(rec.User) {
			if j == r {
				continue
			}
			sj, nj := others(ds.Records[j].Item, rec.User)
			var prod, pairs float64
			for _, v := range view.OfItem(rec.Item) {
				for _, x := range view.OfItem(ds.Records[j].Item) {
					if ds.Records[v].User == ds.Records[x].User && ds.Records[v].User != rec.User {
						prod += (w.dev[k][v] - item) * (w.dev[k][x] - sj/(nj+shrink))
						pairs++
					}
				}
			}
			if sim := prod / ((pairs + pairShrink) * pairVar); sim > 0 {
				y, _ := view.Y(j)
				num += sim * (float64(y) - w.mu[k] - sj/(nj+shrink) - user)
				weight += sim
			}
		}
		if got, want := float64(table.Row(r)[column("item_neighbours")]), num/(weight+blendShrink); math.Abs(got-want) > 1e-5 {
			t.Errorf("record %d item_neighbours = %v, want %v", r, got, want)
		}
	}
}

func TestWorkersDoNotMatter(t *testing.T) {
	ds, split, err := random(9, 40, 30, 9)
	if err != nil {
		t.Fatal(err)
	}
	one, err := Build(context.Background(), split.TrainView(ds), Options{Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	four, err := Build(context.Background(), split.TrainView(ds), Options{Workers: 4})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(one.X, four.X) {
		t.Error("the table depends on the number of workers")
	}
	for k, x := range one.X {
		if v := float64(x); math.IsNaN(v) || math.IsInf(v, 0) {
			t.Fatalf("%s of record %d is %v", one.Names[k%len(names)], k/len(names), v)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Build(ctx, split.TrainView(ds), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled build returned %v", err)
	}
}

func TestLogPrice(t *testing.T) {
	for s, want := range map[string]float64{"173": math.Log1p(173), "$19.99 each": math.Log1p(19.99), " € 5": math.Log1p(5)} {
		if got := logPrice(s); got != want {
			t.Errorf("logPrice(%q) = %v, want %v", s, got, want)
		}
	}
	for _, s := range []string{"", "cheap", "1.2.3", "-4"} {
		if got := logPrice(s); !math.IsNaN(got) {
			t.Errorf("logPrice(%q) = %v", s, got)
		}
	}
}
