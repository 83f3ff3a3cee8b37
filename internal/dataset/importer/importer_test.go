package importer

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/dataset/layout"
)

// memory is a source whose rows are at hand.
type memory struct {
	spec    dataset.Spec
	items   []dataset.Item
	events  []dataset.Event
	broken  []dataset.RowError
	unrated int
	opts    formats.Options
	files   []dataset.FileReport
}

func (m *memory) Spec() dataset.Spec          { return m.spec }
func (m *memory) Files() []dataset.FileReport { return m.files }

func (m *memory) Items(_ context.Context, yield func([]dataset.Item) error) error {
	m.files = append(m.files, dataset.FileReport{Path: "items", Rows: len(m.items), Kept: len(m.items)})
	return yield(slices.Clone(m.items))
}

func (m *memory) Events(_ context.Context, yield func([]dataset.Event) error) error {
	reasons := make(map[string]int)
	for _, b := range m.broken {
		reasons[b.Reason]++
		if m.opts.Reject != nil {
			m.opts.Reject(b, []byte("raw \xff"+b.Value))
		}
	}
	m.files = append(m.files, dataset.FileReport{Path: "events", Rows: len(m.events) + m.unrated + len(m.broken), Kept: len(m.events), Unrated: m.unrated, Broken: len(m.broken), Reasons: reasons})
	for batch := range slices.Chunk(m.events, 7) {
		if err := yield(slices.Clone(batch)); err != nil {
			return err
		}
	}
	return nil
}

// options imports m into a new folder below dir.
func (m *memory) options(dir string) Options {
	return Options{Format: "memory", Out: filepath.Join(dir, "set"), Program: "test", Workers: 2,
		Open: func(o formats.Options) (formats.Source, error) { c := *m; c.opts = o; return &c, nil }}
}

func movies() dataset.Spec {
	return dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "year", "director", "studio"}, Review: "review"}
}

// world draws a small source.
func world(t *rapid.T) *memory {
	m := &memory{spec: movies()}
	nItems := rapid.IntRange(1, 12).Draw(t, "items")
	for i := range nItems {
		if rapid.Bool().Draw(t, "described") {
			it := dataset.Item{ID: fmt.Sprint("i", i*7%nItems), Title: rapid.SampledFrom([]string{"", "Ü", "Heat"}).Draw(t, "title"), Year: rapid.SampledFrom([]int{0, 1995}).Draw(t, "year")}
			if rapid.Bool().Draw(t, "class") {
				it.Categories = []string{"Drama", "Crime"}[:rapid.IntRange(1, 2).Draw(t, "classes")]
			}
			if rapid.Bool().Draw(t, "director") {
				it.Extra = append(it.Extra, dataset.Field{Name: "director", Value: "Mann"})
			}
			if rapid.Bool().Draw(t, "studio") {
				it.Extra = append(it.Extra, dataset.Field{Name: "studio", Value: "S"})
			}
			if !slices.ContainsFunc(m.items, func(have dataset.Item) bool { return have.ID == it.ID }) {
				m.items = append(m.items, it)
			}
		}
	}
	row := 0
	for range rapid.IntRange(1, 80).Draw(t, "events") {
		row += rapid.IntRange(1, 3).Draw(t, "gap")
		e := dataset.Event{User: fmt.Sprint("u", rapid.IntRange(0, 8).Draw(t, "user")), Item: fmt.Sprint("i", rapid.IntRange(0, nItems).Draw(t, "item")),
			Rating: float64(rapid.IntRange(1, 5).Draw(t, "rating")), Row: row}
		if e.HasTime = rapid.IntRange(0, 4).Draw(t, "timed") > 0; e.HasTime {
			e.Time = rapid.Int64Range(-3, 12).Draw(t, "time")
		}
		if rapid.Bool().Draw(t, "reviewed") || len(m.events) == 0 {
			e.Outcomes = append(e.Outcomes, dataset.Field{Name: "review", Value: rapid.SampledFrom([]string{"good", "bad\nline", "日本"}).Draw(t, "review")})
		}
		if rapid.Bool().Draw(t, "termed") {
			e.Outcomes = append(e.Outcomes, dataset.Field{Name: "aspects", Value: "plot|cast"})
		}
		m.events = append(m.events, e)
	}
	return m
}

// keepsReview says whether the review column survives the removal of duplicates, without which a set cannot be read.
func keepsReview(ds *dataset.Dataset) bool {
	return reflect.ValueOf(ds).Elem().FieldByName("columns").Len() > 0 && slices.Contains(columnsOf(ds), "review")
}

func columnsOf(ds *dataset.Dataset) (names []string) {
	v := reflect.ValueOf(ds).Elem().FieldByName("columns")
	for i := range v.Len() {
		names = append(names, v.Index(i).String())
	}
	return names
}

func TestImportedIsWhatNewMakes(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := world(rt)
		want, err := dataset.New("set", m.spec, m.items, m.events)
		if err != nil {
			rt.Fatal(err)
		}
		if !keepsReview(want) {
			rt.Skip("no review is left")
		}
		n++
		o := m.options(filepath.Join(dir, fmt.Sprint(n)))
		o.ShardSize = rapid.SampledFrom([]int64{1, 300, 1 << 20}).Draw(rt, "shard")
		if _, err := Run(t.Context(), o); err != nil {
			rt.Fatal(err)
		}
		got, _, err := dataset.Load(t.Context(), o.Out, dataset.Options{Verify: true})
		if err != nil {
			rt.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			rt.Fatalf("another set came back:\n%s", cmp.Diff(want.Records, got.Records)+cmp.Diff(want.Items, got.Items)+cmp.Diff(want.Users, got.Users)+fmt.Sprint(got.Spec, want.Spec, columnsOf(got), columnsOf(want)))
		}
	})
}

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

// tree reads all files of a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

// crowd is a source with more than one row group of everything that matters.
func crowd(records int) *memory {
	m := &memory{spec: movies(), unrated: 3, broken: []dataset.RowError{{File: "/far/away/events", Line: 4, Field: "rating", Value: "x", Reason: "not a finite number"}}}
	for i := range 200 {
		m.items = append(m.items, dataset.Item{ID: fmt.Sprint("item", i), Title: fmt.Sprint("Title ", i), Categories: []string{"Drama"}})
	}
	state := uint64(1)
	next := func(n int) int {
		state = state*6364136223846793005 + 1442695040888963407
		return int(state>>33) % n
	}
	for row := range records {
		m.events = append(m.events, dataset.Event{User: fmt.Sprint("user", next(max(2, records/8))), Item: fmt.Sprint("item", next(200)), Rating: float64(1 + next(5)), Time: int64(1.5e9) + int64(next(1e8)), HasTime: true, Row: row,
			Outcomes: []dataset.Field{{Name: "review", Value: fmt.Sprint("text number ", next(1e6))}, {Name: "verified", Value: fmt.Sprint(next(2) == 0)}}})
	}
	return m
}

func TestWorkersChangeNoByte(t *testing.T) {
	m := crowd(20000)
	var first map[string]string
	for _, workers := range []int{1, 2, 7} {
		o := m.options(t.TempDir())
		o.Workers, o.ShardSize = workers, 200_000
		o.Filters = Filters{MinUser: 5, MinItem: 5, LimitUsers: 700, Seed: 3}
		manifest, err := Run(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		got := tree(t, o.Out)
		if first == nil {
			first = got
			if len(manifest.Shards()) < 4 || manifest.Counts.Users != 700 {
				t.Errorf("%d shards, %d users: too little to compare", len(manifest.Shards()), manifest.Counts.Users)
			}
		}
		if d := cmp.Diff(first, got); d != "" {
			t.Errorf("%d workers: other bytes", workers)
		}
	}
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

func TestRowsOfSeveralFilesDoNotCollide(t *testing.T) {
	m := &memory{spec: movies()}
	m.spec.Review = ""
	for file := range 2 {
		for row := range 3 {
			m.events = append(m.events, dataset.Event{User: "u", Item: fmt.Sprint(file, row), Rating: 3, Row: row})
		}
	}
	o := m.options(t.TempDir())
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	ds, _, err := dataset.Load(t.Context(), o.Out, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range ds.Records {
		if r.Row != i {
			t.Errorf("record %d is row %d", i, r.Row)
		}
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	m := crowd(100)
	for name, change := range map[string]func(*Options){
		"no record is left": func(o *Options) { o.Filters.MinUser = 1000 },
		"unknown condition": func(o *Options) { o.Filters.Where = []Condition{{Key: "nowhere", Values: []string{"1"}}} },
		"a column that is taken": func(o *Options) {
			c := *m
			c.events = slices.Clone(m.events)
			c.events[5].Outcomes = append(slices.Clone(c.events[5].Outcomes), dataset.Field{Name: "source_row", Value: "1"})
			o.Open = func(formats.Options) (formats.Source, error) { return &c, nil }
		},
		"an outcome as input": func(o *Options) {
			c := *m
			c.spec.ItemInputs = []string{"title", "rating"}
			o.Open = func(formats.Options) (formats.Source, error) { return &c, nil }
		},
	} {
		o := m.options(dir)
		change(&o)
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%s: it was imported", name)
		}
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("%s: left %d files", name, len(left))
		}
	}
	o := m.options(dir)
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("a set was written over")
	}
	if _, ok := tree(t, o.Out)[layout.QuarantineName]; !ok {
		t.Error("no quarantine")
	}
}
