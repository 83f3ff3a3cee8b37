package batchfile

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"recpie/internal/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// all reads to the end and says what came, a line each.
func all(t testing.TB, r *Reader) string {
	t.Helper()
	var b strings.Builder
	for {
		line, err := r.Next()
		var bad *LineError
		switch {
		case errors.Is(err, io.EOF):
			if _, again := r.Next(); !errors.Is(again, io.EOF) {
				t.Errorf("after the end: %v", again)
			}
			return b.String()
		case errors.As(err, &bad):
			if fault.ClassOf(err) != fault.Item || bad.Remedy == "" || bad.Line < 1 {
				t.Errorf("%v: class %v, %+v", err, fault.ClassOf(err), bad)
			}
			fmt.Fprintf(&b, "ERROR %v", err)
			if bad.ID != "" {
				fmt.Fprintf(&b, " [%s]", bad.ID)
			}
			b.WriteByte('\n')
		case err != nil:
			fmt.Fprintf(&b, "STOP %v\n", err)
			return b.String()
		default:
			fmt.Fprintf(&b, "%d id=%q user=%q item=%q polarity=%d url=%s body=%s\n", line.No, line.ID, line.User, line.Item, line.Polarity, line.URL, line.Body)
		}
	}
}

func read(t testing.TB, path, format string) string {
	t.Helper()
	r, err := Open(path, format)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	return all(t, r)
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

func TestGoldenInputs(t *testing.T) {
	for _, name := range []string{"pairs.jsonl", "requests.jsonl", "pairs.csv", "pairs.parquet"} {
		t.Run(name, func(t *testing.T) {
			golden(t, filepath.Join("testdata", name+".golden"), read(t, filepath.Join("testdata", name), ""))
		})
	}
}

// packed compresses data in the ways a file may come.
func packed(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	_, _ = z.Write(data)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return map[string][]byte{"": data, ".gz": gz.Bytes(), ".zst": enc.EncodeAll(data, nil)}
}

func TestCompressedInputsReadTheSame(t *testing.T) {
	for _, name := range []string{"pairs.jsonl", "requests.jsonl", "pairs.csv", "pairs.parquet"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		for ext, content := range packed(t, data) {
			for _, file := range []string{name + ext, "no-extension"} { // by name, and by content
				path := filepath.Join(t.TempDir(), file)
				if err := os.WriteFile(path, content, 0o600); err != nil {
					t.Fatal(err)
				}
				got := strings.ReplaceAll(read(t, path, ""), path, "testdata/"+name)
				if got != string(want) {
					t.Errorf("%s as %s%s: got\n%s", name, file, ext, got)
				}
			}
			r, err := newReader("stdin", bytes.NewReader(content), "") // a stream that cannot seek
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.ReplaceAll(all(t, r), "stdin", "testdata/"+name); got != string(want) {
				t.Errorf("%s%s from a stream: got\n%s", name, ext, got)
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func text(t testing.TB, content, format string) string {
	t.Helper()
	r, err := newReader("f", strings.NewReader(content), format)
	if err != nil {
		return fmt.Sprintf("STOP %v (%s)\n", err, fault.HintOf(err))
	}
	defer r.Close()
	return all(t, r)
}

func TestEdges(t *testing.T) {
	const pair = `{"user_id":"u","item_id":"i"}`
	const ok = `id="" user="u" item="i" polarity=-1 url= body=`
	long := func(n int) string {
		return `{"user_id":"u","item_id":"i","x":"` + strings.Repeat("a", n-len(pair)-7) + `"}`
	}
	deep := func(n int) string {
		return `{"user_id":"u","item_id":"i","x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}"
	}
	for _, c := range []struct{ name, format, content, want string }{
		{"empty", "", "", ""},
		{"blank lines", "", "\n \r\n\n", ""},
		{"BOM and CRLF", "", "\ufeff" + pair + "\r\n" + pair + "\r\n", "1 " + ok + "\n2 " + ok + "\n"},
		{"BOM of a second file", "", pair + "\n\ufeff" + pair, "1 " + ok + "\nERROR f:2:1: not a JSON object; write one JSON object per line\n"},
		{"BOM before a header", "", "\ufeffuser_id,item_id\nu,i", "2 " + ok + "\n"},
		{"UTF-16", "", "\xff\xfe{\x00", "STOP batchfile: f is UTF-16 (convert it, as iconv -f UTF-16 -t UTF-8 does)\n"},
		{"longest line", "", long(maxLine) + "\n" + pair, "1 " + ok + "\n2 " + ok + "\n"},
		{"longest line, CRLF", "", long(maxLine) + "\r\n" + pair, "1 " + ok + "\n2 " + ok + "\n"},
		{"too long", "", long(maxLine+1) + "\n" + pair, "ERROR f:1: the line is longer than 8388608 bytes; shorten it, or look for a missing line end\n2 " + ok + "\n"},
		{"too long, last", "", pair + "\n" + long(maxLine+5), "1 " + ok + "\nERROR f:2: the line is longer than 8388608 bytes; shorten it, or look for a missing line end\n"},
		{"nesting", "", deep(maxDepth-1) + "\n" + pair, "1 " + ok + "\n2 " + ok + "\n"},
		{"nested too deep", "", deep(maxDepth) + "\n" + deep(100_000), "ERROR f:1:161: nested deeper than 128; send flatter JSON\nERROR f:2:161: nested deeper than 128; send flatter JSON\n"},
		{"pretty-printed", JSONL, "{\n" + pair, "ERROR f:1:2: the line ends where a key in quotes should stand; close every string, array and object, and write one JSON object per line\n2 " + ok + "\n"},
		{"an array", "", "[" + pair + "]", "ERROR f:1:1: a JSON array; write one object per line, as jq -c '.[]' does\n"},
		{"unknown format", "xml", "", `STOP batchfile: unknown input format "xml" (use jsonl, csv, parquet or openai)` + "\n"},
		{"unknown content", "", "hello", "STOP batchfile: the format of f is unknown (say which it is: jsonl, csv, parquet or openai)\n"},
		{"no header", CSV, "\n\n", "STOP batchfile: f has no header (the first line names the columns: user_id,item_id and, if wanted, custom_id,polarity)\n"},
		{"semicolons", "", "user_id;item_id\n", "STOP batchfile: f: no column user_id among user_id;item_id (separate the columns by commas)\n"},
		{"missing column", "", "user_id,item\n", "STOP batchfile: f: no column item_id among user_id, item (name the columns user_id and item_id in the first line)\n"},
		{"column twice", "", "user_id,item_id,user_id\n", "STOP batchfile: f: the column user_id is there twice (keep one of them)\n"},
		{"header in quotes", CSV, "\"user_id\" ,item_id\n", "STOP batchfile: the header cannot be read: f:1:10: text after a closing quotation mark; write a \" inside a field as \"\" (the first line names the columns: user_id,item_id and, if wanted, custom_id,polarity)\n"},
		{"quote to the end", CSV, "user_id,item_id\nu,\"i\n" + strings.Repeat("u,i\n", 2), "ERROR f:2:3: a quotation mark is never closed; write a \" inside a field as \"\"\n3 " + ok + "\n4 " + ok + "\n"},
		{"quote too far", CSV, "user_id,item_id\nu,\"i\n" + strings.Repeat("\n", maxRecordLines) + "u,i\n\"", fmt.Sprintf("ERROR f:2:3: a quotation mark is never closed; write a \" inside a field as \"\"\n%d %s\nERROR f:%d:1: a quotation mark is never closed; write a \" inside a field as \"\"\n", maxRecordLines+3, ok, maxRecordLines+4)},
		{"field over lines", CSV, "x,user_id,item_id\n\"a\n\nb\",u,\n\"a\",u,i\n", "ERROR f:4:6: item_id: is empty; give it a value or leave the line out\n5 " + ok + "\n"},
		{"cut Parquet", Parquet, "PAR1xxxx", "STOP batchfile: f: invalid magic footer of parquet file: \"xxxx\" (" + parquetHint + ")\n"},
		{"cut gzip", "", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "STOP"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := text(t, c.content, c.format)
			if got != c.want && !(c.want == "STOP" && strings.HasPrefix(got, "STOP")) {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// A cut archive is an error at the place where it is cut: a half line is not taken for a whole one.
func TestCutArchives(t *testing.T) {
	var content strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&content, `{"user_id":"u%d","item_id":"%x"}`+"\n", i, i*i*2654435761)
	}
	for ext, data := range packed(t, []byte(content.String())) {
		if ext == "" {
			continue
		}
		for _, n := range []int{len(data) / 3, len(data) / 2, len(data) - 3} {
			got := text(t, string(data[:n]), JSONL)
			if !strings.Contains(got, "STOP batchfile: f: ") || strings.Contains(got, "ERROR") {
				t.Errorf("%s cut at %d of %d: %q", ext, n, len(data), got[max(0, len(got)-200):])
			}
		}
	}
}

func TestOpenRefusesFoldersAndMissingFiles(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "none.jsonl")} {
		if _, err := Open(path, ""); err == nil || fault.ClassOf(err) != fault.Fatal {
			t.Errorf("Open(%s) = %v", path, err)
		}
	}
}

// A damaged Parquet file is an error, never a panic.
func TestDamagedParquet(t *testing.T) {
	data, err := os.ReadFile("testdata/pairs.parquet")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(data); i += 2 {
		damaged := bytes.Clone(data)
		damaged[i] ^= [...]byte{0x01, 0x80, 0xff}[i%3]
		r, err := newReader("f", bytes.NewReader(damaged), Parquet)
		if err != nil {
			continue
		}
		for n := 0; ; n++ {
			if _, err := r.Next(); err != nil && fault.ClassOf(err) != fault.Item {
				break
			}
			if n > 1<<20 {
				t.Fatalf("byte %d: no end", i)
			}
		}
		_ = r.Close()
	}
}
