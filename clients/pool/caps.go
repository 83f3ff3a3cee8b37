package pool

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"
)

// caps are the rates of the whole pool. A nil limiter is no cap.
type caps struct{ requests, tokens *rate.Limiter }

func newCaps(s Settings) caps {
	var c caps
	if s.RequestRate > 0 {
		c.requests = rate.NewLimiter(rate.Limit(s.RequestRate), burst(s.RequestRate))
	}
	if s.TokenRate > 0 {
		c.tokens = rate.NewLimiter(rate.Limit(s.TokenRate), burst(s.TokenRate))
	}
	return c
}

// burst is a tenth of a second's worth: a server that counts per second must not see two seconds' worth in one.
func burst(perSecond float64) int { return int(max(1, min(perSecond/10, math.MaxInt32))) }

// wait returns when one request of so many tokens is allowed, or with ctx's cause. More tokens than the burst are taken in pieces: a
// long call waits its time.
func (c caps) wait(ctx context.Context, tokens int) error {
	if err := take(ctx, c.requests, 1); err != nil {
		return err
	}
	return take(ctx, c.tokens, tokens)
}

func take(ctx context.Context, l *rate.Limiter, n int) error {
	for ; l != nil && n > 0; n -= l.Burst() {
		if l.WaitN(ctx, min(n, l.Burst())) != nil { // at once when ctx's deadline comes first, but until then the call is not lost
			<-ctx.Done()
			return context.Cause(ctx)
		}
	}
	return nil
}

// sleep waits, or returns ctx's cause.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return context.Cause(ctx)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryFloor is what may be retried per second whatever the share says: a pool with little traffic must be able to retry at all.
const retryFloor = 10.0

// budget bounds retries to a share of the calls, so that a failing pool is not hit with a multiple of its load.
type budget struct {
	share, tokens, most float64
	at                  time.Time
}

// newBudget holds at first, and at most, one retry for each of a full pool's calls in flight: when a server dies all of its calls move.
func newBudget(share float64, inFlight int) budget {
	return budget{share: share, tokens: float64(inFlight), most: float64(inFlight), at: time.Now()}
}

func (b *budget) call() { b.tokens = min(b.most, b.tokens+b.share) }

// take takes one retry, or says how long to wait before asking again.
func (b *budget) take(now time.Time) time.Duration {
	b.tokens = min(b.most, b.tokens+retryFloor*now.Sub(b.at).Seconds())
	b.at = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration((1-b.tokens)/retryFloor*float64(time.Second)) + time.Microsecond
}
