// Command queue measures the batch engine with a model that answers at once: rows planned, made durable and exported per second, the
// time to the first chunk after a crash, and the memory at its peak.
//
//	go run ./bench/queue -db /tmp/bench.db
//	scripts/peers/postgres.sh bash -c 'go run ./bench/queue -db "$RECPIE_TEST_POSTGRES"'
//
// The database must be empty: a run adds a batch called bench.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"time"

	"recpie/internal/queue"
)

type settings struct {
	db             string
	rows           int64
	chunk, workers int
	bytes          int
	cpu            time.Duration // of this process when the last line was printed
}

func main() {
	var s settings
	flag.StringVar(&s.db, "db", "", "SQLite file or postgres:// address")
	flag.Int64Var(&s.rows, "rows", 500_000, "rows of the batch")
	flag.IntVar(&s.chunk, "chunk", 256, "rows of a chunk")
	flag.IntVar(&s.workers, "workers", 32, "chunks in flight")
	flag.IntVar(&s.bytes, "bytes", 600, "bytes of an answer")
	profile := flag.String("profile", "", "file for a CPU profile")
	flag.Parse()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		defer pprof.StopCPUProfile()
	}
	if err := run(context.Background(), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *settings) error {
	db, err := queue.Open(ctx, s.db, queue.Options{Connections: s.workers + 8})
	if err != nil {
		return err
	}
	b, err := db.Create(ctx, queue.Spec{Name: "bench", ChunkRows: s.chunk})
	if err != nil {
		return err
	}
	fmt.Printf("%-28s %10s %10s %10s %9s\n", "phase", "seconds", "rows/s", "µs CPU/row", "peak MB")
	begin := time.Now()
	if _, err := db.Plan(ctx, b, s.inputs(), nil); err != nil {
		return err
	}
	s.line("plan", s.rows, begin)

	// the first half, stopped as by a crash: without grace
	h := &model{text: strings.Repeat("x", s.bytes), first: make(chan struct{})}
	half, stop := context.WithCancel(ctx)
	var mu sync.Mutex
	stored := int64(0)
	begin = time.Now()
	var took time.Duration
	err = db.Work(half, queue.WorkOptions{Batch: b.ID, Workers: s.workers, Handler: h, Grace: time.Millisecond, Stored: func(_ queue.Batch, r []queue.Result) {
		mu.Lock()
		defer mu.Unlock()
		if stored += int64(len(r)); stored >= s.rows/2 && took == 0 {
			took = time.Since(begin)
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("first half: %w", err)
	}
	s.print("work, first half", stored, took)
	if err := db.Close(); err != nil {
		return err
	}

	h.first, h.once = make(chan struct{}), sync.Once{}
	begin = time.Now()
	if db, err = queue.Open(ctx, s.db, queue.Options{Connections: s.workers + 8}); err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Plan(ctx, b, s.inputs(), nil); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- db.Work(ctx, queue.WorkOptions{Batch: b.ID, Workers: s.workers, Handler: h}) }()
	select {
	case <-h.first:
	case err := <-ended:
		return fmt.Errorf("second half: %w", err)
	}
	s.print("open to first chunk", 0, time.Since(begin))
	begin = time.Now()
	if err := <-ended; err != nil {
		return err
	}
	s.line("work, second half, sealed", s.rows-stored, begin)

	begin = time.Now()
	n := int64(0)
	for _, err := range db.Results(ctx, b) {
		if err != nil {
			return err
		}
		n++
	}
	if n != s.rows {
		return fmt.Errorf("%d rows were exported, not %d", n, s.rows)
	}
	s.line("export", n, begin)

	again, err := db.Create(ctx, queue.Spec{Name: "bench again", ChunkRows: s.chunk})
	if err != nil {
		return err
	}
	begin = time.Now()
	p, err := db.Plan(ctx, again, s.inputs(), nil)
	if err != nil {
		return err
	}
	if p.Reused != s.rows {
		return fmt.Errorf("%d rows were reused, not %d", p.Reused, s.rows)
	}
	s.line("plan again, all reused", n, begin)
	return nil
}

func (s *settings) line(phase string, rows int64, begin time.Time) {
	s.print(phase, rows, time.Since(begin))
}

// print writes a line. The CPU time is that of this process since the line before: the clock also measures what else the machine does.
func (s *settings) print(phase string, rows int64, took time.Duration) {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	now := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	cost := "-"
	if rows > 0 {
		cost = fmt.Sprintf("%.1f", float64((now-s.cpu).Microseconds())/float64(rows))
	}
	s.cpu = now
	fmt.Printf("%-28s %10.2f %10.0f %10s %9d\n", phase, took.Seconds(), float64(rows)/took.Seconds(), cost, peak()>>20)
}

func (s *settings) inputs() iter.Seq2[queue.Input, error] {
	return func(yield func(queue.Input, error) bool) {
		for i := range s.rows {
			data := binary.AppendVarint(nil, i)
			if !yield(queue.Input{Row: i, Identity: sha256.Sum256(data), Data: data}, nil) {
				return
			}
		}
	}
}

// model answers every row at once.
type model struct {
	text  string
	once  sync.Once
	first chan struct{}
}

// Do answers with the same text for each row.
func (m *model) Do(_ context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	m.once.Do(func() { close(m.first) })
	out := make([]queue.Result, len(rows))
	for i, r := range rows {
		out[i] = queue.Result{Row: r.Row, Text: m.text, Tokens: 20}
	}
	return out, nil
}

// peak returns the largest resident memory of this process so far, in bytes.
func peak() (bytes int64) {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.Sys)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		if _, err := fmt.Sscanf(in.Text(), "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
