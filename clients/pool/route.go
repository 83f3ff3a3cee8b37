package pool

import (
	"cmp"
	"slices"
	"time"
)

const (
	// An endpoint has clearly more to do than the others above spillShare times the mean and spillSlack calls.
	spillShare = 1.25
	spillSlack = 4
	// kvFull is the share of the KV cache above which a server starts to preempt.
	kvFull = 0.95
	// Latencies up to slowTimes the median are differences of hardware and of calls; what is beyond lowers an endpoint's share.
	slowTimes = 3.0
	// refreshEvery bounds how often latencies are compared.
	refreshEvery = 20 * time.Millisecond
)

// hash is FNV-1a, which is the same in every process: all workers must send one key to one endpoint.
func hash(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// score ranks endpoints for a key (rendezvous hashing): the highest is its home. Removing one endpoint moves only its own keys.
// The mixing is the finaliser of splitmix64.
func score(key, endpoint uint64) uint64 {
	x := key ^ endpoint*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// refresh compares the endpoints' latencies: who is slowTimes slower than the median gets a smaller share.
func (c *core) refresh(now time.Time) {
	if now.Sub(c.refreshed) < refreshEvery {
		return
	}
	c.refreshed = now
	c.sorted = c.sorted[:0]
	for _, e := range c.endpoints {
		if l := e.latency(now); l > 0 && e.usable(now) {
			c.sorted = append(c.sorted, l)
		}
	}
	if len(c.sorted) == 0 {
		return
	}
	slices.SortFunc(c.sorted, cmp.Compare[float64])
	c.median = c.sorted[(len(c.sorted)-1)/2]
	for _, e := range c.endpoints {
		e.compare(c.median, now)
	}
}

// survey is a look over the usable endpoints.
type survey struct {
	usable int
	soft   float64 // calls at one endpoint above which it has clearly more to do than the others
}

func (c *core) survey(now time.Time) survey {
	var v survey
	total := 1.0 // the call to be placed
	for _, e := range c.endpoints {
		if e.usable(now) {
			v.usable++
			total += e.demand()
		}
	}
	v.soft = spillShare*total/float64(max(1, v.usable)) + spillSlack
	return v
}

// room tells whether e can take a call now.
func (v survey) room(e *endpoint, now time.Time) bool {
	switch {
	case !e.usable(now) || e.inFlight >= e.limiter.limit || e.state == HalfOpen && e.trial:
		return false
	case v.usable == 1 || e.slow == 1:
		return true
	}
	return float64(e.inFlight) < max(1, e.slow*v.soft) // slow beside others: not more than its share, whatever its limit
}

// home returns the endpoint that a key sticks to: the first of its order that is usable; nil without key or usable endpoint.
func (c *core) home(key uint64, now time.Time) *endpoint {
	var home *endpoint
	var most uint64
	for _, e := range c.endpoints {
		if s := score(key, e.hash); key != 0 && e.usable(now) && (home == nil || s > most) {
			home, most = e, s
		}
	}
	return home
}

// pick chooses an endpoint for a call that failed last at avoid (or nil). It returns nil when none has room.
func (c *core) pick(key uint64, avoid *endpoint, now time.Time) *endpoint {
	c.refresh(now)
	v := c.survey(now)
	var near, light *endpoint
	var most uint64
	least := 0.0
	for _, e := range c.endpoints {
		if e == avoid && v.usable > 1 || !v.room(e, now) {
			continue
		}
		d := (e.demand() + 1) / e.slow
		if light == nil || d < least {
			light, least = e, d
		}
		if s := score(key, e.hash); key != 0 && d <= v.soft && e.server.KV < kvFull && (near == nil || s > most) {
			near, most = e, s
		}
	}
	if near != nil {
		return near
	}
	return light
}
