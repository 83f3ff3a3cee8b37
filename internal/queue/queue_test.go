package queue

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"recpie/internal/fault"
	"recpie/internal/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("QUEUE_TEST_CHILD") != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// inputs are n rows whose data is their number; identities depend on salt.
func inputs(n int, salt string) iter.Seq2[Input, error] {
	return func(yield func(Input, error) bool) {
		for i := range int64(n) {
			if !yield(inputAt(salt, i), nil) {
				return
			}
		}
	}
}

func inputAt(salt string, n int64) Input {
	return Input{Row: n, Identity: sha256.Sum256(fmt.Appendf(nil, "%s %d", salt, n)), Data: binary.AppendVarint(nil, n)}
}

// answer is what the fake model says to a row: it depends on the row alone. Every 50th row is refused.
func answer(r Input) Result {
	n, _ := binary.Varint(r.Data)
	if n%50 == 49 {
		return Result{Row: r.Row, Reason: fmt.Sprintf("refused %x", r.Identity[:4])}
	}
	return Result{Row: r.Row, Text: fmt.Sprintf("text %x", r.Identity[:8]), Raw: "raw\x00\xff", Tokens: int(n % 7), Payload: r.Identity[:3]}
}

type handlerFunc func(ctx context.Context, b Batch, rows []Input) ([]Result, error)

func (f handlerFunc) Do(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
	return f(ctx, b, rows)
}

var fake = handlerFunc(func(_ context.Context, _ Batch, rows []Input) ([]Result, error) {
	out := make([]Result, len(rows))
	for i, r := range rows {
		out[i] = answer(r)
	}
	return out, nil
})

func open(t testing.TB, dsn string) *DB {
	t.Helper()
	db, err := Open(context.Background(), dsn, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// backends runs a test on a fresh database of each kind that is here.
func backends(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "queue.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Fresh(t)) })
}

// plan makes a batch of n rows that is ready to run.
func plan(t testing.TB, db *DB, s Spec, n int, salt string) Batch {
	t.Helper()
	b, err := db.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Plan(t.Context(), b, inputs(n, salt), nil); err != nil {
		t.Fatal(err)
	}
	return b
}

func work(t testing.TB, db *DB, b Batch, h Handler) error {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, fmt.Errorf("the batch does not end"))
	defer cancel()
	return db.Work(ctx, WorkOptions{Batch: b.ID, Workers: 3, Handler: h, Grace: 5 * time.Second})
}

// export is every result of a batch as text.
func export(t testing.TB, rows iter.Seq2[Result, error]) string {
	t.Helper()
	var s strings.Builder
	for r, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&s, "%d %q %q %q %d %x\n", r.Row, r.Text, r.Raw, r.Reason, r.Tokens, r.Payload)
	}
	return s.String()
}

// expected is the export of an unbroken run.
func expected(t testing.TB, rows iter.Seq2[Input, error]) string {
	return export(t, func(yield func(Result, error) bool) {
		for r, err := range rows {
			if !yield(answer(r), err) {
				return
			}
		}
	})
}

func same(t testing.TB, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("line %d of the export:\n got %s\nwant %s", i+1, g[i], w[i])
		}
	}
	t.Fatalf("the export has %d lines, want %d", len(g)-1, len(w)-1)
}

func TestBatchRunsToItsEnd(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "a", Digest: "d", ChunkRows: 16, Settings: json.RawMessage(`{"model":"m"}`)}, 1000, "s")
		if s, err := db.Status(t.Context(), b); err != nil || s.State != Running || s.Rows != 1000 || s.Left() != 1000 {
			t.Fatalf("status %+v, %v", s, err)
		}
		var stored atomic.Int64
		err := db.Work(t.Context(), WorkOptions{Batch: b.ID, Workers: 3, Handler: fake, Stored: func(_ Batch, r []Result) { stored.Add(int64(len(r))) }})
		if err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(1000, "s")))
		s, err := db.Status(t.Context(), b)
		if err != nil || s.State != Done || s.OK != 980 || s.Dead != 20 || s.Left() != 0 || s.Rate <= 0 || s.Rate > 1000 || s.Remaining() != 0 || stored.Load() != 1000 {
			t.Errorf("status %+v, %v; %d rows were reported", s, err, stored.Load())
		}
		dead := 0
		for r, err := range db.DeadLetters(t.Context(), b) {
			if err != nil || r.Reason == "" || r.Row%50 != 49 {
				t.Fatalf("dead letter %+v, %v", r, err)
			}
			dead++
		}
		if dead != 20 {
			t.Errorf("%d dead letters", dead)
		}
		if err := work(t, db, b, nil); err != nil {
			t.Errorf("a batch that is done: %v", err)
		}
	})
}

// A batch with the same rows asks nobody, one that shares rows asks for the rest alone.
func TestIdentitiesAreReusedAcrossBatches(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		first := plan(t, db, Spec{Name: "first", ChunkRows: 32}, 1000, "s")
		if err := work(t, db, first, fake); err != nil {
			t.Fatal(err)
		}
		second, err := db.Create(t.Context(), Spec{Name: "second", ChunkRows: 32})
		if err != nil {
			t.Fatal(err)
		}
		p, err := db.Plan(t.Context(), second, inputs(1500, "s"), nil)
		if err != nil || p.Rows != 1500 || p.Reused != 980 || p.Chunks != 17 {
			t.Fatalf("planned %+v, %v: want 980 rows reused, 520 in 17 chunks", p, err)
		}
		var asked atomic.Int64
		err = work(t, db, second, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			asked.Add(int64(len(rows)))
			return fake(ctx, b, rows)
		}))
		if err != nil || asked.Load() != 520 {
			t.Fatalf("%d rows were asked, %v", asked.Load(), err)
		}
		same(t, export(t, db.Results(t.Context(), second)), expected(t, inputs(1500, "s")))
	})
}

// Results behind a chunk that never ends are reused too.
func TestIdentitiesBehindAnOpenChunkAreReused(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		first := plan(t, db, Spec{Name: "first", ChunkRows: 16}, 160, "s")
		var others atomic.Int64
		err := work(t, db, first, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			if rows[0].Row > 0 {
				others.Add(1)
				return fake(ctx, b, rows)
			}
			for { // the first chunk fails when the others are stored
				if s, err := db.Status(ctx, b); err != nil || s.OK+s.Dead == 144 {
					return nil, errors.Join(err, db.Cancel(ctx, b), fault.Newf(fault.Endpoint, "test", "no"))
				}
				time.Sleep(5 * time.Millisecond)
			}
		}))
		if !errors.Is(err, ErrCancelled) || others.Load() != 9 {
			t.Fatalf("%d chunks, %v", others.Load(), err)
		}
		var asked []Input
		for r := range inputs(160, "s") {
			asked = append(asked, r)
		}
		known, err := db.Known(t.Context(), asked)
		if n := len(known) - len(slices.DeleteFunc(known, func(k bool) bool { return k })); err != nil || n != 141 {
			t.Errorf("%d rows are known before planning, %v: want 141", n, err)
		}
		second, err := db.Create(t.Context(), Spec{Name: "second", ChunkRows: 16})
		if err != nil {
			t.Fatal(err)
		}
		p, err := db.Plan(t.Context(), second, inputs(160, "s"), nil)
		if err != nil || p.Reused != 141 {
			t.Fatalf("planned %+v, %v: want 141 rows reused", p, err)
		}
		if err := work(t, db, second, fake); err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), second)), expected(t, inputs(160, "s")))
	})
}

func TestABatchIsBegunOnce(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		a, err := db.Create(t.Context(), Spec{Name: "a", Digest: "1"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := db.Create(t.Context(), Spec{Name: "a", Digest: "1", MaxErrorRate: 0.5})
		if err != nil || b.ID != a.ID || b.MaxErrorRate != 0.5 {
			t.Errorf("again: %+v, %v", b, err)
		}
		if _, err := db.Create(t.Context(), Spec{Name: "a", Digest: "2"}); err == nil {
			t.Error("another digest was accepted")
		}
		for _, s := range []Spec{{}, {Name: "x", Priority: 5}, {Name: "x", MaxErrorRate: 2}, {Name: "x", ChunkRows: -1}} {
			if _, err := db.Create(t.Context(), s); err == nil {
				t.Errorf("%+v was accepted", s)
			}
		}
		if _, err := db.Lookup(t.Context(), "b"); err == nil {
			t.Error("a batch was found that is not there")
		}
		if all, err := db.Batches(t.Context()); err != nil || len(all) != 1 {
			t.Errorf("%d batches, %v", len(all), err)
		}
		if err := work(t, db, a, fake); err == nil || !strings.Contains(err.Error(), ErrPlanning.Error()) {
			t.Errorf("work before planning: %v", err)
		}
	})
}

// A plan that broke off goes on behind what is stored.
func TestPlanningContinues(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		const rows = 3 * groupRows
		db := open(t, dsn)
		b, err := db.Create(t.Context(), Spec{Name: "a", ChunkRows: 500})
		if err != nil {
			t.Fatal(err)
		}
		broke := fmt.Errorf("the file ended early")
		calls := 0
		_, err = db.Plan(t.Context(), b, func(yield func(Input, error) bool) {
			for r := range inputs(2*groupRows, "s") {
				if !yield(r, nil) {
					return
				}
			}
			yield(Input{}, broke)
		}, func(Planned) { calls++ })
		if err != broke || calls != 2 {
			t.Fatalf("broken plan: %v after %d groups", err, calls)
		}
		p, err := db.Plan(t.Context(), b, inputs(rows, "s"), nil)
		if err != nil || p.Rows != rows {
			t.Fatalf("continued: %+v, %v", p, err)
		}
		if again, err := db.Plan(t.Context(), b, inputs(rows, "s"), nil); err != nil || again != p {
			t.Fatalf("planned again: %+v, %v", again, err)
		}
		if err := work(t, db, b, fake); err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(rows, "s")))
	})
}

func TestRowsMustRise(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "queue.db"))
	for i, rows := range [][]int64{{1, 1}, {2, 1}, {-1}, {maxNumber + 1}} {
		b, err := db.Create(t.Context(), Spec{Name: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Plan(t.Context(), b, func(yield func(Input, error) bool) {
			for _, n := range rows {
				if !yield(Input{Row: n}, nil) {
					return
				}
			}
		}, nil); fault.ClassOf(err) != fault.Fatal || err == nil {
			t.Errorf("rows %v: %v", rows, err)
		}
	}
}

func TestBlobs(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		for _, size := range []int{0, 1, partBytes, 2*partBytes + 17} {
			data := strings.Repeat("x", size)
			want := fmt.Sprintf("%x", sha256.Sum256([]byte(data)))
			for range 2 {
				if sha, err := db.PutBlob(t.Context(), strings.NewReader(data)); err != nil || sha != want {
					t.Fatalf("blob of %d bytes: %s, %v", size, sha, err)
				}
			}
			r, err := db.Blob(t.Context(), want)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != data {
				t.Fatalf("blob of %d bytes: %d bytes, %v", size, len(got), err)
			}
		}
		if _, err := db.Blob(t.Context(), "0"); err == nil {
			t.Error("a blob was found that is not there")
		}
		if err := db.b.update(t.Context(), func(s session) error {
			_, err := s.exec(t.Context(), `UPDATE recpie_blob_part SET data = $1`, []byte("y"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		r, err := db.Blob(t.Context(), fmt.Sprintf("%x", sha256.Sum256([]byte("x"))))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(r); err == nil {
			t.Error("a damaged blob was read")
		}
	})
}
