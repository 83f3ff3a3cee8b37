package queue

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"recpie/internal/fault"
)

func TestPausedBatchGoesOn(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 800, "s")
		var calls atomic.Int64
		err := work(t, db, b, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			if calls.Add(1) == 5 {
				if err := db.Pause(ctx, b); err != nil {
					return nil, err
				}
			}
			time.Sleep(20 * time.Millisecond)
			return fake(ctx, b, rows)
		}))
		if !errors.Is(err, ErrPaused) {
			t.Fatalf("paused: %v", err)
		}
		s, err := db.Status(t.Context(), b)
		if err != nil || s.State != Paused || s.OK+s.Dead != 16*calls.Load() {
			t.Fatalf("%+v after %d chunks, %v: chunks in flight were to be finished", s, calls.Load(), err)
		}
		if calls.Load() > 45 {
			t.Error("the pause came after the end: the test proved nothing")
		}
		if err := db.Resume(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := work(t, db, b, fake); err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(800, "s")))
		for name, change := range map[string]func(context.Context, Batch) error{"pause": db.Pause, "resume": db.Resume, "cancel": db.Cancel} {
			if err := change(t.Context(), b); err == nil {
				t.Errorf("%s of a batch that is done", name)
			}
		}
	})
}

func TestCancelledBatchEnds(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 800, "s")
		err := work(t, db, b, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			time.Sleep(20 * time.Millisecond)
			return nil, errors.Join(db.Cancel(ctx, b), fault.Newf(fault.Endpoint, "test", "no"))
		}))
		if !errors.Is(err, ErrCancelled) {
			t.Fatalf("cancelled: %v", err)
		}
		if err := db.Resume(t.Context(), b); err == nil {
			t.Error("a cancelled batch was resumed")
		}
		for range db.Follow(t.Context(), b) {
			t.Error("there are results")
		}
		var left int
		if err := one(t.Context(), db.b.reader(), `SELECT COUNT(*) FROM river_job WHERE state <> 'cancelled'`, nil, &left); err != nil || left > 3 {
			t.Errorf("%d jobs are left, more than the workers had, %v", left, err)
		}
	})
}

func TestLimitsStopABatch(t *testing.T) {
	refuse := handlerFunc(func(_ context.Context, _ Batch, rows []Input) ([]Result, error) {
		out := make([]Result, len(rows))
		for i, r := range rows {
			if out[i] = answer(r); i%2 == 0 {
				out[i] = Result{Row: r.Row, Reason: "no"}
			}
		}
		return out, nil
	})
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		for name, c := range map[string]struct {
			rows  int
			limit func(*Spec)
			h     Handler
			want  string
		}{
			"error rate":      {400, func(s *Spec) { s.MaxErrorRate = 0.3 }, refuse, "more than the allowed share of 0.3"},
			"error rate, few": {10, func(s *Spec) { s.MaxErrorRate = 0.3 }, refuse, "5 of 10 rows are dead letters"},
			"deadline":        {400, func(s *Spec) { s.Deadline = time.Now().Add(400 * time.Millisecond) }, handlerFunc(hang), "has passed"},
			"fatal error":     {400, func(*Spec) {}, handlerFunc(func(context.Context, Batch, []Input) ([]Result, error) { return nil, errors.New("bad key") }), "bad key"},
			"panic":           {400, func(*Spec) {}, handlerFunc(func(context.Context, Batch, []Input) ([]Result, error) { panic("ouch") }), "panic: ouch"},
			"missing answers": {400, func(*Spec) {}, handlerFunc(func(context.Context, Batch, []Input) ([]Result, error) { return nil, nil }), "answered 0 of 16 rows"},
			"empty answer": {400, func(*Spec) {}, handlerFunc(func(_ context.Context, _ Batch, r []Input) ([]Result, error) {
				o := make([]Result, len(r))
				o[0].Row = r[0].Row
				return o, nil
			}), "must have a text or a reason"},
			"answers shuffled": {16, func(*Spec) {}, handlerFunc(func(ctx context.Context, b Batch, r []Input) ([]Result, error) {
				o, err := fake(ctx, b, r)
				o[0], o[1] = o[1], o[0]
				return o, err
			}), "answered row 1 in place of row 0"},
		} {
			t.Run(name, func(t *testing.T) {
				s := Spec{Name: name, ChunkRows: min(16, c.rows)}
				c.limit(&s)
				b := plan(t, db, s, c.rows, name)
				err := work(t, db, b, c.h)
				if err == nil || fault.ClassOf(err) != fault.Fatal || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want %q", err, c.want)
				}
				if s, err := db.Status(t.Context(), b); err != nil || s.State != Failed || !strings.Contains(s.Reason, c.want) {
					t.Errorf("status %+v, %v", s, err)
				}
				if err := work(t, db, b, fake); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("work on a failed batch: %v", err)
				}
			})
		}
	})
}

func hang(ctx context.Context, _ Batch, _ []Input) ([]Result, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// Failures of endpoints put a chunk back; a batch whose cause of failure is mended goes on.
func TestChunksAreTriedAgain(t *testing.T) {
	db := open(t, t.TempDir()+"/queue.db")
	b := plan(t, db, Spec{Name: "b", ChunkRows: 16, MaxErrorRate: 0.5}, 64, "s")
	var calls atomic.Int64
	err := work(t, db, b, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
		switch calls.Add(1) {
		case 1:
			return nil, fault.Newf(fault.Endpoint, "test", "down")
		case 2:
			return nil, fault.Newf(fault.Transient, "test", "busy")
		}
		return fake(ctx, b, rows)
	}))
	if err != nil || calls.Load() != 6 {
		t.Fatalf("%d calls, %v", calls.Load(), err)
	}
	same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(64, "s")))
}

func TestDeadLettersAreRetried(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 1000, "s")
		if err := work(t, db, b, fake); err != nil {
			t.Fatal(err)
		}
		n, err := db.RetryDead(t.Context(), b)
		if err != nil || n != 20 {
			t.Fatalf("%d dead letters, %v", n, err)
		}
		if s, err := db.Status(t.Context(), b); err != nil || s.State != Running || s.Dead != 0 || s.Left() != 20 || s.Rows != 1000 {
			t.Fatalf("status %+v, %v", s, err)
		}
		err = work(t, db, b, handlerFunc(func(_ context.Context, _ Batch, rows []Input) ([]Result, error) {
			out := make([]Result, len(rows))
			for i, r := range rows {
				out[i] = Result{Row: r.Row, Text: "mended"}
			}
			return out, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		want := expected(t, inputs(1000, "s"))
		for i := 49; i < 1000; i += 50 {
			r := answerAt("s", int64(i))
			want = strings.Replace(want, fmt.Sprintf("%d %q %q %q %d %x\n", i, "", "", r.Reason, 0, []byte(nil)), fmt.Sprintf("%d %q %q %q %d %x\n", i, "mended", "", "", 0, []byte(nil)), 1)
		}
		same(t, export(t, db.Results(t.Context(), b)), want)
		if s, err := db.Status(t.Context(), b); err != nil || s.State != Done || s.OK != 1000 || s.Rows != 1000 {
			t.Errorf("status %+v, %v", s, err)
		}
	})
}

// Purged rows are gone from every batch, and their identities are asked again.
func TestPurge(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		done := plan(t, db, Spec{Name: "done", ChunkRows: 16}, 500, "s")
		if err := work(t, db, done, fake); err != nil {
			t.Fatal(err)
		}
		copied := plan(t, db, Spec{Name: "copied", ChunkRows: 16}, 500, "s")
		planned := plan(t, db, Spec{Name: "planned", ChunkRows: 1}, 100, "other")
		match := func(_ Batch, r Input) bool { return r.Row%10 == 3 || r.Row%50 == 49 }
		n, err := db.Purge(t.Context(), match)
		if err != nil || n != 60+60+12 {
			t.Fatalf("%d rows, %v", n, err)
		}
		if again, err := db.Purge(t.Context(), match); err != nil || again != 0 {
			t.Fatalf("again: %d rows, %v", again, err)
		}
		for _, b := range []Batch{copied, planned} {
			if err := work(t, db, b, fake); err != nil {
				t.Fatal(err)
			}
		}
		for b, salt := range map[string]string{"done": "s", "copied": "s", "planned": "other"} {
			b, err := db.Lookup(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			s, err := db.Status(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			want := expected(t, func(yield func(Input, error) bool) {
				for r := range inputs(int(s.Rows)+60, salt) {
					if !match(b, r) && r.Row < map[string]int64{"done": 500, "copied": 500, "planned": 100}[b.Name] && !yield(r, nil) {
						return
					}
				}
			})
			same(t, export(t, db.Results(t.Context(), b)), want)
			if s.Left() != 0 || s.OK != s.Rows {
				t.Errorf("status %+v", s)
			}
		}
		again, err := db.Create(t.Context(), Spec{Name: "again"})
		if err != nil {
			t.Fatal(err)
		}
		if p, err := db.Plan(t.Context(), again, inputs(500, "s"), nil); err != nil || p.Reused != 440 {
			t.Errorf("%+v, %v: purged identities must not be reused", p, err)
		}
	})
}

// A row that is purged while its chunk is being answered is not stored.
func TestPurgeOfAChunkInFlight(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 32, "s")
		match := func(_ Batch, r Input) bool { return r.Row == 3 }
		var once sync.Once
		err := work(t, db, b, handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			var n int
			var err error
			if rows[0].Row == 0 {
				once.Do(func() { n, err = db.Purge(ctx, match) })
			}
			if err != nil || n > 1 {
				return nil, fmt.Errorf("%d rows were purged, %w", n, err)
			}
			return fake(ctx, b, rows)
		}))
		if err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), b)), expected(t, func(yield func(Input, error) bool) {
			for r := range inputs(32, "s") {
				if !match(b, r) && !yield(r, nil) {
					return
				}
			}
		}))
	})
}

// Results come as chunks complete, each once.
func TestFollow(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 800, "s")
		ended := make(chan error, 1)
		go func() { ended <- work(t, db, b, fake) }()
		got := make([]Result, 800)
		n := 0
		for r, err := range db.Follow(t.Context(), b) {
			if err != nil {
				t.Fatal(err)
			}
			got[r.Row] = r
			n++
		}
		if err := <-ended; err != nil || n != 800 {
			t.Fatalf("%d rows, %v", n, err)
		}
		same(t, export(t, func(yield func(Result, error) bool) {
			for _, r := range got {
				if !yield(r, nil) {
					return
				}
			}
		}), expected(t, inputs(800, "s")))
	})
}

// Jobs that somebody deleted or cancelled in the web interface are made again.
func TestLostJobsAreMadeAgain(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 800, "s")
		ctx, cancel := context.WithCancel(t.Context())
		_ = db.Work(ctx, WorkOptions{Batch: b.ID, Workers: 3, Grace: time.Second, Handler: handlerFunc(func(ctx context.Context, _ Batch, _ []Input) ([]Result, error) {
			cancel()
			return hang(ctx, b, nil)
		})})
		if err := db.b.update(t.Context(), func(s session) error {
			_, err := s.exec(t.Context(), `DELETE FROM river_job WHERE id % 2 = 0`)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := work(t, db, b, fake); err != nil {
			t.Fatal(err)
		}
		same(t, export(t, db.Results(t.Context(), b)), expected(t, inputs(800, "s")))
	})
}

// A process without a batch of its own takes the best one that it can run.
func TestWorkerTakesTheBestBatch(t *testing.T) {
	t.Setenv("QUEUE_TEST_KEY", "x")
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		plan(t, db, Spec{Name: "late", Priority: 2, ChunkRows: 16}, 160, "a")
		alien := plan(t, db, Spec{Name: "alien", Env: []string{"QUEUE_TEST_NOWHERE"}, ChunkRows: 16}, 160, "b")
		plan(t, db, Spec{Name: "first", Priority: 1, Env: []string{"QUEUE_TEST_KEY"}, ChunkRows: 16}, 160, "c")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var order []string
		var mu sync.Mutex
		rows := 0
		err := db.Work(ctx, WorkOptions{Workers: 2, Handler: fake, Stored: func(b Batch, r []Result) {
			mu.Lock()
			defer mu.Unlock()
			if len(order) == 0 || order[len(order)-1] != b.Name {
				order = append(order, b.Name)
			}
			if rows += len(r); rows == 320 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || fmt.Sprint(order) != "[first late]" {
			t.Errorf("order %v, %v", order, err)
		}
		if err := work(t, db, alien, fake); err == nil || !strings.Contains(err.Error(), "QUEUE_TEST_NOWHERE") {
			t.Errorf("a missing variable: %v", err)
		}
	})
}

// A batch that comes first is taken up at once, in the middle of another.
func TestWorkerLeavesABatchForABetterOne(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		plan(t, db, Spec{Name: "late", Priority: 3, ChunkRows: 1}, 400, "a")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		var switched atomic.Bool
		var order []string
		var mu sync.Mutex
		var once sync.Once
		rows := 0
		err := db.Work(ctx, WorkOptions{Workers: 2, Handler: handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			once.Do(func() { plan(t, db, Spec{Name: "first", Priority: 1, ChunkRows: 16}, 160, "b") })
			if b.Name == "first" {
				switched.Store(true)
			} else if !switched.Load() { // more than the two seconds between two looks, before all is asked
				time.Sleep(20 * time.Millisecond)
			}
			return fake(ctx, b, rows)
		}), Stored: func(b Batch, r []Result) {
			mu.Lock()
			defer mu.Unlock()
			if len(order) == 0 || order[len(order)-1] != b.Name {
				order = append(order, b.Name)
			}
			if rows += len(r); rows == 560 {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || fmt.Sprint(order) != "[late first late]" {
			t.Errorf("order %v, %v", order, err)
		}
	})
}

func TestWebInterface(t *testing.T) {
	backends(t, func(t *testing.T, dsn string) {
		db := open(t, dsn)
		b := plan(t, db, Spec{Name: "b", ChunkRows: 16}, 160, "s")
		if err := work(t, db, b, fake); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h, err := db.UI(ctx, "/ui")
		if err != nil {
			t.Fatal(err)
		}
		for path, want := range map[string]string{"/ui/": "<html", "/ui/api/jobs?state=completed": jobKind} {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
			if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
				t.Errorf("%s: %d %.200s", path, w.Code, w.Body)
			}
		}
	})
}
