package queue

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"

	"recpie/internal/fault"
	"recpie/internal/store"
)

// sqliteReaders is how many readers a SQLite file has beside its one writer.
const sqliteReaders = 4

// sqliteFile is the backend of one process: it writes over one connection, so that transactions take turns without a busy error.
type sqliteFile struct {
	path   string
	writes *sql.DB
	reads  *sql.DB
	lock   *os.File // nil when only observing
	row    *sql.Stmt
	busy   sync.Map // keys of alone
}

// openSQLite opens or creates the file. Unless it only observes, it holds the lock beside the file until close.
func openSQLite(ctx context.Context, path string, observe bool) (_ *sqliteFile, err error) {
	b := &sqliteFile{path: path}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if observe {
		if _, err := os.Stat(path); err != nil {
			return nil, fault.New(fault.Fatal, "queue: open", err)
		}
	} else {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, fault.New(fault.Fatal, "queue: open", err)
		}
		if b.lock, err = lockFile(path + ".lock"); err != nil {
			return nil, err
		}
	}
	// secure_delete overwrites what is purged; the larger cache holds the inner pages of the identity index
	if b.writes, err = store.Pool(path, 1, "secure_delete(1)", "cache_size(-65536)", "wal_autocheckpoint(4000)"); err != nil {
		return nil, err
	}
	if b.reads, err = store.Pool(path, sqliteReaders, "query_only(1)", "cache_size(-16384)"); err != nil {
		return nil, err
	}
	if err := b.migrate(ctx); err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "queue: open "+path, err), "check that the disk is writable and not full")
	}
	b.row, err = b.writes.PrepareContext(ctx, `INSERT INTO recpie_result(key, chunk, identity, tokens, reason, text, raw, payload) VALUES($1, $2, $3, $4, $5, $6, $7, $8)`)
	return b, failed("open "+path, err)
}

// migrate creates what is missing and, when this process is the only one, puts back the jobs that a dead one left running.
func (b *sqliteFile) migrate(ctx context.Context) error {
	err := b.update(ctx, func(s session) error {
		for _, q := range sqliteWords.statements() {
			if _, err := s.exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	m, err := rivermigrate.New(riversqlite.New(b.writes), &rivermigrate.Config{Logger: silent})
	if err != nil {
		return err
	}
	if _, err := m.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if b.lock == nil || mutation == mutateTakeover {
		return nil
	}
	return b.update(ctx, func(s session) error {
		if _, err := s.exec(ctx, `UPDATE river_job SET state = 'available' WHERE state = 'running'`); err != nil {
			return err
		}
		_, err := s.exec(ctx, `DELETE FROM river_leader`)
		return err
	})
}

// lockFile takes the lock that a working process holds, and writes its process id for the error that another one gets.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fault.New(fault.Fatal, "queue: lock", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0)
		_ = f.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "queue", "%s is in use by process %s", strings.TrimSuffix(path, ".lock"), bytes.TrimSpace(pid[:n])),
			"wait for it, or use PostgreSQL for more than one process")
	}
	if err = f.Truncate(0); err == nil {
		_, err = fmt.Fprintln(f, os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		return nil, fault.New(fault.Fatal, "queue: lock", err)
	}
	return f, nil
}

func (b *sqliteFile) words() dialect  { return sqliteWords }
func (b *sqliteFile) reader() session { return sqlSession{q: b.reads} }

func (b *sqliteFile) update(ctx context.Context, fn func(session) error) error {
	tx, err := b.writes.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := fn(sqlSession{q: tx, tx: tx}); err != nil {
		return err
	}
	return tx.Commit()
}

func (b *sqliteFile) insert(ctx context.Context, s session, batch, chunk int64, rows []Input, results []Result) error {
	st := s.(sqlSession).tx.StmtContext(ctx, b.row)
	defer st.Close()
	for i, r := range results {
		_, err := st.ExecContext(ctx, keyOf(batch, r.Row), chunk, rows[i].Identity[:], r.Tokens, blob(r.Reason), blob(r.Text), blob(r.Raw), r.Payload)
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *sqliteFile) index(ctx context.Context, pairs [][2]int64) error {
	return b.update(ctx, func(s session) error { return indexPairs(ctx, s, b.words(), pairs) })
}

// blob is a text as it is stored: nothing for the empty one.
func blob(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}

func (b *sqliteFile) alone(_ context.Context, key int64, fn func() error) (bool, error) {
	if _, taken := b.busy.LoadOrStore(key, true); taken {
		return false, nil
	}
	defer b.busy.Delete(key)
	return true, fn()
}

// register does nothing: the lock beside the file keeps other processes out.
func (b *sqliteFile) register(context.Context, string) (<-chan struct{}, func(), error) {
	return nil, func() {}, nil
}

func (b *sqliteFile) dead(context.Context, session, string) (bool, error) { return false, nil }

func (b *sqliteFile) client(c *river.Config) (client, error) {
	return newTyped(riversqlite.New(b.writes), c, func(s session) *sql.Tx { return s.(sqlSession).tx })
}

func (b *sqliteFile) forget(ctx context.Context) error {
	_, err := b.writes.ExecContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`)
	return err
}

func (b *sqliteFile) close() error {
	var errs []error
	if b.row != nil {
		errs = append(errs, b.row.Close())
	}
	for _, db := range []*sql.DB{b.reads, b.writes} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if b.lock != nil {
		errs = append(errs, b.lock.Close())
	}
	return errors.Join(errs...)
}
