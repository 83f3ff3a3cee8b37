// Package store keeps explanations in SQL, each exactly once.
//
// A batch is a named set of rows (one round's explanations of the sampled pairs, say); a row is stored under the integer key
// (batch, row) and carries the identity of what produced it: the digest of everything that determines its text. Put is one
// transaction: after it returns, the rows survive a crash of the machine (WAL, synchronous=FULL); a row that is there already is
// left as it is, so that work repeated after a crash changes nothing. Rows of another batch with the same identity are reused
// by Reuse, without asking a model again.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	_ "modernc.org/sqlite" // the driver, pure Go

	"recpie/internal/fault"
)

// Identity is the SHA-256 of all that determines a row: prompt, model, adapter and soft-prompt digests, sampling parameters.
type Identity [32]byte

// Row is one explanation. Exactly one of Text and Reason is set: a row ends as a usable sentence or as a dead letter.
type Row struct {
	Row      int64 // position in the batch
	Record   int32 // index of the (user, item) record in the data set
	Polarity int8  // 0 positive, 1 negative
	Identity Identity
	Text     string // the sentence, after parsing
	Raw      string // what the model wrote
	Reason   string // why there is no usable sentence
	Tokens   int    // generated tokens
	Payload  []byte // caller's own data (token ids and logprobs of a rollout), may be nil
}

// Store is a SQLite database of explanations. It is safe for concurrent use; writes take turns.
type Store struct{ db *sql.DB }

const schema = `
CREATE TABLE IF NOT EXISTS batches (
	id     INTEGER PRIMARY KEY,
	name   TEXT NOT NULL UNIQUE,
	digest TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS explanations (
	batch    INTEGER NOT NULL REFERENCES batches(id),
	row      INTEGER NOT NULL,
	record   INTEGER NOT NULL,
	polarity INTEGER NOT NULL,
	identity BLOB NOT NULL,
	text     TEXT NOT NULL,
	raw      TEXT NOT NULL,
	reason   TEXT NOT NULL,
	tokens   INTEGER NOT NULL,
	payload  BLOB,
	PRIMARY KEY (batch, row)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS explanations_identity ON explanations(identity);
`

// Open opens or creates the database file.
func Open(ctx context.Context, path string) (*Store, error) {
	db, err := Pool(path, 1, "foreign_keys(1)") // one writer is as fast as many on SQLite, and never answers "busy"
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema+answers); err != nil {
		_ = db.Close()
		return nil, fault.WithHint(fault.New(fault.Fatal, "store: open "+path, err), "check that the disk is writable and not full")
	}
	return &Store{db: db}, nil
}

// Pool returns connections to the SQLite database in a file, at most conns at once, whose commits survive a crash of the machine.
// Each pragma, as "name(value)", is set on every connection.
func Pool(path string, conns int, pragmas ...string) (*sql.DB, error) {
	q := url.Values{}
	for _, p := range append([]string{"journal_mode(WAL)", "synchronous(FULL)", "busy_timeout(10000)"}, pragmas...) {
		q.Add("_pragma", p)
	}
	q.Set("_txlock", "immediate")
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fault.New(fault.Fatal, "store: open", err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// Close releases the database.
func (s *Store) Close() error { return s.db.Close() }

// Batch returns the id of the batch called name, creating it when it is new. The digest covers what the batch is about; opening
// an existing batch with another digest is an error, because its rows would answer another question.
func (s *Store) Batch(ctx context.Context, name, digest string) (int64, error) {
	const op = "store: batch"
	if _, err := s.db.ExecContext(ctx, `INSERT INTO batches(name, digest) VALUES(?, ?) ON CONFLICT(name) DO NOTHING`, name, digest); err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	var id int64
	var have string
	if err := s.db.QueryRowContext(ctx, `SELECT id, digest FROM batches WHERE name = ?`, name).Scan(&id, &have); err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	if have != digest {
		return 0, fault.WithHint(fault.Newf(fault.Fatal, op, "batch %s was begun with other settings", name), "use another run directory, or the settings of the first run")
	}
	return id, nil
}

// Put stores rows in one transaction and returns how many were new.
func (s *Store) Put(ctx context.Context, batch int64, rows []Row) (added int, err error) {
	const op = "store: put"
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	defer tx.Rollback()
	st, err := tx.PrepareContext(ctx, `INSERT INTO explanations(batch, row, record, polarity, identity, text, raw, reason, tokens, payload)
		VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(batch, row) DO NOTHING`)
	if err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	defer st.Close()
	for _, r := range rows {
		if (r.Text == "") == (r.Reason == "") {
			return 0, fault.Newf(fault.Fatal, op, "row %d must have a text or a reason, and not both", r.Row)
		}
		res, err := st.ExecContext(ctx, batch, r.Row, r.Record, r.Polarity, r.Identity[:], r.Text, r.Raw, r.Reason, r.Tokens, r.Payload)
		if err != nil {
			return 0, fault.New(fault.Fatal, op, err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return 0, fault.New(fault.Fatal, op, err)
		}
		added += int(n)
	}
	if err := tx.Commit(); err != nil {
		return 0, fault.WithHint(fault.New(fault.Fatal, op, err), "check the free space of the disk")
	}
	return added, nil
}

// Have returns the row numbers that a batch holds.
func (s *Store) Have(ctx context.Context, batch int64) (map[int64]bool, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT row FROM explanations WHERE batch = ?`, batch)
	if err != nil {
		return nil, fault.New(fault.Fatal, "store: have", err)
	}
	defer rows.Close()
	have := map[int64]bool{}
	for rows.Next() {
		var n int64
		if err := rows.Scan(&n); err != nil {
			return nil, fault.New(fault.Fatal, "store: have", err)
		}
		have[n] = true
	}
	return have, fault.New(fault.Fatal, "store: have", rows.Err())
}

// Find returns a stored row with this identity from any batch, and false when there is none.
func (s *Store) Find(ctx context.Context, id Identity) (Row, bool, error) {
	r, err := scan(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM explanations WHERE identity = ? ORDER BY batch, row LIMIT 1`, id[:]).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Row{}, false, nil
	}
	return r, err == nil, fault.New(fault.Fatal, "store: find", err)
}

// Rows calls fn with each row of a batch in order of its number. It stops at fn's first error and returns it.
// fn must not call the store.
func (s *Store) Rows(ctx context.Context, batch int64, fn func(Row) error) error {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM explanations WHERE batch = ? ORDER BY row`, batch)
	if err != nil {
		return fault.New(fault.Fatal, "store: rows", err)
	}
	defer rows.Close()
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return fault.New(fault.Fatal, "store: rows", err)
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return fault.New(fault.Fatal, "store: rows", rows.Err())
}

const columns = `row, record, polarity, identity, text, raw, reason, tokens, payload`

func scan(from func(...any) error) (Row, error) {
	var r Row
	var id []byte
	if err := from(&r.Row, &r.Record, &r.Polarity, &id, &r.Text, &r.Raw, &r.Reason, &r.Tokens, &r.Payload); err != nil {
		return Row{}, err
	}
	if copy(r.Identity[:], id) != len(r.Identity) {
		return Row{}, fmt.Errorf("row %d has an identity of %d bytes", r.Row, len(id))
	}
	return r, nil
}

// Lookup returns the id of an existing batch, whatever its digest: for reading what a finished run wrote.
func (s *Store) Lookup(ctx context.Context, name string) (int64, error) {
	var id int64
	err := s.db.QueryRowContext(ctx, `SELECT id FROM batches WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fault.Newf(fault.Fatal, "store", "there is no batch %s", name)
	}
	return id, fault.New(fault.Fatal, "store: lookup", err)
}
