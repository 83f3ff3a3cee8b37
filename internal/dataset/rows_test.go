package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func readAll(t testing.TB, text string, quoted bool, maxRecord int) (good [][]string, bad []string) {
	t.Helper()
	rr, err := newRowReader("f", strings.NewReader(text), quoted, maxRecord)
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := rr.next()
		if errors.Is(err, io.EOF) {
			return good, bad
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.bad != nil {
			bad = append(bad, fmt.Sprintf("%d:%d %s", r.bad.Line, r.bad.Column, r.bad.Reason))
		} else {
			good = append(good, r.fields)
		}
	}
}

func TestRows(t *testing.T) {
	for _, c := range []struct {
		name, text string
		good       [][]string
		bad        []string
	}{
		{"plain", "a,b\n1,2\n", [][]string{{"a", "b"}, {"1", "2"}}, nil},
		{"no last line end, BOM, CRLF, blank lines", "\ufeffa,b\r\n\r\n1,2", [][]string{{"a", "b"}, {"1", "2"}}, nil},
		{"quotes", `a,"x, ""y""",` + "\n", [][]string{{"a", `x, "y"`, ""}}, nil},
		{"a field over lines", "1,\"x\ny\",2\n3,4,5\n", [][]string{{"1", "x\ny", "2"}, {"3", "4", "5"}}, nil},
		{"an open quote costs its own line", "1,\"x,2\n3,4,5\n6,7,8\n", [][]string{{"3", "4", "5"}, {"6", "7", "8"}}, []string{"1:0 a quotation mark is never closed"}},
		{"an open quote before a quoted row", "1,\"x\n3,\"y\"\n6,7\n", [][]string{{"3", "y"}, {"6", "7"}}, []string{"1:0 a quotation mark is never closed"}},
		{"an open quote that a later one closes", "1,\"x\n3,y\"\"\"z\n6,7\n", [][]string{{"6", "7"}},
			[]string{"2:7 text after a closing quotation mark", "2:0 a quotation mark is never closed"}},
		{"text after a quote", "1,\"x\"y\n2,3\n", [][]string{{"2", "3"}}, []string{"1:6 text after a closing quotation mark"}},
		{"a mark in a bare field", "1,5\"\"\n2,3\n", [][]string{{"2", "3"}}, []string{"1:4 a quotation mark inside a field without quotes"}},
		{"not UTF-8", "1,\xff\n2,3\n", [][]string{{"2", "3"}}, []string{"1:3 not valid UTF-8"}},
		{"too long", "1," + strings.Repeat("x", 100) + "\n2,3\n", [][]string{{"2", "3"}}, []string{"1:0 the row is longer than 64 bytes"}},
		{"too long over lines", "1,\"" + strings.Repeat("xxxxxxxxxxx\n", 9) + "\",2\n3,4\n", [][]string{{"xxxxxxxxxxx"}, {"3", "4"}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			good, bad := readAll(t, c.text, true, 64)
			if c.name == "too long over lines" {
				if len(bad) != 2 || !slices.Equal(good[len(good)-1], []string{"3", "4"}) {
					t.Errorf("good %q, bad %q", good, bad)
				}
				return
			}
			if d := cmp.Diff(c.good, good); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(c.bad, bad); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTabsAreNotQuoted(t *testing.T) {
	good, bad := readAll(t, "a\t\"b\r\n1\t\t2\n", false, 64)
	if d := cmp.Diff([][]string{{"a", `"b`}, {"1", "", "2"}}, good); d != "" || bad != nil {
		t.Error(d, bad)
	}
}

func TestFieldsKnowTheirPlace(t *testing.T) {
	rr, err := newRowReader("f", strings.NewReader("h\nab,\"x\ny\",zz\n"), true, 1000)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = rr.next()
	r, err := rr.next()
	if err != nil {
		t.Fatal(err)
	}
	if want := []position{{2, 1}, {2, 4}, {3, 4}}; !slices.Equal(r.at, want) {
		t.Errorf("fields at %v, want %v", r.at, want)
	}
}

func TestCutGzipIsAnError(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for i := range 10000 {
		fmt.Fprintf(z, "%d,%x\n", i, i*i*7919)
	}
	_ = z.Close()
	rr, err := newRowReader("f", bytes.NewReader(b.Bytes()[:b.Len()/2]), true, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = rr.next()
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(err.Error(), "f:") {
		t.Errorf("err = %v", err)
	}
}

// Whatever encoding/csv writes is read back, and no input loses a line, loops or panics.
func FuzzCSV(f *testing.F) {
	for _, s := range []string{"a,b\n1,2\n", "\"x\ny\",\"\"\n", "\"", "a\"b,c\n\"d\"e\n", "\xff,\n", "\ufeff1\r\n\r\n2", "\x1f\x8b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.HasPrefix(s, "\x1f\x8b") {
			if _, err := newRowReader("f", strings.NewReader(s), true, 64); err == nil {
				t.Skip("a sound gzip header")
			}
			return
		}
		good, bad := readAll(t, s, true, 1<<10)
		if lines := strings.Count(s, "\n") + 1; len(good)+len(bad) > lines {
			t.Fatalf("%d rows of %d lines", len(good)+len(bad), lines)
		}
		good = slices.DeleteFunc(good, func(r []string) bool { return len(r) == 1 && r[0] == "" }) // written as a blank line
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		if err := w.WriteAll(good); err != nil {
			t.Fatal(err)
		}
		again, bad := readAll(t, b.String(), true, 1<<16)
		if d := cmp.Diff(good, again, cmpopts.EquateEmpty()); len(bad) > 0 || d != "" && !strings.ContainsAny(s, "\r\ufeff") {
			t.Fatalf("not read back: %s %v", d, bad)
		}
	})
}
