package queue

import (
	"context"
	"slices"
)

// Purge removes every row of every batch that match accepts: its input, its result and its place in the identity index. The pages
// are overwritten on SQLite, so that nothing of them stays in the file. A chunk in flight that loses a row is asked again without
// it. Purge returns how many rows went; a batch that is still being planned should be planned to its end, or cancelled, first.
func (db *DB) Purge(ctx context.Context, match func(b Batch, r Input) bool) (n int, err error) {
	const op = "purge"
	all, err := db.Batches(ctx)
	if err != nil {
		return 0, err
	}
	for _, b := range all {
		lo, hi := span(b.ID)
		for {
			type block struct {
				key  int64
				data []byte
			}
			var page []block
			err := each(ctx, db.b.reader(), `SELECT key, data FROM recpie_input WHERE key BETWEEN $1 AND $2 ORDER BY key LIMIT 64`, []any{lo, hi}, func(c cursor) error {
				var d block
				err := c.Scan(&d.key, &d.data)
				page, lo = append(page, d), d.key+1
				return err
			})
			if err != nil || len(page) == 0 {
				if err != nil {
					return n, failed(op, err)
				}
				break
			}
			for _, d := range page {
				gone, err := db.purgeChunk(ctx, b, d.key, d.data, match)
				if n += gone; err != nil {
					return n, failed(op, err)
				}
			}
		}
	}
	return n, failed(op, db.b.forget(ctx))
}

// purgeChunk removes what matches from one chunk.
func (db *DB) purgeChunk(ctx context.Context, b Batch, key int64, data []byte, match func(Batch, Input) bool) (int, error) {
	rows, err := unpack(data)
	if err != nil {
		return 0, err
	}
	var keys, hashes []int64
	keep := slices.DeleteFunc(rows, func(r Input) bool {
		if !match(b, r) {
			return false
		}
		keys, hashes = append(keys, keyOf(b.ID, r.Row)), append(hashes, hashOf(r.Identity[:]))
		return true
	})
	if len(keys) == 0 {
		return 0, nil
	}
	if data, err = pack(keep); err != nil {
		return 0, err
	}
	words := db.b.words()
	return len(keys), db.b.update(ctx, func(s session) error {
		var ok, dead int
		in := ` WHERE key IN ` + words.list
		if err := one(ctx, s, `SELECT COUNT(*) - COUNT(reason), COUNT(reason) FROM recpie_result`+in, []any{jsonOf(keys)}, &ok, &dead); err != nil {
			return err
		}
		if _, err := s.exec(ctx, `DELETE FROM recpie_identity WHERE hash IN `+words.list, jsonOf(hashes)); err != nil {
			return err
		}
		if _, err := s.exec(ctx, `DELETE FROM recpie_result`+in, jsonOf(keys)); err != nil {
			return err
		}
		if _, err := s.exec(ctx, `UPDATE recpie_input SET data = $1 WHERE key = $2`, data, key); err != nil {
			return err
		}
		// a chunk without rows is done: no job needs to carry it
		_, err := s.exec(ctx, `UPDATE recpie_chunk SET row_count = row_count - $1, ok = ok - $2, dead = dead - $3,
			state = CASE WHEN row_count = $1 AND state < 2 THEN 2 ELSE state END WHERE key = $4`, len(keys), ok, dead, key)
		return err
	})
}
