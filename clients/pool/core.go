package pool

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"recpie/internal/fault"
)

var errClosed = errors.New("the pool is closed")

// core is the pool without its clients.
type core struct {
	s         Settings
	caps      caps
	endpoints []*endpoint // the slice does not change
	ctx       context.Context
	cancel    context.CancelFunc
	stop      <-chan struct{} // of ctx
	running   sync.WaitGroup  // probes and polls

	mu        sync.Mutex
	closed    bool
	epoch     int // counts changes of what is usable, from 1
	waiters   list.List
	budget    budget
	calls     int64
	answered  time.Time // when any endpoint answered last
	refreshed time.Time
	median    float64 // latency in seconds
	sorted    []float64
}

// end counts an attempt as over and gives its room away.
func (c *core) end(a *attempt, o outcome, err error) {
	now := time.Now()
	e := a.e
	open := e.end(a, o, err, c.s, now)
	if err != nil {
		e.stats.count(o)
		if o == refused || o == failed || o == timedOut {
			e.lastErr = err
		}
	} else if o == answered {
		e.stats.longest = max(0.999*e.stats.longest, now.Sub(a.begun).Seconds())
	}
	switch {
	case o == answered:
		c.answered = now
	case o == refused && e.state != Open && now.Before(e.rest):
		c.changed()
		c.after(e, e.rest.Sub(now))
	case open:
		c.changed()
		c.after(e, e.open(c.s))
	}
	if c.waiters.Len() > 0 {
		c.dispatch(now)
	}
}

// changed marks that other endpoints are usable than before.
func (c *core) changed() { c.epoch++ }

// after has awake called when a pause of e is over. An open endpoint's pause goes before one that it asked for.
func (c *core) after(e *endpoint, d time.Duration) {
	switch {
	case c.closed:
	case e.wake == nil:
		e.wake = time.AfterFunc(d, func() { c.awake(e) })
	default:
		e.wake.Reset(d)
	}
}

// awake ends a pause. An open endpoint is asked for its health first, if it has a check; else a call finds out.
func (c *core) awake(e *endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return
	case e.state != Open:
	case e.probe == nil:
		e.halfOpen()
	case !e.probing:
		c.ask(e)
	}
	c.changed()
	c.dispatch(time.Now())
}

// ask runs the health check and opens or half-opens the breaker by it. c.mu is held, but not while the check runs.
func (c *core) ask(e *endpoint) {
	e.probing = true
	out := e.state == Open
	c.running.Add(1)
	defer c.running.Done()
	c.mu.Unlock()
	err := c.within(c.s.ProbeTime, e.probe)
	if err == nil && out && e.same != nil {
		err = c.within(c.s.Attempt, e.same)
	}
	c.mu.Lock()
	e.probing = false
	switch {
	case c.closed:
	case err == nil && e.state == Open:
		e.halfOpen()
	case err == nil:
		e.probeFailed = 0
	default:
		e.lastErr = fault.New(fault.Endpoint, "health check", err)
		if e.probeFailed++; e.probeFailed < 2 && e.state != Open {
			return
		}
		if e.probeFailed >= 2 { // once may be an accident
			for a := range e.live {
				if a.cancel != nil {
					a.cancel(errGone)
				}
			}
		}
		c.after(e, e.open(c.s))
	}
}

// within runs a check that must pass in some time.
func (c *core) within(d time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(c.ctx, d, errSlow)
	defer cancel()
	err := check(ctx)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// quiet is how long an endpoint with calls in flight may give no answer before its health is checked.
func (e *endpoint) quiet() time.Duration {
	return max(3*time.Second, time.Duration(4*e.limiter.short*float64(time.Second)))
}

// guard makes sure that somebody looks at an endpoint with calls in flight: when all callers wait for a hung server, nothing else
// would. Without a health check its calls end at their deadline.
func (c *core) guard(e *endpoint) {
	switch {
	case e.probe == nil || e.watching || c.closed:
		return
	case e.watch == nil:
		e.watch = time.AfterFunc(e.quiet(), func() { c.watch(e) })
	default:
		e.watch.Reset(e.quiet())
	}
	e.watching = true
}

func (c *core) watch(e *endpoint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.watching = false
	if c.closed || e.inFlight == 0 || e.state == Open || e.probing {
		return
	}
	wait := e.quiet() - time.Since(e.progress)
	if wait <= 0 {
		c.ask(e)
		c.changed()
		c.dispatch(time.Now())
		wait = e.quiet()
		if e.probeFailed > 0 {
			wait = c.s.Cooldown
		}
	}
	if !c.closed && !e.watching && e.inFlight > 0 {
		e.watching = true
		e.watch.Reset(wait)
	}
}

// poll reads an endpoint's own queue metrics at an interval, as long as there is traffic, until the pool is closed.
func (c *core) poll(e *endpoint) {
	defer c.running.Done()
	tick := time.NewTicker(c.s.Poll)
	defer tick.Stop()
	calls := int64(-1)
	for {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.mu.Lock()
		idle := c.calls == calls && e.inFlight == 0 || e.state == Open // by the pool's calls: a busy server gets none of them
		calls = c.calls
		c.mu.Unlock()
		if idle {
			continue
		}
		ctx, cancel := context.WithTimeout(c.ctx, c.s.ProbeTime)
		load, err := e.load(ctx)
		cancel()
		c.mu.Lock()
		e.metrics(load, err == nil, time.Now())
		c.dispatch(time.Now())
		c.mu.Unlock()
	}
}

// metrics takes over what a server says of itself. A queue that grows although it is as long as a quarter of what runs is overload.
func (e *endpoint) metrics(l Load, ok bool, now time.Time) {
	if !ok || !(l.Waiting >= 0) || !(l.Running >= 0) || !(l.KV >= 0) {
		e.known, e.server, e.limiter.calm = false, Load{}, false
		return
	}
	if e.known && l.Waiting > e.server.Waiting && l.Waiting > l.Running/4 {
		e.limiter.shrink(0.5, now)
	}
	e.known, e.server, e.polled = true, l, e.inFlight
	e.limiter.calm = l.Waiting == 0
}

// close wakes all who wait and ends what the pool runs itself.
func (c *core) close() {
	c.mu.Lock()
	c.closed = true
	c.cancel()
	for _, e := range c.endpoints {
		for _, t := range []*time.Timer{e.wake, e.watch} {
			if t != nil {
				t.Stop()
			}
		}
	}
	c.mu.Unlock()
	c.running.Wait()
}
