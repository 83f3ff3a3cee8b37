package queue

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"
)

// pageRows is how many rows are read at a time: no reader holds a snapshot for long, which would keep the log of SQLite growing.
const pageRows = 512

// Results yields what is stored of a batch, dead letters too, in the order of the rows.
func (db *DB) Results(ctx context.Context, b Batch) iter.Seq2[Result, error] {
	return db.pages(ctx, b, "")
}

// DeadLetters yields the rows of a batch that ended without a result, in order.
func (db *DB) DeadLetters(ctx context.Context, b Batch) iter.Seq2[Result, error] {
	return db.pages(ctx, b, ` AND reason IS NOT NULL`)
}

const resultColumns = `key, tokens, reason, text, raw, payload`

func scanResult(c cursor) (key int64, r Result, err error) {
	var reason, text, raw []byte
	err = c.Scan(&key, &r.Tokens, &reason, &text, &raw, &r.Payload)
	r.Row, r.Reason, r.Text, r.Raw = numberOf(key), string(reason), string(text), string(raw)
	return key, r, err
}

func (db *DB) pages(ctx context.Context, b Batch, where string) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		lo, hi := span(b.ID)
		for {
			page := make([]Result, 0, pageRows)
			err := each(ctx, db.b.reader(), `SELECT `+resultColumns+` FROM recpie_result WHERE key BETWEEN $1 AND $2`+where+` ORDER BY key LIMIT $3`, []any{lo, hi, pageRows}, func(c cursor) error {
				key, r, err := scanResult(c)
				page, lo = append(page, r), key+1
				return err
			})
			if err != nil {
				yield(Result{}, failed("read results", err))
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
			}
			if len(page) < pageRows {
				return
			}
		}
	}
}

// Follow yields the results of a batch as chunks are completed, those of one chunk together, and waits for the rest until the batch
// has ended, for good or ill. A dead letter that is retried meanwhile comes twice.
func (db *DB) Follow(ctx context.Context, b Batch) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		seen := map[int64]bool{}
		from, _ := span(b.ID) // all chunks before it were seen
		for {
			s, err := lookup(ctx, db.b.reader(), `id = $1`, b.ID)
			if err != nil {
				yield(Result{}, failed("follow", err))
				return
			}
			chunks, err := db.finished(ctx, b.ID, from)
			if err != nil {
				yield(Result{}, failed("follow", err))
				return
			}
			for _, c := range chunks {
				if seen[c.key] {
					continue
				}
				if seen[c.key] = true; !db.chunk(ctx, c, yield) {
					return
				}
			}
			for seen[from] {
				delete(seen, from)
				from++
			}
			if s.State != Planning && s.State != Running {
				return
			}
			select {
			case <-ctx.Done():
				yield(Result{}, context.Cause(ctx))
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
}

// ended is a chunk that is done, with the keys that enclose its results.
type ended struct{ key, first, last int64 }

// finished lists chunks that are done, in the order in which they were.
func (db *DB) finished(ctx context.Context, batch, from int64) (all []ended, err error) {
	_, hi := span(batch)
	err = each(ctx, db.b.reader(), `SELECT key, first_row, last_row FROM recpie_chunk WHERE key BETWEEN $1 AND $2 AND state >= 2 ORDER BY finished, key`, []any{from, hi}, func(c cursor) error {
		var e ended
		err := c.Scan(&e.key, &e.first, &e.last)
		e.first, e.last = keyOf(batch, e.first), keyOf(batch, e.last)
		all = append(all, e)
		return err
	})
	return all, err
}

// chunk yields the results of one chunk.
func (db *DB) chunk(ctx context.Context, e ended, yield func(Result, error) bool) bool {
	var rows []Result
	err := each(ctx, db.b.reader(), `SELECT `+resultColumns+` FROM recpie_result WHERE key BETWEEN $1 AND $2 AND chunk = $3 ORDER BY key`, []any{e.first, e.last, e.key}, func(c cursor) error {
		_, r, err := scanResult(c)
		rows = append(rows, r)
		return err
	})
	if err != nil {
		yield(Result{}, failed("follow", err))
		return false
	}
	return !slices.ContainsFunc(rows, func(r Result) bool { return !yield(r, nil) })
}

// printable makes a text fit for a text column.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}
