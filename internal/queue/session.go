package queue

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"recpie/internal/fault"
)

// session is a transaction, or a pool outside of one, of either database. Queries number their parameters $1, $2, …
type session interface {
	exec(ctx context.Context, query string, args ...any) (changed int64, err error)
	query(ctx context.Context, query string, args ...any) (cursor, error)
}

// cursor walks over the rows of an answer.
type cursor interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
	Close() error
}

// errNoRow is what one returns for an empty answer.
var errNoRow = errors.New("no such row")

// one reads a single row.
func one(ctx context.Context, s session, query string, args []any, dest ...any) error {
	found := false
	err := each(ctx, s, query, args, func(c cursor) error {
		if found {
			return nil
		}
		found = true
		return c.Scan(dest...)
	})
	if err == nil && !found {
		return errNoRow
	}
	return err
}

// each calls fn with every row of an answer.
func each(ctx context.Context, s session, query string, args []any, fn func(cursor) error) error {
	c, err := s.query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer c.Close()
	for c.Next() {
		if err := fn(c); err != nil {
			return err
		}
	}
	return c.Err()
}

// sqlSession is a session of database/sql.
type sqlSession struct {
	q interface {
		ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
		QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	}
	tx *sql.Tx // nil outside of a transaction
}

func (s sqlSession) exec(ctx context.Context, query string, args ...any) (int64, error) {
	r, err := s.q.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

func (s sqlSession) query(ctx context.Context, query string, args ...any) (cursor, error) {
	return s.q.QueryContext(ctx, query, args...)
}

// pgSession is a session of pgx.
type pgSession struct {
	q interface {
		Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
		Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	}
	tx pgx.Tx // nil outside of a transaction
}

func (s pgSession) exec(ctx context.Context, query string, args ...any) (int64, error) {
	tag, err := s.q.Exec(ctx, query, args...)
	return tag.RowsAffected(), err
}

func (s pgSession) query(ctx context.Context, query string, args ...any) (cursor, error) {
	r, err := s.q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return pgCursor{r}, nil
}

type pgCursor struct{ pgx.Rows }

func (c pgCursor) Close() error { c.Rows.Close(); return c.Rows.Err() }

// failed gives an error of the database its class: a server that is away or restarting is transient, all else is fatal.
func failed(op string, err error) error {
	var classed *fault.Error
	if err == nil || errors.As(err, &classed) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if away(err) {
		return fault.New(fault.Transient, "queue: "+op, err)
	}
	return fault.New(fault.Fatal, "queue: "+op, err)
}

// away tells whether err speaks of a PostgreSQL server that cannot be reached now.
func away(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "08", "40", "53", "57": // connection, rollback, resources, operator intervention
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	return errors.As(err, &connect) || pgconn.SafeToRetry(err) || broken(err)
}
