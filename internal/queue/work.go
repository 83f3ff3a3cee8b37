package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"recpie/internal/fault"
)

// WorkOptions says how this process works.
type WorkOptions struct {
	Batch        int64                           // 0: all batches, those of the best priority first, until the context ends
	Workers      int                             // chunks in flight at once, default 1
	Handler      Handler                         // does the work
	ChunkTimeout time.Duration                   // default 1h: a chunk that takes longer is cancelled and tried again
	Grace        time.Duration                   // default 30s: how long chunks in flight may take when the process is to stop
	Stored       func(b Batch, results []Result) // told of each chunk that this process has stored, from many goroutines; may be nil
	Logger       *slog.Logger
}

// Why Work ended without the batch being done. A failed batch is reported as the error that failed it.
var (
	ErrPaused    = errors.New("the batch is paused")
	ErrCancelled = errors.New("the batch was cancelled")
	ErrPlanning  = errors.New("the batch is not planned yet")
)

// Reasons to leave a batch that say nothing about it.
var (
	errLost   = errors.New("the connection that proved this process alive was lost")
	errSwitch = errors.New("another batch comes first")
)

// How often a working process looks after its batch.
const (
	tick        = 50 * time.Millisecond
	sweepEvery  = time.Second
	rateEvery   = 2 * time.Second
	repairEvery = 10 * time.Second
	patience    = 10 * time.Minute // with a database that is away
)

// Work runs chunks until the batch is done, or, for all batches, until the context ends. It returns nil for a batch that is done,
// and the context's cause when that stopped it: chunks in flight are given the grace to finish. A server that is away is waited
// for; a process that the others may think dead stops its chunks and joins anew.
func (db *DB) Work(ctx context.Context, o WorkOptions) error {
	const op = "work"
	if err := db.worker(op); err != nil {
		return err
	}
	o.Workers = max(o.Workers, 1)
	if o.ChunkTimeout == 0 {
		o.ChunkTimeout = time.Hour
	}
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = silent
	}
	store := db.store
	if _, single := db.b.(*sqliteFile); single {
		c := newCommitter(db)
		defer c.close()
		store = c.store
	}
	var away time.Time // since when the database is
	for {
		b, err := db.next(ctx, o)
		chosen := err == nil
		if chosen {
			err = db.run(ctx, b, o, store)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, errLost), err != nil && fault.ClassOf(failedBut(errNoRow, op, err)) == fault.Transient:
			if away.IsZero() {
				away = time.Now()
			}
			if time.Since(away) > patience {
				return failed(op, err)
			}
			o.Logger.Warn("the database is away", slog.Any("error", err))
		case o.Batch != 0:
			return failed(op, err)
		case err == nil, errors.Is(err, errSwitch):
			away = time.Time{}
			continue
		case errors.Is(err, errNoRow):
			away = time.Time{}
		case !chosen:
			return err
		default:
			if now, e := lookup(ctx, db.b.reader(), `id = $1`, b.ID); e != nil || now.State == Running {
				return failed(op, err) // it was not the batch that stopped
			}
			o.Logger.Warn("batch stopped", slog.String("batch", b.Name), slog.Any("error", err))
			away = time.Time{}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(sweepEvery):
		}
	}
}

// next chooses the batch to work on: the one asked for, or the first by priority and age that has something to be taken and whose
// environment variables are all here. It returns errNoRow when there is none.
func (db *DB) next(ctx context.Context, o WorkOptions) (Batch, error) {
	if o.Batch != 0 {
		b, err := lookup(ctx, db.b.reader(), `id = $1`, o.Batch)
		if err != nil {
			return b, failed("work", err)
		}
		if miss := missing(b.Env); miss != "" {
			return b, fault.WithHint(fault.Newf(fault.Fatal, "queue: work", "batch %s needs %s in the environment", b.Name, miss), "set what is missing, then start again")
		}
		return b, stopped(b)
	}
	var all []Batch
	err := each(ctx, db.b.reader(), `SELECT `+batchColumns+` FROM recpie_batch b WHERE state = 'running' AND (
			EXISTS (SELECT 1 FROM recpie_chunk c WHERE c.state = 0 AND c.key BETWEEN b.id * $1 AND (b.id + 1) * $1 - 1)
			OR EXISTS (SELECT 1 FROM river_job j WHERE j.state = 'available' AND j.queue = 'batch-' || b.id)
			OR NOT EXISTS (SELECT 1 FROM river_job j WHERE j.state = 'running' AND j.queue = 'batch-' || b.id))
		ORDER BY priority, id`, []any{int64(1) << numberBits}, func(c cursor) error {
		b, err := scanBatch(c)
		all = append(all, b)
		return err
	})
	for _, b := range all {
		if miss := missing(b.Env); miss != "" {
			o.Logger.Warn("batch left to others: the environment lacks a variable", slog.String("batch", b.Name), slog.String("missing", miss))
			continue
		}
		return b, nil
	}
	if err == nil {
		err = errNoRow
	}
	return Batch{}, failedBut(errNoRow, "work", err)
}

// failedBut classes err unless it is the one that says something else.
func failedBut(but error, op string, err error) error {
	if errors.Is(err, but) {
		return err
	}
	return failed(op, err)
}

// missing names the environment variables that are not set.
func missing(env []string) string {
	var miss []string
	for _, name := range env {
		if os.Getenv(name) == "" {
			miss = append(miss, name)
		}
	}
	return strings.Join(miss, ", ")
}

// stopped says why a batch does not run, nil when it does or is done.
func stopped(b Batch) error {
	switch b.State {
	case Paused:
		return fault.New(fault.Fatal, "queue: batch "+b.Name, ErrPaused)
	case Cancelled:
		return fault.New(fault.Fatal, "queue: batch "+b.Name, ErrCancelled)
	case Planning:
		return fault.New(fault.Fatal, "queue: batch "+b.Name, ErrPlanning)
	case Failed:
		return fault.WithHint(fault.Newf(fault.Fatal, "queue: batch "+b.Name, "%s", b.Reason), "resume it when the cause is mended")
	default:
		return nil
	}
}

// run works on one batch until it ends or this process is to leave it.
func (db *DB) run(ctx context.Context, b Batch, o WorkOptions, store func(*outcome) error) (err error) {
	if b.State == Done {
		return nil
	}
	name := processName()
	lost, release, err := db.b.register(ctx, name)
	if err != nil {
		return failed("register", err)
	}
	defer release() // last of all: alive while anything of it may run
	w := &chunkWorker{db: db, batch: b, opt: o, store: store, fatal: make(chan error, 1), running: map[int64]bool{}}
	c, err := db.b.client(w.config(name))
	if err != nil {
		return failed("start", err)
	}
	if err := c.start(context.WithoutCancel(ctx)); err != nil {
		return failed("start", err)
	}
	defer func() {
		grace := o.Grace
		if errors.Is(err, errLost) {
			grace = 0
		}
		if e := halt(c, grace); e != nil {
			o.Logger.Warn("chunks did not stop in time", slog.Any("error", e))
		}
	}()
	k := keeper{db: db, w: w, c: c, name: name}
	defer k.wait()
	timer := time.NewTicker(tick)
	defer timer.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-lost:
			return errLost
		case err := <-w.fatal:
			reason := err.Error()
			if e := db.stop(context.WithoutCancel(ctx), b.ID, Failed, reason); e != nil {
				return errors.Join(err, e)
			}
			return err
		case <-timer.C:
		}
		done, err := k.step(ctx)
		switch {
		case err == nil && done:
			return nil
		case err == nil:
			since = time.Time{}
		case ctx.Err() != nil:
		case fault.ClassOf(failed("work", err)) == fault.Transient:
			if since.IsZero() {
				since = time.Now()
			}
			if time.Since(since) > patience {
				return failed("work", err)
			}
		default:
			return failed("work", err)
		}
	}
}

// halt stops a client: chunks in flight first get the grace, then their contexts end.
func halt(c client, grace time.Duration) error {
	const last = 15 * time.Second // for handlers to notice, and for River to write down what it knows
	ctx, cancel := context.WithTimeout(context.Background(), max(grace, time.Millisecond))
	defer cancel()
	if grace > 0 && c.stop(ctx) == nil {
		return nil
	}
	ctx, cancel = context.WithTimeout(context.Background(), last)
	defer cancel()
	return c.cancel(ctx)
}

// processName is a name that no other process has or had.
func processName() string {
	host, _ := os.Hostname()
	return fmt.Sprintf("%.40s-%d-%s", host, os.Getpid(), rand.Text())
}
