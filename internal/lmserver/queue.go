package lmserver

import (
	"context"
	"fmt"
	"sync"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
)

const maxSeen = 20_000 // sequence numbers of one model that are remembered for idempotency

// digest identifies a request's content.
type digest [32]byte

type work func(ctx context.Context) (any, error)

type task struct {
	future *future
	run    work
	next   int32 // the number after it
}

type seenRequest struct {
	content digest
	id      string
}

// model is one adapter under training. Its requests run one at a time, strictly in the order of their sequence numbers, however
// they arrive; number 0 is the creation.
type model struct {
	id      string
	session *session
	cfg     lm.LoRAConfig
	meta    map[string]string
	futures *futures
	gap     time.Duration // patience with a missing number

	mu      sync.Mutex
	next    int32
	waiting map[int32]*task
	seen    map[int32]seenRequest
	closed  bool
	wake    chan struct{} // holds at most one signal
	touched time.Time

	most    int                              // requests that may wait
	keep    func(m *model, next int32) error // puts the state on disk before a result can be fetched
	forget  func(id string)                  // takes it off the disk again
	revived bool                             // known from disk, and no request has run since

	// The worker's own.
	prepare func() error // makes the trainer of a revived model
	reload  func() error // goes back to what is on disk
	state   runState
	lost    bool // its gradients went with the last server
	changed bool // weights or moments are others than on disk
	trainer trainer
	broken  error // creation failed
	started bool  // a training request has run
}

func newModel(id string, s *session, cfg lm.LoRAConfig, meta map[string]string, fs *futures, gap time.Duration) *model {
	return &model{id: id, session: s, cfg: cfg, meta: meta, futures: fs, gap: gap, waiting: map[int32]*task{},
		seen: map[int32]seenRequest{}, wake: make(chan struct{}, 1), touched: time.Now()}
}

// submit accepts a request and returns its id; busy means that it was not accepted and may be sent again. A number seen before with
// the same content returns the first id and runs nothing; with other content, or below what has run, it is accepted and fails.
func (m *model) submit(seq int32, content digest, run work) (id string, busy bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.touched = time.Now()
	reject := func(format string, args ...any) (string, bool) {
		f := m.futures.add(m.id)
		m.futures.settle(f, nil, userError(format, args...))
		return f.id, false
	}
	if old, ok := m.seen[seq]; ok {
		if old.content == content {
			return old.id, false
		}
		return reject("seq_id %d of %s was used before with another content", seq, m.id)
	}
	switch {
	case m.closed:
		return reject("model %s is unloaded", m.id)
	case seq < m.next:
		return reject("seq_id %d of %s is over: the model is at %d", seq, m.id, m.next)
	case len(m.waiting) >= m.most && seq != m.next:
		return "", true
	}
	f := m.futures.add(m.id)
	m.seen[seq] = seenRequest{content, f.id}
	delete(m.seen, seq-maxSeen)
	m.waiting[seq] = &task{f, run, seq + 1}
	m.signal()
	return f.id, false
}

func (m *model) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// work runs the model's requests until ctx ends or the model is closed, then fails what is left and frees the trainer.
func (m *model) work(ctx context.Context) {
	defer m.drain(ctx)
	if m.prepare != nil {
		m.broken = m.prepare()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	missing := int32(-1) // the number waited for, when later ones are here
	for ctx.Err() == nil {
		t, gap, closed := m.take()
		switch {
		case closed:
			return
		case t != nil:
			result, err := m.attempt(ctx, t.run)
			if m.broken == nil && m.keep != nil {
				if kept := m.keep(m, t.next); kept != nil {
					result, err = nil, kept
					m.broken = m.reload() // what is not on disk was not acknowledged: it must not count either
				}
			}
			m.futures.settle(t.future, result, err)
			continue
		case gap >= 0 && gap != missing:
			missing = gap
			timer.Reset(m.gap)
		}
		select {
		case <-ctx.Done():
		case <-m.wake:
		case <-timer.C:
			if gap >= 0 && gap == missing {
				m.skip()
			}
			missing = -1
		}
	}
}

// take returns the next task in order. Without one, gap is the missing number when later ones wait, else -1.
func (m *model) take() (t *task, gap int32, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, -1, true
	}
	if t, ok := m.waiting[m.next]; ok {
		delete(m.waiting, m.next)
		m.next++
		m.revived = false
		return t, -1, false
	}
	if len(m.waiting) > 0 {
		return nil, m.next, false
	}
	return nil, -1, false
}

// skip gives up on the missing numbers below the first that waits. Clients use up a number even when its request was refused.
func (m *model) skip() {
	m.mu.Lock()
	defer m.mu.Unlock()
	first := int32(-1)
	for seq := range m.waiting {
		if first < 0 || seq < first {
			first = seq
		}
	}
	if first < 0 {
		return
	}
	if m.revived { // those between were acknowledged and went with the last server: gradients may have been among them
		m.revived, m.lost = false, true
	}
	m.next = first
}

// attempt runs one task. A panic below becomes the failure of this request alone: the process serves other models.
func (m *model) attempt(ctx context.Context, run work) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	if m.broken != nil {
		return nil, fmt.Errorf("model %s was not created: %w", m.id, m.broken)
	}
	return run(ctx)
}

// close ends the worker after the running request.
func (m *model) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.signal()
}

func (m *model) drain(ctx context.Context) {
	reason := userError("model %s was unloaded before this request ran", m.id)
	if ctx.Err() != nil {
		reason = fault.Newf(fault.Transient, "", "the server stopped before this request ran")
	}
	m.mu.Lock()
	m.closed = true
	rest := m.waiting
	m.waiting = map[int32]*task{}
	m.mu.Unlock()
	for _, t := range rest {
		m.futures.settle(t.future, nil, reason)
	}
	if m.forget != nil && ctx.Err() == nil { // unloaded, not stopped with the server
		m.forget(m.id)
	}
	if m.trainer != nil {
		m.trainer.Close()
		m.trainer = nil
	}
}
