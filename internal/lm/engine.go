package lm

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"recpie/internal/fault"
)

// Errors of requests and adapters, to be told apart with errors.Is.
var (
	ErrTooLong        = errors.New("the prompt is longer than the model's positions")
	ErrUnknownAdapter = errors.New("no such adapter")
	ErrAdapterExists  = errors.New("an adapter of this name is loaded already")
	ErrClosed         = errors.New("the engine is closed")
)

// EngineOptions bound what is computed at a time. Zero values choose the defaults.
type EngineOptions struct {
	MaxBatch  int           // continuations under way at a time, default 128
	MaxTokens int           // prompt positions of a step, default 4096: longer prompts take several
	KVBytes   int           // memory for keys and values, default 1 GiB, of which only what is used is taken. A request that needs more is refused
	Gather    time.Duration // how long an engine at rest waits for company, default 2 ms
	Workers   int           // parts of a step computed side by side, default 1: with one tensor thread each, as many as cores is fastest
	NoSharing bool          // compute every prompt on its own; for comparison
}

// Engine answers requests over one model. Requests join and leave between steps (continuous batching, Yu et al. 2022): a step takes every
// continuation one token further and the prompts that came some positions. What a prompt begins with is looked for among the pages of keys
// and values that are still there. The answers do not depend on which requests shared a step, up to rounding.
type Engine struct {
	b    *Bundle
	opt  EngineOptions
	base *adapter // the model without an adapter
	wake chan struct{}
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex
	queue    []*job
	adapters map[string]*adapter
	closed   bool
	stats    Stats

	// The scheduler's own.
	kv     keyValues // nil until the first request
	pool   *pool
	active []*task
}

// job is a request under way.
type job struct {
	ctx  context.Context
	req  *GenRequest
	ad   *adapter
	max  int // new tokens allowed
	rows int // continuations
	seed int64
	stop []int32 // end tokens and stop ids
	res  *GenResult
	err  error
	done chan struct{}
}

// NewEngine starts an engine. The bundle's weights must not change while it runs.
func NewEngine(b *Bundle, o EngineOptions) *Engine {
	setDefault(&o.MaxBatch, 128)
	setDefault(&o.MaxTokens, 4096)
	setDefault(&o.KVBytes, 1<<30)
	if o.Gather <= 0 {
		o.Gather = 2 * time.Millisecond
	}
	o.Workers = max(1, o.Workers)
	e := &Engine{b: b, opt: o, base: &adapter{net: b.Model.network()}, wake: make(chan struct{}, 1), stop: make(chan struct{}), adapters: map[string]*adapter{}}
	e.done.Go(e.run)
	return e
}

func setDefault(v *int, d int) {
	if *v <= 0 {
		*v = d
	}
}

// Bundle returns what the engine serves.
func (e *Engine) Bundle() *Bundle { return e.b }

// Stats returns the counters so far and the state of this moment.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Waiting = len(e.queue)
	return s
}

// Close ends what is under way, fails waiting requests with ErrClosed and frees the adapters.
func (e *Engine) Close() {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		e.done.Wait()
		return
	}
	e.closed = true
	close(e.stop)
	e.mu.Unlock()
	e.done.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, j := range e.queue {
		e.release(j)
		j.err = fault.New(fault.Fatal, "lm: generate", ErrClosed)
		close(j.done)
	}
	e.queue = nil
	for _, a := range e.adapters {
		a.free()
	}
	e.adapters = nil
	if e.kv != nil {
		e.kv.free()
	}
}

// Generate answers one request. It may be called from many goroutines; that is how batches form. Errors of the request itself are of
// class item. When ctx ends, its rows leave the batch at the next token.
func (e *Engine) Generate(ctx context.Context, r *GenRequest) (*GenResult, error) {
	const op = "lm: generate"
	j, err := e.newJob(ctx, r)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return nil, fault.New(fault.Fatal, op, ErrClosed)
	}
	if j.ad = e.base; r.Adapter != "" {
		if j.ad = e.adapters[r.Adapter]; j.ad == nil {
			e.mu.Unlock()
			return nil, fault.Newf(fault.Item, op, "%w: %q", ErrUnknownAdapter, r.Adapter)
		}
	}
	j.ad.refs++
	e.queue = append(e.queue, j)
	e.stats.Requests++
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default:
	}
	select {
	case <-j.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return j.res, j.err
}

// newJob checks a request against the model.
func (e *Engine) newJob(ctx context.Context, r *GenRequest) (*job, error) {
	j := &job{ctx: ctx, req: r, max: r.MaxTokens, rows: r.N, done: make(chan struct{})}
	if err := checkPrompt(r.Prompt, r.Soft, e.b.Model.Cfg); err != nil {
		return nil, err
	}
	room := e.b.MaxLen - len(r.Prompt)
	switch {
	case room < 0, room == 0 && j.max > 0:
		return nil, fault.Newf(fault.Item, "", "%w: %d of %d", ErrTooLong, len(r.Prompt), e.b.MaxLen)
	case j.max < 0, r.MinTokens < 0, r.N < 0, j.max == 0 && r.PromptLogprobs < 0 && !r.Pool:
		return nil, errors.New("n, max_tokens and min_tokens must not be negative, and something must be asked for")
	case !(r.Temperature >= 0) || math.IsInf(r.Temperature, 0) || !(r.TopP >= 0 && r.TopP <= 1):
		return nil, errors.New("temperature must be finite and ≥ 0, top_p in 0…1")
	}
	if j.max = min(j.max, room); j.max == 0 {
		j.rows = 0
	} else if j.rows == 0 {
		j.rows = 1
	}
	if j.seed = rand.Int64(); r.Seed != nil {
		j.seed = *r.Seed
	}
	for _, id := range r.StopIDs {
		if id < 0 || int(id) >= e.b.Model.Cfg.VocabSize {
			return nil, errors.New("a stop id is not in the vocabulary")
		}
	}
	if len(r.Stop) > 0 && e.b.Tok == nil {
		return nil, errors.New("stop strings need a tokenizer")
	}
	if !r.IgnoreEOS {
		if e.b.EOS >= 0 {
			j.stop = append(j.stop, e.b.EOS)
		}
		j.stop = append(j.stop, e.b.ExtraEOS...)
	}
	j.stop = append(j.stop, r.StopIDs...)
	return j, nil
}

// checkPrompt refuses ids outside the vocabulary, markers without rows, rows without markers, and rows that are not finite.
func checkPrompt(prompt []int32, soft []SoftRows, cfg Config) error {
	if len(prompt) == 0 {
		return errors.New("the prompt is empty")
	}
	covered := make([]bool, len(prompt))
	for _, s := range soft {
		if s.Rows < 1 || s.Pos < 0 || s.Pos > len(prompt)-s.Rows || len(s.Data) != s.Rows*cfg.HiddenSize {
			return fault.Newf(fault.Item, "", "soft rows: %d rows of width %d at %d do not fit a prompt of %d with %d numbers",
				s.Rows, cfg.HiddenSize, s.Pos, len(prompt), len(s.Data))
		}
		for _, v := range s.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return errors.New("soft rows: a number is not finite")
			}
		}
		for p := s.Pos; p < s.Pos+s.Rows; p++ {
			if covered[p] || int(prompt[p]) != cfg.VocabSize {
				return errors.New("soft rows must stand, once, where the prompt holds the marker id")
			}
			covered[p] = true
		}
	}
	for p, id := range prompt {
		if id < 0 || int(id) > cfg.VocabSize || int(id) == cfg.VocabSize && !covered[p] {
			return fault.Newf(fault.Item, "", "prompt id %d at %d is not in the vocabulary of %d", id, p, cfg.VocabSize)
		}
	}
	return nil
}

// release gives a job's adapter back; the last holder of an unloaded one frees it. The caller holds mu.
func (e *Engine) release(j *job) {
	j.ad.refs--
	if j.ad.refs == 0 && j.ad.unloaded {
		j.ad.free()
	}
}

// stopped reports whether the engine is closing.
func (e *Engine) stopped() bool {
	select {
	case <-e.stop:
		return true
	default:
		return false
	}
}

// isStop reports whether id ends job j.
func (j *job) isStop(id int32) bool { return slices.Contains(j.stop, id) }
