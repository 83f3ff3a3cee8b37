package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/internal/pgtest"
)

// twice makes chunks run again while they run: the first call for a chunk copies its job, as a wrong repair would, or sets it back,
// as a wrong rescue would, and waits for the second. It returns how many chunks were answered twice at a time, and an error when
// that left a trace. On PostgreSQL two processes are at work.
func twice(t testing.TB, dsn string, rows int) (doubles int64, err error) {
	const workers = 12
	var met, stored atomic.Int64
	var mu sync.Mutex
	second := map[int64]chan struct{}{} // by first row of the chunk: closed by the second call
	force := make(chan bool, workers/3) // first calls must leave room for the second ones
	handler := func(db *DB) handlerFunc {
		return func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			n := rows[0].Row
			mu.Lock()
			other, again := second[n]
			if !again {
				second[n] = make(chan struct{})
				other = second[n]
			} else if other != nil {
				close(other)
				second[n] = nil
			}
			mu.Unlock()
			if again {
				return fake(ctx, b, rows)
			}
			force <- true
			defer func() { <-force }()
			err := db.b.update(ctx, func(s session) error {
				q := `INSERT INTO river_job(args, kind, max_attempts, queue, priority, state) SELECT args, kind, max_attempts, queue, 1, 'available' FROM river_job WHERE `
				if strings.HasPrefix(dsn, "postgres") && n%32 == 0 {
					q = `UPDATE river_job SET state = 'available', priority = 1 WHERE `
				}
				_, err := s.exec(ctx, q+db.b.words().chunk+` = $1 AND state = 'running'`, keyOf(b.ID, n/16))
				return err
			})
			if err != nil {
				return nil, err
			}
			select {
			case <-other:
				met.Add(1)
			case <-time.After(time.Second):
			}
			return fake(ctx, b, rows)
		}
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Minute, errors.New("the batch does not end"))
	defer cancel()
	var all errgroup.Group
	var b Batch
	var db *DB
	for range map[bool]int{false: 1, true: 2}[strings.HasPrefix(dsn, "postgres")] {
		if db, err = Open(t.Context(), dsn, Options{Connections: workers + 4}); err != nil {
			return 0, err
		}
		defer db.Close()
		b = plan(t, db, Spec{Name: "twice", ChunkRows: 16, Priority: 2}, rows, "s")
		db, b := db, b
		all.Go(func() error {
			return db.Work(ctx, WorkOptions{Batch: b.ID, Workers: workers, Grace: 2 * time.Second, Handler: handler(db),
				Stored: func(_ Batch, r []Result) { stored.Add(int64(len(r))) }})
		})
	}
	if err := all.Wait(); err != nil {
		return 0, err
	}
	same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(rows, "s")))
	s, err := db.Status(t.Context(), b)
	if err != nil {
		return 0, err
	}
	if s.OK+s.Dead != int64(rows) || stored.Load() != int64(rows) {
		return 0, fmt.Errorf("%d rows were counted and %d reported, want %d", s.OK+s.Dead, stored.Load(), rows)
	}
	return met.Load(), nil
}

func TestJobsThatRunTwiceAreStoredOnce(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		doubles, err := twice(t, dsn, 1600)
		if err != nil {
			t.Fatal(err)
		}
		if doubles < 60 {
			t.Fatalf("only %d of 100 chunks ran twice: the test proved nothing", doubles)
		}
		t.Logf("%d of 100 chunks ran twice at a time", doubles)
	})
}

// Each safety device, removed, is missed.
func TestSuiteNoticesWhatIsMissing(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		t.Run(mutateFence, func(t *testing.T) {
			mutation = mutateFence
			defer func() { mutation = "" }()
			if _, err := twice(t, dsn, 1600); err == nil {
				t.Error("without the fence nothing was noticed")
			} else {
				t.Log(err)
			}
		})
		t.Run(mutateTransaction, func(t *testing.T) {
			if err := dieOnce(t, dsn, mutateTransaction, mutateTransaction, "queue-in-commit:3", 0); err == nil {
				t.Error("without the transaction nothing was noticed")
			} else {
				t.Log(err)
			}
		})
		t.Run(mutateTakeover, func(t *testing.T) {
			if err := dieOnce(t, dsn, mutateTakeover, mutateTakeover, "queue-before-commit:3", 8*time.Second); err == nil {
				t.Error("without taking over nothing was noticed")
			} else {
				t.Log(err)
			}
		})
		t.Run("none", func(t *testing.T) { // what the cases above do is noticed for no other reason
			for _, place := range []string{"queue-in-commit:3", "queue-before-commit:3"} {
				if err := dieOnce(t, dsn, "", place, place, 0); err != nil {
					t.Errorf("with everything in place: %v", err)
				}
			}
		})
	})
}

// dieOnce runs a small batch that dies at a place, and again to its end, or until a time is up that is not 0.
func dieOnce(t testing.TB, dsn, mutation, name, place string, limit time.Duration) error {
	c := childConfig{DSN: dsn, Batch: name, Rows: 160, Chunk: trialChunk, Workers: 1, Plans: true, Asked: filepath.Join(t.TempDir(), "asked"), Mutation: mutation}
	p := startChild(t.Context(), c, place)
	_ = p.Wait()
	if p.ProcessState.ExitCode() != -1 {
		t.Fatalf("was not killed at %s: %s", place, p.Stderr)
	}
	ctx := t.Context()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	p = startChild(ctx, c, "")
	if err := p.Wait(); err != nil {
		return fmt.Errorf("the batch does not end: %w %s", err, p.Stderr)
	}
	return verify(t, c)
}

// A worker that dies with chunks in its hands is replaced within five seconds by one that lives.
func TestDeadWorkersChunksAreTakenOver(t *testing.T) {
	dsn := pgtest.Fresh(t)
	c := childConfig{DSN: dsn, Batch: "b", Rows: 320, Chunk: trialChunk, Workers: 4, Plans: true, Delay: time.Hour, Asked: filepath.Join(t.TempDir(), "asked")}
	p := startChild(t.Context(), c, "")
	db := open(t, dsn)
	running := func() (n int) {
		if err := one(t.Context(), db.b.reader(), `SELECT COUNT(*) FROM river_job WHERE state = 'running'`, nil, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for begin := time.Now(); running() < 4; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("the worker does not begin")
		}
	}
	b, err := db.Lookup(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- db.Work(ctx, WorkOptions{Batch: b.ID, Workers: 4, Handler: fake}) }()
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) { // all but what the other holds
		s, err := db.Status(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if s.Left() == 4*trialChunk {
			break
		}
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("%d rows are left", s.Left())
		}
	}
	time.Sleep(2 * sweepEvery)
	if n := running(); n != 4 {
		t.Fatalf("%d jobs run: a living worker was robbed", n)
	}
	killed := time.Now()
	_ = p.Process.Kill()
	_ = p.Wait()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	took := time.Since(killed)
	t.Logf("done %v after the kill", took.Round(time.Millisecond))
	if took > 5*time.Second {
		t.Errorf("taking over took %v", took)
	}
	if err := verify(t, c); err != nil {
		t.Error(err)
	}
}

// A process that loses its lock stops its chunks, comes back under another name and ends the batch.
func TestLostConnectionIsSurvived(t *testing.T) {
	db := open(t, pgtest.Fresh(t))
	b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 1600, "s")
	var once sync.Once
	err := work(t, db, b, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
		once.Do(func() {
			_ = db.b.update(ctx, func(s session) error {
				_, err := s.exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()`)
				return err
			})
			<-ctx.Done()
		})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return fake(ctx, b, rows)
	}))
	if err != nil {
		t.Fatal(err)
	}
	same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(1600, "s")))
}

func TestSecondProcessOnAFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.db")
	db := open(t, path)
	b := plan(t, db, Spec{Name: "b"}, 100, "s")
	refused := fmt.Sprintf("in use by process %d", os.Getpid())
	if _, err := Open(t.Context(), path, Options{}); err == nil || !strings.Contains(err.Error(), refused) {
		t.Fatalf("opened twice: %v", err)
	}
	p := startChild(t.Context(), childConfig{DSN: path, Batch: "b", Rows: 100, Chunk: 16, Workers: 1, Asked: filepath.Join(t.TempDir(), "asked")}, "")
	if err := p.Wait(); err == nil || !strings.Contains(fmt.Sprint(p.Stderr), refused) {
		t.Fatalf("second process: %v, %s", err, p.Stderr)
	}
	look, err := Open(t.Context(), path, Options{Observe: true})
	if err != nil {
		t.Fatal(err)
	}
	defer look.Close()
	if err := look.Pause(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := look.Work(t.Context(), WorkOptions{Batch: b.ID, Handler: fake}); err == nil {
		t.Error("an observer may work")
	}
	if err := work(t, db, b, fake); !errors.Is(err, ErrPaused) {
		t.Errorf("work on a batch that an observer has paused: %v", err)
	}
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "none.db"), Options{Observe: true}); err == nil {
		t.Error("an observer made a file")
	}
	if _, err := Open(t.Context(), "mysql://x", Options{}); err == nil {
		t.Error("another database was accepted")
	}
}
