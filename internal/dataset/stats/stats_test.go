package stats

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Error(d)
	}
}

// small is a set with everything that is counted: ties, cold items, users with too few records, missing times, reviews and terms.
func small(t testing.TB) *dataset.Dataset {
	t.Helper()
	var events []dataset.Event
	for u := range 6 {
		for k := range 4 + 3*u {
			e := dataset.Event{User: fmt.Sprint("u", u), Item: fmt.Sprintf("i%02d", (k*(u+2))%(23+u)), Rating: float64(1 + (u+k)%5), Time: int64(86400 * (30*k + u)), HasTime: k != 2 || u != 1, Row: 100*u + k}
			if u == 4 {
				e.Time = 86400 * 12
			}
			if k%2 == 0 {
				e.Outcomes = append(e.Outcomes, dataset.Field{Name: "review", Value: strings.Repeat("word ", 1+k)})
			}
			if k%3 == 0 {
				e.Outcomes = append(e.Outcomes, dataset.Field{Name: "aspects", Value: []string{"plot|cast", "plot", "plot|<b>score</b>|plot"}[u%3]})
			}
			events = append(events, e)
		}
	}
	spec := dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: []string{"title"}, Review: "review"}
	ds, err := dataset.New("small", spec, []dataset.Item{{ID: "never rated", Title: "T"}}, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestGolden(t *testing.T) {
	s := Of(small(t))
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	golden(t, "small.txt", text.Bytes())
	doc, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "small.json", append(doc, '\n'))
}

// Test outcomes are never looked at.
func TestTestOutcomesChangeNothing(t *testing.T) {
	ds := small(t)
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	marshal := func(ds *dataset.Dataset) string {
		doc, err := json.Marshal(Of(ds))
		if err != nil {
			t.Fatal(err)
		}
		return string(doc)
	}
	want := marshal(ds)
	rapid.Check(t, func(rt *rapid.T) {
		if got := marshal(ds.PermuteOutcomes(split.Test, rapid.Int64().Draw(rt, "seed"))); got != want {
			rt.Fatal("permuted test outcomes changed the description")
		}
	})
	if marshal(ds.PermuteOutcomes(slices.Concat(split.Train, split.Test), 1)) == want {
		t.Error("nothing changes the description: the check cannot fail")
	}
}

// A set with reviews and no terms of its own is described by those that its reviews speak of.
func TestTermsAreFoundInReviews(t *testing.T) {
	ds := small(t)
	all := make([]int32, len(ds.Records))
	none, reviews := make([]string, len(all)), make([]string, len(all))
	for i := range all {
		all[i], reviews[i] = int32(i), []string{"A great plot and a dull score.", "The plot was great."}[i%2]
	}
	ds, err := ds.WithColumn("aspects", all, none)
	if err != nil {
		t.Fatal(err)
	}
	if ds, err = ds.WithColumn("review", all, reviews); err != nil {
		t.Fatal(err)
	}
	s := Of(ds)
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	if !s.Seen.Mined || s.Seen.AspectShare != 1 || s.Seen.Distinct != 2 || s.Seen.Top[0] != (Term{"plot", s.Seen.Records}) || !strings.Contains(text.String(), "found in the reviews") {
		t.Errorf("%+v\n%s", s.Seen, &text)
	}
	if Of(small(t)).Seen.Mined {
		t.Error("the set's own terms are passed over")
	}
}

func TestHTML(t *testing.T) {
	page, err := Of(small(t)).HTML()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(page, []byte("<svg")); n != 4 {
		t.Errorf("%d plots", n)
	}
	if bytes.Contains(page, []byte("<b>score")) || !bytes.Contains(page, []byte("&lt;b&gt;score")) {
		t.Error("a term is not escaped")
	}
	if bytes.Contains(page, []byte("<script")) || bytes.Contains(page, []byte("NaN")) {
		t.Error("a script or a missing number")
	}
}

// A set without times, texts, terms, or users with enough records has a description and a page too.
func TestPoorSets(t *testing.T) {
	spec := dataset.Spec{Domain: "movie", Verb: "v", Min: 1, Max: 5}
	for name, events := range map[string][]dataset.Event{
		"one record": {{User: "u", Item: "i", Rating: 3}},
		"five":       {{User: "u", Item: "a", Rating: 3}, {User: "u", Item: "b", Rating: 3}, {User: "u", Item: "c", Rating: 3}, {User: "u", Item: "d", Rating: 3}, {User: "u", Item: "e", Rating: 3}},
	} {
		ds, err := dataset.New(name, spec, nil, events)
		if err != nil {
			t.Fatal(err)
		}
		s := Of(ds)
		var text strings.Builder
		if err := s.WriteText(&text); err != nil || strings.Contains(text.String(), "NaN") {
			t.Errorf("%s: %v\n%s", name, err, &text)
		}
		if (s.Split == nil) != (name == "one record") {
			t.Errorf("%s: split %+v", name, s.Split)
		}
		if _, err := s.HTML(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		ns   []int
		want Spread
	}{
		{nil, Spread{}},
		{[]int{7}, Spread{7, 7, 7, 7, 7}},
		{[]int{4, 1, 3, 2}, Spread{1, 2.5, 2.5, 4, 4}},
		{[]int{10, 9, 8, 7, 6, 5, 4, 3, 2, 1}, Spread{1, 5.5, 5.5, 9, 10}},
	} {
		if got := spread(slices.Clone(c.ns)); got != c.want {
			t.Errorf("%v: %+v, want %+v", c.ns, got, c.want)
		}
	}
}

func TestManyRatingsAreBinned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ratings, n := make(map[float64]int), 0
		for _, r := range rapid.SliceOfN(rapid.Float64Range(0, 5), 0, 200).Draw(t, "ratings") {
			ratings[r]++
			n++
		}
		out := bins(ratings, 0, 5)
		if len(out) > maxBins {
			t.Fatalf("%d bins", len(out))
		}
		for _, b := range out {
			inside := 0
			for r, k := range ratings {
				if b.From == b.To && r == b.From || b.From < b.To && (r > b.From || r == 0 && b.From == 0) && r <= b.To {
					inside += k
				}
			}
			if inside != b.Records {
				t.Fatalf("%d ratings in %+v", inside, b)
			}
			n -= b.Records
		}
		if n != 0 {
			t.Fatalf("%d ratings are in no bin", n)
		}
	})
}

// The counts of real sets are those of the independent script that the tests of the split use.
func TestRealSets(t *testing.T) {
	for name, want := range map[string]struct{ users, ties int }{"amazon_musical_instruments_5": {1429, 661}, "tripadvisor_lara_u3": {1021, 160}} {
		ds, report, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := Of(ds)
		if s.Split.Users != want.users || s.Split.TieCuts != want.ties || s.Split.TestUsers != want.users || s.Split.ColdUsers != 0 {
			t.Errorf("%s: %+v", name, s.Split)
		}
		if s.Records != report.Records || s.Split.ShortUsers != s.Users-want.users || s.Seen.Records+s.Split.Test+s.Split.ShortRecords != s.Records {
			t.Errorf("%s: the parts do not add up: %+v", name, s)
		}
	}
}
