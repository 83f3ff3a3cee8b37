package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"

	"recpie/internal/failpoint"
)

// reused is a row whose result is stored already.
type reused struct {
	Input
	from int64 // key of that result
}

// resolve parts a group into rows whose identity has a result and rows to be worked on.
func (db *DB) resolve(ctx context.Context, group []Input) (found []reused, todo []Input, err error) {
	hashes := make([]int64, len(group))
	for i, r := range group {
		hashes[i] = hashOf(r.Identity[:])
	}
	slices.Sort(hashes) // neighbours in the index are read together
	type entry struct {
		key      int64
		identity []byte
	}
	have := map[int64]entry{}
	err = each(ctx, db.b.reader(), `SELECT i.hash, r.key, r.identity FROM recpie_identity i JOIN recpie_result r ON r.key = i.row_key
		WHERE r.reason IS NULL AND i.hash IN `+db.b.words().list, []any{jsonOf(hashes)}, func(c cursor) error {
		var hash int64
		var e entry
		if err := c.Scan(&hash, &e.key, &e.identity); err != nil {
			return err
		}
		have[hash] = e
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range group {
		if e, ok := have[hashOf(r.Identity[:])]; ok && bytes.Equal(e.identity, r.Identity[:]) {
			found = append(found, reused{r, e.key})
		} else {
			todo = append(todo, r)
		}
	}
	return found, todo, nil
}

// The identity index is written in sorted bulk when a range of chunks is done: single identities, being random numbers, would each
// touch a page of their own and halve the speed of everything.
const (
	sealRows  = 128 << 10 // rows worth a walk through the index, at least
	sealMost  = 1 << 20   // rows that are sorted in memory at once
	sealSlice = 16 << 10  // entries of one transaction, so that results do not wait long
)

// sealSize is how many rows are worth a walk when so many are sealed: the longer the walk, the more.
func sealSize(sealed int64) int64 { return min(max(sealRows, sealed/4), sealMost) }

// sealAll indexes every result of every batch, those behind a chunk that is still open too.
func (db *DB) sealAll(ctx context.Context) error {
	all, err := db.Batches(ctx)
	for _, b := range all {
		if err == nil {
			err = db.seal(ctx, b.ID, true)
		}
		if err == nil {
			err = db.sealBehind(ctx, b.ID)
		}
	}
	return err
}

// sealBehind indexes the finished chunks behind the sealed ones. They stay unsealed: the next seal finds their entries there.
func (db *DB) sealBehind(ctx context.Context, batch int64) error {
	var from, next int64
	err := one(ctx, db.b.reader(), `SELECT sealed, next_chunk FROM recpie_batch WHERE id = $1`, []any{batch}, &from, &next)
	for err == nil && from < next {
		var part int64
		if part, _, err = db.sealable(ctx, batch, from, next, sealRows); err == nil {
			err = db.indexRange(ctx, batch, from, part)
		}
		from = part
	}
	return err
}

// seal indexes the results of the finished chunks that follow the sealed ones, the last few only if all is set.
// Interrupted, it starts the range again: an entry that is there stays.
func (db *DB) seal(ctx context.Context, batch int64, all bool) error {
	lo, hi := span(batch)
	_, err := db.b.alone(ctx, lockKey("recpie seal")^batch, func() error {
		var from, until, next, per int64
		err := one(ctx, db.b.reader(), `SELECT sealed, next_chunk, chunk_rows FROM recpie_batch WHERE id = $1`, []any{batch}, &from, &next, &per)
		if err != nil {
			return err
		}
		err = one(ctx, db.b.reader(), `SELECT COALESCE((SELECT MIN(key) FROM recpie_chunk WHERE state < 2 AND key BETWEEN $1 AND $2), $3)`, []any{lo, hi, keyOf(batch, next)}, &until)
		if err != nil {
			return err
		}
		until = numberOf(until)
		for from < until {
			size := sealSize(from * per)
			part, rows, err := db.sealable(ctx, batch, from, until, size)
			if err != nil || rows < size && !all {
				return err
			}
			if err := db.sealRange(ctx, batch, from, part); err != nil {
				return err
			}
			from = part
		}
		return nil
	})
	return err
}

// sealable returns how far chunks from one on hold about size rows, and how many rows they hold.
func (db *DB) sealable(ctx context.Context, batch, from, until, size int64) (part, rows int64, err error) {
	part = from
	err = each(ctx, db.b.reader(), `SELECT key, row_count FROM recpie_chunk WHERE key >= $1 AND key < $2 ORDER BY key`, []any{keyOf(batch, from), keyOf(batch, until)}, func(c cursor) error {
		var key, n int64
		if err := c.Scan(&key, &n); err != nil {
			return err
		}
		part = numberOf(key) + 1
		if rows += n; rows >= size {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	} else if err == nil {
		part = until
	}
	return part, rows, err
}

// errEnough ends an iteration early.
var errEnough = errors.New("enough")

// sealRange indexes the chunks from ≤ number < until, which are finished, and says so.
func (db *DB) sealRange(ctx context.Context, batch, from, until int64) error {
	if err := db.indexRange(ctx, batch, from, until); err != nil {
		return err
	}
	return db.b.update(ctx, func(s session) error {
		_, err := s.exec(ctx, `UPDATE recpie_batch SET sealed = $1 WHERE id = $2 AND sealed = $3`, until, batch, from)
		return err
	})
}

// finishedInputs reads the rows of the finished chunks from ≤ number < until: from the inputs, which are packed densely, and not from the
// results, which are not. Chunks of reused rows are left out: their identities were found in the index.
func (db *DB) finishedInputs(ctx context.Context, batch, from, until int64, row func(Input)) error {
	return each(ctx, db.b.reader(), `SELECT i.data FROM recpie_input i JOIN recpie_chunk c ON c.key = i.key WHERE i.key >= $1 AND i.key < $2 AND c.state = 2`,
		[]any{keyOf(batch, from), keyOf(batch, until)}, func(c cursor) error {
			var data []byte
			if err := c.Scan(&data); err != nil {
				return err
			}
			rows, err := unpack(data)
			for _, r := range rows {
				row(r)
			}
			return err
		})
}

// indexRange indexes the finished chunks from ≤ number < until.
func (db *DB) indexRange(ctx context.Context, batch, from, until int64) error {
	lo, hi := keyOf(batch, from), keyOf(batch, until)
	var first, last int64
	err := one(ctx, db.b.reader(), `SELECT COALESCE(MIN(first_row), 0), COALESCE(MAX(last_row), 0) FROM recpie_chunk WHERE key >= $1 AND key < $2`, []any{lo, hi}, &first, &last)
	if err != nil {
		return err
	}
	dead := map[int64]bool{}
	err = each(ctx, db.b.reader(), `SELECT key FROM recpie_result WHERE reason IS NOT NULL AND key BETWEEN $1 AND $2`, []any{keyOf(batch, first), keyOf(batch, last)}, func(c cursor) error {
		var key int64
		err := c.Scan(&key)
		dead[key] = true
		return err
	})
	if err != nil {
		return err
	}
	var pairs [][2]int64
	err = db.finishedInputs(ctx, batch, from, until, func(r Input) {
		if key := keyOf(batch, r.Row); !dead[key] {
			pairs = append(pairs, [2]int64{hashOf(r.Identity[:]), key})
		}
	})
	if err != nil {
		return err
	}
	slices.SortFunc(pairs, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	for slice := range slices.Chunk(pairs, sealSlice) {
		if err := db.b.index(ctx, slice); err != nil {
			return err
		}
		failpoint.Hit("queue-sealed")
	}
	return nil
}

// indexPairs adds pairs to the index, leaving what is there.
func indexPairs(ctx context.Context, s session, words dialect, pairs [][2]int64) error {
	_, err := s.exec(ctx, `INSERT INTO recpie_identity(hash, row_key) SELECT a, b FROM `+words.pairs+` m WHERE true ON CONFLICT(hash) DO NOTHING`, jsonOf(pairs))
	return err
}

// jsonOf encodes integers for the subqueries of dialect.
func jsonOf[T int64 | [2]int64](v []T) string {
	b, _ := json.Marshal(v) // integers always encode
	return string(b)
}
