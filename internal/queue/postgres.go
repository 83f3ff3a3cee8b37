package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"recpie/internal/fault"
)

// postgres is the backend of many processes.
type postgres struct {
	pool *pgxpool.Pool
}

// migrateKey is the advisory lock of creating the tables.
var migrateKey = lockKey("recpie migrate")

// openPostgres connects and creates what is missing.
func openPostgres(ctx context.Context, dsn string, conns int) (*postgres, error) {
	c, err := pgxpool.ParseConfig(dsn)
	if err != nil { // the cause would repeat parts of the address, with a password perhaps
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "queue: open", "the address of the database cannot be read"), "write it as postgres://user:password@host:5432/database")
	}
	c.MaxConns = int32(conns)
	// SQL of a fixed text is planned once per connection; a server that fell is noticed by its keep-alive
	c.ConnConfig.ConnectTimeout = 5 * time.Second
	pool, err := pgxpool.NewWithConfig(ctx, c)
	if err != nil {
		return nil, failed("open", err)
	}
	b := &postgres{pool: pool}
	if err := b.migrate(ctx); err != nil {
		pool.Close()
		return nil, fault.WithHint(failed("open", err), "check that the server runs, and that the user may create tables")
	}
	return b, nil
}

func (b *postgres) migrate(ctx context.Context) error {
	for { // a process that migrates holds the lock, the others wait
		ran, err := b.alone(ctx, migrateKey, func() error {
			for _, q := range postgresWords.statements() {
				if _, err := b.pool.Exec(ctx, q); err != nil {
					return err
				}
			}
			m, err := rivermigrate.New(riverpgxv5.New(b.pool), &rivermigrate.Config{Logger: silent})
			if err != nil {
				return err
			}
			_, err = m.Migrate(ctx, rivermigrate.DirectionUp, nil)
			return err
		})
		if ran || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (b *postgres) words() dialect  { return postgresWords }
func (b *postgres) reader() session { return pgSession{q: b.pool} }

func (b *postgres) update(ctx context.Context, fn func(session) error) error {
	return pgx.BeginFunc(ctx, b.pool, func(tx pgx.Tx) error { return fn(pgSession{q: tx, tx: tx}) })
}

// insert copies the rows in: a copy fills whole pages at a time, where an insert logs and locks for every row.
func (b *postgres) insert(ctx context.Context, s session, batch, chunk int64, rows []Input, results []Result) error {
	c := newCopying(8, len(rows)*100)
	for i, r := range results {
		c.row()
		c.int(keyOf(batch, r.Row))
		c.int(chunk)
		c.bytes(string(rows[i].Identity[:]))
		c.int(int64(r.Tokens))
		c.bytes(r.Reason)
		c.bytes(r.Text)
		c.bytes(r.Raw)
		c.bytes(string(r.Payload))
	}
	return c.send(ctx, s, `recpie_result(key, chunk, identity, tokens, reason, text, raw, payload)`)
}

// index copies the pairs in, for the same reason. Where one of them is there already nothing is copied, and they are inserted.
func (b *postgres) index(ctx context.Context, pairs [][2]int64) error {
	c := newCopying(2, len(pairs)*26)
	for i, p := range pairs {
		if i > 0 && p[0] == pairs[i-1][0] {
			continue
		}
		c.row()
		c.int(p[0])
		c.int(p[1])
	}
	err := b.update(ctx, func(s session) error { return c.send(ctx, s, `recpie_identity(hash, row_key)`) })
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == uniqueViolation {
		return b.update(ctx, func(s session) error { return indexPairs(ctx, s, b.words(), pairs) })
	}
	return err
}

const uniqueViolation = "23505"

func (b *postgres) alone(ctx context.Context, key int64, fn func() error) (bool, error) {
	conn, err := b.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	var got bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, key).Scan(&got); err != nil || !got {
		return false, err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, err := conn.Exec(end, `SELECT pg_advisory_unlock($1)`, key); err != nil {
			_ = conn.Conn().Close(end) // the lock ends with its connection
		}
	}()
	return true, fn()
}

// heartbeat is how often a process looks whether the connection that holds its lock still lives.
const heartbeat = time.Second

// register takes the advisory lock of name on a connection of its own, which is watched.
func (b *postgres) register(ctx context.Context, name string) (<-chan struct{}, func(), error) {
	c := b.pool.Config().ConnConfig.Copy()
	// a machine that vanished must not keep its lock: the server asks after it and ends the session in about five seconds
	for name, value := range map[string]string{"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3"} {
		c.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lockKey(name)); err != nil {
		_ = conn.Close(ctx)
		return nil, nil, err
	}
	lost, done := make(chan struct{}), make(chan struct{})
	var end sync.Once
	watch, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(done)
		for {
			beat, stop := context.WithTimeout(watch, 3*heartbeat)
			_, err := conn.WaitForNotification(beat) // returns at once when the server closes the connection
			alive := err != nil && beat.Err() != nil && watch.Err() == nil
			stop()
			if watch.Err() != nil {
				return
			}
			if alive { // nothing for a while: ask, because a machine that vanished closes nothing
				beat, stop = context.WithTimeout(watch, 3*heartbeat)
				alive = conn.Ping(beat) == nil
				stop()
			}
			if !alive {
				close(lost)
				return
			}
		}
	}()
	release := func() {
		end.Do(func() {
			cancel()
			<-done
			bye, stop := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
			defer stop()
			_ = conn.Close(bye)
		})
	}
	return lost, release, nil
}

func (b *postgres) dead(ctx context.Context, s session, name string) (gone bool, err error) {
	if mutation == mutateTakeover {
		return false, nil
	}
	err = one(ctx, s, `SELECT pg_try_advisory_xact_lock($1)`, []any{lockKey(name)}, &gone)
	return gone, err
}

// lockKey maps a name to the numbers of advisory locks.
func lockKey(name string) int64 {
	sum := sha256.Sum256([]byte(name))
	return hashOf(sum[:])
}

func (b *postgres) client(c *river.Config) (client, error) {
	return newTyped(riverpgxv5.New(b.pool), c, func(s session) pgx.Tx { return s.(pgSession).tx })
}

// forget does nothing: the server's own vacuum overwrites what is deleted.
func (b *postgres) forget(context.Context) error { return nil }

func (b *postgres) close() error { b.pool.Close(); return nil }
