package loadgen

import (
	"time"

	"recpie/internal/fault"
)

// Report is what a run measured. Requests that began in the warm-up are in none of its figures but the rates, which count what
// ended, and the tokens that arrived, between the end of the warm-up and the end of sending.
type Report struct {
	Mode        string  `json:"mode"` // open or closed
	Rate        float64 `json:"rate,omitempty"`
	Concurrency int     `json:"concurrency"` // senders, or the most requests that were under way at a time in the open loop
	Seconds     float64 `json:"seconds"`     // measured, without the warm-up and the wait for the last answers

	Sent      int64             `json:"sent"`
	Succeeded int64             `json:"succeeded"`
	Failed    int64             `json:"failed"`
	Abandoned int64             `json:"abandoned"` // still under way when the run was broken off
	Classes   map[string]int64  `json:"failures_by_class"`
	FirstOf   map[string]string `json:"first_failures"` // an example of each class

	RequestsPerSecond     float64 `json:"requests_per_second"`
	OutputTokensPerSecond float64 `json:"output_tokens_per_second"`
	PromptTokens          int64   `json:"prompt_tokens"` // of the requests that succeeded
	OutputTokens          int64   `json:"output_tokens"`

	TTFT    Latency `json:"ttft"`
	TPOT    Latency `json:"tpot"`
	ITL     Latency `json:"itl"`
	E2E     Latency `json:"e2e"`
	Failure Latency `json:"failure"`  // from the time due to the failure
	SendLag Latency `json:"send_lag"` // open loop: from the time due to the sending; a large one means that this machine is too slow

	Goodput        *Goodput `json:"goodput,omitempty"`
	PrefixCacheHit *float64 `json:"prefix_cache_hit,omitempty"` // share of the prompt tokens, by the server's own count
}

// Goodput counts the requests that met every objective. A failed request meets none.
type Goodput struct {
	SLO       SLO     `json:"slo"`
	Share     float64 `json:"share"` // of the requests that ended
	PerSecond float64 `json:"requests_per_second"`
}

// failureClasses are listed in a report even when they are 0.
var failureClasses = []fault.Class{fault.Transient, fault.Endpoint, fault.Item, fault.Fatal}

// outcome is how one request ended.
type outcome struct {
	due, sent, ended time.Time
	arrivals         []arrival
	answer           Answer
	err              error
}

type arrival struct {
	at     time.Time
	tokens int
}

// figures are the latencies of a request that succeeded. There is a ttft once a token has come, a tpot once tokens have come twice.
type figures struct {
	begun           bool
	ttft, tpot, e2e time.Duration
	gaps            []time.Duration
}

func (o *outcome) figures() figures {
	f := figures{e2e: o.ended.Sub(o.due)}
	var last time.Time
	seen := 0
	for _, a := range o.arrivals {
		if a.tokens == 0 {
			continue
		}
		if f.begun = true; seen == 0 {
			f.ttft = a.at.Sub(o.due)
		} else {
			f.gaps = append(f.gaps, a.at.Sub(last))
		}
		seen += a.tokens
		last = a.at
	}
	tokens := max(seen, o.answer.OutputTokens)
	if tokens > 1 && len(f.gaps) > 0 {
		f.tpot = last.Sub(o.due.Add(f.ttft)) / time.Duration(tokens-1)
	}
	return f
}

// meets tells whether a request that succeeded met the objectives. What a request has no figure for, it meets.
func (s SLO) meets(f figures) bool {
	within := func(v, limit time.Duration) bool { return limit <= 0 || v <= limit }
	return within(f.ttft, s.TTFT) && within(f.tpot, s.TPOT) && within(f.e2e, s.E2E)
}
