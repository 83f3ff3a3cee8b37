package importer

import (
	"context"
	"fmt"
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

func TestImportedIsWhatNewMakes(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		m := world(rt)
		m.spec.Review = "" // a repeated pair may take the only one away
		want, err := dataset.New("set", m.spec, m.items, m.events)
		if err != nil {
			rt.Fatal(err)
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
			rt.Fatalf("another set came back:\n%s", cmp.Diff(want, got, cmp.AllowUnexported(dataset.Dataset{})))
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
	broken := filepath.Join(dir, "broken.jsonl")
	if _, err := dataset.Check(t.Context(), o.Out, dataset.Options{Quarantine: broken}); err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(broken)
	if want := tree(t, o.Out)[layout.QuarantineName]; err != nil || want == "" || string(copied) != want {
		t.Errorf("quarantine %q, copied %q, %v", want, copied, err)
	}
}

// Texts that are no UTF-8 and a review column that no record fills make a set that loads.
func TestOddTexts(t *testing.T) {
	m := &memory{spec: movies()}
	m.items = []dataset.Item{{ID: "i", Title: "\xff!", Categories: []string{"\xfe"}, Extra: []dataset.Field{{Name: "studio", Value: "\xfd"}}}}
	m.events = []dataset.Event{{User: "u", Item: "i", Rating: 3, Outcomes: []dataset.Field{{Name: "review", Value: ""}, {Name: "summary", Value: "\xff"}}}}
	o := m.options(t.TempDir())
	if _, err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	ds, _, err := dataset.Load(t.Context(), o.Out, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if it := ds.Items[0]; ds.Spec.Review != "" || it.Title != "\uFFFD!" || it.Categories[0] != "\uFFFD" || it.Extra[0].Value != "\uFFFD" {
		t.Errorf("spec %+v, item %+v", ds.Spec, it)
	}
	for name, change := range map[string]func(){
		"user":  func() { m.events[0].User = "\xff" },
		"item":  func() { m.events[0].Item = "" },
		"entry": func() { m.events[0].Item, m.items[0].ID = "i", "\xff" },
	} {
		change()
		if _, err := Run(t.Context(), m.options(t.TempDir())); err == nil {
			t.Errorf("%s without a sound id was imported", name)
		}
		m.events[0].User, m.events[0].Item, m.items[0].ID = "u", "i", "i"
	}
}
