package pool

import "time"

// What the limiter calls "the latency holds": up to holds times the long-run latency it grows, beyond queues times it shrinks.
const (
	holds      = 1.5
	queues     = 2.0
	startLimit = 8
	// noise is a difference of latencies, in seconds, that says nothing about a server: it is this machine's and the network's.
	noise = 0.01
	// A server that refuses calls now and then is not overloaded, and halving for each such accident would bring the limit to its
	// floor (a loss of 5% halves TCP's window all the time). These are shares of the last calls, exponentially weighted.
	refusedHold = 0.10 // above it the limit stays
	refusedCut  = 0.15 // above it the limit is halved: five refusals in a row are enough
	refusedStep = 1.0 / 32
	// A server that computes its requests as one batch answers each later and all of them sooner: as long as more calls in flight bring
	// gains times the answers per second, the longer latency is the price and not a queue.
	gains  = 1.1
	forget = 0.95 // of the best rate, per window
	// bigWindow is the least number of answers whose mean latency is compared; outside slow start small samples would be noise.
	bigWindow = 8
)

// limiter adapts how many calls may be in flight at one endpoint: additive increase while the latency of a round trip's answers stays
// near the long-run latency, or the answers per second grow with it, halving on refusals and queues, at most once per round trip. The long-run latency follows slowly, so
// that work which becomes longer does not throttle for ever. It starts, and starts again after an outage, by doubling.
// It is not safe for concurrent use.
type limiter struct {
	limit, most int
	fixed       bool // the limit stays where it is
	slowStart   bool
	full        bool    // the limit was reached in this window: only then is growing of use
	calm        bool    // the server's own metrics say that nothing waits there
	short, base float64 // seconds: latency of the last answers, long-run latency; 0: unknown
	best        float64 // answers per second of the best window, slowly forgotten
	refused     float64 // share of refusals
	n           int     // answers in this window
	sum         float64 // of their latencies, seconds
	cut         time.Time
}

func newLimiter(most int, fixed bool) limiter {
	if fixed {
		return limiter{limit: most, most: most, fixed: true}
	}
	return limiter{limit: min(startLimit, most), most: most, slowStart: true}
}

// restart forgets everything: the server may have changed while it was away.
func (l *limiter) restart() {
	if !l.fixed {
		*l = limiter{limit: 1, most: l.most, slowStart: true, cut: l.cut}
	}
}

// started tells the limiter that inFlight calls are now under way.
func (l *limiter) started(inFlight int) {
	if inFlight >= l.limit {
		l.full = true
	}
}

// slow records a call that took at least d without an answer.
func (l *limiter) slow(d time.Duration) {
	if s := d.Seconds(); s > l.short {
		l.sample(s)
	}
}

func (l *limiter) sample(s float64) {
	if l.short == 0 {
		l.short = s
		return
	}
	l.short += (s - l.short) * 2 / float64(1+min(max(l.limit, 8), 64))
}

// answered records an answer. A window of answers is about one round trip.
func (l *limiter) answered(d time.Duration, now time.Time) {
	s := max(d.Seconds(), 1e-9)
	l.sample(s)
	l.refused -= l.refused * refusedStep
	if l.fixed {
		return
	}
	l.n++
	l.sum += s
	window := l.limit
	if !l.slowStart {
		window = max(window, bigWindow)
	}
	if l.n < window {
		return
	}
	mean := l.sum / float64(l.n)
	if l.base == 0 {
		l.base = mean
	}
	if l.full { // Little's law: what is in flight divided by how long it stays
		rate := float64(l.limit) / mean
		if rate > gains*l.best && l.best > 0 {
			l.base = max(l.base, mean)
		}
		l.best = max(rate, forget*l.best)
	}
	if l.calm {
		// What takes longer then is a larger batch or a busy machine. On one that others use, latency alone would bring the limit to
		// its floor, where a server that computes batches answers a tenth of what it could.
		mean = min(mean, holds*l.base)
	}
	switch {
	case mean > queues*l.base+noise && l.slowStart:
		l.slowStart = false
	case mean > queues*l.base+noise:
		l.shrink(max(0.5, (queues*l.base+noise)/mean), now)
	case mean <= holds*l.base+noise && l.full && l.refused < refusedHold:
		if l.slowStart {
			l.limit = min(2*l.limit, l.most)
		} else {
			l.limit = min(l.limit+1, l.most)
		}
	}
	if mean < l.base {
		l.base += (mean - l.base) / 2
	} else {
		l.base += (mean - l.base) / 20
	}
	l.n, l.sum, l.full = 0, 0, false
}

// refusal records a 429 or 503. One that says when to come back is taken at its word at once.
func (l *limiter) refusal(firm bool, now time.Time) {
	l.refused += (1 - l.refused) * refusedStep
	if firm || l.refused > refusedCut {
		l.shrink(0.5, now)
	}
}

// shrink multiplies the limit, at most once per round trip: what was in flight at that moment was sent under the old limit.
func (l *limiter) shrink(by float64, now time.Time) {
	if l.fixed {
		return
	}
	trip := max(time.Duration(l.short*float64(time.Second)), 10*time.Millisecond)
	if !l.cut.IsZero() && now.Sub(l.cut) < trip {
		return
	}
	l.limit = max(1, int(float64(l.limit)*by))
	l.cut, l.slowStart, l.full = now, false, false
	l.n, l.sum = 0, 0
}
