package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/riverqueue/river"

	"recpie/internal/failpoint"
)

// queueOf names the queue of River that carries a batch.
func queueOf(batch int64) string { return fmt.Sprintf("batch-%d", batch) }

// The window of jobs that are queued ahead: River gets slower with its backlog, and a pause should leave little behind.
const (
	windowJobs = 2048
	windowLow  = windowJobs / 2
)

// dispatch fills the window of a batch: it marks planned chunks as queued and inserts their jobs in one transaction. It tells
// whether any chunk is open still.
func (db *DB) dispatch(ctx context.Context, c client, b Batch) (open bool, err error) {
	lo, hi := span(b.ID)
	var queued, planned int64
	err = one(ctx, db.b.reader(), `SELECT (SELECT COUNT(*) FROM recpie_chunk WHERE state = 1 AND key BETWEEN $1 AND $2),
		(SELECT COUNT(*) FROM (SELECT 1 FROM recpie_chunk WHERE state = 0 AND key BETWEEN $1 AND $2 LIMIT 1) p)`, []any{lo, hi}, &queued, &planned)
	if err != nil || planned == 0 || queued >= windowLow {
		return queued+planned > 0, err
	}
	_, err = db.b.alone(ctx, lockKey("recpie dispatch")^b.ID, func() error {
		return db.b.update(ctx, func(s session) error {
			var jobs []river.InsertManyParams
			var keys []int64
			err := each(ctx, s, `SELECT key FROM recpie_chunk WHERE state = 0 AND key BETWEEN $1 AND $2 ORDER BY key LIMIT $3`, []any{lo, hi, windowJobs - queued}, func(c cursor) error {
				var key int64
				err := c.Scan(&key)
				keys = append(keys, key)
				jobs = append(jobs, river.InsertManyParams{Args: chunkArgs{key}, InsertOpts: &river.InsertOpts{Queue: queueOf(b.ID), Priority: b.Priority, MaxAttempts: maxAttempts}})
				return err
			})
			if err != nil || len(keys) == 0 {
				return err
			}
			if _, err := s.exec(ctx, `UPDATE recpie_chunk SET state = 1 WHERE state = 0 AND key IN `+db.b.words().list, jsonOf(keys)); err != nil {
				return err
			}
			return c.enqueue(ctx, s, jobs)
		})
	})
	failpoint.Hit("queue-dispatched")
	return true, err
}

// sweep puts back the jobs of this batch whose time to be tried again has come, jobs of processes that are dead, and jobs that the
// database believes to run here but which never arrived. River's own remedies take from 20 seconds to an hour.
func (db *DB) sweep(ctx context.Context, w *chunkWorker, self string) error {
	words := db.b.words()
	err := db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE river_job SET state = 'available' WHERE queue = $1 AND state IN ('retryable', 'scheduled') AND `+words.ready, queueOf(w.batch.ID))
		return err
	})
	if err != nil {
		return err
	}
	var names []string
	err = each(ctx, db.b.reader(), `SELECT DISTINCT `+words.lastBy+` FROM river_job WHERE state = 'running' AND kind = $1`, []any{jobKind}, func(c cursor) error {
		var name string
		err := c.Scan(&name)
		names = append(names, name)
		return err
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == self {
			continue
		}
		if err := db.b.update(ctx, func(s session) error {
			dead, err := db.b.dead(ctx, s, name)
			if err != nil || !dead {
				return err
			}
			_, err = s.exec(ctx, `UPDATE river_job SET state = 'available' WHERE state = 'running' AND kind = $1 AND `+words.lastBy+` = $2`, jobKind, name)
			return err
		}); err != nil {
			return err
		}
	}
	return db.forgotten(ctx, w, self)
}

// forgotten puts back jobs that were fetched for this process by a call whose answer got lost.
func (db *DB) forgotten(ctx context.Context, w *chunkWorker, self string) error {
	words := db.b.words()
	var lost []int64
	err := each(ctx, db.b.reader(), `SELECT id FROM river_job WHERE state = 'running' AND kind = $1 AND `+words.lastBy+` = $2 AND `+words.stale, []any{jobKind, self}, func(c cursor) error {
		var id int64
		err := c.Scan(&id)
		if err == nil && !w.runs(id) {
			lost = append(lost, id)
		}
		return err
	})
	if err != nil || len(lost) == 0 {
		return err
	}
	return db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE river_job SET state = 'available' WHERE state = 'running' AND id IN `+words.list, jsonOf(lost))
		return err
	})
}

// repair plans queued chunks again that no live job carries: somebody deleted or cancelled it, or River discarded it. The chunks are
// read first: each of them had a job then, and only what was finished since has none now.
func (db *DB) repair(ctx context.Context, batch int64) error {
	lo, hi := span(batch)
	queued := map[int64]bool{}
	err := each(ctx, db.b.reader(), `SELECT key FROM recpie_chunk WHERE state = 1 AND key BETWEEN $1 AND $2`, []any{lo, hi}, func(c cursor) error {
		var key int64
		err := c.Scan(&key)
		queued[key] = true
		return err
	})
	if err != nil || len(queued) == 0 {
		return err
	}
	err = each(ctx, db.b.reader(), `SELECT `+db.b.words().chunk+` FROM river_job WHERE queue = $1 AND state NOT IN ('completed', 'cancelled', 'discarded')`, []any{queueOf(batch)}, func(c cursor) error {
		var key int64
		err := c.Scan(&key)
		delete(queued, key)
		return err
	})
	if err != nil || len(queued) == 0 {
		return err
	}
	var keys []int64
	for key := range queued {
		keys = append(keys, key)
	}
	return db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE recpie_chunk SET state = 0 WHERE state = 1 AND key IN `+db.b.words().list, jsonOf(keys))
		return err
	})
}

// config of a River client for one batch.
func (w *chunkWorker) config(name string) *river.Config {
	workers := river.NewWorkers()
	river.AddWorker(workers, w)
	return &river.Config{
		ID: name, Logger: w.opt.Logger, Workers: workers,
		Queues:                      map[string]river.QueueConfig{queueOf(w.batch.ID): {MaxWorkers: w.opt.Workers}},
		FetchCooldown:               10 * time.Millisecond, // jobs/s are at most workers/cooldown
		FetchPollInterval:           200 * time.Millisecond,
		JobTimeout:                  w.opt.ChunkTimeout,
		RescueStuckJobsAfter:        w.opt.ChunkTimeout + time.Minute,
		MaxAttempts:                 maxAttempts,
		CompletedJobRetentionPeriod: 10 * time.Minute,
	}
}

// maxAttempts of a job: crashes use them up, and a discarded job helps nobody.
const maxAttempts = 10_000
