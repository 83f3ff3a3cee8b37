package dataset

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset/layout"
)

// importedRows are the records of the folder that writeImported makes.
func importedRows() []layout.Interaction {
	return []layout.Interaction{
		{User: []byte("u1"), Item: []byte("c"), Rating: 2, Row: 3, Outcomes: [][]byte{[]byte("plot|cast"), []byte("meh")}},
		{User: []byte("u1"), Item: []byte("a"), Rating: 5, Time: 10, HasTime: true, Row: 2, Outcomes: [][]byte{[]byte(""), []byte("great")}},
		{User: []byte("u1"), Item: []byte("b"), Rating: 4, Time: 20, HasTime: true, Row: 1, Outcomes: [][]byte{[]byte(""), []byte("fine")}},
		{User: []byte("u2"), Item: []byte("b"), Rating: 3, Time: 7, HasTime: true, Row: 0, Outcomes: [][]byte{[]byte(""), []byte("")}},
	}
}

// writeImported writes a small imported set of two shards and lets change alter it before its manifest is made.
func writeImported(t testing.TB, rows []layout.Interaction, change func(*layout.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	m := &layout.Manifest{Version: layout.Version, Program: "test", Source: layout.Source{Format: "test", Files: []layout.File{}}, Outcomes: []string{"aspects", "review"}, ItemInputs: []string{"title", "categories", "director"}, ItemExtra: []string{"director"}}
	save := func(name string, rows int64, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := layout.HashFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		f.Rows = rows
		m.Files = append(m.Files, f)
	}
	for i, part := range [][]layout.Interaction{rows[:3], rows[3:]} {
		save(layout.ShardName(i), int64(len(part)), shardBytes(t, part))
	}
	var b bytes.Buffer
	w, err := layout.NewItemWriter(&b, m.ItemExtra)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range []layout.Item{{ID: "a", Title: "Heat", Year: 1995, Categories: []string{"Crime", "Drama"}, Extra: []string{"Mann"}}, {ID: "b", Title: "Big", Categories: []string{"Comedy"}, Extra: []string{""}}, {ID: "c", Extra: []string{""}}} {
		if err := w.Write(&it); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	save(layout.ItemsName, 3, b.Bytes())
	m.Counts = layout.Counts{Rows: int64(len(rows)), Kept: int64(len(rows)), Items: 3, Described: 3, Users: 2}
	if change != nil {
		change(m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := Spec{Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: m.ItemInputs, Review: "review"}.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{layout.ManifestName: data, layout.SpecName: spec} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func shardBytes(t testing.TB, rows []layout.Interaction) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := layout.NewInteractionWriter(&b, []string{"aspects", "review"}, []bool{true, false})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := w.Write(&rows[i]); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestLoadImported(t *testing.T) {
	dir := writeImported(t, importedRows(), nil)
	ds, report, err := Load(t.Context(), dir, Options{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Item{{ID: "a", Title: "Heat", Year: 1995, Categories: []string{"Crime", "Drama"}, Extra: []Field{{"director", "Mann"}}}, {ID: "b", Title: "Big", Categories: []string{"Comedy"}}, {ID: "c"}}, ds.Items); d != "" {
		t.Error(d)
	}
	want := []Record{{User: 0, Item: 2, Row: 3}, {User: 0, Item: 0, Time: 10, HasTime: true, Row: 2}, {User: 0, Item: 1, Time: 20, HasTime: true, Row: 1}, {User: 1, Item: 1, Time: 7, HasTime: true, Row: 0}}
	if d := cmp.Diff(want, ds.Records); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([][]string{{"plot|cast", "", "", ""}, {"meh", "great", "fine", ""}}, ds.outcomes); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]int32{0, 3, 4}, ds.byUser); d != "" {
		t.Error(d)
	}
	if report.Format != "recpie" || !report.Imported.Verified || report.WithReview != 3 || report.WithTime != 3 {
		t.Errorf("report %+v", report)
	}
	var text strings.Builder
	if err := report.WriteText(&text); err != nil || !strings.Contains(text.String(), "SHA-256 compared") {
		t.Errorf("%v, %s", err, &text)
	}
}

// dataset.yaml may be edited: to fewer inputs, for example.
func TestImportedSpecMayBeEdited(t *testing.T) {
	dir := writeImported(t, importedRows(), nil)
	edit := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, layout.SpecName), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	edit("domain: hotel\nrating: {min: 0, max: 5}\nitem_inputs: [categories]\n")
	ds, report, err := Load(t.Context(), dir, Options{Verify: true})
	if err != nil {
		t.Fatal(err)
	}
	if ds.Spec.Domain != "hotel" || ds.Spec.Min != 0 || ds.Items[0].Title != "" || ds.Items[0].Extra != nil || ds.Items[0].Categories == nil || ds.column("review") < 0 {
		t.Errorf("spec %+v, item %+v", ds.Spec, ds.Items[0])
	}
	if d := cmp.Diff([]string{"title", "director"}, report.Ignored); d != "" {
		t.Error(d)
	}
	for text, want := range map[string]string{
		"item_inputs: [titel]\n":              `dataset.yaml:1:15: nothing was imported as "titel"`,
		"review: text\n":                      `dataset.yaml:1:9: nothing was imported as "text"`,
		"format: csv\n":                       `dataset.yaml:1:9: unknown format "csv"`,
		"rating: {min: 2, max: 4}\n":          "outside 2..4",
		"format: recpie\nitem_inputs: [tags]": `"tags" is an outcome`,
	} {
		edit(text)
		if _, _, err := Load(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestCancelledLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Load(ctx, writeImported(t, importedRows(), nil), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// FuzzImported turns the bytes of the three kinds of files: whatever they are, there is a sound set or an error with a remedy.
func FuzzImported(f *testing.F) {
	dir := writeImported(f, importedRows(), nil)
	var whole [3][]byte
	for i, name := range []string{layout.ManifestName, layout.ShardName(0), layout.ItemsName} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		whole[i] = data
		f.Add(i, data)
		f.Add(i, data[:len(data)/2])
	}
	f.Fuzz(func(t *testing.T, which int, data []byte) {
		if which < 0 || which > 2 {
			return
		}
		dir := writeImported(t, importedRows(), func(m *layout.Manifest) {
			for i := range m.Files { // else the sizes would tell
				if which > 0 && m.Files[i].Name == []string{"", layout.ShardName(0), layout.ItemsName}[which] {
					m.Files[i].Bytes = int64(len(data))
				}
			}
		})
		if err := os.WriteFile(filepath.Join(dir, []string{layout.ManifestName, layout.ShardName(0), layout.ItemsName}[which]), data, 0o644); err != nil {
			t.Fatal(err)
		}
		ds, _, err := Load(t.Context(), dir, Options{})
		if err != nil {
			return
		}
		if int(ds.byUser[len(ds.Users)]) != len(ds.Records) || len(ds.ratings) != len(ds.Records) {
			t.Fatal("the columns do not fit together")
		}
		for _, r := range ds.Records {
			if int(r.User) >= len(ds.Users) || int(r.Item) >= len(ds.Items) {
				t.Fatalf("record %+v of %d users and %d items", r, len(ds.Users), len(ds.Items))
			}
		}
	})
}
