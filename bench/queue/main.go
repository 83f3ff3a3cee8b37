// Command queue measures the batch engine with a model that answers at once: rows planned, made durable and exported per second, the
// time to the first chunk after a crash, and the memory at its peak; see README.md.
//
//	go run ./bench/queue -db /tmp/bench.db
//	go run ./bench/queue -db /tmp/bench.db -server
//	scripts/peers/postgres.sh bash -c 'go run ./bench/queue -db "$RECPIE_TEST_POSTGRES"'
//
// The database must be new: a run adds batches called bench and bench again.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"sync"
	"syscall"

	"recpie/bench/child"
	"recpie/internal/batchfile"
	"recpie/internal/queue"
)

type settings struct {
	db             string
	rows           int64
	chunk, workers int
	bytes          int
	server         bool
	url            string // of the server, in the process that is killed
	m              meter
}

func main() {
	var s settings
	flag.StringVar(&s.db, "db", "", "SQLite file or postgres:// address")
	flag.Int64Var(&s.rows, "rows", 500_000, "rows of the batch")
	flag.IntVar(&s.chunk, "chunk", 256, "rows of a chunk")
	flag.IntVar(&s.workers, "workers", 32, "chunks in flight")
	flag.IntVar(&s.bytes, "bytes", 600, "bytes of an answer of the instant model")
	flag.BoolVar(&s.server, "server", false, "ask an instant server, in a process of its own, over HTTP for every row, instead of a model inside this process")
	profile := flag.String("profile", "", "file for a CPU profile of everything after the crash")
	part := flag.String("part", "", `used by the program itself: "serve" answers requests, "first" plans, works on half of the rows and dies`)
	flag.StringVar(&s.url, "url", "", "used by the program itself: address of the server")
	flag.Parse()
	ctx := context.Background()
	var err error
	switch *part {
	case "serve":
		err = serve(os.Stdout)
	case "first":
		err = s.first(ctx)
	default:
		if *profile != "" {
			f, e := os.Create(*profile)
			if e == nil {
				e = pprof.StartCPUProfile(f)
			}
			if e != nil {
				fmt.Fprintln(os.Stderr, e)
				os.Exit(1)
			}
			defer pprof.StopCPUProfile()
		}
		err = s.run(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/queue:", err)
		os.Exit(1)
	}
}

// run has a process of its own do the first half and be killed, and does the rest.
func (s *settings) run(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if s.server {
		url, stop, err := child.Serve("-part", "serve")
		if err != nil {
			return err
		}
		defer stop()
		s.url = url
	}
	fmt.Printf("%-28s %9s %9s %13s %13s %8s\n", "phase", "seconds", "rows/s", "µs CPU/row", "µs server/row", "peak MB")
	half := exec.Command(self, append(os.Args[1:], "-part", "first", "-url", s.url)...)
	half.Stdout, half.Stderr = os.Stdout, os.Stderr
	if err := half.Run(); half.ProcessState == nil || half.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		return fmt.Errorf("the first half was not killed: %w", err)
	}

	s.m.begin(ctx, s.db)
	db, b, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Plan(ctx, b, s.inputs(), nil); err != nil {
		return err
	}
	before, err := db.Status(ctx, b)
	if err != nil {
		return err
	}
	h, done, err := s.handler()
	if err != nil {
		return err
	}
	defer done()
	begun := make(chan struct{})
	var once sync.Once
	ended := make(chan error, 1)
	go func() {
		ended <- db.Work(ctx, queue.WorkOptions{Batch: b.ID, Workers: s.workers, Handler: handler(func(ctx context.Context, b queue.Batch, rows []queue.Input) ([]queue.Result, error) {
			once.Do(func() { close(begun) })
			return h(ctx, b, rows)
		})})
	}()
	select {
	case <-begun:
	case err := <-ended:
		return fmt.Errorf("second half: %w", err)
	}
	s.m.line("open to first chunk", 0)
	if err := <-ended; err != nil {
		return err
	}
	s.m.line("work, second half, sealed", before.Left())
	if err := s.export(ctx, db, b); err != nil {
		return err
	}

	again, err := db.Create(ctx, queue.Spec{Name: "bench again", ChunkRows: s.chunk})
	if err != nil {
		return err
	}
	s.m.restart()
	p, err := db.Plan(ctx, again, s.inputs(), nil)
	if err != nil {
		return err
	}
	if p.Reused != s.rows {
		return fmt.Errorf("%d rows were reused, not %d", p.Reused, s.rows)
	}
	s.m.line("plan again, all reused", s.rows)
	return nil
}

// first plans the batch, works on it until half of the rows are stored, and kills its own process.
func (s *settings) first(ctx context.Context) error {
	db, b, err := s.open(ctx)
	if err != nil {
		return err
	}
	s.m.begin(ctx, s.db)
	if _, err := db.Plan(ctx, b, s.inputs(), nil); err != nil {
		return err
	}
	s.m.line("plan", s.rows)
	h, _, err := s.handler()
	if err != nil {
		return err
	}
	var mu sync.Mutex
	stored := int64(0)
	return db.Work(ctx, queue.WorkOptions{Batch: b.ID, Workers: s.workers, Handler: h, Stored: func(_ queue.Batch, r []queue.Result) {
		mu.Lock()
		defer mu.Unlock()
		if stored += int64(len(r)); stored >= s.rows/2 {
			s.m.line("work, first half", stored)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}})
}

func (s *settings) open(ctx context.Context) (*queue.DB, queue.Batch, error) {
	db, err := queue.Open(ctx, s.db, queue.Options{Connections: s.workers + 8})
	if err != nil {
		return nil, queue.Batch{}, err
	}
	b, err := db.Create(ctx, queue.Spec{Name: "bench", ChunkRows: s.chunk})
	return db, b, err
}

// export writes all rows in order as the program does.
func (s *settings) export(ctx context.Context, db *queue.DB, b queue.Batch) error {
	dir, err := os.MkdirTemp("", "bench-queue")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s.m.restart()
	n := int64(0)
	err = batchfile.WriteRows(batchfile.Output{Path: filepath.Join(dir, "rows.jsonl"), Format: batchfile.JSONL}, func(put func(batchfile.Row) error) error {
		for r, err := range db.Results(ctx, b) {
			if err != nil {
				return err
			}
			if r.Row != n {
				return fmt.Errorf("row %d follows row %d", r.Row, n-1)
			}
			n++
			if err := put(batchfile.Row{Row: r.Row, User: "user", Item: "item", Text: r.Text, Reason: r.Reason, Tokens: int64(r.Tokens), Model: "bench"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && n != s.rows {
		err = fmt.Errorf("%d rows were exported, not %d", n, s.rows)
	}
	s.m.line("export", n)
	return err
}

// inputs are rows whose data is their number.
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
