package transport

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"recpie/internal/fault"
)

// suspect marks a failure that may be an accident (a broken connection, an unreadable answer) or a broken server: it is retried
// like a transient one, and blamed on the endpoint when it persists.
type suspect struct{ err error }

func (s *suspect) Error() string { return s.err.Error() }
func (s *suspect) Unwrap() error { return s.err }

// Suspect returns an endpoint error that is worth another attempt. It returns nil for a nil err.
func Suspect(op string, err error) error {
	if err == nil {
		return nil
	}
	return fault.New(fault.Endpoint, op, &suspect{err})
}

// StatusError gives an error answer its class: that of class, and Suspect for 502 and 504, which a proxy gives for a server that is away.
func StatusError(op string, status int, class fault.Class, hint string, err error) error {
	if status == http.StatusBadGateway || status == http.StatusGatewayTimeout {
		return Suspect(op, err)
	}
	return &fault.Error{Class: class, Op: op, Hint: hint, Err: err}
}

func retryable(err error) bool {
	var s *suspect
	return fault.ClassOf(err) == fault.Transient || errors.As(err, &s)
}

// Call sends a request until it succeeds, fails for good, or the attempts are used up. Between attempts it waits as the exponential
// back-off says, longer when the server asked for it, and stops at once when ctx ends.
func (c *Client) Call(ctx context.Context, call Call) error {
	if call.Once {
		return c.once(ctx, call)
	}
	return c.Retry(ctx, call.Op, func() error { return c.once(ctx, call) })
}

// Retry runs attempt by the rule of Call, for requests that another library builds and sends through Do.
func (c *Client) Retry(ctx context.Context, op string, attempt func() error) error {
	last := attempt()
	if last == nil || c.s.Attempts == 1 || ctx.Err() != nil || !retryable(last) {
		return last
	}
	exp := backoff.NewExponentialBackOff(backoff.WithInitialInterval(c.s.BackoffFirst), backoff.WithMaxInterval(c.s.BackoffMax),
		backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	pause := &polite{BackOff: exp}
	begun := false
	err := backoff.Retry(func() error {
		if !begun { // the attempt above was the first
			begun = true
		} else if last = attempt(); last == nil {
			return nil
		}
		if ctx.Err() != nil || !retryable(last) {
			return backoff.Permanent(last)
		}
		pause.atLeast = fault.RetryAfter(last)
		return last
	}, backoff.WithContext(backoff.WithMaxRetries(pause, uint64(c.s.Attempts-1)), ctx))
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && !errors.Is(last, context.Cause(ctx)) {
		// The wait was cut short: say so, and keep what the server said last.
		return fault.Newf(fault.Transient, op, "%w; before: %v", context.Cause(ctx), last)
	}
	return last
}

// polite is a back-off that waits at least as long as the server asked.
type polite struct {
	backoff.BackOff
	atLeast time.Duration
}

// NextBackOff returns the longer of the two pauses.
func (p *polite) NextBackOff() time.Duration {
	d := p.BackOff.NextBackOff()
	if d == backoff.Stop {
		return d
	}
	return max(d, p.atLeast)
}

// withRetryAfter records what the answer's Retry-After (or retry-after-ms) asks on a transient error, capped.
func withRetryAfter(err error, h http.Header, most time.Duration) error {
	if fault.ClassOf(err) != fault.Transient {
		return err
	}
	after := parseRetryAfter(h, time.Now())
	if after <= 0 {
		return err
	}
	return &fault.Error{Class: fault.Transient, Hint: fault.HintOf(err), RetryAfter: min(after, most), Err: err}
}

// parseRetryAfter reads seconds, milliseconds or a date; anything else, and a date that is past, is 0.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(strings.TrimSpace(h.Get("Retry-After-Ms")), 64); err == nil && ms > 0 {
		return seconds(ms / 1000)
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		return seconds(s)
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// seconds converts without overflowing on absurd values.
func seconds(s float64) time.Duration {
	switch {
	case !(s > 0): // also NaN
		return 0
	case s > 86400:
		return 24 * time.Hour
	}
	return time.Duration(s * float64(time.Second))
}
