package loadgen

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"recpie/internal/fault"
)

// Request is one request to be sent.
type Request struct {
	Index     int // counts from 0
	Prompt    string
	MaxTokens int // of the answer
}

// Answer is what a server said a request came to. Zero tokens mean that it did not say.
type Answer struct{ PromptTokens, OutputTokens int }

// Target sends requests. Send calls token as pieces of the answer arrive, one call at a time and none after it has returned; tokens
// is how many the piece stands for. Errors are classified by internal/fault; a fatal one ends the run. It is used concurrently.
type Target interface {
	Send(ctx context.Context, r Request, token func(at time.Time, tokens int)) (Answer, error)
}

// SLO is what a request must meet to count as good. 0 means no demand.
type SLO struct {
	TTFT time.Duration `json:"ttft_ns,omitempty"`
	TPOT time.Duration `json:"tpot_ns,omitempty"`
	E2E  time.Duration `json:"e2e_ns,omitempty"`
}

// Cache is a reading of a server's prefix cache counters, in prompt tokens since it started.
type Cache struct{ Queries, Hits float64 }

// Options say what load to put on.
type Options struct {
	Rate        float64       // requests per second on average; 0: closed loop
	Concurrency int           // closed loop: senders. Open loop: requests under way at most, 0 means 8192; more wait, and their waiting counts
	Duration    time.Duration // of sending, after the warm-up; 0: until Requests
	Requests    int           // to send after the warm-up; 0: until Duration
	WarmUp      time.Duration // requests due in it are sent and not measured
	Seed        uint64        // of the times in the open loop
	Request     func(i int) Request
	SLO         SLO
	Cache       func(ctx context.Context) (Cache, error) // nil: not known. An error means the same
}

const defaultUnderWay = 8192

func (o Options) check() error {
	switch {
	case math.IsNaN(o.Rate) || o.Rate < 0 || math.IsInf(o.Rate, 0) || o.Concurrency < 0 || o.Rate == 0 && o.Concurrency == 0:
		return fault.Newf(fault.Fatal, "load", "rate %g and concurrency %d: one of them must be positive", o.Rate, o.Concurrency)
	case o.Duration < 0 || o.Requests < 0 || o.WarmUp < 0 || o.Duration == 0 && o.Requests == 0:
		return fault.Newf(fault.Fatal, "load", "duration %v, %d requests, warm-up %v: a duration or a number of requests must be positive", o.Duration, o.Requests, o.WarmUp)
	case o.Request == nil:
		return fault.Newf(fault.Fatal, "load", "no requests")
	}
	return nil
}

// run is one measurement under way.
type run struct {
	o      Options
	target Target
	begin  time.Time // the end of the warm-up
	end    time.Time // of sending; zero: open
	rec    recorder

	mu       sync.Mutex
	taken    int // indexes given out
	measured int // of them, due after the warm-up
}

// Run puts the load on and waits for the last answers. When ctx ends it breaks off and returns what has been measured together with
// the error; a fatal failure of the target returns no report.
func Run(ctx context.Context, t Target, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	outer := ctx
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r := &run{o: o, target: t}
	r.rec.fatal, r.rec.classes, r.rec.first = stop, map[string]int64{}, map[string]string{}
	var before func() *Cache
	if o.WarmUp == 0 {
		c := r.cache(ctx)
		before = func() *Cache { return c }
	}
	start := time.Now()
	r.begin = start.Add(o.WarmUp)
	if o.Duration > 0 {
		r.end = r.begin.Add(o.Duration)
	}
	r.rec.begin, r.rec.end = r.begin, r.end
	if before == nil {
		before = r.cacheAt(ctx, r.begin)
	}
	if o.Rate > 0 {
		r.open(ctx, start)
	} else {
		r.closed(ctx)
	}
	first := before()
	if err := context.Cause(ctx); err != nil && outer.Err() == nil {
		return nil, err
	}
	rep := r.rec.report(o, time.Now())
	if err := context.Cause(outer); err != nil {
		return rep, fault.New(fault.Transient, "load", err)
	}
	if last := r.cache(ctx); first != nil && last != nil && last.Queries > first.Queries && last.Hits >= first.Hits {
		share := (last.Hits - first.Hits) / (last.Queries - first.Queries)
		rep.PrefixCacheHit = &share
	}
	return rep, nil
}

func (r *run) cache(ctx context.Context) *Cache {
	if r.o.Cache == nil {
		return nil
	}
	c, err := r.o.Cache(ctx)
	if err != nil {
		return nil
	}
	return &c
}

// cacheAt reads the cache's counters at a time, beside the sending. The function it returns waits for the reading.
func (r *run) cacheAt(ctx context.Context, at time.Time) func() *Cache {
	got := make(chan *Cache, 1)
	go func() {
		if !sleepUntil(ctx, at) {
			got <- nil
			return
		}
		got <- r.cache(ctx)
	}()
	return func() *Cache { return <-got }
}

// take gives out the next request's index, unless it is due too late or enough have been sent.
func (r *run) take(due time.Time) (int, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	warm := due.Before(r.begin)
	if !r.end.IsZero() && !due.Before(r.end) || r.o.Requests > 0 && !warm && r.measured >= r.o.Requests {
		return 0, false
	}
	if !warm {
		r.measured++
	}
	r.taken++
	return r.taken - 1, true
}

func (r *run) closed(ctx context.Context) {
	var wg sync.WaitGroup
	for range r.o.Concurrency {
		wg.Go(func() {
			for ctx.Err() == nil {
				i, ok := r.take(time.Now())
				if !ok {
					return
				}
				req := r.o.Request(i)
				r.send(ctx, req, time.Now())
			}
		})
	}
	wg.Wait()
}

func (r *run) open(ctx context.Context, due time.Time) {
	limit := r.o.Concurrency
	if limit == 0 {
		limit = defaultUnderWay
	}
	slots := make(chan struct{}, limit)
	rng := rand.New(rand.NewPCG(r.o.Seed, 0x6c6f6164))
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		due = due.Add(time.Duration(rng.ExpFloat64() / r.o.Rate * float64(time.Second)))
		i, ok := r.take(due)
		if !ok {
			return
		}
		req, when := r.o.Request(i), due
		if !sleepUntil(ctx, due) {
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			defer func() { <-slots }()
			r.send(ctx, req, when)
		})
	}
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// send sends one request and records how it ended.
func (r *run) send(ctx context.Context, req Request, due time.Time) {
	o := outcome{due: due, sent: time.Now()}
	r.rec.sending()
	o.answer, o.err = r.target.Send(ctx, req, func(at time.Time, tokens int) {
		o.arrivals = append(o.arrivals, arrival{at, tokens})
	})
	o.ended = time.Now()
	r.rec.record(ctx, &o, r.o.SLO)
}
