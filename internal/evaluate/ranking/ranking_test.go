package ranking

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
)

// world is a data set in which item 0 is the most popular; item "unknown" has no record.
func world(t rapid.TB, seed uint64, users, items, per int) (*dataset.Dataset, *dataset.Split) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 9))
	its := []dataset.Item{{ID: "unknown"}}
	var events []dataset.Event
	for u := range users {
		rated := map[int]bool{}
		for len(rated) < per {
			i := int(float64(items) * math.Pow(rng.Float64(), 2))
			if rated[i] {
				continue
			}
			rated[i] = true
			events = append(events, dataset.Event{User: "u" + strconv.Itoa(u), Item: fmt.Sprintf("i%03d", i), Rating: float64(1 + rng.IntN(5)), Time: int64(len(rated)), HasTime: true, Row: len(events)})
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

func TestListsHoldWhatTheyPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds, split := world(t, rapid.Uint64().Draw(t, "world"), 15, 40, rapid.IntRange(10, 36).Draw(t, "records"))
		s := Settings{Users: rapid.IntRange(0, 8).Draw(t, "users"), Positives: rapid.IntRange(0, 3).Draw(t, "positives"), Negatives: rapid.IntRange(1, 50).Draw(t, "negatives"), Seed: rapid.Int64().Draw(t, "seed")}
		l, err := Draw(split.FinalView(ds), s)
		if err != nil {
			t.Fatal(err)
		}
		perUser := map[int32]int{}
		for k, list := range l.All {
			if k > 0 && list.Record <= l.All[k-1].Record {
				t.Fatal("lists are not in order")
			}
			u := ds.Records[list.Record].User
			perUser[u]++
			if _, test := slices.BinarySearch(split.Test, list.Record); !test || ds.Labels([]int32{list.Record})[0] < evaluate.LabelAt {
				t.Fatalf("record %d is not a liked test record", list.Record)
			}
			from, to := ds.OfUser(u)
			own := map[int32]bool{}
			for _, rec := range ds.Records[from:to] {
				own[rec.Item] = true
			}
			for d, items := range list.Negatives {
				if !slices.IsSorted(items) || len(slices.Compact(slices.Clone(items))) != len(items) {
					t.Fatalf("%s: %v", Draws[d], items)
				}
				for _, i := range items {
					if own[i] || ds.Items[i].ID == "unknown" {
						t.Fatalf("%s: item %s", Draws[d], ds.Items[i].ID)
					}
				}
				if d == 0 && len(items) != min(s.Negatives, len(ds.Items)-1-len(own)) {
					t.Fatalf("%d of %d other items, the user has rated %d of %d", len(items), s.Negatives, len(own), len(ds.Items)-1)
				}
			}
		}
		for u, n := range perUser {
			if s.Positives > 0 && n > s.Positives || s.Users > 0 && len(perUser) > s.Users {
				t.Fatalf("user %d has %d lists, %d users have any", u, n, len(perUser))
			}
		}
		again, err := Draw(split.FinalView(ds), s)
		if err != nil || again.Digest != l.Digest {
			t.Fatalf("drawn again the lists differ: %v", err)
		}
		s.Seed++
		other, err := Draw(split.FinalView(ds), s)
		if err != nil || other.Digest == l.Digest {
			t.Fatalf("another seed gave the same digest: %v", err)
		}
	})
}

// What others rated, and how, decides nothing but popularity: the lists hang on no outcome but the test labels.
func TestListsHangOnNoTrainingOutcome(t *testing.T) {
	ds, split := world(t, 3, 20, 60, 12)
	s := Settings{Negatives: 10, Seed: 1}
	a, err := Draw(split.FinalView(ds), s)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Draw(split.FinalView(ds.PermuteOutcomes(slices.Concat(split.Train, split.Val), 3)), s)
	if err != nil || a.Digest != b.Digest {
		t.Errorf("lists moved with training outcomes: %v", err)
	}
}

// Draws follow their weights: over many lists an item of twice the records comes up about twice as often.
func TestDrawsFollowPopularity(t *testing.T) {
	ds, split := world(t, 5, 60, 80, 12)
	view := split.FinalView(ds)
	p := newPool(view)
	rng := rand.New(rand.NewPCG(1, 1))
	const draws = 40000
	var got [2][]float64
	for d := range got {
		got[d] = make([]float64, len(ds.Items))
	}
	from, to := ds.OfUser(0)
	own := map[int32]bool{}
	for _, rec := range ds.Records[from:to] {
		own[rec.Item] = true
	}
	for range draws {
		for d, items := range p.draw(0, 1, rng) {
			got[d][items[0]]++
		}
	}
	var sum [2]float64
	weight := func(d int, i int32) float64 {
		switch {
		case own[i] || ds.Items[i].ID == "unknown":
			return 0
		case d == 0:
			return 1
		}
		return float64(len(view.OfItem(i)))
	}
	for i := range ds.Items {
		for d := range sum {
			sum[d] += weight(d, int32(i))
		}
	}
	for d, name := range Draws {
		chi, cells := 0.0, 0
		for i := range ds.Items {
			want := draws * weight(d, int32(i)) / sum[d]
			if want == 0 {
				if got[d][i] != 0 {
					t.Errorf("%s: item %d of no weight was drawn", name, i)
				}
				continue
			}
			chi += (got[d][i] - want) * (got[d][i] - want) / want
			cells++
		}
		// chi-square with cells−1 degrees of freedom: mean cells−1, standard deviation sqrt(2(cells−1))
		if far := (chi - float64(cells-1)) / math.Sqrt(2*float64(cells-1)); far > 5 {
			t.Errorf("%s: chi-square %.1f over %d items", name, chi, cells)
		}
	}
}

func TestDrawRefuses(t *testing.T) {
	ds, split := world(t, 3, 10, 40, 10)
	for _, s := range []Settings{{}, {Negatives: -1}, {Users: -1, Negatives: 1}, {Positives: -1, Negatives: 1}} {
		if _, err := Draw(split.FinalView(ds), s); err == nil || fault.HintOf(err) == "" {
			t.Errorf("%+v: %v", s, err)
		}
	}
	ratings := make([]float64, len(split.Test))
	for k := range ratings {
		ratings[k] = 1
	}
	sad, err := ds.WithRatings(split.Test, ratings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Draw(split.FinalView(sad), Settings{Negatives: 5}); err == nil || fault.ClassOf(err) != fault.Item {
		t.Errorf("nobody likes anything: %v", err)
	}
}

func TestOpenKeepsTheLists(t *testing.T) {
	ds, split := world(t, 3, 20, 60, 12)
	view, path, s := split.FinalView(ds), filepath.Join(t.TempDir(), "candidates.jsonl"), Settings{Users: 9, Positives: 2, Negatives: 10, Seed: 4}
	first, err := Open(path, view, s)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(path, view, s)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(first)
	b, _ := json.Marshal(second)
	if string(a) != string(b) {
		t.Errorf("read back\n%s\nwant\n%s", b, a)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	own := func() string { // an item that the user of the first list has rated
		from, _ := ds.OfUser(ds.Records[first.All[0].Record].User)
		return ds.Items[ds.Records[from].Item].ID
	}()
	negative := ds.Items[first.All[0].Negatives[0][0]].ID
	for name, c := range map[string]struct{ text, want string }{
		"cut short":          {strings.Join(lines[:len(lines)-2], ""), "promises"},
		"cut within a line":  {string(text[:len(text)-9]), "line"},
		"empty":              {"", "empty"},
		"other version":      {strings.Replace(string(text), `"recpie_candidates":1`, `"recpie_candidates":2`, 1), "this program reads 1"},
		"other split":        {strings.Replace(string(text), split.Digest, strings.Repeat("0", 64), 1), "split_digest"},
		"no such item":       {strings.Replace(string(text), `["`+negative+`"`, `["nowhere"`, 1), `line 2: uniform: item "nowhere"`},
		"a rated item":       {strings.Replace(string(text), `["`+negative+`"`, `["`+own+`"`, 1), "has a record of it"},
		"no test record":     {strings.Replace(string(text), `"item":"`, `"item":"x`, 1), "has no test record"},
		"no such user":       {strings.Replace(string(text), `"user":"`, `"user":"x`, 1), "is not in the data"},
		"lines exchanged":    {lines[0] + lines[2] + lines[1] + strings.Join(lines[3:], ""), "digest"},
		"an unknown field":   {strings.Replace(string(text), `"user"`, `"who"`, 1), "line 2"},
		"something behind":   {strings.Replace(string(text), "\"]}\n", "\"]} {}\n", 1), "follows"},
		"a list of nothing":  {lines[0] + `{"user":"u1","item":"i1","uniform":[],"popular":["i2"]}` + "\n", "all needed"},
		"settings of others": {strings.Replace(string(text), `"seed":4`, `"seed":5`, 1), "settings are"},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, view, s)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) || fault.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzCandidates(f *testing.F) {
	ds, split := world(f, 3, 6, 20, 8)
	view, path, s := split.FinalView(ds), filepath.Join(f.TempDir(), "c"), Settings{Negatives: 3}
	if _, err := Open(path, view, s); err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"recpie_candidates":1,"lists":1}` + "\n" + `{"user":"u1","item":"i001","uniform":["i002"],"popular":["i003"]}`))
	f.Add([]byte("{}\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rows, err := parse(b)
		if err != nil {
			return
		}
		if len(rows) != h.Lists {
			t.Fatalf("%d rows of %d", len(rows), h.Lists)
		}
		l, err := resolve(h, rows, view, s)
		if err != nil {
			return
		}
		for _, list := range l.All {
			for _, items := range list.Negatives {
				for _, i := range items {
					if int(i) >= len(ds.Items) {
						t.Fatalf("item %d", i)
					}
				}
			}
		}
		if err := l.Save(path, ds); err != nil {
			t.Fatal(err)
		}
		if again, err := Open(path, view, s); err != nil || again.Digest != l.Digest {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
	})
}
