package pool

import (
	"container/list"
	"context"
	"time"
)

// waiter is a call that waits for room at an endpoint.
type waiter struct {
	key    uint64
	avoid  *endpoint
	stay   time.Time     // until then it waits for its home, which is full but has no more to do than others
	got    chan *attempt // holds the attempt once it has room
	home   *endpoint
	epoch  int // core.epoch when home was found
	passed int // times that another was served before it
}

// acquire waits until an endpoint has room for a call, in the order of arrival. It returns ctx's cause when that ends first.
func (c *core) acquire(ctx context.Context, key uint64, avoid *endpoint) (*attempt, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	now := time.Now()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClosed
	}
	stay := c.stay(key, avoid, now)
	if c.waiters.Len() == 0 && stay == 0 {
		if e := c.pick(key, avoid, now); e != nil {
			a := c.grant(e, key, avoid, now)
			c.mu.Unlock()
			return a, nil
		}
	}
	w := &waiter{key: key, avoid: avoid, stay: now.Add(stay), got: make(chan *attempt, 1)}
	el := c.waiters.PushBack(w)
	c.dispatch(now)
	c.mu.Unlock()

	if stay > 0 {
		defer time.AfterFunc(stay, func() {
			c.mu.Lock()
			c.dispatch(time.Now())
			c.mu.Unlock()
		}).Stop()
	}
	var err error
	select {
	case a := <-w.got:
		return a, nil
	case <-c.stop:
		err = errClosed
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case a := <-w.got: // too late
		c.end(a, stopped, nil)
	default:
		c.waiters.Remove(el)
	}
	return nil, err
}

// stay is how long a call waits for its home when that is full: a quarter of a usual call, in which a quarter of its places become
// free. With as many callers as places, each would else take the one place that just became free, and none would stay at home.
func (c *core) stay(key uint64, avoid *endpoint, now time.Time) time.Duration {
	c.refresh(now)
	home := c.home(key, now)
	if home == nil || home == avoid || home.state != Closed || home.slow < 1 || home.inFlight < home.limiter.limit || home.demand() > c.survey(now).soft {
		return 0
	}
	return time.Duration(c.median / 4 * float64(time.Second))
}

// grant starts an attempt.
func (c *core) grant(e *endpoint, key uint64, avoid *endpoint, now time.Time) *attempt {
	a := e.begin(c.s, now)
	if avoid != nil {
		e.stats.Retries++
	} else if home := c.home(key, now); home != nil && home != e {
		home.stats.Spills++
	}
	c.guard(e)
	return a
}

// dispatch gives the room there is to those who wait.
func (c *core) dispatch(now time.Time) {
	c.refresh(now)
	for given := true; given && c.waiters.Len() > 0; {
		given = false
		for _, e := range c.endpoints {
			if v := c.survey(now); c.waiters.Len() > 0 && v.room(e, now) {
				if el := c.next(e, v, now); el != nil {
					w := c.waiters.Remove(el).(*waiter)
					w.got <- c.grant(e, w.key, w.avoid, now)
					given = true
				}
			}
		}
	}
}

// next chooses who of those waiting gets the room at e: the first for whom e is home, among the first few in the queue, so that a
// pool with all of its endpoints busy still sends calls where their prefix is cached; without such the first of all. Who has been
// passed over so often goes first whatever the others' homes are.
func (c *core) next(e *endpoint, v survey, now time.Time) *list.Element {
	var first *list.Element
	few := 8 * len(c.endpoints)
	look := few
	for el := c.waiters.Front(); el != nil && look > 0; el = el.Next() {
		w := el.Value.(*waiter)
		if w.avoid == e && v.usable > 1 {
			continue
		}
		look--
		if w.epoch != c.epoch {
			w.home, w.epoch = c.home(w.key, now), c.epoch
		}
		if w.home == nil || w.home == e || w.home == w.avoid { // the last must not wait for the turn of a home that it avoids
			if first != nil {
				first.Value.(*waiter).passed++
			}
			return el
		}
		if first == nil && !now.Before(w.stay) && !v.room(w.home, now) {
			if first = el; w.passed >= few {
				return el
			}
		}
	}
	return first
}
