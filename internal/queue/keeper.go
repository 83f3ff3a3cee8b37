package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"recpie/internal/fault"
)

// keeper looks after a batch while this process works on it: it fills the window of jobs, takes over from the dead, watches the
// limits, writes the identity index and notices the end. Every process does; each step is safe against the others.
type keeper struct {
	db   *DB
	w    *chunkWorker
	c    client
	name string

	swept, rated, repaired time.Time
	sealing                atomic.Bool
	background             sync.WaitGroup
}

func (k *keeper) wait() { k.background.Wait() }

// due tells whether a period has passed since *last, and starts the next.
func due(last *time.Time, period time.Duration) bool {
	if time.Since(*last) < period {
		return false
	}
	*last = time.Now()
	return true
}

// step does what is due. It returns true when the batch is done, and an error when this process is to leave it.
func (k *keeper) step(ctx context.Context) (done bool, err error) {
	b, err := lookup(ctx, k.db.b.reader(), `id = $1`, k.w.batch.ID)
	if err != nil {
		return false, err
	}
	if b.State == Done {
		return true, nil
	}
	if err := stopped(b); err != nil {
		return false, err
	}
	if !b.Deadline.IsZero() && time.Now().After(b.Deadline) {
		return false, k.fail(ctx, fmt.Sprintf("the deadline %s has passed", b.Deadline.UTC().Format(time.RFC3339)))
	}
	if due(&k.rated, rateEvery) {
		if err := k.checkRate(ctx, b, false); err != nil {
			return false, err
		}
		k.sealLater(ctx)
		if k.w.opt.Batch == 0 {
			if first, err := k.db.next(ctx, k.w.opt); err == nil && first.ID != b.ID && first.Priority < b.Priority {
				return false, errSwitch
			}
		}
	}
	if due(&k.repaired, repairEvery) {
		if err := k.db.repair(ctx, b.ID); err != nil {
			return false, err
		}
	}
	if due(&k.swept, sweepEvery) {
		if err := k.db.sweep(ctx, k.w, k.name); err != nil {
			return false, err
		}
	}
	open, err := k.db.dispatch(ctx, k.c, b)
	if err != nil || open {
		return false, err
	}
	return k.finish(ctx, b)
}

// fail stops the batch for good reason.
func (k *keeper) fail(ctx context.Context, reason string) error {
	if err := k.db.stop(ctx, k.w.batch.ID, Failed, reason); err != nil {
		return err
	}
	return fault.New(fault.Fatal, "queue: batch "+k.w.batch.Name, errors.New(reason))
}

// rateFloor is how many rows must have ended before a running batch is judged by its error rate.
const rateFloor = 100

func (k *keeper) checkRate(ctx context.Context, b Batch, final bool) error {
	if b.MaxErrorRate == 0 {
		return nil
	}
	c, err := k.db.counts(ctx, b.ID)
	if err != nil {
		return err
	}
	ended := c.OK - c.Reused + c.Dead
	if ended == 0 || !final && ended < rateFloor || float64(c.Dead) <= b.MaxErrorRate*float64(ended) {
		return nil
	}
	return k.fail(ctx, fmt.Sprintf("%d of %d rows are dead letters, more than the allowed share of %g", c.Dead, ended, b.MaxErrorRate))
}

// sealLater writes the index behind finished chunks while others run.
func (k *keeper) sealLater(ctx context.Context) {
	if !k.sealing.CompareAndSwap(false, true) {
		return
	}
	k.background.Go(func() {
		defer k.sealing.Store(false)
		if err := k.db.seal(ctx, k.w.batch.ID, false); err != nil && ctx.Err() == nil {
			k.w.opt.Logger.Warn("the identity index could not be written now", slog.Any("error", err))
		}
	})
}

// finish seals the batch and marks it done once every chunk is.
func (k *keeper) finish(ctx context.Context, b Batch) (bool, error) {
	if err := k.checkRate(ctx, b, true); err != nil {
		return false, err
	}
	k.wait()
	if err := k.db.seal(ctx, b.ID, true); err != nil {
		return false, err
	}
	lo, hi := span(b.ID)
	err := k.db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE recpie_batch SET state = 'done' WHERE id = $1 AND state = 'running' AND sealed >= next_chunk
			AND NOT EXISTS (SELECT 1 FROM recpie_chunk WHERE state < 2 AND key BETWEEN $2 AND $3)`, b.ID, lo, hi)
		return err
	})
	return false, err // the next step sees it; where another process seals, a later one
}
