package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
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

func TestDamagedImports(t *testing.T) {
	rows := importedRows
	write := func(name string, data []byte) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	shard := layout.ShardName(0)
	for _, c := range []struct {
		name   string
		change func(*layout.Manifest)
		rows   func([]layout.Interaction)
		after  func(t *testing.T, dir string)
		verify bool
		want   string // DIR stands for the folder
	}{
		{name: "manifest is no JSON", after: write(layout.ManifestName, []byte("{")), want: "dataset: DIR/manifest.json: unexpected end of JSON input"},
		{name: "manifest without a version", after: write(layout.ManifestName, []byte("{}")), want: `dataset: DIR/manifest.json: "version" is missing`},
		{name: "manifest of another version", change: func(m *layout.Manifest) { m.Version = 9 }, want: "dataset: DIR/manifest.json: version 9, this program reads 1"},
		{name: "unknown key", after: write(layout.ManifestName, []byte(`{"version":1,"sourec":{}}`)), want: `dataset: DIR/manifest.json: json: unknown field "sourec"`},
		{name: "name that leads away", change: func(m *layout.Manifest) { m.Files[0].Name = "../x.parquet" }, want: `dataset: DIR/manifest.json: files: unknown name "../x.parquet"`},
		{name: "file twice", change: func(m *layout.Manifest) { m.Files[1].Name = m.Files[0].Name }, want: "dataset: DIR/manifest.json: files: interactions-00000.parquet is there twice"},
		{name: "digest is none", change: func(m *layout.Manifest) { m.Files[0].SHA256 = "abc" }, want: "dataset: DIR/manifest.json: files: interactions-00000.parquet: sha256 is not 64 hexadecimal digits"},
		{name: "negative size", change: func(m *layout.Manifest) { m.Files[0].Bytes = -1 }, want: "dataset: DIR/manifest.json: files: interactions-00000.parquet: bytes or rows are out of range"},
		{name: "no items", change: func(m *layout.Manifest) { m.Files = m.Files[:2] }, want: "dataset: DIR/manifest.json: files: items.parquet is not named"},
		{name: "rows do not add up", change: func(m *layout.Manifest) { m.Counts.Kept++ }, want: "dataset: DIR/manifest.json: counts.kept is not the sum of the rows of the files of interactions"},
		{name: "items do not add up", change: func(m *layout.Manifest) { m.Counts.Items++ }, want: "dataset: DIR/manifest.json: counts.items is not the number of rows of items.parquet"},
		{name: "reserved column", change: func(m *layout.Manifest) { m.Outcomes[0] = "rating" }, want: `dataset: DIR/manifest.json: outcomes: "rating" is empty, there twice or the name of another column`},
		{name: "no manifest", after: func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, layout.ManifestName)) }, want: "dataset: open DIR/manifest.json: no such file or directory"},
		{name: "shard is missing", after: func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, shard)) }, want: "dataset: DIR/interactions-00000.parquet: the file is missing"},
		{name: "shard is cut", after: func(t *testing.T, dir string) { _ = os.Truncate(filepath.Join(dir, shard), 100) }, want: "dataset: DIR/interactions-00000.parquet: 100 bytes, the manifest says SIZE"},
		{name: "shard is not Parquet", change: func(m *layout.Manifest) { m.Files[0].Bytes = 5 }, after: write(shard, []byte("hello")), want: "dataset: DIR/interactions-00000.parquet: 5 bytes are no Parquet file"},
		{name: "shard has lost its end", change: func(m *layout.Manifest) { m.Files[0].Bytes = 16 }, after: write(shard, []byte("PAR1 and so on...")[:16]), want: "dataset: DIR/interactions-00000.parquet: the end of the Parquet file is damaged or missing"},
		{name: "footer that is too long", after: footer(shard, 1<<31), want: "dataset: DIR/interactions-00000.parquet: the end of the Parquet file is damaged or missing"},
		{name: "another number of rows", change: func(m *layout.Manifest) { m.Files[0].Rows, m.Files[1].Rows = 2, 2 }, want: "dataset: DIR/interactions-00000.parquet: 3 rows, the manifest says 2"},
		{name: "a byte is turned", after: turn(shard, 40), verify: true, want: "dataset: DIR/interactions-00000.parquet: SHA-256 GOT…, the manifest says SUM…"},
		{name: "outcome without a column", change: func(m *layout.Manifest) { m.Outcomes[0] = "aspect" }, want: `dataset: DIR/interactions-00000.parquet: there is no column "aspect" of the right type`},
		{name: "input without a column", change: func(m *layout.Manifest) { m.ItemExtra[0] = "studio" }, want: `dataset: DIR/items.parquet: there is no column "studio" of the right type`},
		{name: "unknown item", rows: func(r []layout.Interaction) { r[1].Item = []byte("z") }, want: `dataset: DIR/interactions-00000.parquet: item "z" is not in items.parquet`},
		{name: "users out of order", rows: func(r []layout.Interaction) { r[0].User = []byte("u9") }, want: `dataset: DIR/interactions-00000.parquet: user "u1" is not in the order of ids`},
		{name: "shards out of order", rows: func(r []layout.Interaction) { r[3].User = []byte("u0") }, want: `dataset: DIR/interactions-00001.parquet: user "u0" is not in the order of ids`},
		{name: "times out of order", rows: func(r []layout.Interaction) { r[2].Time = 9 }, want: `dataset: DIR/interactions-00000.parquet: the records of user "u1" are not in the order of time`},
		{name: "a pair twice", rows: func(r []layout.Interaction) { r[2].Item = []byte("a") }, want: `dataset: DIR/interactions-00000.parquet: user "u1" rates item "a" twice`},
		{name: "not a number", rows: func(r []layout.Interaction) { r[2].Rating = math.NaN() }, want: "dataset: DIR/interactions-00000.parquet: rating: not a finite number"},
		{name: "negative row", rows: func(r []layout.Interaction) { r[2].Row = -1 }, want: "dataset: DIR/interactions-00000.parquet: source_row: not a row number"},
		{name: "not UTF-8", rows: func(r []layout.Interaction) { r[2].Outcomes[1] = []byte("\xff") }, want: "dataset: DIR/interactions-00000.parquet: review: not valid UTF-8"},
		{name: "no user", rows: func(r []layout.Interaction) { r[0].User = []byte("") }, want: "dataset: DIR/interactions-00000.parquet: user_id: an id is missing"},
		{name: "outside the scale", rows: func(r []layout.Interaction) { r[2].Rating = 6 }, want: "dataset: NAME: row 1 has rating 6 outside 1..5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := rows()
			if c.rows != nil {
				c.rows(r)
			}
			dir := writeImported(t, r, c.change)
			if c.after != nil {
				c.after(t, dir)
			}
			_, _, err := Load(t.Context(), dir, Options{Verify: c.verify})
			if err == nil {
				t.Fatal("it was loaded")
			}
			got := strings.Replace(strings.ReplaceAll(err.Error(), dir, "DIR"), "dataset: "+filepath.Base(dir)+": ", "dataset: NAME: ", 1)
			want := c.want
			if strings.Contains(want, "SIZE") || strings.Contains(want, "GOT") {
				want = fillIn(t, want, shardBytes(t, rows()[:3]), filepath.Join(dir, shard))
			}
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			if fault.HintOf(err) == "" && !strings.Contains(want, "outside") {
				t.Error("no remedy")
			}
		})
	}
}

// turn changes one byte of a file.
func turn(name string, at int) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data[at] ^= 1
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// footer states another length of a Parquet file's footer.
func footer(name string, length uint32) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		binary.LittleEndian.PutUint32(data[len(data)-8:], length)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
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

// fillIn puts the sizes and digests of a whole and of a damaged file into a message.
func fillIn(t *testing.T, want string, whole []byte, damaged string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole")
	if err := os.WriteFile(path, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	good, err := layout.HashFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad, err := layout.HashFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("SIZE", strconv.FormatInt(good.Bytes, 10), "GOT", bad.SHA256[:12], "SUM", good.SHA256[:12]).Replace(want)
}
