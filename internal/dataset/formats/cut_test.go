package formats

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

// Whatever the texts, the bounds of the blocks and the number of workers: what was written is read.
func TestBlocks(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringOf(rapid.RuneFrom([]rune("ab \",\n\\é語😀\u2028"))), 1, 30).Draw(r, "texts")
		opts := Options{Workers: rapid.IntRange(1, 4).Draw(r, "workers"), block: rapid.IntRange(1, 300).Draw(r, "block")}
		end := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(r, "line end")
		var table, lines bytes.Buffer
		w := csv.NewWriter(&table)
		w.UseCRLF = end == "\r\n"
		rows := [][]string{{"user_id", "item_id", "rating", "timestamp", "review"}}
		for k, text := range texts {
			user := fmt.Sprint("u", k)
			rows = append(rows, []string{user, "i", "3.5", "7", text})
			b, err := json.Marshal(map[string]any{"user_id": user, "item_id": "i", "rating": 3.5, "timestamp": 7, "review": text})
			if err != nil {
				r.Fatal(err)
			}
			lines.Write(b)
			lines.WriteString(end)
		}
		if err := w.WriteAll(rows); err != nil {
			r.Fatal(err)
		}
		for _, file := range []struct {
			format, lineBreak string // how a line break in a text reads
			b                 []byte
		}{{"csv", strings.Repeat(" ", len(end)), table.Bytes()}, {"jsonl", " ", lines.Bytes()}} {
			format, b := file.format, file.b
			var want []dataset.Event
			for k, text := range texts {
				want = append(want, dataset.Event{User: fmt.Sprint("u", k), Item: "i", Rating: 3.5, Time: 7, HasTime: true})
				if line := strings.TrimSpace(strings.NewReplacer("\n", file.lineBreak, "\u2028", " ").Replace(text)); line != "" {
					want[k].Outcomes = out("review", line)
				}
			}
			if rapid.Bool().Draw(r, "no line end at the end") {
				b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r"))
			}
			path := filepath.Join(dir, "x."+format)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				r.Fatal(err)
			}
			got, err := readAll(t, format, []string{path}, opts)
			for k := range got.Events {
				if got.Events[k].Row < k {
					r.Fatalf("row %d of event %d", got.Events[k].Row, k)
				}
				got.Events[k].Row = 0 // counted by lines
			}
			if d := cmp.Diff(want, got.Events); err != nil || d != "" {
				r.Fatalf("%s: %v %s", format, err, d)
			}
		}
	})
}

// A quote without its partner costs a few rows wherever it stands and however small the blocks are, not the rest of the file.
func TestStrayQuote(t *testing.T) {
	var b strings.Builder
	b.WriteString("user_id,item_id,rating,review\n")
	for k := range 2000 {
		text := fmt.Sprintf("\"good, as no. %d\"", k)
		if k == 700 {
			text = "\"never closed"
		}
		fmt.Fprintf(&b, "u%d,i,3,%s\n", k, text)
	}
	path := filepath.Join(t.TempDir(), "x.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, block := range []int{100, 1000, 10000, 1 << 20} {
		var told []int
		got, err := readAll(t, "csv", []string{path}, Options{block: block, MaxRecord: 2000, Reject: func(e dataset.RowError, _ []byte) { told = append(told, e.Line) }})
		if d := cmp.Diff([]int{702}, told); err != nil || d != "" || len(got.Events) != 1999 {
			t.Errorf("blocks of %d: %d rows, %v %s", block, len(got.Events), err, d)
		}
	}
}
