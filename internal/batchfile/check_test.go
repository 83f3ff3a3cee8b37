package batchfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/fault"
)

func TestCheckFindsEverythingAcrossFiles(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "empty.jsonl"), filepath.Join(dir, "c.csv")
	for path, content := range map[string]string{
		a: `{"custom_id":"x","user_id":"u1","item_id":"i1"}
{"custom_id":"y","user_id":"u1","item_id":"i2","polarity":"positive"}
{"custom_id":"y","user_id":"u1","item_id":"i2","polarity":"negative"}
not JSON
{"user_id":"u1","item_id":"i2"}
`,
		b: "",
		c: "user_id,item_id,custom_id,polarity\nu1,i1,z,negative\n\nu2,i1,x,\nu1,i2,x,negative\nu1,,,\nu1i,1,,",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Check(context.Background(), "", a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	want := &Report{
		Lines: 10, Sentences: 12, Malformed: 2, DuplicateIDs: 2, DuplicatePairs: 3,
		Errors: []LineError{
			{File: a, Line: 4, Column: 1, Reason: "not a JSON object", Remedy: oneObject},
			{File: c, Line: 6, Column: 4, Field: "item_id", Reason: "is empty", Remedy: "give it a value or leave the line out"},
		},
		IDs: []Duplicate{{"x", Position{c, 4}, Position{a, 1}}, {"x", Position{c, 5}, Position{a, 1}}},
		Pairs: []Duplicate{
			{"u1 i2", Position{a, 5}, Position{a, 2}},
			{"u1 i1", Position{c, 2}, Position{a, 1}},
			{"u1 i2", Position{c, 5}, Position{a, 3}},
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	msg := got.Err().Error()
	for _, part := range []string{"of 10 lines", "2 malformed lines, the first " + a + ":4:1: not a JSON object", "2 lines repeat custom_ids, the first " + c + ":4 as " + a + ":1", "3 lines repeat pairs"} {
		if !strings.Contains(msg, part) {
			t.Errorf("%q lacks %q", msg, part)
		}
	}
	if good, err := Check(context.Background(), "", b); err != nil || good.Err() != nil {
		t.Errorf("an empty file: %v, %v", err, good.Err())
	}
	if _, err := Check(context.Background(), "", a, filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file was not reported")
	}
	ctx, stop := context.WithCancel(context.Background())
	stop()
	if _, err := Check(ctx, "", a); !errors.Is(err, context.Canceled) || fault.ClassOf(err) != fault.Transient {
		t.Errorf("cancelled: %v", err)
	}
}

func TestCheckListsTwentyAndCountsAll(t *testing.T) {
	c := NewChecker()
	for range 3 * listed {
		if err := c.Add(Line{No: 1, ID: "x", Body: []byte("{}")}, nil); err != nil {
			t.Fatal(err)
		}
		if err := c.Add(Line{}, (&flaw{reason: "r", remedy: "r"}).at("f", 2, "")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Add(Line{}, io.EOF); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	r := c.Report()
	if r.Malformed != 3*listed || r.DuplicateIDs != 3*listed-1 || r.Requests != 3*listed || len(r.Errors) != listed || len(r.IDs) != listed || r.DuplicatePairs != 0 {
		t.Errorf("%+v", r)
	}
}

// seen answers as a plain map does, also when keys differ in one bit only and lines are beyond 32 bits.
func TestSeenIsAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type part struct {
			key uint64
			bit uint8
		}
		var s seen
		want := map[part]int64{}
		base := rapid.Uint64().Draw(t, "base")
		spread := rapid.SampledFrom([]uint64{1, 1 << 8, 1 << 48, 1 << 56, 0x9e3779b97f4a7c15}).Draw(t, "spread")
		offset := rapid.SampledFrom([]int64{1, 1 << 31, 1<<38 - 4000}).Draw(t, "offset")
		for n := range rapid.IntRange(0, 3000).Draw(t, "n") {
			key := base + spread*uint64(rand.IntN(2000))
			parts := uint8(1 + rand.IntN(3))
			line := offset + int64(n)
			var clash []int64
			for bit := uint8(1); bit <= 2; bit <<= 1 {
				if l, ok := want[part{key, bit}]; ok && parts&bit != 0 {
					clash = append(clash, l)
				}
			}
			first, twice := s.add(key, parts, line)
			if twice != (len(clash) > 0) {
				t.Fatalf("key %x parts %d: twice %v, want %v", key, parts, twice, clash)
			}
			if twice {
				if first != clash[0] && first != clash[len(clash)-1] {
					t.Fatalf("first %d, want one of %v", first, clash)
				}
				continue
			}
			for bit := uint8(1); bit <= 2; bit <<= 1 {
				if parts&bit != 0 {
					want[part{key, bit}] = line
				}
			}
		}
	})
}

// heap is what is in use after the collector has run twice (finalizers free pooled memory).
func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// measured skips a test of memory under the race detector, which takes memory and ten times the time itself.
func measured(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector is on")
	}
}

// pairLines makes n lines of a format without holding them.
func pairLines(format string, n int) io.Reader {
	r, w := io.Pipe()
	go func() {
		line := `{"user_id":"user-%d","item_id":"item-%d"}` + "\n"
		switch format {
		case CSV:
			line = "user-%d,item-%d\n"
			_, _ = io.WriteString(w, "user_id,item_id\n")
		case OpenAI:
			line = `{"custom_id":"request-%[2]d","method":"POST","url":"/v1/completions","body":{"prompt":"item %[1]d"}}` + "\n"
		}
		var buf []byte
		for i := range n {
			if buf = fmt.Appendf(buf, line, i/10, i); len(buf) > 1<<16 || i == n-1 {
				if _, err := w.Write(buf); err != nil {
					return
				}
				buf = buf[:0]
			}
		}
		_ = w.Close()
	}()
	return r
}

// Reading holds nothing of what was read: the heap at the end is as it was near the beginning.
func TestReadingIsFlat(t *testing.T) {
	measured(t)
	for _, format := range []string{JSONL, CSV, OpenAI} {
		n := 1_000_000
		if format != JSONL || testing.Short() {
			n = 100_000
		}
		r, err := newReader("f", pairLines(format, n), format)
		if err != nil {
			t.Fatal(err)
		}
		var early, late float64
		for i := 1; i <= n; i++ {
			if _, err := r.Next(); err != nil {
				t.Fatal(err)
			}
			switch i {
			case n / 10:
				early = heap()
			case n:
				late = heap()
			}
		}
		if _, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		t.Logf("%s: %.0f KiB at %d lines, %.0f KiB at %d: %.3f bytes per line", format, early/1024, n/10, late/1024, n, (late-early)/float64(n-n/10))
		if late-early > 256<<10 {
			t.Errorf("%s: the heap grew by %.0f bytes", format, late-early)
		}
	}
}

// What Check remembers of a line is at most 16 bytes, and all of it is freed of what was read.
func TestCheckMemoryPerLine(t *testing.T) {
	measured(t)
	n := 1_000_000
	if testing.Short() {
		n = 200_000
	}
	r, err := newReader("f", pairLines(JSONL, n), JSONL)
	if err != nil {
		t.Fatal(err)
	}
	before := heap()
	c := NewChecker()
	for {
		if err := c.Add(r.Next()); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
	}
	per := (heap() - before) / float64(n)
	if rep := c.Report(); rep.Lines != int64(n) || rep.Err() != nil {
		t.Errorf("%+v", rep)
	}
	t.Logf("%.2f bytes per line", per)
	if per > 16 {
		t.Errorf("%.2f bytes per line", per)
	}
	runtime.KeepAlive(c)
}

func BenchmarkCheck(b *testing.B) {
	for _, format := range []string{JSONL, CSV, OpenAI} {
		b.Run(format, func(b *testing.B) {
			r, err := newReader("f", pairLines(format, b.N), format)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			c := NewChecker()
			for c.Add(r.Next()) == nil {
			}
			if got := c.Report().Lines; got != int64(b.N) {
				b.Fatalf("%d of %d lines", got, b.N)
			}
		})
	}
}
