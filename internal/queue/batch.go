package queue

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"recpie/internal/fault"
)

// Spec says what a batch is. Name, Digest, Settings, Env and ChunkRows stay as they were when the batch was created.
type Spec struct {
	Name         string
	Digest       string          // of everything that the batch is about: a batch is continued only with the digest it was begun with
	Settings     json.RawMessage // what a worker needs to run it; no secrets
	Env          []string        // names of environment variables that a worker must have
	Priority     int             // 1 (first) to 4; default 1
	ChunkRows    int             // rows of a job, default 128: all of them are redone after a crash
	MaxErrorRate float64         // the batch fails when a larger share of its finished rows are dead letters; 0 for no limit
	Deadline     time.Time       // the batch fails when it is not done by then; zero for none
}

// Batch is a stored batch.
type Batch struct {
	Spec
	ID      int64
	State   State
	Reason  string // why it failed
	Created time.Time
}

// State of a batch.
type State string

// The states of a batch. Planning, running and done follow each other; the others stop it.
const (
	Planning  State = "planning"  // rows are being stored; continued by the next Plan
	Running   State = "running"   // workers take its chunks
	Paused    State = "paused"    // until Resume
	Failed    State = "failed"    // by its error rate, its deadline or a fatal error; Resume tries again
	Cancelled State = "cancelled" // for ever; what is stored stays
	Done      State = "done"      // every row has ended
)

const batchColumns = `id, name, digest, settings, env, priority, chunk_rows, max_error_rate, deadline, state, reason, created`

func scanBatch(c cursor) (b Batch, err error) {
	var settings []byte
	var env, state string
	var deadline, created int64
	if err := c.Scan(&b.ID, &b.Name, &b.Digest, &settings, &env, &b.Priority, &b.ChunkRows, &b.MaxErrorRate, &deadline, &state, &b.Reason, &created); err != nil {
		return b, err
	}
	b.Settings, b.State, b.Created = settings, State(state), time.UnixMilli(created)
	if deadline != 0 {
		b.Deadline = time.UnixMilli(deadline)
	}
	return b, json.Unmarshal([]byte(env), &b.Env)
}

// Create stores a new batch, or returns the one that has this name and digest already, with the priority, the error rate and the
// deadline of this call. A batch of the name with another digest is an error: its rows would answer another question.
func (db *DB) Create(ctx context.Context, s Spec) (Batch, error) {
	const op = "create batch"
	if s.Priority == 0 {
		s.Priority = 1
	}
	if s.ChunkRows == 0 {
		s.ChunkRows = 128
	}
	if s.Name == "" || s.Priority < 1 || s.Priority > 4 || s.ChunkRows < 1 || s.MaxErrorRate < 0 || s.MaxErrorRate > 1 {
		return Batch{}, fault.Newf(fault.Fatal, "queue: "+op, "a batch needs a name, a priority from 1 to 4, rows in a chunk and an error rate from 0 to 1")
	}
	if s.Settings == nil {
		s.Settings = json.RawMessage("null")
	}
	if s.Env == nil {
		s.Env = []string{}
	}
	env, err := json.Marshal(s.Env)
	if err != nil {
		return Batch{}, fault.New(fault.Fatal, "queue: "+op, err)
	}
	deadline := int64(0)
	if !s.Deadline.IsZero() {
		deadline = s.Deadline.UnixMilli()
	}
	var b Batch
	err = db.b.update(ctx, func(tx session) error {
		_, err := tx.exec(ctx, `INSERT INTO recpie_batch(name, digest, settings, env, priority, chunk_rows, max_error_rate, deadline, state, created)
			VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT(name) DO NOTHING`,
			s.Name, s.Digest, []byte(s.Settings), string(env), s.Priority, s.ChunkRows, s.MaxErrorRate, deadline, string(Planning), time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if _, err := tx.exec(ctx, `UPDATE recpie_batch SET priority = $1, max_error_rate = $2, deadline = $3 WHERE name = $4 AND digest = $5`,
			s.Priority, s.MaxErrorRate, deadline, s.Name, s.Digest); err != nil {
			return err
		}
		b, err = lookup(ctx, tx, `name = $1`, s.Name)
		return err
	})
	if err == nil && b.ID > maxBatch {
		err = fault.Newf(fault.Fatal, "queue: "+op, "the database has had %d batches, its limit", maxBatch)
	}
	if err == nil && b.Digest != s.Digest {
		err = fault.WithHint(fault.Newf(fault.Fatal, "queue: "+op, "batch %s was begun with other settings or rows", s.Name), "give the batch another name, or use the settings of the first run")
	}
	return b, failed(op, err)
}

// Lookup returns the batch called name.
func (db *DB) Lookup(ctx context.Context, name string) (Batch, error) {
	b, err := lookup(ctx, db.b.reader(), `name = $1`, name)
	if errors.Is(err, errNoRow) {
		return b, fault.Newf(fault.Fatal, "queue", "there is no batch %s", name)
	}
	return b, failed("look up batch", err)
}

func lookup(ctx context.Context, s session, where string, args ...any) (b Batch, err error) {
	err = errNoRow
	if e := each(ctx, s, `SELECT `+batchColumns+` FROM recpie_batch WHERE `+where, args, func(c cursor) error {
		b, err = scanBatch(c)
		return err
	}); e != nil {
		return b, e
	}
	return b, err
}

// Batches returns all batches, the oldest first.
func (db *DB) Batches(ctx context.Context) (all []Batch, err error) {
	err = each(ctx, db.b.reader(), `SELECT `+batchColumns+` FROM recpie_batch ORDER BY id`, nil, func(c cursor) error {
		b, err := scanBatch(c)
		all = append(all, b)
		return err
	})
	return all, failed("list batches", err)
}
