package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"recpie/internal/fault"
)

// throughput is the name of the finding.
const throughput = "throughput"

// The throughput probe doubles the requests in flight from 1 up.
const (
	mostConcurrent = 512
	window         = 1500 * time.Millisecond // new requests are sent for so long; those in flight are awaited
	whole          = time.Minute             // of all steps
	growth         = 1.1                     // a step that brings less than this, twice, is the last
	enough         = 0.9                     // share of the best throughput that the proposal must reach
)

// step is what one number of requests in flight gave.
type step struct {
	inFlight int
	rate     float64 // answers per second
	median   time.Duration
}

// errPushedBack ends the probe without a fault: the server has said that it has enough.
var errPushedBack = fault.Newf(fault.Transient, "throughput", "the server asked to wait")

// throughput finds the number of requests in flight beyond which the server answers no more of them per second. generate makes one
// attempt per call.
func (c *chart) throughput(ctx context.Context, i Inference, generate generator, words int) {
	ctx, cancel := context.WithTimeout(ctx, whole)
	defer cancel()
	steps, err := i.climb(ctx, generate, words)
	if len(steps) == 0 {
		c.failed(Warn, throughput, "look at the server's log", err)
		return
	}
	best, proposal := slices.MaxFunc(steps, func(a, b step) int { return int(1e6 * (a.rate - b.rate)) }), step{}
	curve := make([]string, len(steps))
	for n, s := range steps {
		curve[n] = fmt.Sprintf("%d: %s/s", s.inFlight, rate(s.rate))
		if proposal.inFlight == 0 && s.rate >= enough*best.rate {
			proposal = s
		}
	}
	detail := fmt.Sprintf("%s answers/s with %d in flight, half of them within %s (%s)", rate(proposal.rate), proposal.inFlight, short(proposal.median), strings.Join(curve, ", "))
	switch {
	case err != nil && fault.ClassOf(err) != fault.Transient:
		c.warn(throughput, fmt.Sprintf("look at the server's log; until then set inference.concurrency: %d", proposal.inFlight), "%s; with more: %v", detail, err)
	case i.Concurrency > 4*proposal.inFlight || 2*i.Concurrency < proposal.inFlight:
		c.warn(throughput, fmt.Sprintf("set inference.concurrency: %d (now %d)", proposal.inFlight, i.Concurrency), "%s", detail)
	default:
		c.ok(throughput, "%s; inference.concurrency is %d", detail, i.Concurrency)
	}
}

// rate prints answers per second with three digits at least where they matter.
func rate(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// climb raises the requests in flight until throughput stops growing, the median latency doubles from one step to the next, or the
// server pushes back. It returns the steps that were completed, and the error that ended them.
func (i Inference) climb(ctx context.Context, generate generator, words int) ([]step, error) {
	var steps []step
	number, best := 1, 0.
	for n := 1; n <= mostConcurrent; n *= 2 {
		s, err := i.load(ctx, generate, words, n, &number)
		if err != nil {
			return steps, err
		}
		if s.rate < growth*best && ctx.Err() == nil {
			// A hiccup of either machine must not end the climb: the step is taken once more.
			if again, err := i.load(ctx, generate, words, n, &number); err == nil && again.rate > s.rate {
				s = again
			}
		}
		steps = append(steps, s)
		slower := len(steps) > 1 && s.median > 2*steps[len(steps)-2].median
		if s.rate < growth*best || slower || ctx.Err() != nil {
			return steps, nil
		}
		best = max(best, s.rate)
	}
	return steps, nil
}

// load keeps n requests in flight for a window. Every request has a prompt of its own.
func (i Inference) load(ctx context.Context, generate generator, words, n int, number *int) (step, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		took  []time.Duration
		next  atomic.Int64
		began = time.Now()
	)
	next.Store(int64(*number))
	for range n {
		wg.Go(func() {
			for first := true; first || time.Since(began) < window; first = false {
				sent := time.Now()
				if _, err := generate(ctx, prompt(int(next.Add(1)), words), i.AnswerTokens); err != nil {
					if fault.ClassOf(err) == fault.Transient && ctx.Err() == nil {
						err = errPushedBack
					}
					stop(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(sent))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	*number = int(next.Load())
	switch err := context.Cause(ctx); {
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled):
		return step{}, fault.New(fault.Transient, "throughput", err) // our own time is up
	case err != nil:
		return step{}, err
	}
	slices.Sort(took)
	return step{n, float64(len(took)) / time.Since(began).Seconds(), took[len(took)/2]}, nil
}
