package layout

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

// save writes bytes to a file of their own.
func save(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f.parquet")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// text draws a string that is not empty.
func text(t *rapid.T, label string) []byte {
	return []byte(rapid.StringN(1, 8, -1).Draw(t, label))
}

func TestInteractionsSurvive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		columns := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 0, 3, rapid.ID[string]).Draw(rt, "columns")
		repeating := make([]bool, len(columns))
		for i := range repeating {
			repeating[i] = rapid.Bool().Draw(rt, "repeating")
		}
		var b bytes.Buffer
		w, err := NewInteractionWriter(&b, columns, repeating)
		if err != nil {
			rt.Fatal(err)
		}
		want := make([]Interaction, rapid.IntRange(0, 40).Draw(rt, "rows"))
		for i := range want {
			r := &want[i]
			r.User, r.Item, r.Rating, r.Row = text(rt, "user"), text(rt, "item"), rapid.Float64Range(-9, 9).Draw(rt, "rating"), rapid.Int64Min(0).Draw(rt, "row")
			if r.HasTime = rapid.Bool().Draw(rt, "timed"); r.HasTime {
				r.Time = rapid.Int64().Draw(rt, "time")
			}
			for range columns {
				r.Outcomes = append(r.Outcomes, []byte(rapid.StringN(0, 5, -1).Draw(rt, "outcome")))
			}
			if err := w.Write(r); err != nil {
				rt.Fatal(err)
			}
		}
		rows, err := w.Close()
		if err != nil || int(rows) != len(want) {
			rt.Fatalf("%d rows, %v", rows, err)
		}
		var got []Interaction
		err = ReadInteractions(t.Context(), save(t, b.Bytes()), rows, columns, func(b *Batch) error {
			for i := range b.Users {
				r := Interaction{User: slices.Clone(b.Users[i]), Item: slices.Clone(b.Items[i]), Rating: b.Ratings[i], Time: b.Times[i], HasTime: b.HasTime[i], Row: b.Rows[i]}
				for k := range columns {
					r.Outcomes = append(r.Outcomes, []byte(b.Outcomes[k][i]))
				}
				got = append(got, r)
			}
			return nil
		})
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			rt.Fatal(d)
		}
	})
}

func TestItemsSurvive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		extra := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,3}`), 0, 3, rapid.ID[string]).Draw(rt, "extra")
		some := func(label string) string { return rapid.StringN(0, 6, -1).Draw(rt, label) }
		var b bytes.Buffer
		w, err := NewItemWriter(&b, extra)
		if err != nil {
			rt.Fatal(err)
		}
		want := make([]Item, rapid.IntRange(0, 300).Draw(rt, "rows"))
		for i := range want {
			it := &want[i]
			*it = Item{ID: string(text(rt, "id")), Title: some("title"), Year: rapid.IntRange(0, 9999).Draw(rt, "year"), Profile: some("profile"), Price: some("price")}
			it.Categories = rapid.SliceOfN(rapid.StringN(0, 4, -1), 0, 3).Draw(rt, "categories")
			for range extra {
				it.Extra = append(it.Extra, some("extra"))
			}
			if err := w.Write(it); err != nil {
				rt.Fatal(err)
			}
		}
		rows, err := w.Close()
		if err != nil || int(rows) != len(want) {
			rt.Fatalf("%d rows, %v", rows, err)
		}
		var got []Item
		err = ReadItems(t.Context(), save(t, b.Bytes()), rows, extra, func(it Item) error { got = append(got, it); return nil })
		if err != nil {
			rt.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			rt.Fatal(d)
		}
	})
}

// Files of several row groups are read to their end.
func TestRowGroups(t *testing.T) {
	const rows = groupRows + 5000
	var b bytes.Buffer
	w, err := NewInteractionWriter(&b, []string{"review"}, []bool{false})
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		id := []byte(fmt.Sprint(i))
		if err := w.Write(&Interaction{User: id, Item: id, Rating: 1, Row: int64(i), Outcomes: [][]byte{id}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	at := 0
	err = ReadInteractions(t.Context(), save(t, b.Bytes()), rows, []string{"review"}, func(b *Batch) error {
		for i := range b.Users {
			if id := fmt.Sprint(at); string(b.Users[i]) != id || b.Outcomes[0][i] != id || int(b.Rows[i]) != at {
				return fmt.Errorf("row %d is %s, %s, %d", at, b.Users[i], b.Outcomes[0][i], b.Rows[i])
			}
			at++
		}
		return nil
	})
	if err != nil || at != rows {
		t.Errorf("%d rows, %v", at, err)
	}
}

// Names that the files need themselves are refused.
func TestColumnNames(t *testing.T) {
	for _, names := range [][]string{{"rating"}, {""}, {"a", "a"}} {
		if _, err := NewInteractionWriter(&bytes.Buffer{}, names, make([]bool, len(names))); err == nil {
			t.Errorf("columns %q were taken", names)
		}
	}
	if _, err := NewItemWriter(&bytes.Buffer{}, []string{"title"}); err == nil {
		t.Error("a further column may be called title")
	}
}

func TestManifestRoundTrip(t *testing.T) {
	sum := "024b4b6b53393b2a3b70d8c35d80722400635febb160ec447d303fb376af9989"
	want := &Manifest{Version: Version, Program: "p", Source: Source{Format: "f", Files: []File{{Name: "raw", Bytes: 1, SHA256: sum}}}, Options: map[string]any{"min_user": 5.0}, Counts: Counts{Rows: 4, Kept: 2, Unrated: 1, Filtered: map[string]int64{"time": 1}, Items: 1, Described: 1, Users: 1},
		Outcomes: []string{"review"}, ItemInputs: []string{"title"}, ItemExtra: []string{}, Files: []File{{Name: ShardName(0), Bytes: 9, SHA256: sum, Rows: 2}, {Name: ItemsName, Bytes: 3, SHA256: sum, Rows: 1}}}
	data, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseManifest("m", data)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if s := got.Counts.String(); s != "4 rows, 2 kept, 1 unrated, 0 broken, 0 duplicates, 1 left out by time" {
		t.Error(s)
	}
	want.Counts.Kept = 3
	if _, err := want.Encode(); err == nil {
		t.Error("counts that do not add up were written")
	}
}

// FuzzManifest: whatever a manifest says, what is accepted can be written again and means the same.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"version":1,"counts":{},"files":[{"name":"items.parquet","bytes":3,"sha256":"024b4b6b53393b2a3b70d8c35d80722400635febb160ec447d303fb376af9989"}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseManifest("m", data)
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("accepted, but not written: %v", err)
		}
		same, err := parseManifest("m", again)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m, same, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}
