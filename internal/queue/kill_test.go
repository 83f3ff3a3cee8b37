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
	"sync"
	"syscall"
	"testing"
	"time"

	"recpie/internal/fault"
	"recpie/internal/pgtest"
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
	Asked    string        // file that gets a line for each call of the handler: life, first row, number of rows; and for each group planned
	Life     int           // number of this process
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
		if err := waitFor(func() error {
			_, err := db.Plan(ctx, b, inputs(c.Rows, c.Batch), func(p Planned) { fmt.Fprintln(asked, "planned", p.Rows) })
			return err
		}); err != nil {
			return err
		}
	}
	for {
		err := db.Work(ctx, WorkOptions{Batch: b.ID, Workers: c.Workers, Handler: handlerFunc(func(ctx context.Context, b Batch, rows []Input) ([]Result, error) {
			if _, err := fmt.Fprintln(asked, c.Life, rows[0].Row, len(rows)); err != nil {
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
type report struct {
	kills, falls, batches, resent int
	worst                         int           // rows asked again because of one process
	rest                          time.Duration // longest time in which nothing went on and nobody was killed
}

// course is one batch of a trial.
type course struct {
	childConfig
	lives   int          // processes so far
	killed  map[int]bool // of these
	crashes int          // of the database server

	mu      sync.Mutex
	running map[int]*exec.Cmd // by life
	kills   int
	stall   error
}

// patient is how long nothing may go on in a batch although nobody is killed. It is no measure of speed: what stands still for this
// long on the slowest machine stands still for ever.
const patient = time.Minute

// watch ends the processes of a batch in which nothing goes on: no row asked for, no group planned, nobody killed. Each leaves its
// stacks behind. stop returns the error, with what the database says, and tells the longest time of rest.
func (c *course) watch(t testing.TB) (stop func() (time.Duration, error)) {
	quit, ended := make(chan struct{}), make(chan struct{})
	var longest time.Duration
	go func() {
		defer close(ended)
		look := time.NewTicker(50 * time.Millisecond)
		defer look.Stop()
		var size int64
		kills, since := 0, time.Now()
		for {
			select {
			case <-quit:
				return
			case <-look.C:
			}
			s, err := os.Stat(c.Asked)
			c.mu.Lock()
			if err == nil && s.Size() != size || c.kills != kills {
				if err == nil {
					size = s.Size()
				}
				kills, since = c.kills, time.Now()
			}
			longest = max(longest, time.Since(since))
			stalled := time.Since(since) > patient
			c.mu.Unlock()
			if !stalled {
				continue
			}
			what := states(t, c.DSN)
			c.mu.Lock()
			c.stall = fmt.Errorf("nothing went on for %v: %s", patient, what)
			for _, p := range c.running {
				_ = p.Process.Signal(syscall.SIGQUIT)
			}
			c.mu.Unlock()
			return
		}
	}()
	return func() (time.Duration, error) {
		close(quit)
		<-ended
		return longest, c.stall
	}
}

// states tells what is in a database of batches.
func states(t testing.TB, dsn string) string {
	db, err := Open(t.Context(), dsn, Options{Observe: true})
	if err != nil {
		return err.Error()
	}
	defer db.Close()
	var out strings.Builder
	for _, q := range []string{
		`SELECT name || ' ' || state || ' ' || reason || ' planned ' || planned_through || ' chunks ' || next_chunk || ' sealed ' || sealed FROM recpie_batch ORDER BY id DESC LIMIT 1`,
		`SELECT 'chunks in state ' || state || ': ' || COUNT(*) FROM recpie_chunk GROUP BY state`,
		`SELECT queue || ' ' || state || ' ' || ` + db.b.words().lastBy + ` || ' ' || MIN(scheduled_at) || ': ' || COUNT(*) FROM river_job WHERE state <> 'completed' GROUP BY queue, state, ` + db.b.words().lastBy,
	} {
		err := each(t.Context(), db.b.reader(), q, nil, func(c cursor) error {
			var line *string
			err := c.Scan(&line)
			if line != nil {
				fmt.Fprintln(&out, *line)
			}
			return err
		})
		if err != nil {
			fmt.Fprintln(&out, err)
		}
	}
	return out.String()
}

// start runs the test binary as a worker until it ends or ctx does.
func (c *course) start(ctx context.Context, place string) *exec.Cmd {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lives++
	c.Life = c.lives
	p := startChild(ctx, c.childConfig, place)
	c.running[c.Life] = p
	return p
}

// ended notes how a process ended: by itself, killed, or with an error.
func (c *course) ended(life int, p *exec.Cmd) (done bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, life)
	switch code := p.ProcessState.ExitCode(); {
	case c.stall != nil:
		return false, fmt.Errorf("%w\n%s", c.stall, p.Stderr)
	case code > 0:
		return false, fmt.Errorf("a worker failed: %s", p.Stderr)
	case code == 0:
		return true, nil
	}
	c.killed[life] = true
	c.kills++
	return false, nil
}

// window is how many rows a process has in flight.
func (tr trial) window() int { return tr.workers * trialChunk }

// run kills workers until it has killed enough, batch after batch, and checks every batch.
func (tr trial) run(t testing.TB) (r report, err error) {
	rng := rand.New(rand.NewPCG(tr.seed, 0xbeef))
	asked := filepath.Join(t.TempDir(), "asked")
	db, err := Open(t.Context(), tr.dsn, Options{}) // makes the tables
	if err == nil {
		err = db.Close()
	}
	for ; err == nil && r.kills < tr.kills; r.batches++ {
		c := &course{childConfig: childConfig{DSN: tr.dsn, Batch: fmt.Sprint("batch ", r.batches), Rows: tr.rows, Chunk: trialChunk, Workers: tr.workers,
			Asked: fmt.Sprint(asked, r.batches), Mutation: tr.mutation}, killed: map[int]bool{}, running: map[int]*exec.Cmd{}}
		stop := c.watch(t)
		if tr.processes == 1 {
			err = tr.alone(rng, c, min(tr.kills-r.kills, 12))
		} else {
			err = tr.together(rng, c, min(tr.kills-r.kills, 12))
		}
		rest, stall := stop()
		r.kills, r.falls, r.rest = r.kills+c.kills, r.falls+c.crashes, max(r.rest, rest)
		if err == nil {
			err = stall
		}
		if err == nil {
			err = verify(t, c.childConfig)
		}
		if err == nil {
			err = tr.resent(c, &r)
		}
		if err != nil {
			err = fmt.Errorf("batch %d after %d kills: %w", r.batches, c.kills, err)
		}
	}
	return r, err
}

// resent holds what was asked more than once to what the dead had in flight: whoever asked for a chunk last before it was asked
// again must have been killed, or have lost the database, and never with more than its window.
func (tr trial) resent(c *course, r *report) error {
	text, err := os.ReadFile(c.Asked)
	if err != nil {
		return err
	}
	last, blame := map[int]int{}, map[int]int{}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "planned") {
			continue
		}
		var life, first, n int
		if _, err := fmt.Sscan(line, &life, &first, &n); err != nil {
			return fmt.Errorf("%q: %w", line, err)
		}
		if before, again := last[first]; again {
			blame[before] += n
		} else {
			rows += n
		}
		last[first] = life
	}
	if rows != c.Rows {
		return fmt.Errorf("%d rows of %d were asked for", rows, c.Rows)
	}
	for life, n := range blame {
		most := c.crashes
		if c.killed[life] {
			most++
		}
		if n > most*tr.window() {
			return fmt.Errorf("%d rows of process %d were asked again; killed: %v, falls of the server: %d, in flight: at most %d", n, life, c.killed[life], c.crashes, tr.window())
		}
		r.resent += n
		r.worst = max(r.worst, n)
	}
	return nil
}

// alone runs one process after the other, each killed at a place or a moment, until one ends by itself.
func (tr trial) alone(rng *rand.Rand, c *course, kills int) error {
	c.Plans = true
	for n := 0; ; n++ {
		place, strike := "", false
		c.Delay = 0
		if c.kills < kills {
			place = placeOf(rng, n)
			strike = place == ""
			if n < 10 {
				c.Delay = 30 * time.Millisecond
			}
		}
		p := c.start(context.Background(), place)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = p.Wait()
		}()
		if strike {
			for begun := false; !begun; begun = c.works(c.lives) {
				select {
				case <-ended:
					begun = true
				case <-time.After(10 * time.Millisecond):
				}
			}
			select {
			case <-ended:
			case <-moment(rng):
				_ = p.Process.Kill()
			}
		}
		<-ended
		if done, err := c.ended(c.lives, p); done || err != nil {
			return err
		}
	}
}

// moment comes soon.
func moment(rng *rand.Rand) <-chan time.Time {
	return time.After(time.Duration(rng.Int64N(int64(400 * time.Millisecond))))
}

// works tells whether a process has asked for a chunk yet: killed earlier, it proves little.
func (c *course) works(life int) bool {
	text, err := os.ReadFile(c.Asked)
	return err == nil && bytes.Contains(append([]byte("\n"), text...), fmt.Appendf(nil, "\n%d ", life))
}

// together runs several processes at once and kills those at work, one after the other.
func (tr trial) together(rng *rand.Rand, c *course, kills int) error {
	ctx, cancel := context.WithCancel(context.Background())
	type child struct {
		n, life int
		p       *exec.Cmd
	}
	exits := make(chan child, tr.processes)
	alive := map[int]child{}
	defer func() {
		cancel()
		for range alive {
			<-exits
		}
	}()
	c.Delay = 40 * time.Millisecond
	begin := func(n int) {
		c.Plans = n == 0
		place := ""
		if rng.IntN(2) == 0 && c.kills < kills {
			place = placeOf(rng, rng.IntN(11))
		}
		started := c.start(ctx, place)
		p := child{n, c.lives, started}
		alive[n] = p
		go func() {
			_ = p.p.Wait()
			exits <- p
		}()
	}
	for n := range tr.processes {
		begin(n)
	}
	strike := moment(rng)
	for struck := 0; len(alive) > 0; {
		select {
		case e := <-exits:
			delete(alive, e.n)
			switch done, err := c.ended(e.life, e.p); {
			case err != nil:
				return err
			case done:
				strike = nil
			default:
				if c.kills >= kills {
					c.Delay, strike = 0, nil
				}
				begin(e.n)
			}
		case <-strike:
			strike = moment(rng)
			n := rng.IntN(tr.processes)
			if victim, ok := alive[n]; !ok || !c.works(victim.life) {
				continue
			}
			if struck++; tr.crash && struck%3 == 0 {
				c.crashes++
				if out, err := exec.Command(os.Getenv("RECPIE_TEST_POSTGRES_CRASH")).CombinedOutput(); err != nil {
					return fmt.Errorf("the server did not restart: %w: %s", err, out)
				}
				continue
			}
			_ = alive[n].p.Process.Kill()
		}
	}
	return nil
}

// startChild runs the test binary as a worker.
func startChild(ctx context.Context, c childConfig, place string) *exec.Cmd {
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

// verify checks a batch that has ended: its export is byte for byte that of an unbroken run, its counts are those of its rows, and
// the index holds every identity that has a result.
func verify(t testing.TB, c childConfig) error {
	db, err := Open(t.Context(), c.DSN, Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	b, err := db.Lookup(t.Context(), c.Batch)
	if err != nil {
		return err
	}
	got, want := export(t, db.Results(t.Context(), b)), expected(t, inputs(c.Rows, c.Batch))
	if got != want {
		g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
		for i := range min(len(g), len(w)) {
			if g[i] != w[i] {
				return fmt.Errorf("line %d of %d of the export is %s, want %s", i+1, len(g)-1, g[i], w[i])
			}
		}
		return fmt.Errorf("the export has %d lines, want %d", len(g)-1, len(w)-1)
	}
	s, err := db.Status(t.Context(), b)
	if err != nil {
		return err
	}
	if s.State != Done || s.OK+s.Dead != int64(c.Rows) || s.Dead != int64(c.Rows/50) {
		return fmt.Errorf("of %d rows the status says %+v", c.Rows, s)
	}
	var indexed int64
	lo, hi := span(b.ID)
	if err := one(t.Context(), db.b.reader(), `SELECT COUNT(*) FROM recpie_identity WHERE row_key BETWEEN $1 AND $2`, []any{lo, hi}, &indexed); err != nil || indexed != s.OK {
		return fmt.Errorf("%d of %d identities are indexed: %w", indexed, s.OK, err)
	}
	return nil
}

// answerAt is the answer to a row of inputs.
func answerAt(salt string, n int64) (r Result) {
	return answer(inputAt(salt, n))
}

// long returns by how much RECPIE_CRASH multiplies the kills.
func long(t *testing.T) int {
	t.Helper()
	times := os.Getenv("RECPIE_CRASH")
	if times == "" {
		t.Skip("takes minutes: set RECPIE_CRASH=1, or to a larger number for so many times the kills")
	}
	n, err := strconv.Atoi(times)
	if err != nil || n < 1 {
		t.Fatalf("RECPIE_CRASH is %q, want a number", times)
	}
	return n
}

func (tr trial) check(t *testing.T) {
	t.Helper()
	r, err := tr.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if r.resent == 0 {
		t.Error("nothing was asked again: the kills hit nobody at work and proved nothing")
	}
	t.Logf("%d kills and %d falls of the server in %d batches of %d rows; %d rows were asked again, for one kill at most %d of %d in flight; longest rest %v",
		r.kills, r.falls, r.batches, tr.rows, r.resent, r.worst, tr.window(), r.rest.Round(time.Millisecond))
}

func TestKilledWorkersLoseNothing(t *testing.T) {
	trial{dsn: filepath.Join(t.TempDir(), "queue.db"), processes: 1, workers: 3, rows: quickRows, kills: 15, seed: 1}.check(t)
}

func TestManyKillsSQLite(t *testing.T) {
	kills := 50 * long(t)
	for _, workers := range []int{1, 3} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			trial{dsn: filepath.Join(t.TempDir(), "queue.db"), processes: 1, workers: workers, rows: longRows, kills: kills, seed: uint64(workers)}.check(t)
		})
	}
}

func TestManyKillsPostgres(t *testing.T) {
	kills := 45 * long(t)
	for _, processes := range []int{1, 3} {
		t.Run(fmt.Sprint(processes, " processes"), func(t *testing.T) {
			trial{dsn: pgtest.Fresh(t), processes: processes, workers: 3, rows: longRows, kills: kills, seed: uint64(processes)}.check(t)
		})
	}
}

func TestPostgresItselfIsKilled(t *testing.T) {
	kills := 15 * long(t)
	if os.Getenv("RECPIE_TEST_POSTGRES_CRASH") == "" {
		t.Skip("set RECPIE_TEST_POSTGRES_CRASH, or run scripts/peers/postgres.sh")
	}
	trial{dsn: pgtest.Fresh(t), processes: 3, workers: 3, rows: longRows, kills: kills, crash: true, seed: 9}.check(t)
}
