package batchfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"recpie/internal/fault"
)

// list hands over what is in a slice.
func list[T any](rows []T) func(func(T) error) error {
	return func(put func(T) error) error {
		for _, r := range rows {
			if err := put(r); err != nil {
				return err
			}
		}
		return nil
	}
}

var someRows = []Row{
	{Row: 0, ID: "a", User: "u1", Item: "i1", Polarity: Positive, Text: "Because <b>it</b> & \"that\".", Tokens: 12, Model: "m", Adapter: "policy-v000001-abcd", SoftPrompt: "00ff"},
	{Row: 1, ID: "a", User: "u1", Item: "i1", Polarity: Negative, Reason: "not_a_sentence", Tokens: 64, Model: "m"},
	{Row: 1<<53 + 1, User: "=cmd()", Item: "naïve 😀", Text: "bell\a esc\x1b[2J csi\u009b31m del\x7f nul\x00 bidi\u202etxt\u2066 sep\u2028 nbsp\u00a0 tab\t\r\n", Model: "m"},
}

var somePairs = []Pair{
	{Row: 0, ID: "a", User: "u1", Item: "i1", Positive: "Good.", Negative: "Bad.", PositiveTokens: 3, NegativeTokens: 2, Model: "m", Adapter: "x"},
	{Row: 1, User: "u2", Item: "i1", Positive: "Good\u0085.", NegativeReason: "unfinished", NegativeTokens: 64, Model: "m", SoftPrompt: "00ff"},
}

var someAnswers = []Answer{
	{ID: "batch_req_1", CustomID: "r1", Status: 200, RequestID: "req-1", Body: json.RawMessage("{\n \"n\": 12345678901234567890,\n \"t\": \"a\u009bb <i>\", \"half\": \"\\ud800\"\n}")},
	{ID: "batch_req_2", CustomID: "r2", Status: 400, RequestID: "req-2", Body: json.RawMessage(`{"error":{"message":"too long"}}`)},
	{ID: "batch_req_3", CustomID: "r3", Code: "batch_expired", Message: "the deadline passed"},
	{ID: "batch_req_4", CustomID: "r4", Status: 200, RequestID: "req-4", Body: json.RawMessage(`{"error":"garbage"}`), Code: "invalid_response", Message: "no choices"},
}

func TestGoldenOutputs(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, err := range map[string]error{
		"rows.jsonl":    WriteRows(Output{Path: at("rows.jsonl")}, list(someRows)),
		"pairs.jsonl":   WritePairs(Output{Path: at("pairs.jsonl")}, list(somePairs)),
		"answers.jsonl": WriteAnswers(Output{Path: at("answers.jsonl")}, at("errors.jsonl"), list(someAnswers)),
		"both.jsonl":    WriteAnswers(Output{Path: at("both.jsonl")}, "", list(someAnswers)),
		"errors.jsonl":  nil,
	} {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"rows.jsonl", "pairs.jsonl", "answers.jsonl", "errors.jsonl"} {
		got, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", "out-"+name+".golden"), string(got))
	}
	both, err := os.ReadFile(at("both.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(both, []byte("\n")); n != len(someAnswers) {
		t.Errorf("%d lines without an error file, want %d", n, len(someAnswers))
	}
	// Control characters reach no terminal.
	for _, name := range []string{"rows.jsonl", "pairs.jsonl", "answers.jsonl"} {
		got, _ := os.ReadFile(at(name))
		if i := strings.IndexFunc(string(got), func(r rune) bool { return r != '\n' && r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0x2066 }); i >= 0 {
			t.Errorf("%s: a control character at byte %d", name, i)
		}
	}
}

// What was written is an input again: to redo the dead letters of a run, say.
func TestRowsReadAsPairs(t *testing.T) {
	for _, ext := range []string{".jsonl", ".parquet", ".jsonl.gz", ".jsonl.zst"} {
		path := filepath.Join(t.TempDir(), "rows"+ext)
		if err := WriteRows(Output{Path: path}, list(someRows[:2])); err != nil {
			t.Fatal(err)
		}
		want := `1 id="a" user="u1" item="i1" polarity=0 url= body=` + "\n" + `2 id="a" user="u1" item="i1" polarity=1 url= body=` + "\n"
		if got := read(t, path, ""); got != want {
			t.Errorf("%s: got\n%s", ext, got)
		}
	}
}

// rowOf is the inverse of record.
func rowOf(r rowRecord) Row {
	pol := Positive
	if r.Polarity == "negative" {
		pol = Negative
	}
	return Row{Row: r.Row, ID: r.ID, User: r.User, Item: r.Item, Polarity: pol, Text: r.Text, Reason: r.Reason, Tokens: r.Tokens, Model: r.Model, Adapter: r.Adapter, SoftPrompt: r.SoftPrompt}
}

// decode reads JSON lines back.
func decode[T any](t interface{ Fatal(...any) }, path string) []T {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := io.Reader(f)
	switch filepath.Ext(path) {
	case ".gz":
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	case ".zst":
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		in = z
	}
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	var out []T
	for {
		var v T
		if err := dec.Decode(&v); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
}

func TestWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("a\"\\\x00\x1b\x7f\u009b\u2028\u202e<&😀\ufffd\r\n"))), rapid.StringN(100, 300, -1))
	row := rapid.Custom(func(t *rapid.T) Row {
		return Row{
			Row: rapid.Int64().Draw(t, "row"), ID: text.Draw(t, "id"), User: text.Draw(t, "user"), Item: text.Draw(t, "item"), Polarity: rapid.SampledFrom([]int8{Positive, Negative}).Draw(t, "pol"),
			Text: text.Draw(t, "text"), Reason: text.Draw(t, "reason"), Tokens: rapid.Int64().Draw(t, "tokens"), Model: text.Draw(t, "model"), Adapter: text.Draw(t, "adapter"), SoftPrompt: text.Draw(t, "soft"),
		}
	})
	pair := rapid.Custom(func(t *rapid.T) Pair {
		r := row.Draw(t, "base")
		return Pair{
			Row: r.Row, ID: r.ID, User: r.User, Item: r.Item, Positive: r.Text, NegativeReason: r.Reason, Negative: text.Draw(t, "negative"), PositiveReason: text.Draw(t, "reason"),
			PositiveTokens: r.Tokens, NegativeTokens: rapid.Int64().Draw(t, "tokens"), Model: r.Model, Adapter: r.Adapter, SoftPrompt: r.SoftPrompt,
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		ext := rapid.SampledFrom([]string{".jsonl", ".ndjson.gz", ".jsonl.zst", ".parquet", ".pq"}).Draw(t, "ext")
		path := filepath.Join(dir, "x"+ext)
		isParquet := ext == ".parquet" || ext == ".pq"
		rows := rapid.SliceOfN(row, 0, 300).Draw(t, "rows")
		if err := WriteRows(Output{Path: path}, list(rows)); err != nil {
			t.Fatal(err)
		}
		var records []rowRecord
		if isParquet {
			var err error
			if records, err = parquet.ReadFile[rowRecord](path); err != nil {
				t.Fatal(err)
			}
		} else {
			records = decode[rowRecord](t, path)
		}
		var got []Row
		for _, r := range records {
			got = append(got, rowOf(r))
		}
		if d := cmp.Diff(rows, got); d != "" && len(rows)+len(got) > 0 {
			t.Fatal(d)
		}
		pairs := rapid.SliceOfN(pair, 0, 20).Draw(t, "pairs")
		if err := WritePairs(Output{Path: path}, list(pairs)); err != nil {
			t.Fatal(err)
		}
		var gotPairs []Pair
		if isParquet {
			var err error
			if gotPairs, err = parquet.ReadFile[Pair](path); err != nil {
				t.Fatal(err)
			}
		} else {
			gotPairs = decode[Pair](t, path)
		}
		if d := cmp.Diff(pairs, gotPairs); d != "" && len(pairs)+len(gotPairs) > 0 {
			t.Fatal(d)
		}
	})
}

func TestWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	boom := errors.New("boom")
	for _, name := range []string{"x.jsonl", "x.jsonl.gz", "x.jsonl.zst", "x.parquet"} {
		path := filepath.Join(dir, name)
		broken := func(put func(Row) error) error { return errors.Join(put(someRows[0]), boom) }
		if err := WriteRows(Output{Path: path}, broken); !errors.Is(err, boom) {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: half a file: %v", name, err)
		}
		if err := os.WriteFile(path, []byte("before"), 0o600); err != nil {
			t.Fatal(err)
		}
		bad := Row{User: "\xff", Item: "i"}
		if err := WriteRows(Output{Path: path}, list([]Row{someRows[0], bad})); fault.ClassOf(err) != fault.Item {
			t.Errorf("%s: invalid UTF-8: %v", name, err)
		}
		if err := WriteRows(Output{Path: path}, list([]Row{{Polarity: Both}})); err == nil {
			t.Errorf("%s: a sentence of both polarities was written", name)
		}
		if got, _ := os.ReadFile(path); string(got) != "before" {
			t.Errorf("%s: the file of before is %q", name, got)
		}
		link := filepath.Join(dir, "link-"+name)
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		if err := WriteRows(Output{Path: link}, list(someRows)); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("%s: the link was replaced: %v, %v", name, info, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() < 20 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	good, bad := filepath.Join(dir, "good.jsonl"), filepath.Join(dir, "bad.jsonl")
	if err := WriteAnswers(Output{Path: good}, bad, list([]Answer{{Status: 200, Body: json.RawMessage("{")}})); fault.ClassOf(err) != fault.Item {
		t.Errorf("a body that is no JSON: %v", err)
	}
	for _, path := range []string{good, bad} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := WriteAnswers(Output{Path: good}, good, list(someAnswers)); err == nil {
		t.Error("one file for answers and errors")
	}
	if err := WriteAnswers(Output{Path: good}, bad, list(someAnswers[:1])); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(bad); err != nil || info.Size() != 0 {
		t.Errorf("the error file of a batch without errors: %v, %v", info, err)
	}
}

func TestRefusedOutputs(t *testing.T) {
	dir := t.TempDir()
	for _, c := range [][2]string{{filepath.Join(dir, "x"), ""}, {filepath.Join(dir, "x.csv"), ""}, {filepath.Join(dir, "x.jsonl"), CSV}, {dir, JSONL}, {filepath.Join(dir, "none", "x.jsonl"), ""}} {
		if err := WriteRows(Output{Path: c[0], Format: c[1]}, list(someRows)); err == nil || fault.ClassOf(err) != fault.Fatal {
			t.Errorf("WriteRows(%q, %q) = %v", c[0], c[1], err)
		}
	}
}

// The standard output, pipes and devices are written to as the rows come.
func TestStreams(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	first := make(chan string, 1)
	go func() {
		var line [1 << 17]byte
		n, _ := io.ReadAtLeast(r, line[:], 1)
		first <- string(line[:n])
		_, _ = io.Copy(io.Discard, r)
	}()
	err = WriteRows(Output{Path: "-"}, func(put func(Row) error) error {
		for {
			if err := put(someRows[0]); err != nil {
				return err
			}
			select {
			case head := <-first: // before the last row was given
				if !strings.HasPrefix(head, `{"row":0,`) {
					return fmt.Errorf("the output begins with %q", head[:20])
				}
				return nil
			default:
			}
		}
	})
	if err != nil {
		t.Error(err)
	}
	if err := WriteRows(Output{Path: "-", Format: Parquet}, list(someRows)); err != nil { // a pipe, not a terminal
		t.Error(err)
	}
	_ = w.Close()
	if err := WriteRows(Output{Path: os.DevNull, Format: JSONL}, list(someRows)); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(os.DevNull); err != nil || info.Mode().IsRegular() {
		t.Fatalf("the device was replaced: %v, %v", info, err)
	}
}

// Writing holds a row group at most.
func TestWritingIsFlat(t *testing.T) {
	measured(t)
	const n = 4 * groupRows
	for _, format := range []string{JSONL, Parquet} {
		path := filepath.Join(t.TempDir(), "x."+format)
		var early, late float64
		err := WriteRows(Output{Path: path, Format: format}, func(put func(Row) error) error {
			for i := range n {
				r := Row{Row: int64(i), User: fmt.Sprintf("user-%d", i/10), Item: fmt.Sprintf("item-%d", i), Text: fmt.Sprintf("Because it is number %d of all that %d.", i, i*7919%1000003), Tokens: 12, Model: "m"}
				if err := put(r); err != nil {
					return err
				}
				switch i {
				case n/2 - 1: // a row group was just written in either case
					early = heap()
				case n - 1:
					late = heap()
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.1f MiB at %d rows, %.1f MiB at %d", format, early/(1<<20), n/2, late/(1<<20), n)
		if late-early > 4<<20 {
			t.Errorf("%s: the heap grew by %.0f bytes", format, late-early)
		}
		if format == Parquet {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			info, _ := f.Stat()
			file, err := parquet.OpenFile(f, info.Size())
			if err != nil || file.NumRows() != int64(n) || len(file.RowGroups()) < n/groupRows {
				t.Errorf("%v: %d rows in %d groups", err, file.NumRows(), len(file.RowGroups()))
			}
			t.Logf("%d row groups, %.1f bytes per row", len(file.RowGroups()), float64(info.Size())/float64(n))
			readingIsFlat(t, path, n)
		}
	}
}

// readingIsFlat reads a Parquet file of n rows: what is held does not grow with the row groups.
func readingIsFlat(t *testing.T, path string, n int) {
	t.Helper()
	r, err := Open(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var early, late float64
	for i := range n {
		if line, err := r.Next(); err != nil || line.Item != fmt.Sprintf("item-%d", i) {
			t.Fatalf("row %d: %+v, %v", i, line, err)
		}
		switch i {
		case n / 4:
			early = heap()
		case n - 1:
			late = heap()
		}
	}
	t.Logf("read: %.1f MiB at %d rows, %.1f MiB at %d", early/(1<<20), n/4, late/(1<<20), n)
	if late-early > 4<<20 {
		t.Errorf("the heap grew by %.0f bytes", late-early)
	}
}

// Another implementation reads what we write, bit by bit. RECPIE_PYTHON names a Python that has pyarrow.
func TestParquetIsReadByPyArrow(t *testing.T) {
	python := os.Getenv("RECPIE_PYTHON")
	if python == "" {
		python = "python3"
	}
	if err := exec.Command(python, "-c", "import pyarrow.parquet").Run(); err != nil {
		t.Skipf("no pyarrow in %s: set RECPIE_PYTHON", python)
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	rows := []Row{}
	for i := range groupRows + 1000 { // two row groups
		r := someRows[i%len(someRows)]
		r.Row, r.User = int64(i), fmt.Sprint(i/10)
		rows = append(rows, r)
	}
	if err := WriteRows(Output{Path: path}, list(rows)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "../../scripts/reference/batchfile_parquet.py", path)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(file, out, 0o600); err != nil {
		t.Fatal(err)
	}
	var got []Row
	for _, r := range decode[rowRecord](t, file) {
		got = append(got, rowOf(r))
	}
	if d := cmp.Diff(rows, got); d != "" {
		t.Error(d[:min(len(d), 2000)])
	}
}

// Written live, a line is in the file when put returns; what was there before is gone at once.
func TestLiveOutputShowsEachLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "rows.jsonl")
	if err := os.WriteFile(path, []byte("of an earlier run\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	lines := func() int {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Count(b, []byte("\n"))
	}
	err := WriteRows(Output{Path: path, Live: true}, func(put func(Row) error) error {
		for i, r := range someRows {
			if n := lines(); n != i {
				t.Errorf("%d lines after %d rows", n, i)
			}
			if err := put(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || lines() != len(someRows) {
		t.Errorf("%d lines of %d rows, %v", lines(), len(someRows), err)
	}
	again := filepath.Join(t.TempDir(), "again.jsonl")
	if err := WriteRows(Output{Path: again}, list(someRows)); err != nil {
		t.Fatal(err)
	}
	live, _ := os.ReadFile(path)
	if whole, _ := os.ReadFile(again); !bytes.Equal(live, whole) {
		t.Errorf("live\n%s\nas a whole\n%s", live, whole)
	}
	if err := WriteRows(Output{Path: filepath.Join(t.TempDir(), "rows.parquet"), Live: true}, list(someRows)); err != nil {
		t.Error(err)
	}
}

func TestWriteReplies(t *testing.T) {
	replies := []Reply{{Row: 0, ID: "a", Text: "Hi <b>", Finish: "stop", PromptTokens: 3, Tokens: 2, Model: "m"}, {Row: 1, ID: "b", Reason: "refused", Model: "m"}}
	for _, name := range []string{"replies.jsonl", "replies.parquet"} {
		path := filepath.Join(t.TempDir(), name)
		if err := WriteReplies(Output{Path: path}, list(replies)); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "parquet") {
			got, err := parquet.ReadFile[Reply](path)
			if err != nil || !slices.Equal(got, replies) {
				t.Errorf("%+v, %v", got, err)
			}
			continue
		}
		const want = `{"row":0,"custom_id":"a","text":"Hi <b>","finish_reason":"stop","prompt_tokens":3,"tokens":2,"model":"m"}` + "\n" +
			`{"row":1,"custom_id":"b","reason":"refused","prompt_tokens":0,"tokens":0,"model":"m"}` + "\n"
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if err := WriteReplies(Output{Path: filepath.Join(t.TempDir(), "r.jsonl")}, list([]Reply{{Text: "\xff"}})); fault.ClassOf(err) != fault.Item {
		t.Errorf("invalid UTF-8: %v", err)
	}
}
