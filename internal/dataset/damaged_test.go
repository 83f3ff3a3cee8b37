package dataset

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
)

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
