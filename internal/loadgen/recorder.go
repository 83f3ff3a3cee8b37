package loadgen

import (
	"context"
	"sync"
	"time"

	"recpie/internal/fault"
)

// recorder adds up outcomes.
type recorder struct {
	begin, end time.Time   // the measured window; a zero end is open
	fatal      func(error) // ends the run

	mu                             sync.Mutex
	underWay, peak                 int
	sent, ok, failed, abandoned    int64
	good                           int64
	ended                          int64   // in the window, from the warm-up too
	arrived                        float64 // tokens, likewise
	last                           time.Time
	prompt, output                 int64
	ttft, tpot, itl, e2e, bad, lag histogram
	classes                        map[string]int64
	first                          map[string]string
}

func (r *recorder) sending() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.underWay++
	r.peak = max(r.peak, r.underWay)
}

func (r *recorder) inWindow(t time.Time) bool {
	return !t.Before(r.begin) && (r.end.IsZero() || t.Before(r.end))
}

// record adds an outcome. A request that ended because the run was broken off has no latency.
func (r *recorder) record(ctx context.Context, o *outcome, slo SLO) {
	if o.err != nil && ctx.Err() == nil && fault.ClassOf(o.err) == fault.Fatal {
		r.fatal(o.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.underWay--
	seen := 0
	for _, a := range o.arrivals {
		seen += a.tokens
	}
	weight := 1. // of an arrival's token, where the server counts otherwise than the pieces do
	if seen > 0 && o.answer.OutputTokens > 0 {
		weight = float64(o.answer.OutputTokens) / float64(seen)
	}
	for _, a := range o.arrivals {
		if r.inWindow(a.at) {
			r.arrived += float64(a.tokens) * weight
		}
	}
	if o.err == nil && r.inWindow(o.ended) {
		r.ended++
	}
	if o.ended.After(r.last) {
		r.last = o.ended
	}
	if o.due.Before(r.begin) {
		return
	}
	r.sent++
	switch {
	case o.err == nil:
		r.succeed(o, slo, seen)
	case ctx.Err() != nil:
		r.abandoned++
		return
	default:
		r.failed++
		class := fault.ClassOf(o.err).String()
		if r.classes[class] == 0 {
			r.first[class] = o.err.Error()
		}
		r.classes[class]++
		r.bad.add(o.ended.Sub(o.due))
	}
	r.lag.add(o.sent.Sub(o.due))
}

func (r *recorder) succeed(o *outcome, slo SLO, seen int) {
	r.ok++
	r.prompt += int64(o.answer.PromptTokens)
	if o.answer.OutputTokens > 0 {
		seen = o.answer.OutputTokens
	}
	r.output += int64(seen)
	f := o.figures()
	if slo.meets(f) {
		r.good++
	}
	r.e2e.add(f.e2e)
	if f.begun {
		r.ttft.add(f.ttft)
	}
	if f.tpot > 0 {
		r.tpot.add(f.tpot)
	}
	for _, g := range f.gaps {
		r.itl.add(g)
	}
}

// report sums up. The window of a run that counts requests, or was broken off, ends with its last answer.
func (r *recorder) report(o Options, now time.Time) *Report {
	r.mu.Lock()
	defer r.mu.Unlock()
	end := r.end
	if end.IsZero() || now.Before(end) {
		end = r.last
	}
	rep := &Report{
		Mode: "closed", Rate: o.Rate, Concurrency: o.Concurrency, Seconds: max(0, end.Sub(r.begin).Seconds()),
		Sent: r.sent, Succeeded: r.ok, Failed: r.failed, Abandoned: r.abandoned, Classes: map[string]int64{}, FirstOf: r.first,
		PromptTokens: r.prompt, OutputTokens: r.output,
		TTFT: r.ttft.latency(), TPOT: r.tpot.latency(), ITL: r.itl.latency(), E2E: r.e2e.latency(), Failure: r.bad.latency(),
	}
	if o.Rate > 0 {
		rep.Mode, rep.Concurrency, rep.SendLag = "open", r.peak, r.lag.latency()
	}
	for _, c := range failureClasses {
		rep.Classes[c.String()] = r.classes[c.String()]
	}
	if rep.Seconds > 0 {
		rep.RequestsPerSecond = float64(r.ended) / rep.Seconds
		rep.OutputTokensPerSecond = r.arrived / rep.Seconds
	}
	if o.SLO != (SLO{}) {
		rep.Goodput = &Goodput{SLO: o.SLO}
		if n := r.ok + r.failed; n > 0 {
			rep.Goodput.Share = float64(r.good) / float64(n)
		}
		if rep.Seconds > 0 {
			rep.Goodput.PerSecond = float64(r.good) / rep.Seconds
		}
	}
	return rep
}
