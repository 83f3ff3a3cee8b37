package queue

import (
	"context"
	"slices"
	"time"
)

// Known tells which rows have a result already that planning them would copy. It reads only: results that are not yet in the identity
// index, because planning has not sealed them yet, are looked up in the inputs.
func (db *DB) Known(ctx context.Context, rows []Input) ([]bool, error) {
	const op = "look up known rows"
	known := make([]bool, len(rows))
	at := make(map[[32]byte][]int, len(rows))
	for i, r := range rows {
		at[r.Identity] = append(at[r.Identity], i)
	}
	for group := range slices.Chunk(rows, groupRows) {
		found, _, err := db.resolve(ctx, slices.Clone(group))
		if err != nil {
			return nil, failed(op, err)
		}
		for _, f := range found {
			for _, i := range at[f.Identity] {
				known[i] = true
			}
		}
	}
	all, err := db.Batches(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range all {
		if err := db.unsealed(ctx, b.ID, at, known); err != nil {
			return nil, failed(op, err)
		}
	}
	return known, nil
}

// unsealed marks what the finished chunks of a batch hold that planning would index first.
func (db *DB) unsealed(ctx context.Context, batch int64, at map[[32]byte][]int, known []bool) error {
	var from, next int64
	err := one(ctx, db.b.reader(), `SELECT sealed, next_chunk FROM recpie_batch WHERE id = $1`, []any{batch}, &from, &next)
	if err != nil || from >= next {
		return err
	}
	hits := map[int64][]int{} // by key of the result
	err = db.finishedInputs(ctx, batch, from, next, func(r Input) {
		if asked := at[r.Identity]; asked != nil {
			hits[keyOf(batch, r.Row)] = asked
		}
	})
	if err != nil || len(hits) == 0 {
		return err
	}
	keys := make([]int64, 0, len(hits))
	for k := range hits {
		keys = append(keys, k)
	}
	return each(ctx, db.b.reader(), `SELECT key FROM recpie_result WHERE reason IS NULL AND key IN `+db.b.words().list, []any{jsonOf(keys)}, func(c cursor) error {
		var key int64
		err := c.Scan(&key)
		for _, i := range hits[key] {
			known[i] = true
		}
		return err
	})
}

// Measured is what the rows of a batch have taken that were asked for: rows that were reused, or whose prompt did not fit, have taken
// nothing and are not in it.
type Measured struct {
	Answers int64         // rows with tokens that were looked at, some thousands at most
	Tokens  int64         // of them
	Written int64         // tokens of all rows that ended within Busy
	Busy    time.Duration // in which rows ended; pauses of more than a minute are left out
}

// Add puts another batch's figures to these.
func (m *Measured) Add(o Measured) {
	m.Answers, m.Tokens, m.Written, m.Busy = m.Answers+o.Answers, m.Tokens+o.Tokens, m.Written+o.Written, m.Busy+o.Busy
}

// Rate is how many answers a second came, 0 when that is not known.
func (m Measured) Rate() float64 {
	if m.Tokens == 0 || m.Busy == 0 {
		return 0
	}
	return float64(m.Written) / m.Busy.Seconds() * float64(m.Answers) / float64(m.Tokens)
}

const (
	longestGap   = time.Minute // between two chunks that is still work
	mostMeasured = 5000        // rows of a batch whose lengths are looked at
)

// Measure tells how long the answers of a batch are and how fast they came.
func (db *DB) Measure(ctx context.Context, b Batch) (m Measured, err error) {
	lo, hi := span(b.ID)
	last := int64(0)
	err = each(ctx, db.b.reader(), `SELECT finished, tokens FROM recpie_chunk WHERE state = 2 AND key BETWEEN $1 AND $2 ORDER BY finished`, []any{lo, hi}, func(c cursor) error {
		var at, tokens int64
		if err := c.Scan(&at, &tokens); err != nil {
			return err
		}
		if gap := time.Duration(at-last) * time.Millisecond; last > 0 && gap <= longestGap {
			m.Written, m.Busy = m.Written+tokens, m.Busy+gap
		}
		last = at
		return nil
	})
	if err == nil {
		err = one(ctx, db.b.reader(), `SELECT COUNT(*), CAST(COALESCE(SUM(tokens), 0) AS BIGINT) FROM (SELECT tokens FROM recpie_result WHERE key BETWEEN $1 AND $2 AND tokens > 0 LIMIT $3) AS m`,
			[]any{lo, hi, mostMeasured}, &m.Answers, &m.Tokens)
	}
	return m, failed("measure", err)
}

// What a batch takes on disk, as TestBytesOnDisk measures it on SQLite: an empty database, and a row beside its texts, which are stored
// as they are.
const (
	EmptyBytes = 160 << 10
	RowBytes   = 160
)
