package queue

import (
	"context"
	"log/slog"
	"strings"

	"recpie/internal/fault"
)

// DB is a database of batches. It is safe for concurrent use.
type DB struct {
	b       backend
	observe bool
}

// Options of Open.
type Options struct {
	Observe     bool // do not plan or work: on SQLite other processes are let in, to look, pause or cancel
	Connections int  // to PostgreSQL; default 24, a worker needs about one for each chunk in flight
}

// Open opens or creates the database: "postgres://…" for a server, else the path of a SQLite file. A SQLite file that another
// process works on is refused, with that process named, unless it is only observed.
func Open(ctx context.Context, dsn string, o Options) (*DB, error) {
	if o.Connections == 0 {
		o.Connections = 24
	}
	if strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://") {
		b, err := openPostgres(ctx, dsn, o.Connections)
		if err != nil {
			return nil, err
		}
		return &DB{b, o.Observe}, nil
	}
	if scheme, _, ok := strings.Cut(dsn, "://"); ok {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "queue: open", "unknown kind of database %q", scheme), "use postgres://…, or the path of a SQLite file")
	}
	b, err := openSQLite(ctx, dsn, o.Observe)
	if err != nil {
		return nil, err
	}
	return &DB{b, o.Observe}, nil
}

// Close releases the database. Work must have returned.
func (db *DB) Close() error { return failed("close", db.b.close()) }

// worker refuses what an observer must not do.
func (db *DB) worker(op string) error {
	if db.observe {
		return fault.Newf(fault.Fatal, "queue: "+op, "the database was opened for observing only")
	}
	return nil
}

// silent swallows River's chatter where nobody has given a logger.
var silent = slog.New(slog.DiscardHandler)

// mutation names a safety device that a test has removed, to see the suite notice. It is never set elsewhere.
var mutation string

const (
	mutateFence       = "fence"
	mutateTransaction = "transaction"
	mutateTakeover    = "takeover"
)
