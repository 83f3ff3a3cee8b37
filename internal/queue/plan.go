package queue

import (
	"context"
	"iter"
	"time"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// Planned counts what a batch consists of.
type Planned struct {
	Rows   int64 // all rows
	Reused int64 // of these, copied from rows with the same identity
	Chunks int64 // jobs for the rest
}

// A group of rows is planned in one transaction: small enough to keep memory flat and others from waiting, large enough to share
// the cost of its commit.
const (
	groupRows  = 8192
	groupBytes = 16 << 20
)

// Plan stores the rows of a batch in chunks and copies the results that any batch has for their identities already. It streams:
// a few thousand rows are in memory at a time, and progress (which may be nil) is called after each group is stored. After a crash,
// Plan with the same rows goes on behind the last stored group. When all rows are stored the batch is ready to run; planning it
// again does nothing.
func (db *DB) Plan(ctx context.Context, b Batch, rows iter.Seq2[Input, error], progress func(Planned)) (Planned, error) {
	const op = "plan"
	if err := db.worker(op); err != nil {
		return Planned{}, err
	}
	p := planner{db: db, batch: b.ID, per: b.ChunkRows}
	var state string
	err := one(ctx, db.b.reader(), `SELECT state, planned_through, next_chunk FROM recpie_batch WHERE id = $1`, []any{b.ID}, &state, &p.through, &p.next)
	if err != nil {
		return Planned{}, failed(op, err)
	}
	if p.done, err = db.planned(ctx, b.ID); err != nil || State(state) != Planning {
		return p.done, failed(op, err)
	}
	if err := db.sealAll(ctx); err != nil {
		return p.done, failed(op, err)
	}
	if progress == nil {
		progress = func(Planned) {}
	}
	last, size := int64(-1), 0
	var group []Input
	flush := func() error {
		if err := p.store(ctx, group); err != nil {
			return err
		}
		group, size = group[:0], 0
		progress(p.done)
		return nil
	}
	for r, err := range rows {
		switch {
		case err != nil:
			return p.done, err
		case r.Row <= last || r.Row > maxNumber:
			return p.done, fault.Newf(fault.Fatal, "queue: "+op, "row %d follows row %d: rows must rise and stay below 2^%d", r.Row, last, numberBits)
		}
		if last = r.Row; r.Row <= p.through {
			continue // stored before a crash
		}
		group = append(group, r)
		if size += len(r.Data); len(group) >= max(groupRows/p.per, 1)*p.per || size >= groupBytes {
			if err := flush(); err != nil {
				return p.done, failed(op, err)
			}
		}
	}
	if len(group) > 0 {
		if err := flush(); err != nil {
			return p.done, failed(op, err)
		}
	}
	err = db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE recpie_batch SET state = $1 WHERE id = $2 AND state = $3`, string(Running), b.ID, string(Planning))
		return err
	})
	return p.done, failed(op, err)
}

// planned counts what is stored of a plan.
func (db *DB) planned(ctx context.Context, batch int64) (p Planned, err error) {
	lo, hi := span(batch)
	err = one(ctx, db.b.reader(), `SELECT CAST(COALESCE(SUM(row_count), 0) AS BIGINT), CAST(COALESCE(SUM(CASE WHEN state = 3 THEN row_count ELSE 0 END), 0) AS BIGINT),
		CAST(COALESCE(SUM(CASE WHEN state = 3 THEN 0 ELSE 1 END), 0) AS BIGINT) FROM recpie_chunk WHERE key BETWEEN $1 AND $2`, []any{lo, hi}, &p.Rows, &p.Reused, &p.Chunks)
	return p, err
}

// planner stores groups of rows one behind the other.
type planner struct {
	db      *DB
	batch   int64
	per     int   // rows of a chunk
	through int64 // last row that is stored
	next    int64 // number of the next chunk
	done    Planned
}

// store writes one group: the rows to be worked on as chunks with their inputs, the others as copies under a chunk of their own.
func (p *planner) store(ctx context.Context, group []Input) error {
	reuse, todo, err := p.db.resolve(ctx, group)
	if err != nil {
		return err
	}
	through, next, done := group[len(group)-1].Row, p.next, p.done
	err = p.db.b.update(ctx, func(s session) error {
		next, done = p.next, p.done
		if len(reuse) > 0 {
			if err := p.copy(ctx, s, keyOf(p.batch, next), reuse); err != nil {
				return err
			}
			next++
			done.Reused += int64(len(reuse))
		}
		for at := 0; at < len(todo); at += p.per {
			chunk := todo[at:min(at+p.per, len(todo))]
			if err := putChunk(ctx, s, keyOf(p.batch, next), chunk); err != nil {
				return err
			}
			next++
			done.Chunks++
		}
		done.Rows += int64(len(group))
		n, err := s.exec(ctx, `UPDATE recpie_batch SET planned_through = $1, next_chunk = $2 WHERE id = $3 AND planned_through = $4 AND state = $5`,
			through, next, p.batch, p.through, string(Planning))
		if err == nil && n == 0 {
			err = fault.Newf(fault.Fatal, "queue: plan", "another process plans this batch, or has stopped it")
		}
		return err
	})
	if err != nil {
		return err
	}
	failpoint.Hit("queue-planned")
	p.through, p.next, p.done = through, next, done
	return nil
}

// putChunk stores a chunk that is to be worked on.
func putChunk(ctx context.Context, s session, key int64, rows []Input) error {
	data, err := pack(rows)
	if err != nil {
		return err
	}
	if _, err := s.exec(ctx, `INSERT INTO recpie_chunk(key, first_row, last_row, row_count, state) VALUES($1, $2, $3, $4, $5)`,
		key, rows[0].Row, rows[len(rows)-1].Row, len(rows), chunkPlanned); err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO recpie_input(key, data) VALUES($1, $2)`, key, data)
	return err
}

// copy stores results that are there already as those of other rows, under a chunk that is done.
func (p *planner) copy(ctx context.Context, s session, chunk int64, reuse []reused) error {
	pairs := make([][2]int64, len(reuse))
	inputs := make([]Input, len(reuse))
	for i, r := range reuse {
		pairs[i] = [2]int64{keyOf(p.batch, r.Row), r.from}
		inputs[i] = r.Input
	}
	n, err := s.exec(ctx, `INSERT INTO recpie_result(key, chunk, identity, tokens, text, raw, payload)
		SELECT m.a, $2, r.identity, r.tokens, r.text, r.raw, r.payload FROM `+p.db.b.words().pairs+` m JOIN recpie_result r ON r.key = m.b`, jsonOf(pairs), chunk)
	if err != nil {
		return err
	}
	if n != int64(len(reuse)) {
		return fault.Newf(fault.Transient, "queue: plan", "rows to be reused were purged meanwhile")
	}
	if err := putChunk(ctx, s, chunk, inputs); err != nil { // with its inputs, so that a purge finds these rows too
		return err
	}
	_, err = s.exec(ctx, `UPDATE recpie_chunk SET state = $1, ok = row_count, finished = $2 WHERE key = $3`, chunkReused, time.Now().UnixMilli(), chunk)
	return err
}
