package pool

import (
	"context"
	"errors"
	"math"
	"math/bits"
	"math/rand/v2"
	"time"

	"recpie/internal/fault"
)

// State is the state of an endpoint's circuit breaker.
type State string

// The states of an endpoint.
const (
	Closed   State = "closed"    // in use
	Resting  State = "resting"   // in use again when the pause is over that it asked for
	Open     State = "open"      // out of use after failures
	HalfOpen State = "half-open" // one call at a time is let through to see whether it works again
)

// endpoint is what the pool knows of one server. core.mu guards it.
type endpoint struct {
	name  string
	hash  uint64
	index int
	probe func(context.Context) error
	same  func(context.Context) error
	load  func(context.Context) (Load, error)

	state    State // never Resting: that is what rest says
	epoch    int   // counts openings: a call begun before the last one says nothing about what came after
	failures int   // endpoint errors in a row
	recent   uint32
	seen     int // outcomes in recent, at most 32
	openings int // in a row, for the cool-down
	rest     time.Time
	refusals int // refusals in a row that were not asked for at the same time
	refused  time.Time

	limiter  limiter
	inFlight int
	live     map[*attempt]struct{}
	trial    bool      // the half-open endpoint's one call is under way
	progress time.Time // of the last answer, or of the first call after an idle time
	slow     float64   // 1, or less the longer its latency is beside the others'; see refresh

	known  bool // whether server holds the server's own queue metrics
	server Load
	polled int // in flight here when they were read

	probing     bool
	probeFailed int // probes failed in a row
	wake        *time.Timer
	watch       *time.Timer
	watching    bool // watch is set

	stats   EndpointStats
	lastErr error
}

// attempt is one try of a call at an endpoint.
type attempt struct {
	e      *endpoint
	epoch  int
	begun  time.Time
	trial  bool
	limit  time.Duration // its deadline
	cancel context.CancelCauseFunc
}

var (
	errSlow = errors.New("no answer within the time of one attempt")
	errGone = errors.New("given up: the server's health checks fail")
)

// usable tells whether calls may be sent to the endpoint at all.
func (e *endpoint) usable(now time.Time) bool { return e.state != Open && !now.Before(e.rest) }

// demand is what the server has to do, in calls: ours, and by its own metrics what others sent it.
func (e *endpoint) demand() float64 {
	ours := float64(e.inFlight)
	if !e.known {
		return ours
	}
	return max(ours, e.server.Waiting+e.server.Running+ours-float64(e.polled))
}

// latency is that of the last answers in seconds, or longer when none has come for longer than that although calls wait: so a hung
// server is a slow one long before its calls reach their deadline. 0 is unknown.
func (e *endpoint) latency(now time.Time) float64 {
	if e.inFlight == 0 {
		return e.limiter.short
	}
	return max(e.limiter.short, now.Sub(e.progress).Seconds())
}

// compare sets the endpoint's share by its latency beside the median. One that is sent nothing cannot show that it is fast again:
// its slowness is forgotten by half every 3 s.
func (e *endpoint) compare(median float64, now time.Time) {
	times := e.latency(now) / median
	if e.inFlight == 0 {
		times = min(times, 64) * math.Exp2(-now.Sub(e.progress).Seconds()/3)
	}
	e.slow = 1
	if times > slowTimes {
		e.slow = slowTimes / times
	}
}

// begin counts a call as under way.
func (e *endpoint) begin(s Settings, now time.Time) *attempt {
	if e.inFlight == 0 {
		e.progress = now
	}
	e.inFlight++
	e.limiter.started(e.inFlight)
	e.stats.Calls++
	a := &attempt{e: e, epoch: e.epoch, begun: now, trial: e.state == HalfOpen, limit: s.Attempt}
	if a.trial {
		e.trial = true
		if e.probe == nil {
			a.limit = e.trialTime(s)
		}
	}
	e.live[a] = struct{}{}
	return a
}

// outcome is what the end of an attempt says about its endpoint.
type outcome int

const (
	answered outcome = iota // a result
	rejected                // item: the server works
	refused                 // transient
	failed                  // endpoint
	timedOut                // endpoint, by our deadline
	stopped                 // fatal: says nothing about the server
	left                    // neither does the caller's leaving
)

// end counts an attempt as over. It reports whether the breaker must open.
func (e *endpoint) end(a *attempt, o outcome, err error, s Settings, now time.Time) (open bool) {
	e.inFlight--
	delete(e.live, a)
	if a.epoch != e.epoch {
		o = left
	}
	if a.trial && a.epoch == e.epoch {
		e.trial = false
	}
	took := now.Sub(a.begun)
	switch o {
	case answered, rejected:
		if o == answered {
			e.limiter.answered(took, now)
		}
		e.progress = now
		e.failures, e.refusals, e.openings, e.probeFailed = 0, 0, 0, 0
		e.note(false)
		if e.state == HalfOpen {
			e.state, e.seen = Closed, 0
		}
	case refused:
		e.refuse(a, fault.RetryAfter(err), s, now)
	case failed, timedOut:
		if o == timedOut {
			e.limiter.slow(took)
		} else {
			e.progress = now
		}
		e.failures++
		e.note(true)
		return e.state == HalfOpen || e.state == Closed && (e.failures >= s.Failures || e.mostlyFails())
	case left:
		e.limiter.slow(took)
	}
	return false
}

// note keeps the last 32 outcomes.
func (e *endpoint) note(failed bool) {
	e.recent <<= 1
	if failed {
		e.recent |= 1
	}
	e.seen = min(e.seen+1, 32)
}

// mostlyFails tells whether two thirds of the last calls failed, though not in a row.
func (e *endpoint) mostlyFails() bool {
	return e.seen >= 20 && 3*bits.OnesCount32(e.recent&uint32(1<<e.seen-1)) >= 2*e.seen
}

// refuse makes the endpoint rest: as long as it asked, with a little jitter so that not all callers return at once, or, when it
// keeps refusing without saying, for a time that doubles up to 5 s.
func (e *endpoint) refuse(a *attempt, after time.Duration, s Settings, now time.Time) {
	e.progress = now
	e.limiter.refusal(after > 0, now)
	if !a.begun.Before(e.refused) { // else it was sent before the last refusal: the same news again
		e.refusals++
		e.refused = now
	}
	switch {
	case after > 0:
		after = min(after, s.RestMax)
		after += time.Duration(rand.Float64() * 0.1 * float64(after))
	case e.refusals >= 3:
		after = time.Duration((0.75 + 0.5*rand.Float64()) * float64(min(5*time.Second, 100*time.Millisecond<<min(e.refusals-3, 10))))
	}
	if until := now.Add(after); after > 0 && until.After(e.rest) {
		e.rest = until
	}
}

// open takes the endpoint out of use and returns for how long.
func (e *endpoint) open(s Settings) time.Duration {
	e.state, e.trial = Open, false
	e.epoch++
	e.failures, e.seen = 0, 0
	pause := s.CooldownMax
	if e.openings < 30 {
		pause = min(pause, s.Cooldown<<e.openings)
	}
	e.openings++
	return time.Duration((0.9 + 0.2*rand.Float64()) * float64(pause))
}

// halfOpen lets single calls through.
func (e *endpoint) halfOpen() {
	e.state, e.probeFailed = HalfOpen, 0
	e.rest = time.Time{}
	e.limiter.restart()
	e.known = false
}

// trialTime is the deadline of a call that tries out an endpoint which has no health check: it must not take a hung server as long
// as any other call to be found out.
func (e *endpoint) trialTime(s Settings) time.Duration {
	longest := time.Duration(math.Min(4*e.stats.longest, s.Attempt.Seconds()) * float64(time.Second))
	return min(s.Attempt, max(s.CooldownMax, longest))
}
