package importer

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

// naive is the k-core by its definition.
func naive(events []dataset.Event, user, item int) []dataset.Event {
	for {
		users, items := map[string]int{}, map[string]int{}
		for _, e := range events {
			users[e.User]++
			items[e.Item]++
		}
		left := slices.DeleteFunc(slices.Clone(events), func(e dataset.Event) bool { return users[e.User] < user || items[e.Item] < item })
		if len(left) == len(events) {
			return left
		}
		events = left
	}
}

func TestCoreIsTheNaiveCore(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := world(rt)
		m.spec.Review = ""
		m.spec.Min, m.spec.Max = 0, 9
		last := map[[2]string]int{} // without duplicates, so that the core is one of pairs
		var events []dataset.Event
		for _, e := range m.events {
			if k := [2]string{e.User, e.Item}; last[k] == 0 {
				last[k] = 1
				events = append(events, e)
			}
		}
		m.events = events
		n++
		o := m.options(filepath.Join(dir, fmt.Sprint(n)))
		o.Filters = Filters{MinUser: rapid.IntRange(0, 4).Draw(rt, "k users"), MinItem: rapid.IntRange(0, 4).Draw(rt, "k items")}
		want := naive(events, o.Filters.MinUser, o.Filters.MinItem)
		got, err := Run(t.Context(), o)
		if len(want) == 0 {
			if err == nil {
				rt.Fatal("an empty core was imported")
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		ds, _, err := dataset.Load(t.Context(), o.Out, dataset.Options{})
		if err != nil {
			rt.Fatal(err)
		}
		rows := make([]int, 0, len(want))
		for _, r := range ds.Records {
			rows = append(rows, r.Row)
		}
		slices.Sort(rows)
		var wanted []int
		for _, e := range want {
			wanted = append(wanted, e.Row)
		}
		if !slices.Equal(rows, wanted) {
			rt.Fatalf("rows %v, want %v", rows, wanted)
		}
		if c := got.Counts; c.Filtered["k_core"] != int64(len(events)-len(want)) || c.Rows != c.Kept+c.Filtered["k_core"] {
			rt.Fatalf("counts %+v", c)
		}
	})
}

func TestFilters(t *testing.T) {
	at := func(day int64) dataset.Event {
		return dataset.Event{User: "u", Item: fmt.Sprint("i", day), Rating: float64(day%5 + 1), Time: day * 86400, HasTime: true, Row: int(day),
			Outcomes: []dataset.Field{{Name: "review", Value: "r"}, {Name: "verified", Value: fmt.Sprint(day%2 == 0)}}}
	}
	m := &memory{spec: movies()}
	for day := range int64(10) {
		m.events = append(m.events, at(day))
		m.items = append(m.items, dataset.Item{ID: fmt.Sprint("i", day), Year: 1990 + int(day), Categories: []string{"Drama", []string{"Crime", "War"}[day%2]}})
	}
	m.events = append(m.events, dataset.Event{User: "u", Item: "timeless", Rating: 3, Row: 10, Outcomes: []dataset.Field{{Name: "review", Value: "r"}}})
	where := func(texts ...string) (all []Condition) {
		for _, s := range texts {
			c, err := ParseWhere(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	for _, c := range []struct {
		name     string
		f        Filters
		rows     []int
		filtered map[string]int64
	}{
		{"none", Filters{}, []int{10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, map[string]int64{}},
		{"period", Filters{From: day(t, "1970-01-03"), To: day(t, "1970-01-05")}, []int{2, 3}, map[string]int64{"time": 9}},
		{"rating", Filters{MinRating: 2, MaxRating: 3}, []int{10, 1, 2, 6, 7}, map[string]int64{"rating": 6}},
		{"rating above", Filters{MinRating: 5, MaxRating: math.Inf(1)}, []int{4, 9}, map[string]int64{"rating": 9}},
		{"category", Filters{Where: where("categories=war")}, []int{1, 3, 5, 7, 9}, map[string]int64{"where": 6}},
		{"range of years and an outcome", Filters{Where: where("year=1992..1995", "verified=true")}, []int{2, 4}, map[string]int64{"where": 9}},
		{"one of two", Filters{Where: where("item_id=i3|timeless")}, []int{3}, map[string]int64{"where": 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := m.options(t.TempDir())
			o.Filters = c.f
			manifest, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			ds, _, err := dataset.Load(t.Context(), o.Out, dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var rows []int
			for _, r := range ds.Records {
				rows = append(rows, r.Row)
			}
			if d := cmp.Diff(c.rows, rows); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.filtered, manifest.Counts.Filtered); d != "" && len(c.filtered)+len(manifest.Counts.Filtered) > 0 {
				t.Error(d)
			}
		})
	}
}

func TestWhere(t *testing.T) {
	for _, c := range []struct {
		text string
		have []string
		want bool
	}{
		{"categories=Restaurants", []string{"Food", "restaurants"}, true},
		{"categories=Restaurants", []string{"Food"}, false},
		{"city= Phoenix | Las Vegas ", []string{"las vegas"}, true},
		{"postcode=94035..94043", []string{"94040"}, true},
		{"postcode=94035..94043", []string{"94044"}, false},
		{"postcode=94035..94043", []string{"A4040"}, false},
		{"year=1990", nil, false},
		{"formula=a=b", []string{"a=b"}, true},
	} {
		cond, err := ParseWhere(c.text)
		if err != nil {
			t.Fatal(err)
		}
		if cond.holds(c.have...) != c.want {
			t.Errorf("%s of %q is not %v", c.text, c.have, c.want)
		}
	}
	for _, bad := range []string{"", "categories", "=x", "a=", "a=|"} {
		if _, err := ParseWhere(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestFilterErrors(t *testing.T) {
	for want, f := range map[string]Filters{
		"import: a number of records or users is negative":    {MinUser: -1},
		"import: the period ends before it begins":            {From: day(t, "2020-01-02"), To: day(t, "2020-01-01")},
		"import: the lowest rating is not below the highest":  {MinRating: 3, MaxRating: 2},
		"import: the lowest rating is not below the highest ": {MinRating: math.NaN(), MaxRating: 2},
	} {
		if err := f.check(); err == nil || err.Error() != want && err.Error()+" " != want {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// day reads a date.
func day(t testing.TB, text string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
