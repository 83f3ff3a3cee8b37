package queue

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"

	"recpie/internal/fault"
)

// partBytes is the size of the pieces that a blob is stored in.
const partBytes = 1 << 20

// PutBlob stores what r holds under its SHA-256, in lower-case hex, which is returned. What is there already is not stored again.
func (db *DB) PutBlob(ctx context.Context, r io.Reader) (sha string, err error) {
	const op = "store blob"
	h := sha256.New()
	err = db.b.update(ctx, func(s session) error {
		var id, size int64 // the sum is known at the end only: until then the blob has a name of its own
		if err := one(ctx, s, `INSERT INTO recpie_blob(sha, size) VALUES($1, 0) RETURNING id`, []any{"unfinished " + rand.Text()}, &id); err != nil {
			return err
		}
		part := make([]byte, partBytes)
		for n := int64(0); ; n++ {
			got, err := io.ReadFull(r, part)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
				return fault.New(fault.Fatal, "queue: "+op, err)
			}
			h.Write(part[:got])
			size += int64(got)
			if _, err := s.exec(ctx, `INSERT INTO recpie_blob_part(key, data) VALUES($1, $2)`, keyOf(id, n), part[:got]); err != nil {
				return err
			}
		}
		sha = hex.EncodeToString(h.Sum(nil))
		if have, err := db.hasBlob(ctx, s, sha); err != nil || have {
			return errors.Join(err, errEnough) // the parts just written are rolled back
		}
		_, err := s.exec(ctx, `UPDATE recpie_blob SET sha = $1, size = $2 WHERE id = $3`, sha, size, id)
		return err
	})
	if err != nil && sha != "" { // another process may have stored the same meanwhile
		if have, e := db.hasBlob(ctx, db.b.reader(), sha); e == nil && have {
			err = nil
		}
	}
	return sha, failed(op, err)
}

func (db *DB) hasBlob(ctx context.Context, s session, sha string) (bool, error) {
	var n int
	err := one(ctx, s, `SELECT COUNT(*) FROM recpie_blob WHERE sha = $1`, []any{sha}, &n)
	return n > 0, err
}

// Blob returns the bytes stored under a SHA-256. Reading them to the end fails when they were damaged.
func (db *DB) Blob(ctx context.Context, sha string) (io.Reader, error) {
	b := &blobReader{ctx: ctx, db: db, sha: sha, sum: sha256.New()}
	var id, size int64
	err := one(ctx, db.b.reader(), `SELECT id, size FROM recpie_blob WHERE sha = $1`, []any{sha}, &id, &size)
	if errors.Is(err, errNoRow) {
		return nil, fault.Newf(fault.Fatal, "queue", "there is no blob %s", sha)
	}
	b.next = keyOf(id, 0)
	b.end = b.next + (size+partBytes-1)/partBytes
	return b, failed("read blob", err)
}

// blobReader reads one part after the other.
type blobReader struct {
	ctx       context.Context
	db        *DB
	sha       string
	next, end int64 // keys of parts
	part      bytes.Reader
	sum       hash.Hash
}

func (b *blobReader) Read(p []byte) (int, error) {
	if b.part.Len() == 0 {
		if b.next == b.end {
			if hex.EncodeToString(b.sum.Sum(nil)) != b.sha {
				return 0, fault.Newf(fault.Fatal, "queue", "blob %s is damaged", b.sha)
			}
			return 0, io.EOF
		}
		var data []byte
		if err := one(b.ctx, b.db.b.reader(), `SELECT data FROM recpie_blob_part WHERE key = $1`, []any{b.next}, &data); err != nil {
			return 0, fault.New(fault.Fatal, "queue: read blob "+b.sha, err)
		}
		b.sum.Write(data)
		b.part.Reset(data)
		b.next++
	}
	return b.part.Read(p)
}
