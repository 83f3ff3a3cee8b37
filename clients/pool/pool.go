package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
)

// Endpoint is one server and the client for it.
type Endpoint[C any] struct {
	Name   string                                  // its address, for errors and metrics
	Client C                                       // safe for concurrent use
	Probe  func(ctx context.Context) error         // cheap health check; nil: a real call probes
	Same   func(ctx context.Context) error         // after Probe, before a server that was out of use is used again: is it still the one that it was? nil: not asked
	Load   func(ctx context.Context) (Load, error) // the server's own queue metrics; nil: unknown
}

// Load is what a server says of itself.
type Load struct {
	Waiting, Running float64 // requests
	KV               float64 // share of the KV cache in use, 0 to 1
}

// Call describes a call for routing, rates and errors.
type Call struct {
	Op     string // for errors, as "explain"
	Key    string // calls with one key stick to one endpoint while it is healthy; "": the one with the least to do
	Tokens int    // what the call costs against the token rate cap
}

// Pool spreads calls over endpoints. It is safe for concurrent use.
type Pool[C any] struct {
	core    *core
	clients []C
}

// New makes a pool. Endpoints with Load are asked for it in the background until Close; nothing else is sent yet.
func New[C any](s Settings, eps []Endpoint[C]) (*Pool[C], error) {
	s, err := s.withDefaults()
	if err != nil {
		return nil, err
	}
	if len(eps) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "pool", "there is no endpoint"), "name at least one server")
	}
	c := &core{s: s, caps: newCaps(s), budget: newBudget(s.RetryShare, s.MaxInFlight*len(eps)), epoch: 1}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.stop = c.ctx.Done()
	p := &Pool[C]{core: c}
	names := map[string]bool{}
	for i, ep := range eps {
		if names[ep.Name] {
			c.cancel()
			return nil, fault.Newf(fault.Fatal, "pool", "endpoint %q is named twice", ep.Name)
		}
		names[ep.Name] = true
		p.clients = append(p.clients, ep.Client)
		c.endpoints = append(c.endpoints, &endpoint{
			name: ep.Name, hash: hash(ep.Name), index: i, probe: ep.Probe, same: ep.Same, load: ep.Load,
			state: Closed, slow: 1, limiter: newLimiter(s.MaxInFlight, s.Fixed), live: map[*attempt]struct{}{},
		})
	}
	for _, e := range c.endpoints {
		if e.load != nil {
			c.running.Add(1)
			go c.poll(e)
		}
	}
	return p, nil
}

// Close ends the pool: calls that wait and later ones fail, calls in flight are not touched. It waits for the pool's own goroutines.
func (p *Pool[C]) Close() { p.core.close() }

// Do runs fn with the client of an endpoint that has room, at others again when it fails for the endpoint's sake, and waits as long
// as none is usable. fn must keep to its context, which ends at the attempt's deadline too, and may run more than once, never
// concurrently. An item or fatal error of fn is returned as it is. When ctx ends, the error wraps its cause and says what went wrong
// before.
func (p *Pool[C]) Do(ctx context.Context, call Call, fn func(ctx context.Context, c C) error) error {
	c := p.core
	var key uint64
	if call.Key != "" {
		key = hash(call.Key)
	}
	c.mu.Lock()
	c.calls++
	c.budget.call()
	c.mu.Unlock()
	var avoid *endpoint
	var last error
	begun := time.Now()
	for tries, pauses := 0, 0; ; {
		if err := c.caps.wait(ctx, call.Tokens); err != nil {
			return c.gaveUp(call.Op, err, last)
		}
		a, err := c.acquire(ctx, key, avoid)
		if err != nil {
			return c.gaveUp(call.Op, err, last)
		}
		err = attemptAt(ctx, c, a, func(ctx context.Context) error { return fn(ctx, p.clients[a.e.index]) })
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return c.gaveUp(call.Op, context.Cause(ctx), last)
		}
		class := fault.ClassOf(err)
		if class == fault.Item || class == fault.Fatal {
			return err
		}
		if class == fault.Endpoint && !(a.trial && a.e.probe == nil) { // a call that tries out a broken server is not to blame
			tries++
		}
		if c.enough(tries, begun) {
			return err
		}
		last, avoid = err, a.e
		pauses++
		if err := c.mayRetry(ctx, avoid, pauses); err != nil {
			return c.gaveUp(call.Op, err, last)
		}
	}
}

// attemptAt runs one try and counts it. A try that our own deadline ended is the endpoint's failure, whatever fn makes of it.
func attemptAt(ctx context.Context, c *core, a *attempt, fn func(context.Context) error) (err error) {
	actx, cancel := context.WithCancelCause(ctx)
	deadline := time.AfterFunc(a.limit, func() { cancel(errSlow) })
	c.mu.Lock()
	a.cancel = cancel
	c.mu.Unlock()
	o := stopped
	defer func() { // also when fn panics: a place in flight must not be lost
		deadline.Stop()
		cancel(nil)
		c.mu.Lock()
		c.end(a, o, err)
		c.mu.Unlock()
	}()
	err = fn(actx)
	switch {
	case err == nil:
		o = answered
	case ctx.Err() != nil:
		o = left
	case actx.Err() != nil:
		o = timedOut
		err = fault.Newf(fault.Endpoint, a.e.name, "%w (%v)", context.Cause(actx), err)
	default:
		o = outcomeOf(fault.ClassOf(err))
	}
	return err
}

func outcomeOf(class fault.Class) outcome {
	switch class {
	case fault.Item:
		return rejected
	case fault.Transient:
		return refused
	case fault.Endpoint:
		return failed
	}
	return stopped
}

// enough tells whether a call that failed so often is to be given up: when others succeeded in that time, for then it may be the call
// that breaks servers, or when it has failed very often.
func (c *core) enough(tries int, begun time.Time) bool {
	if tries < c.s.Attempts {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered.After(begun) || tries >= 4*c.s.Attempts
}

// mayRetry waits until the retry budget allows another try. The first two go elsewhere at once; later ones, and those that find only the
// endpoint left that just failed, wait a moment longer each time: the call itself may be what breaks servers.
func (c *core) mayRetry(ctx context.Context, avoid *endpoint, pauses int) error {
	c.mu.Lock()
	now := time.Now()
	wait := c.budget.take(now)
	alone := avoid.usable(now)
	for _, e := range c.endpoints {
		alone = alone && (e == avoid || !e.usable(now))
	}
	c.mu.Unlock()
	for wait > 0 {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		c.mu.Lock()
		wait = c.budget.take(time.Now())
		c.mu.Unlock()
	}
	if !alone && pauses < 3 {
		return nil
	}
	pause := min(2*time.Second, 25*time.Millisecond<<min(max(0, pauses-2), 10))
	return sleep(ctx, time.Duration((0.5+rand.Float64())*float64(pause)))
}

// gaveUp says why a call ended without an answer: the cause, and what each endpoint's last error was.
func (c *core) gaveUp(op string, cause, last error) error {
	if errors.Is(cause, errClosed) {
		return fault.New(fault.Fatal, op, cause)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	var b strings.Builder
	for _, e := range c.endpoints {
		if e.lastErr != nil && (last != nil || !e.usable(now)) {
			fmt.Fprintf(&b, "; %s (%s): %v", e.name, e.shown(now), e.lastErr)
		}
	}
	if b.Len() == 0 {
		return fault.New(fault.Transient, op, cause)
	}
	return fault.Newf(fault.Transient, op, "%w; before%s", cause, strings.Replace(b.String(), ";", ":", 1))
}

// Each runs fn once for every endpoint, open ones too, concurrently and outside all limits: what must reach every server, as a new
// adapter. The errors are joined, each with its endpoint's name, under the gravest of their classes.
func (p *Pool[C]) Each(ctx context.Context, fn func(ctx context.Context, name string, c C) error) error {
	errs := make([]error, len(p.clients))
	var g errgroup.Group
	g.SetLimit(16)
	for i, e := range p.core.endpoints {
		g.Go(func() error {
			if err := fn(ctx, e.name, p.clients[i]); err != nil {
				errs[i] = fmt.Errorf("%s: %w", e.name, err)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return none
	class := fault.Transient
	for _, err := range errs {
		if err != nil {
			class = min(class, fault.ClassOf(err))
		}
	}
	return fault.New(class, "", errors.Join(errs...))
}
