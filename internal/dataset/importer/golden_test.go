package importer

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
	"recpie/internal/dataset/layout"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A tiny import, whole: manifest, spec, quarantine, and what the Parquet files say.
func TestGoldenImport(t *testing.T) {
	raw := filepath.Join(t.TempDir(), "raw.txt")
	if err := os.WriteFile(raw, []byte("raw file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	m := &memory{spec: movies(), unrated: 1, broken: []dataset.RowError{{File: "/data/raw.txt", Line: 9, Column: 3, Field: "rating", Value: strings.Repeat("9", 100), Reason: "not a finite number", Remedy: "write a number"}}}
	m.items = []dataset.Item{{ID: "b", Title: "Big", Categories: []string{"Comedy"}}, {ID: "a", Title: "Heat", Year: 1995, Categories: []string{"Crime", "Drama"}, Extra: []dataset.Field{{Name: "director", Value: "Mann"}}}, {ID: "b", Title: "again"}}
	review := func(text string) []dataset.Field { return []dataset.Field{{Name: "review", Value: text}} }
	m.events = []dataset.Event{
		{User: "v", Item: "b", Rating: 3, Time: 7, HasTime: true, Row: 0, Outcomes: review("ok")},
		{User: "u", Item: "a", Rating: 4, Time: 20, HasTime: true, Row: 1, Outcomes: review("better\nlate")},
		{User: "u", Item: "a", Rating: 1, Time: 10, HasTime: true, Row: 2},
		{User: "u", Item: "b", Rating: 2, Row: 4, Outcomes: append(review("no time"), dataset.Field{Name: "aspects", Value: "plot|cast"})},
		{User: "w", Item: "c", Rating: 5, Time: 99, HasTime: true, Row: 5},
	}
	o := m.options(t.TempDir())
	o.Files = []string{raw}
	o.Filters.MinUser = 1
	o.Extra = map[string]any{"note": "golden"}
	manifest, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range []string{layout.ManifestName, layout.SpecName, layout.QuarantineName} {
		data, err := os.ReadFile(filepath.Join(o.Out, name))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "== %s\n%s", name, data)
	}
	for _, f := range manifest.Shards() {
		fmt.Fprintf(&b, "== %s\n", f.Name)
		err := layout.ReadInteractions(t.Context(), filepath.Join(o.Out, f.Name), f.Rows, manifest.Outcomes, func(rows *layout.Batch) error {
			for i := range rows.Users {
				fmt.Fprintf(&b, "%s %s %g %d %v %d", rows.Users[i], rows.Items[i], rows.Ratings[i], rows.Times[i], rows.HasTime[i], rows.Rows[i])
				for k, name := range manifest.Outcomes {
					fmt.Fprintf(&b, " %s=%q", name, rows.Outcomes[k][i])
				}
				b.WriteByte('\n')
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	items, _ := manifest.File(layout.ItemsName)
	fmt.Fprintf(&b, "== %s\n", items.Name)
	err = layout.ReadItems(t.Context(), filepath.Join(o.Out, items.Name), items.Rows, manifest.ItemExtra, func(it layout.Item) error {
		fmt.Fprintf(&b, "%q\n", fmt.Sprintf("%+v", it))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "tiny.txt")
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Error(d)
	}
}
