package queue

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// Known says of every row what planning it then does, whether results are sealed or not, and changes nothing.
func TestKnownIsWhatPlanningReuses(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		const workers = 3
		db := open(t, dsn)
		first, err := db.Create(t.Context(), Spec{Name: "first", Digest: "1", ChunkRows: 16})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Plan(t.Context(), first, inputs(1000, "a"), nil); err != nil {
			t.Fatal(err)
		}
		ask := slices.Collect(func(yield func(Input) bool) {
			for i := range int64(1500) { // the last 500 are new
				if !yield(inputAt("a", i)) {
					return
				}
			}
		})
		check := func(when string, name string) {
			t.Helper()
			known, err := db.Known(t.Context(), ask)
			if err != nil {
				t.Fatal(err)
			}
			b, err := db.Create(t.Context(), Spec{Name: name, Digest: name, ChunkRows: 16})
			if err != nil {
				t.Fatal(err)
			}
			p, err := db.Plan(t.Context(), b, func(yield func(Input, error) bool) {
				for _, r := range ask {
					if !yield(r, nil) {
						return
					}
				}
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			n := int64(0)
			for i, k := range known {
				if k {
					n++
				}
				if k && (i >= 1000 || i%50 == 49) {
					t.Errorf("%s: row %d is new or a dead letter, and known", when, i)
				}
			}
			if n != p.Reused {
				t.Errorf("%s: %d rows are known, planning reused %d", when, n, p.Reused)
			}
			if when != "nothing done" && n == 0 {
				t.Errorf("%s: nothing is known", when)
			}
		}
		check("nothing done", "second")
		half, stop := context.WithCancel(t.Context())
		done := 0
		_ = db.Work(half, WorkOptions{Batch: first.ID, Workers: workers, Handler: fake, Stored: func(_ Batch, r []Result) {
			if done += len(r); done >= 400 {
				stop()
			}
		}})
		stop()
		check("half done, not sealed", "third")
		check("half done, sealed by planning", "fourth")
		if err := db.Work(t.Context(), WorkOptions{Batch: first.ID, Workers: workers, Handler: fake}); err != nil {
			t.Fatal(err)
		}
		check("done", "fifth")
	})
}

func TestMeasure(t *testing.T) { backends(t, testMeasure) }

func testMeasure(t *testing.T, dsn string) {
	db := open(t, dsn)
	b, err := db.Create(t.Context(), Spec{Name: "b", Digest: "1", ChunkRows: 10})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Plan(t.Context(), b, inputs(100, "a"), nil); err != nil {
		t.Fatal(err)
	}
	if m, err := db.Measure(t.Context(), b); err != nil || m != (Measured{}) {
		t.Errorf("before the work: %+v, %v", m, err)
	}
	if err := db.Work(t.Context(), WorkOptions{Batch: b.ID, Handler: fake}); err != nil {
		t.Fatal(err)
	}
	// ten chunks, 2 s apart, with a pause of an hour after the fifth
	lo, _ := span(b.ID)
	if err := db.b.update(t.Context(), func(s session) error {
		_, err := s.exec(t.Context(), `UPDATE recpie_chunk SET finished = 1000000 + 2000 * (key - $1) + CASE WHEN key - $1 >= 5 THEN 3600000 ELSE 0 END`, lo)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	answers, tokens, written := int64(0), int64(0), int64(0)
	for i := range int64(100) {
		if n := int64(answer(inputAt("a", i)).Tokens); n > 0 {
			answers, tokens = answers+1, tokens+n
			if chunk := i / 10; chunk != 0 && chunk != 5 { // nobody knows when the work on these began
				written += n
			}
		}
	}
	m, err := db.Measure(t.Context(), b)
	if want := (Measured{Answers: answers, Tokens: tokens, Written: written, Busy: 16 * time.Second}); err != nil || m != want {
		t.Errorf("%+v, want %+v (%v)", m, want, err)
	}
	if r, want := m.Rate(), float64(written)/16/(float64(tokens)/float64(answers)); math.Abs(r-want) > 1e-9 {
		t.Errorf("rate %g, want %g", r, want)
	}
	again, err := db.Create(t.Context(), Spec{Name: "again", Digest: "2", ChunkRows: 10})
	if err == nil {
		_, err = db.Plan(t.Context(), again, inputs(100, "a"), nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m, err := db.Measure(t.Context(), again); err != nil || m.Busy != 0 || m.Written != 0 || m.Rate() != 0 {
		t.Errorf("reused rows took time: %+v, %v", m, err)
	}
}

// The figures by which a dry run estimates the disk are within a third of what a database of rows with texts takes.
func TestBytesOnDisk(t *testing.T) {
	size := func(path string) (n int64) {
		for _, end := range []string{"", "-wal"} {
			if info, err := os.Stat(path + end); err == nil {
				n += info.Size()
			}
		}
		return n
	}
	for _, c := range []struct{ rows, text int }{{0, 0}, {20_000, 0}, {20_000, 150}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "q.db")
			db, err := Open(t.Context(), path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := db.Create(t.Context(), Spec{Name: "b", Digest: "1", ChunkRows: 64})
			if err == nil {
				_, err = db.Plan(t.Context(), b, inputs(c.rows, "a"), nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			text := strings.Repeat("x", c.text)
			err = db.Work(t.Context(), WorkOptions{Batch: b.ID, Workers: 2, Handler: handlerFunc(func(_ context.Context, _ Batch, rows []Input) ([]Result, error) {
				out := make([]Result, len(rows))
				for i, r := range rows {
					out[i] = Result{Row: r.Row, Text: "t" + text, Raw: "r" + text, Tokens: 30}
				}
				return out, nil
			})})
			if err == nil {
				err = db.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			got, want := float64(size(path)), float64(EmptyBytes+c.rows*(RowBytes+2*(c.text+1)))
			t.Logf("%.0f bytes, %.0f estimated", got, want)
			if got > 1.33*want || want > 1.33*got {
				t.Errorf("%d rows with two texts of %d bytes take %.0f bytes (%.1f a row), the estimate is %.0f", c.rows, c.text, got, got/float64(max(c.rows, 1)), want)
			}
		})
	}
}
