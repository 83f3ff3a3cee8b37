package lm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// task is a job that has its memory: first its prompt passes through the model, then its continuations, token by token.
type task struct {
	*job
	keys   []int64           // of the prompt: ids, and for soft rows what their numbers hash to
	soft   map[int][]float32 // rows of embeddings by position
	pages  []int32           // of the prompt
	serial uint64            // of the last of the known pages
	known  int               // pages whose content can be found again, from the first on
	limit  int               // positions that may be found instead of computed
	done   int               // positions computed or found
	from   int               // of this step: positions from … done are computed in it
	kept   int               // pages set aside for continuations that do not exist yet
	pooled []float64         // sum of final hidden states
	rows   []*row            // under way
	failed error
}

// row is one continuation under way.
type row struct {
	job    *job
	choice *Choice
	draw   *sampler
	stops  *stopFinder
	pages  []int32
	kept   int   // pages set aside for it
	length int   // positions so far: prompt and tokens
	next   int32 // token to be fed, at position length-1
	done   bool
}

// run is the scheduler: step after step, until the engine is closed.
func (e *Engine) run() {
	defer e.abandon()
	for {
		if len(e.active) == 0 && !e.waiting() {
			select {
			case <-e.stop:
				return
			case <-e.wake:
			}
			e.gather()
		}
		e.admit()
		if len(e.active) > 0 {
			e.step()
		}
		if e.stopped() {
			return
		}
	}
}

// waiting reports whether there are requests in the queue.
func (e *Engine) waiting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.queue) > 0
}

// abandon fails what is under way when the engine closes.
func (e *Engine) abandon() {
	for _, t := range e.active {
		t.failed = fault.New(fault.Endpoint, "lm: generate", ErrClosed)
	}
	e.settle()
}

// gather waits until no request has come for a while, there are enough, or four such waits are over.
func (e *Engine) gather() {
	seen := -1
	for range 4 {
		e.mu.Lock()
		n, rows := len(e.queue), 0
		for _, j := range e.queue {
			rows += max(1, j.rows)
		}
		e.mu.Unlock()
		if n == 0 || n == seen || rows >= e.opt.MaxBatch {
			return
		}
		seen = n
		timer := time.NewTimer(e.opt.Gather)
		select {
		case <-timer.C:
		case <-e.stop:
			timer.Stop()
			return
		}
	}
}

// admit takes requests off the queue, in order, as long as there is room. Those whose caller has gone are dropped.
func (e *Engine) admit() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return
	}
	if err := e.prepare(); err != nil {
		for _, j := range e.queue {
			e.end(j, fault.New(fault.Fatal, "lm: generate", err))
		}
		e.queue = nil
		return
	}
	rows := 0
	for _, t := range e.active {
		rows += max(1, t.job.rows)
	}
	taken := 0
	for _, j := range e.queue {
		n := max(1, j.rows)
		if err := j.ctx.Err(); err != nil {
			e.end(j, err)
		} else if len(e.active) > 0 && rows+n > e.opt.MaxBatch {
			break
		} else if t := e.task(j); t != nil {
			e.active = append(e.active, t)
			rows += n
		} else if len(e.active) > 0 {
			break // room will come
		} else {
			e.end(j, fault.WithHint(fault.Newf(fault.Item, "lm: generate", "the keys and values of %d continuations of %d + %d positions do not fit the %d positions of memory",
				j.rows, len(j.req.Prompt), j.max, len(e.pool.pages)*pageSize), "ask for fewer or shorter continuations, or give the engine more memory for keys and values"))
		}
		taken++
	}
	e.queue = slices.Delete(e.queue, 0, taken)
	e.stats.Running, e.stats.KVShare = len(e.active), e.pool.share()
}

// end answers a job that failed before it began. The caller holds mu.
func (e *Engine) end(j *job, err error) {
	e.release(j)
	j.err = err
	close(j.done)
}

// prepare takes the memory for keys and values, once.
func (e *Engine) prepare() error {
	if e.kv != nil {
		return nil
	}
	m := e.b.Model
	size := m.Cfg.kvBytes()
	if !m.plain() && m.dtype != torch.Float32 {
		size /= 2
	}
	pages := max(e.opt.KVBytes/size/pageSize, 2)
	kv, err := newKeyValues(m, pages)
	if err != nil {
		return err
	}
	e.kv, e.pool = kv, newPool(pages)
	return nil
}

// task gives a job its memory, nil when there is too little.
func (e *Engine) task(j *job) *task {
	t := &task{job: j}
	t.read()
	n := len(t.keys)
	// What must be computed even where its pages are known: the last position, those to be scored, all to be pooled.
	t.limit = n - 1
	if j.req.PromptLogprobs >= 0 {
		t.limit = min(t.limit, max(1, j.req.PromptFrom)-1)
	}
	if j.req.Pool || e.opt.NoSharing {
		t.limit = 0
	}
	if j.ad.root == 0 {
		j.ad.root = e.pool.root()
	}
	t.pages, t.serial = e.pool.match(j.ad.root, t.keys[:t.limit])
	t.known = len(t.pages)
	t.done = t.known * pageSize
	prompt := pagesFor(n)
	if j.rows > 0 {
		t.kept = j.rows * (pagesFor(n+j.max-1) - n/pageSize)
		if n%pageSize != 0 {
			t.kept-- // the first continuation goes on in the prompt's own last page
		}
	}
	if e.pool.free() < prompt-len(t.pages)+t.kept {
		e.pool.drop(t.pages...)
		return nil
	}
	for len(t.pages) < prompt {
		t.pages = append(t.pages, e.pool.take())
	}
	e.pool.kept += t.kept
	j.res = &GenResult{}
	e.stats.PromptTokensSent += int64(n)
	if j.req.PromptLogprobs >= 0 {
		j.res.PromptLogprobs = make([]TokenLogprob, n)
		for p := range j.res.PromptLogprobs {
			j.res.PromptLogprobs[p] = TokenLogprob{ID: j.req.Prompt[p], Logprob: float32(math.NaN())}
		}
		if j.req.PromptLogprobs > 0 {
			j.res.PromptTop = make([][]TokenLogprob, n)
		}
	}
	return t
}

// read turns the request's prompt into keys: equal keys have equal embeddings. Rows of numbers are told apart by 62 bits of their hash.
func (t *task) read() {
	r := t.req
	t.keys = make([]int64, len(r.Prompt))
	for i, id := range r.Prompt {
		t.keys[i] = int64(id)
	}
	for _, sr := range r.Soft {
		width := len(sr.Data) / sr.Rows
		for k := range sr.Rows {
			row := sr.Data[k*width : (k+1)*width]
			b := make([]byte, 0, 4*width)
			for _, v := range row {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			}
			sum := sha256.Sum256(b)
			t.keys[sr.Pos+k] = ^int64(binary.LittleEndian.Uint64(sum[:]) >> 2)
			if t.soft == nil {
				t.soft = map[int][]float32{}
			}
			t.soft[sr.Pos+k] = row
		}
	}
}

// step takes every continuation one token further and prompts as far as MaxTokens allows.
func (e *Engine) step() {
	parts := e.plan()
	var wg sync.WaitGroup
	for _, p := range parts[1:] {
		wg.Go(func() { p.compute(e) })
	}
	parts[0].compute(e)
	wg.Wait()
	var generated, computed int64
	for _, p := range parts {
		generated, computed = generated+p.generated, computed+p.computed
		if p.err == nil {
			continue
		}
		e.pool.reset() // what is known may not have been written
		for _, t := range p.tasks {
			if t.failed == nil {
				t.failed = fault.New(fault.Endpoint, "lm: generate", p.err)
			}
		}
	}
	e.mu.Lock()
	e.stats.Batches++
	e.stats.GeneratedTokens += generated
	e.stats.PromptTokensComputed += computed
	e.mu.Unlock()
	e.settle()
}

// settle answers the tasks that are done and frees what ended rows held.
func (e *Engine) settle() {
	e.active = slices.DeleteFunc(e.active, func(t *task) bool {
		if err := t.ctx.Err(); err != nil && t.failed == nil {
			t.failed = err
		}
		prompted := t.done == len(t.keys)
		if t.failed == nil && prompted && t.pages != nil {
			t.fork(e)
		}
		t.rows = slices.DeleteFunc(t.rows, func(r *row) bool {
			if r.done || t.failed != nil {
				e.pool.drop(r.pages...)
				e.pool.kept -= r.kept
				return true
			}
			return false
		})
		if t.failed == nil && (!prompted || len(t.rows) > 0) {
			return false
		}
		e.pool.drop(t.pages...)
		e.pool.kept -= t.kept
		t.pages, t.kept = nil, 0
		e.mu.Lock()
		defer e.mu.Unlock()
		e.release(t.job)
		e.stats.Running--
		e.stats.KVShare = e.pool.share()
		if t.err = t.failed; t.err != nil {
			t.res = nil
		}
		close(t.job.done)
		return true
	})
}

// fork gives every continuation that goes on its pages: the prompt's full ones together, and a copy of the last one, which is not full. The first
// that goes on takes that page itself.
func (t *task) fork(e *Engine) {
	full := len(t.keys) / pageSize
	rest := t.pages[full:]
	for _, r := range t.rows {
		r.kept = pagesFor(len(t.keys)+t.max-1) - full
		if r.done {
			continue
		}
		for _, p := range t.pages[:full] {
			e.pool.hold(p)
		}
		r.pages = slices.Clone(t.pages[:full])
		if len(t.keys)%pageSize == 0 {
			continue
		}
		r.kept--
		if len(rest) > 0 {
			r.pages, rest = append(r.pages, rest[0]), nil
			continue
		}
		p := e.pool.take()
		e.pool.kept--
		r.pages = append(r.pages, p)
		if err := e.kv.copyPage(p, t.pages[full]); err != nil && t.failed == nil {
			t.failed = fault.New(fault.Endpoint, "lm: generate", err)
		}
	}
	if len(rest) > 0 && len(t.rows) > 0 {
		e.pool.kept++ // it was one row's, but no row took it: all end with their first token
	}
	e.pool.drop(t.pages[:full]...)
	e.pool.drop(rest...)
	t.pages, t.kept = nil, 0
}

// newRows makes a task's continuations; their first tokens come from the prompt's last position.
func (t *task) newRows() {
	t.res.Choices = make([]Choice, t.job.rows)
	for n := range t.job.rows {
		c := &t.res.Choices[n]
		c.Index = n
		t.rows = append(t.rows, &row{job: t.job, choice: c, draw: newSampler(t.req, t.seed, n), stops: newStopFinder(t.req.Stop), length: len(t.keys)})
	}
}

var errNotFinite = errors.New("the model's output is not finite")
