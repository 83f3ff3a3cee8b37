package batchfile

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"recpie/internal/fault"
)

// drain reads data to its end and holds every line and error to what they promise.
func drain(t *testing.T, data []byte, format string) []Line {
	t.Helper()
	r, err := newReader("f", bytes.NewReader(data), format)
	if err != nil {
		if fault.HintOf(err) == "" {
			t.Fatalf("no remedy: %v", err)
		}
		return nil
	}
	defer r.Close()
	var out []Line
	last := int64(0)
	for n := 0; ; n++ {
		line, err := r.Next()
		var bad *LineError
		switch {
		case errors.As(err, &bad):
			if bad.Line <= 0 || bad.Column < 0 || bad.Reason == "" || bad.Remedy == "" || fault.ClassOf(err) != fault.Item || !utf8.ValidString(err.Error()) {
				t.Fatalf("%+v", bad)
			}
			if n > len(data)+1 {
				t.Fatal("more errors than bytes")
			}
			continue
		case errors.Is(err, io.EOF):
			return out
		case err != nil:
			if fault.HintOf(err) == "" {
				t.Fatalf("no remedy: %v", err)
			}
			return out
		}
		if line.No <= last {
			t.Fatalf("line %d after line %d", line.No, last)
		}
		last = line.No
		for _, id := range []string{line.ID, line.User, line.Item} {
			if !utf8.ValidString(id) || len(id) > maxID || strings.Contains(id, "\x00") {
				t.Fatalf("id %q", id)
			}
		}
		if line.Body == nil == (line.User == "") || (line.User == "") != (line.Item == "") || line.Polarity < Both || line.Polarity > Negative {
			t.Fatalf("neither pair nor request: %+v", line)
		}
		out = append(out, line)
	}
}

func seed(f *testing.F, files ...string) {
	for _, name := range files {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			f.Add(line)
		}
	}
}

// strict is what the scanner must accept, by encoding/json and a walk of our own over its tokens: valid JSON of one object, valid UTF-8,
// no key twice. Halves of surrogates and depth are left to the tables.
func strict(line []byte) bool {
	if !json.Valid(line) || !utf8.Valid(line) {
		return false
	}
	type level struct {
		object, value bool
		keys          map[string]bool
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	var open []level
	for {
		tok, err := dec.Token()
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		if d, ok := tok.(json.Delim); ok && (d == '}' || d == ']') {
			open = open[:len(open)-1]
			continue
		}
		if n := len(open); n == 0 && tok != json.Delim('{') {
			return false
		} else if n > 0 && open[n-1].object {
			top := &open[n-1]
			if !top.value {
				if top.keys[tok.(string)] {
					return false
				}
				top.keys[tok.(string)] = true
			}
			top.value = !top.value
		}
		if d, ok := tok.(json.Delim); ok {
			open = append(open, level{object: d == '{', keys: map[string]bool{}})
		}
	}
}

func FuzzJSONL(f *testing.F) {
	seed(f, "pairs.jsonl")
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data, "")
		for _, line := range drain(t, data, JSONL) { // what was read is read again from what it means
			again, err := json.Marshal(map[string]any{fieldID: orNil(line.ID), fieldUser: line.User, fieldItem: line.Item,
				fieldPolarity: map[int8]any{Both: nil, Positive: "positive", Negative: "negative"}[line.Polarity]})
			if err != nil {
				t.Fatal(err)
			}
			line.No = 1
			if got := drain(t, again, JSONL); len(got) != 1 || got[0].User != line.User || got[0].Item != line.Item || got[0].ID != line.ID || got[0].Polarity != line.Polarity {
				t.Fatalf("%s: got %+v, want %+v", again, got, line)
			}
		}
		if text := chomp(data); !bytes.Contains(text, []byte(`\`)) {
			if _, _, bad := object(text); (bad == nil) != strict(text) && (bad == nil || !strings.Contains(bad.reason, "nested")) {
				t.Fatalf("%q: flaw %+v, strict %v", text, bad, strict(text))
			}
		}
	})
}

func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func FuzzOpenAIBatch(f *testing.F) {
	seed(f, "requests.jsonl")
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data, "")
		for _, line := range drain(t, data, OpenAI) {
			if line.ID == "" || !strict(line.Body) && !bytes.Contains(line.Body, []byte(`\u`)) || endpoints[line.URL] == nil {
				t.Fatalf("%+v", line)
			}
		}
	})
}

func FuzzCSV(f *testing.F) {
	seed(f, "pairs.csv")
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data, CSV)
		// Where encoding/csv finds nothing wrong, the records are the same.
		if !utf8.Valid(data) || bytes.Contains(data, []byte("\r")) || bytes.HasPrefix(data, []byte("\ufeff")) || bytes.Count(data, []byte("\n")) > maxRecordLines {
			return
		}
		r := csv.NewReader(bytes.NewReader(data))
		r.FieldsPerRecord = -1
		want, err := r.ReadAll()
		if err != nil {
			return
		}
		src := &csvSource{file: "f", scan: &lineScanner{br: bufio.NewReader(bytes.NewReader(data))}}
		for _, record := range want {
			got, err := src.record()
			if err != nil || strings.Join(got.fields, "\x00") != strings.Join(record, "\x00") {
				t.Fatalf("got %q, %v; want %q", got.fields, err, record)
			}
		}
		if rec, err := src.record(); !errors.Is(err, io.EOF) {
			t.Fatalf("one more: %q, %v", rec.fields, err)
		}
	})
}

// FuzzParquet damages a file: whatever its numbers say, it is read within bounds or refused with a remedy.
func FuzzParquet(f *testing.F) {
	whole, err := os.ReadFile("testdata/pairs.parquet")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("PAR1PAR1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		drain(t, data, Parquet)
	})
}
