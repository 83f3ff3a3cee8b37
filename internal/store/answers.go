package store

import (
	"context"
	"slices"
	"strings"

	"recpie/internal/fault"
)

// Answer is what a model said to one question, kept under the digest of all that determines it: it belongs to no batch, and whoever asks
// the same again finds it. Exactly one of Text and Reason is set.
type Answer struct {
	Identity Identity
	Text     string // what is usable of it
	Raw      string // what the model wrote
	Reason   string // why nothing is
	Tokens   int    // generated
}

const answers = `
CREATE TABLE IF NOT EXISTS answers (
	identity BLOB PRIMARY KEY,
	text     TEXT NOT NULL,
	raw      TEXT NOT NULL,
	reason   TEXT NOT NULL,
	tokens   INTEGER NOT NULL
) WITHOUT ROWID;
`

// PutAnswers stores answers in one transaction and returns how many were new: the first answer to a question stays.
func (s *Store) PutAnswers(ctx context.Context, all []Answer) (added int, err error) {
	const op = "store: put answers"
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	defer tx.Rollback()
	st, err := tx.PrepareContext(ctx, `INSERT INTO answers(identity, text, raw, reason, tokens) VALUES(?, ?, ?, ?, ?) ON CONFLICT(identity) DO NOTHING`)
	if err != nil {
		return 0, fault.New(fault.Fatal, op, err)
	}
	defer st.Close()
	for _, a := range all {
		if (a.Text == "") == (a.Reason == "") {
			return 0, fault.Newf(fault.Fatal, op, "an answer must have a text or a reason, and not both")
		}
		res, err := st.ExecContext(ctx, a.Identity[:], a.Text, a.Raw, a.Reason, a.Tokens)
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

// askedAtOnce bounds the parameters of one query.
const askedAtOnce = 500

// Answers returns the answers that are there to any of the questions.
func (s *Store) Answers(ctx context.Context, ids []Identity) (map[Identity]Answer, error) {
	const op = "store: answers"
	found := make(map[Identity]Answer, len(ids))
	for part := range slices.Chunk(ids, askedAtOnce) {
		args := make([]any, len(part))
		for i := range part {
			args[i] = part[i][:]
		}
		rows, err := s.db.QueryContext(ctx, `SELECT identity, text, raw, reason, tokens FROM answers WHERE identity IN (?`+strings.Repeat(",?", len(part)-1)+`)`, args...)
		if err != nil {
			return nil, fault.New(fault.Fatal, op, err)
		}
		for rows.Next() {
			var a Answer
			var id []byte
			if err := rows.Scan(&id, &a.Text, &a.Raw, &a.Reason, &a.Tokens); err != nil {
				_ = rows.Close()
				return nil, fault.New(fault.Fatal, op, err)
			}
			copy(a.Identity[:], id)
			found[a.Identity] = a
		}
		if err := rows.Err(); err != nil {
			return nil, fault.New(fault.Fatal, op, err)
		}
	}
	return found, nil
}
