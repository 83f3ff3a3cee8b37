package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// Handler does the work of a batch. It is called from many goroutines, and may be called again for rows that it has answered
// before: after a crash, a whole chunk is redone.
type Handler interface {
	// Do answers rows: exactly one result for each, in order. A row that cannot succeed ends as a result with a Reason. An error is
	// about all rows: of class Endpoint or Transient the chunk is tried again later, any other stops the batch.
	Do(ctx context.Context, b Batch, rows []Input) ([]Result, error)
}

// Limits on trying a chunk again.
const (
	maxTries  = 100
	firstWait = time.Second
	longWait  = 30 * time.Second
)

// chunkWorker runs the jobs of one batch in this process.
type chunkWorker struct {
	river.WorkerDefaults[chunkArgs]
	db      *DB
	batch   Batch
	opt     WorkOptions
	store   func(*outcome) error
	fatal   chan error // the first error that stops the batch
	mu      sync.Mutex
	running map[int64]bool // jobs
}

// Work runs one chunk. It returns nil only when its rows are stored, by this call or by another.
func (w *chunkWorker) Work(ctx context.Context, job *river.Job[chunkArgs]) error {
	w.mark(job.ID, true)
	defer w.mark(job.ID, false)
	rows, err := w.db.inputs(ctx, job.Args.Key)
	if errors.Is(err, errNoRow) {
		return nil // finished or purged meanwhile: an empty job completes
	}
	if err != nil {
		return w.again(ctx, job, failed("read chunk", err))
	}
	results, err := w.call(ctx, rows)
	if err == nil {
		err = check(rows, results)
	}
	if err != nil {
		return w.again(ctx, job, err)
	}
	failpoint.Hit("queue-before-commit")
	o := &outcome{ctx: context.WithoutCancel(ctx), job: job, batch: w.batch.ID, rows: rows, results: results}
	if err := w.store(o); err != nil {
		return w.again(ctx, job, err)
	}
	failpoint.Hit("queue-after-commit")
	if o.won && w.opt.Stored != nil {
		w.opt.Stored(w.batch, results)
	}
	return nil
}

// call asks the handler. A panic in it is a fatal error like any bug.
func (w *chunkWorker) call(ctx context.Context, rows []Input) (_ []Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Fatal, "queue: handler", fmt.Errorf("panic: %v", p))
		}
	}()
	if !w.batch.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, w.batch.Deadline)
		defer cancel()
	}
	return w.opt.Handler.Do(ctx, w.batch, rows)
}

// again puts a chunk back that was not answered, without using up an attempt of River's.
func (w *chunkWorker) again(ctx context.Context, job *river.Job[chunkArgs], err error) error {
	if context.Cause(ctx) != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return river.JobSnooze(0) // this process is stopping, another may go on at once
	}
	class := fault.ClassOf(err)
	if errors.Is(err, context.DeadlineExceeded) {
		class = fault.Endpoint // ours, or the handler's own
	}
	tries := triesOf(job)
	if class != fault.Endpoint && class != fault.Transient || tries >= maxTries {
		select {
		case w.fatal <- err:
		default:
		}
		return river.JobSnooze(firstWait)
	}
	wait := min(firstWait<<min(tries, 10), longWait)
	wait = min(max(wait, fault.RetryAfter(err)), 10*longWait)
	w.opt.Logger.Warn("chunk will be tried again", slog.Int64("batch", w.batch.ID), slog.Int64("chunk", numberOf(job.Args.Key)), slog.Int("tries", tries+1), slog.Duration("in", wait), slog.Any("error", err))
	return river.JobSnooze(wait)
}

// triesOf returns how often a job was put back.
func triesOf(job *river.Job[chunkArgs]) int {
	var meta struct {
		Snoozes int `json:"snoozes"`
	}
	if json.Unmarshal(job.Metadata, &meta) != nil {
		return 0
	}
	return meta.Snoozes
}

func (w *chunkWorker) mark(job int64, runs bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if runs {
		w.running[job] = true
	} else {
		delete(w.running, job)
	}
}

func (w *chunkWorker) runs(job int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[job]
}

// inputs reads the rows of a chunk that is queued.
func (db *DB) inputs(ctx context.Context, key int64) ([]Input, error) {
	var data []byte
	err := one(ctx, db.b.reader(), `SELECT i.data FROM recpie_chunk c JOIN recpie_input i ON i.key = c.key WHERE c.key = $1 AND c.state = 1`, []any{key}, &data)
	if err != nil {
		return nil, err
	}
	return unpack(data)
}
