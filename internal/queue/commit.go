package queue

import (
	"context"
	"time"

	"github.com/riverqueue/river"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
)

// outcome is an answered chunk on its way into the database.
type outcome struct {
	ctx     context.Context // without the end of the job's
	job     *river.Job[chunkArgs]
	batch   int64
	rows    []Input
	results []Result

	won    bool       // this answer is the stored one
	stored chan error // by the group committer
}

// put writes an outcome inside a transaction: completion of the job, fence, rows. Completing is no fence, because a job is completed
// for whoever says so; the change of the chunk's row is, and who comes second changes nothing. The number of rows is part of the
// condition: a chunk that lost rows to a purge while it was worked on is asked again without them.
func (db *DB) put(s session, o *outcome) error {
	o.won = false
	// River's own statement for this takes the database about as long as thirty rows. A job whose row was deleted, in the web
	// interface, does not make the answer worse.
	if _, err := s.exec(o.ctx, `UPDATE river_job SET state = 'completed', finalized_at = `+db.b.words().now+` WHERE id = $1 AND state = 'running'`, o.job.ID); err != nil {
		return err
	}
	var ok, dead, tokens int
	for _, r := range o.results {
		tokens += r.Tokens
		if r.Reason == "" {
			ok++
		} else {
			dead++
		}
	}
	fence := ` AND state = 1 AND row_count = $6`
	if mutation == mutateFence {
		fence = ` AND row_count >= 0 * $6`
	}
	n, err := s.exec(o.ctx, `UPDATE recpie_chunk SET state = 2, ok = $1, dead = $2, tokens = $3, finished = $4 WHERE key = $5`+fence,
		ok, dead, tokens, time.Now().UnixMilli(), o.job.Args.Key, len(o.rows))
	if err != nil {
		return err
	}
	if n == 0 { // done by another, or else smaller than what was answered
		_, err := s.exec(o.ctx, `UPDATE recpie_chunk SET state = 0 WHERE key = $1 AND state = 1`, o.job.Args.Key)
		return err
	}
	o.won = true
	if mutation == mutateTransaction {
		return nil
	}
	return db.b.insert(o.ctx, s, o.batch, o.job.Args.Key, o.rows, o.results)
}

// storeAll writes outcomes in one transaction. When that fails each is tried alone, so that one bad chunk does not stop the others.
func (db *DB) storeAll(all []*outcome) (errs []error) {
	errs = make([]error, len(all))
	ctx := all[0].ctx
	err := db.b.update(ctx, func(s session) error {
		for _, o := range all {
			if err := db.put(s, o); err != nil {
				return err
			}
		}
		if mutation != mutateTransaction {
			failpoint.Hit("queue-in-commit")
		}
		return nil
	})
	switch {
	case err == nil:
	case len(all) > 1:
		for i, o := range all {
			errs[i] = db.storeAll([]*outcome{o})[0]
		}
	default:
		errs[0] = err
	}
	if mutation == mutateTransaction && err == nil {
		failpoint.Hit("queue-in-commit")
		for i, o := range all {
			if o.won {
				errs[i] = db.b.update(ctx, func(s session) error {
					return db.b.insert(o.ctx, s, o.batch, o.job.Args.Key, o.rows, o.results)
				})
			}
		}
	}
	return errs
}

// Limits on storing an answer in PostgreSQL: of one try, and of all of them while the server is away.
const (
	commitTimeout  = 30 * time.Second
	commitPatience = 2 * time.Minute
)

// store writes one outcome, waiting for a server that is away: the answer is paid for, and the fence makes coming late harmless.
func (db *DB) store(o *outcome) error {
	base, give := o.ctx, time.Now().Add(commitPatience)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		ctx, cancel := context.WithTimeout(base, commitTimeout)
		o.ctx = ctx
		err := failed("store results", db.storeAll([]*outcome{o})[0])
		cancel()
		if err == nil || fault.ClassOf(err) != fault.Transient || time.Now().After(give) {
			return err
		}
		time.Sleep(wait)
	}
}

// groupSize bounds how many chunks share one commit on SQLite.
const groupSize = 16

// committer stores outcomes of many workers over the one writing connection: what has come in while the disk was busy goes
// together into the next transaction.
type committer struct {
	db      *DB
	waiting chan *outcome
	quit    chan struct{}
	ended   chan struct{}
}

func newCommitter(db *DB) *committer {
	c := &committer{db: db, waiting: make(chan *outcome), quit: make(chan struct{}), ended: make(chan struct{})}
	go c.run()
	return c
}

func (c *committer) run() {
	defer close(c.ended)
	for {
		select {
		case <-c.quit:
			return
		case first := <-c.waiting:
			group := c.gather(first)
			for i, err := range c.db.storeAll(group) {
				group[i].stored <- failed("store results", err)
			}
		}
	}
}

// gather takes what is waiting beside the first.
func (c *committer) gather(first *outcome) []*outcome {
	group := []*outcome{first}
	for len(group) < groupSize {
		select {
		case o := <-c.waiting:
			group = append(group, o)
		default:
			return group
		}
	}
	return group
}

// store hands an outcome over and waits until it is durable.
func (c *committer) store(o *outcome) error {
	o.stored = make(chan error, 1)
	select {
	case c.waiting <- o:
		return <-o.stored
	case <-c.ended: // a handler that outlived even the end of its context
		return fault.Newf(fault.Transient, "queue: store results", "the process is stopping")
	}
}

// close ends the committer when it has stored what it holds.
func (c *committer) close() {
	close(c.quit)
	<-c.ended
}
