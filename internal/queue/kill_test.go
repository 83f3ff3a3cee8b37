package queue

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recpie/internal/fault"
)

// Workers killed at whatever moment, and the database server with them: every row ends exactly once, and the export is that of an
// unbroken run. The test binary runs itself as the worker.

// childConfig is what a worker process of the kill tests does.
type childConfig struct {
	DSN      string
	Batch    string
	Rows     int
	Chunk    int
	Workers  int
	Delay    time.Duration // of the handler per chunk
	Plans    bool          // else it waits for another process to have planned
	Asked    string        // file that gets a line with the number of rows for each call of the handler
	Mutation string
}

// child is the main function of a worker process. It exits with 0 when the batch is done.
func child() int {
	var c childConfig
	err := json.Unmarshal([]byte(os.Getenv("QUEUE_TEST_CHILD")), &c)
	if err == nil {
		mutation = c.Mutation
		err = c.run(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c childConfig) run(ctx context.Context) error {
	var db *DB
	err := waitFor(func() (err error) { db, err = Open(ctx, c.DSN, Options{Connections: 12}); return err })
	if err != nil {
		return err
	}
	defer db.Close()
	asked, err := os.OpenFile(c.Asked, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer asked.Close()
	var b Batch
	if err := waitFor(func() (err error) { b, err = db.Create(ctx, Spec{Name: c.Batch, ChunkRows: c.Chunk}); return err }); err != nil {
		return err
	}
	if c.Plans {
		if err := waitFor(func() error { _, err := db.Plan(ctx, b, inputs(c.Rows, c.Batch), nil); return err }); err != nil {
			return err
		}
	}
	for {
		err := db.Work(ctx, WorkOptions{Batch: b.ID, Workers: c.Workers, Handler: handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			if _, err := fmt.Fprintln(asked, len(rows)); err != nil {
				return nil, err
			}
			time.Sleep(c.Delay)
			return fake(ctx, b, rows)
		})})
		if !errors.Is(err, ErrPlanning) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// waitFor repeats fn while the database is away.
func waitFor(fn func() error) error {
	for {
		err := fn()
		if err == nil || fault.ClassOf(err) != fault.Transient {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// trial is a series of kills on one database.
type trial struct {
	dsn       string
	processes int
	workers   int
	rows      int
	kills     int
	crash     bool // the database server is killed as well
	mutation  string
	limit     time.Duration // for a run that nobody kills
	seed      uint64
}

const (
	trialChunk = 16
	quickRows  = 100*trialChunk - 3
	longRows   = groupRows + 1200 // planned in two groups
)

// placeOf chooses a place to die at for the n-th process of a batch: while it is planned first, where answers are stored, and at its
// end, when the identity index is written. "" stands for a random moment.
func placeOf(rng *rand.Rand, n int) string {
	switch {
	case n == 0:
		return fmt.Sprint("queue-planned:", 1+rng.IntN(2))
	case n == 1:
		return "queue-dispatched:1"
	case n >= 10:
		return fmt.Sprint("queue-sealed:", 1+rng.IntN(2))
	case n%2 == 0:
		return ""
	}
	return fmt.Sprint([]string{"queue-before-commit", "queue-in-commit", "queue-after-commit"}[rng.IntN(3)], ":", 1+rng.IntN(20))
}

// report is what a trial saw.
type report struct{ kills, batches, resent int }

// run kills workers until it has killed enough, batch after batch, and checks every batch.
func (tr trial) run(t testing.TB) (r report, err error) {
	rng := rand.New(rand.NewPCG(tr.seed, 0xbeef))
	asked := filepath.Join(t.TempDir(), "asked")
	for ; r.kills < tr.kills; r.batches++ {
		c := childConfig{DSN: tr.dsn, Batch: fmt.Sprint("batch ", r.batches), Rows: tr.rows, Chunk: trialChunk, Workers: tr.workers, Asked: fmt.Sprint(asked, r.batches), Mutation: tr.mutation}
		before := r.kills
		if tr.processes == 1 {
			err = tr.alone(rng, c, &r)
		} else {
			err = tr.together(rng, c, &r)
		}
		if err != nil {
			return r, err
		}
		resent, err := tr.verify(t, c)
		if err != nil {
			return r, fmt.Errorf("batch %d after %d kills: %w", r.batches, r.kills-before, err)
		}
		// what a dead process had in flight is asked again, and what a fallen database server kept its workers from storing
		if window := (r.kills - before) * tr.workers * trialChunk * map[bool]int{false: 1, true: tr.processes}[tr.crash]; resent > window {
			return r, fmt.Errorf("batch %d: %d rows were asked again after %d kills, more than the %d in flight", r.batches, resent, r.kills-before, window)
		}
		r.resent += resent
	}
	return r, nil
}

// alone runs one process after the other, each killed at a place or a moment, until one ends by itself.
func (tr trial) alone(rng *rand.Rand, c childConfig, r *report) error {
	c.Plans = true
	for n := 0; ; n++ {
		place, after := "", tr.limit
		if r.kills < tr.kills && n < 12 {
			if place = placeOf(rng, n); place == "" {
				after = 150*time.Millisecond + time.Duration(rng.Int64N(int64(700*time.Millisecond)))
			}
			if c.Delay = 30 * time.Millisecond; n >= 10 {
				c.Delay = 0
			}
		} else {
			c.Delay = 0
		}
		ctx, cancel := context.WithTimeout(context.Background(), after)
		p := tr.start(ctx, c, place)
		_ = p.Wait()
		timeout := ctx.Err() != nil
		cancel()
		switch code := p.ProcessState.ExitCode(); {
		case code == 0:
			return nil
		case code > 0:
			return fmt.Errorf("a worker failed: %s", p.Stderr)
		case timeout && after == tr.limit:
			return fmt.Errorf("the batch does not end within %v", tr.limit)
		}
		r.kills++
	}
}

// together runs several processes at once and kills one after the other.
func (tr trial) together(rng *rand.Rand, c childConfig, r *report) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type exit struct {
		n    int
		code int
		text string
	}
	exits := make(chan exit, tr.processes)
	running := map[int]*exec.Cmd{}
	begin := func(n int) {
		c := c
		c.Plans = n == 0
		place := ""
		if rng.IntN(2) == 0 && r.kills < tr.kills {
			place = placeOf(rng, rng.IntN(11))
		}
		p := tr.start(ctx, c, place)
		running[n] = p
		go func() {
			_ = p.Wait()
			exits <- exit{n, p.ProcessState.ExitCode(), fmt.Sprint(p.Stderr)}
		}()
	}
	defer func() {
		cancel()
		for range running {
			<-exits
		}
	}()
	c.Delay = 40 * time.Millisecond
	for n := range tr.processes {
		begin(n)
	}
	var done atomic.Bool
	limit := time.NewTimer(tr.limit + time.Minute)
	defer limit.Stop()
	next := func() <-chan time.Time { return time.After(time.Duration(100+rng.Int64N(500)) * time.Millisecond) }
	strike := next()
	struck := 0
	for len(running) > 0 {
		select {
		case e := <-exits:
			delete(running, e.n)
			switch {
			case e.code == 0:
				done.Store(true)
			case e.code > 0:
				return fmt.Errorf("a worker failed: %s", e.text)
			default:
				if r.kills++; r.kills >= tr.kills {
					c.Delay = 0
				}
				begin(e.n)
			}
		case <-strike:
			if strike = next(); done.Load() || r.kills >= tr.kills {
				continue
			}
			struck++
			if tr.crash && struck%4 == 0 {
				if out, err := exec.Command(os.Getenv("RECPIE_TEST_POSTGRES_CRASH")).CombinedOutput(); err != nil {
					return fmt.Errorf("the server did not restart: %w: %s", err, out)
				}
				r.kills++
				continue
			}
			for _, p := range running {
				_ = p.Process.Kill()
				break
			}
		case <-limit.C:
			return fmt.Errorf("the batch does not end within %v", tr.limit)
		}
	}
	return nil
}

// start runs the test binary as a worker.
func (tr trial) start(ctx context.Context, c childConfig, place string) *exec.Cmd {
	config, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	p := exec.CommandContext(ctx, os.Args[0])
	p.Env = append(os.Environ(), "QUEUE_TEST_CHILD="+string(config), "RECPIE_FAILPOINT="+place)
	p.Stderr = &bytes.Buffer{}
	if err := p.Start(); err != nil {
		panic(err)
	}
	return p
}

// verify checks a batch that has ended and returns how many rows were asked more than once.
func (tr trial) verify(t testing.TB, c childConfig) (resent int, err error) {
	db, err := Open(t.Context(), tr.dsn, Options{})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	b, err := db.Lookup(t.Context(), c.Batch)
	if err != nil {
		return 0, err
	}
	n := 0
	for r, err := range db.Results(t.Context(), b) {
		if err != nil {
			return 0, err
		}
		want := answerAt(c.Batch, int64(n))
		if fmt.Sprint(r) != fmt.Sprint(want) {
			return 0, fmt.Errorf("row %d of the export is %+v, want %+v", n, r, want)
		}
		n++
	}
	s, err := db.Status(t.Context(), b)
	if err != nil {
		return 0, err
	}
	if n != c.Rows || s.State != Done || s.OK+s.Dead != int64(c.Rows) || s.Dead != int64(c.Rows/50) {
		return 0, fmt.Errorf("%d rows of %d were exported, the status is %+v", n, c.Rows, s)
	}
	var indexed int64
	lo, hi := span(b.ID)
	if err := one(t.Context(), db.b.reader(), `SELECT COUNT(*) FROM recpie_identity WHERE row_key BETWEEN $1 AND $2`, []any{lo, hi}, &indexed); err != nil || indexed != s.OK {
		return 0, fmt.Errorf("%d of %d identities are indexed: %w", indexed, s.OK, err)
	}
	text, err := os.ReadFile(c.Asked)
	if err != nil {
		return 0, err
	}
	total := 0
	for line := range strings.Lines(string(text)) {
		k, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return 0, err
		}
		total += k
	}
	return total - c.Rows, nil
}

// answerAt is the answer to a row of inputs.
func answerAt(salt string, n int64) (r Result) {
	return answer(inputAt(salt, n))
}

func long(t *testing.T) {
	t.Helper()
	if os.Getenv("RECPIE_CRASH") == "" {
		t.Skip("takes minutes: set RECPIE_CRASH=1")
	}
}

func (tr trial) check(t *testing.T) {
	t.Helper()
	r, err := tr.run(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills in %d batches of %d rows, %d rows asked again", r.kills, r.batches, tr.rows, r.resent)
}

func TestKilledWorkersLoseNothing(t *testing.T) {
	trial{dsn: filepath.Join(t.TempDir(), "queue.db"), processes: 1, workers: 3, rows: quickRows, kills: 15, limit: time.Minute, seed: 1}.check(t)
}

func TestManyKillsSQLite(t *testing.T) {
	long(t)
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			trial{dsn: filepath.Join(t.TempDir(), "queue.db"), processes: 1, workers: workers, rows: longRows, kills: 70, limit: time.Minute, seed: uint64(workers)}.check(t)
		})
	}
}

func TestManyKillsPostgres(t *testing.T) {
	long(t)
	for _, processes := range []int{1, 3} {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			trial{dsn: freshPostgres(t), processes: processes, workers: 3, rows: longRows, kills: 50, limit: time.Minute, seed: uint64(processes)}.check(t)
		})
	}
}

func TestPostgresItselfIsKilled(t *testing.T) {
	long(t)
	if os.Getenv("RECPIE_TEST_POSTGRES_CRASH") == "" {
		t.Skip("set RECPIE_TEST_POSTGRES_CRASH, or run scripts/peers/postgres.sh")
	}
	trial{dsn: freshPostgres(t), processes: 3, workers: 3, rows: longRows, kills: 20, crash: true, limit: 2 * time.Minute, seed: 9}.check(t)
}
