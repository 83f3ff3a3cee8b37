package queue

import (
	"context"
	"errors"
	"slices"
	"time"

	"recpie/internal/fault"
)

// Pause stops a batch until Resume. Workers finish the chunks that they have begun.
func (db *DB) Pause(ctx context.Context, b Batch) error {
	return db.change(ctx, b, Paused, Running)
}

// Resume lets a paused or failed batch run again.
func (db *DB) Resume(ctx context.Context, b Batch) error {
	return db.change(ctx, b, Running, Paused, Failed)
}

// Cancel ends a batch for ever. Results stay.
func (db *DB) Cancel(ctx context.Context, b Batch) error {
	return db.change(ctx, b, Cancelled, Planning, Running, Paused, Failed)
}

// change moves a batch to a state; being there already is fine.
func (db *DB) change(ctx context.Context, b Batch, to State, from ...State) error {
	err := db.b.update(ctx, func(s session) error {
		have, err := lookup(ctx, s, `id = $1`, b.ID)
		if err != nil || have.State == to {
			return err
		}
		if !slices.Contains(from, have.State) {
			return fault.Newf(fault.Fatal, "queue", "batch %s is %s and cannot become %s", b.Name, have.State, to)
		}
		if to == Cancelled { // River's cleaner removes cancelled jobs after a day
			if _, err := s.exec(ctx, `UPDATE river_job SET state = 'cancelled', finalized_at = `+db.b.words().now+` WHERE queue = $1 AND state IN ('available', 'retryable', 'scheduled')`, queueOf(b.ID)); err != nil {
				return err
			}
		}
		_, err = s.exec(ctx, `UPDATE recpie_batch SET state = $1, reason = '' WHERE id = $2`, string(to), b.ID)
		return err
	})
	return failed("change batch", err)
}

// stop ends a running batch for a reason.
func (db *DB) stop(ctx context.Context, batch int64, to State, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	return failed("stop batch", db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE recpie_batch SET state = $1, reason = $2 WHERE id = $3 AND state = 'running'`, string(to), printable(reason), batch)
		return err
	}))
}

// RetryDead turns the dead letters of a batch into rows to be done again, and lets a finished batch run once more. It returns how
// many there were.
func (db *DB) RetryDead(ctx context.Context, b Batch) (n int, err error) {
	const op = "retry dead letters"
	if err := db.worker(op); err != nil {
		return 0, err
	}
	for {
		part, err := db.retryPart(ctx, b)
		if err != nil || part == 0 {
			return n, failed(op, err)
		}
		n += part
	}
}

// retryPart does a group of dead letters in one transaction.
func (db *DB) retryPart(ctx context.Context, b Batch) (n int, err error) {
	lo, hi := span(b.ID)
	err = db.b.update(ctx, func(s session) error {
		dead := map[int64][]int64{} // rows by chunk
		err := each(ctx, s, `SELECT key, chunk FROM recpie_result WHERE reason IS NOT NULL AND key BETWEEN $1 AND $2 ORDER BY key LIMIT $3`, []any{lo, hi, groupRows}, func(c cursor) error {
			var key, chunk int64
			err := c.Scan(&key, &chunk)
			dead[chunk] = append(dead[chunk], numberOf(key))
			return err
		})
		if err != nil || len(dead) == 0 {
			return err
		}
		var rows []Input
		for chunk, want := range dead {
			var data []byte
			if err := one(ctx, s, `SELECT data FROM recpie_input WHERE key = $1`, []any{chunk}, &data); err != nil {
				return err
			}
			all, err := unpack(data)
			if err != nil {
				return err
			}
			keep := slices.DeleteFunc(all, func(r Input) bool {
				_, found := slices.BinarySearch(want, r.Row)
				if found {
					rows = append(rows, r)
				}
				return found
			})
			if data, err = pack(keep); err != nil {
				return err
			}
			if _, err := s.exec(ctx, `UPDATE recpie_input SET data = $1 WHERE key = $2`, data, chunk); err != nil {
				return err
			}
			if _, err := s.exec(ctx, `UPDATE recpie_chunk SET dead = dead - $1, row_count = row_count - $1 WHERE key = $2`, len(want), chunk); err != nil {
				return err
			}
		}
		slices.SortFunc(rows, func(a, b Input) int { return int(a.Row - b.Row) })
		keys := make([]int64, len(rows))
		for i, r := range rows {
			keys[i] = keyOf(b.ID, r.Row)
		}
		if _, err := s.exec(ctx, `DELETE FROM recpie_result WHERE key IN `+db.b.words().list, jsonOf(keys)); err != nil {
			return err
		}
		n = len(rows)
		return db.append(ctx, s, b, rows)
	})
	return n, err
}

// append adds chunks to a batch and lets it run again.
func (db *DB) append(ctx context.Context, s session, b Batch, rows []Input) error {
	var next int64
	var state string
	if err := one(ctx, s, `SELECT next_chunk, state FROM recpie_batch WHERE id = $1`, []any{b.ID}, &next, &state); err != nil {
		return err
	}
	switch State(state) {
	case Done, Failed:
		state = string(Running)
	case Running, Paused:
	default:
		return fault.Newf(fault.Fatal, "queue", "batch %s is %s", b.Name, state)
	}
	begun := next
	for chunk := range slices.Chunk(rows, b.ChunkRows) {
		if err := putChunk(ctx, s, keyOf(b.ID, next), chunk); err != nil {
			return err
		}
		next++
	}
	n, err := s.exec(ctx, `UPDATE recpie_batch SET next_chunk = $1, state = $2, reason = '' WHERE id = $3 AND next_chunk = $4`, next, state, b.ID, begun)
	if err == nil && n == 0 {
		err = fault.Newf(fault.Transient, "queue", "another process changes batch %s", b.Name)
	}
	return err
}

// Counts of a batch, in rows.
type Counts struct {
	Rows   int64   // planned
	OK     int64   // ended with a text, reused ones included
	Reused int64   // copied while planning
	Dead   int64   // ended as dead letters
	Queued int64   // in jobs, running or waiting
	Tokens int64   // generated for this batch
	Recent int64   // ended within the last minute, in all processes
	Rate   float64 // rows per second within the last minute
}

// Status is a batch and how far it is.
type Status struct {
	Batch
	Counts
}

// Left is how many rows have not ended.
func (c Counts) Left() int64 { return c.Rows - c.OK - c.Dead }

// Remaining estimates the time to the end from the rate, 0 when nothing has ended lately.
func (c Counts) Remaining() time.Duration {
	if c.Rate == 0 {
		return 0
	}
	return time.Duration(float64(c.Left()) / c.Rate * float64(time.Second))
}

// Status returns how far the batch is.
func (db *DB) Status(ctx context.Context, b Batch) (Status, error) {
	have, err := lookup(ctx, db.b.reader(), `id = $1`, b.ID)
	if errors.Is(err, errNoRow) {
		return Status{}, fault.Newf(fault.Fatal, "queue", "there is no batch %d", b.ID)
	}
	if err != nil {
		return Status{}, failed("status", err)
	}
	c, err := db.counts(ctx, b.ID)
	return Status{have, c}, failed("status", err)
}

func (db *DB) counts(ctx context.Context, batch int64) (c Counts, err error) {
	lo, hi := span(batch)
	now := time.Now()
	var first int64
	err = one(ctx, db.b.reader(), `SELECT CAST(COALESCE(SUM(row_count), 0) AS BIGINT), CAST(COALESCE(SUM(ok), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN state = 3 THEN ok ELSE 0 END), 0) AS BIGINT), CAST(COALESCE(SUM(dead), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN state = 1 THEN row_count ELSE 0 END), 0) AS BIGINT), CAST(COALESCE(SUM(tokens), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN state = 2 AND finished > $3 THEN ok + dead ELSE 0 END), 0) AS BIGINT),
		COALESCE(MIN(CASE WHEN state = 2 AND finished > $3 THEN finished END), 0)
		FROM recpie_chunk WHERE key BETWEEN $1 AND $2`, []any{lo, hi, now.Add(-time.Minute).UnixMilli()},
		&c.Rows, &c.OK, &c.Reused, &c.Dead, &c.Queued, &c.Tokens, &c.Recent, &first)
	if c.Recent > 0 {
		c.Rate = float64(c.Recent) / max(now.Sub(time.UnixMilli(first)), time.Second).Seconds()
	}
	return c, err
}
