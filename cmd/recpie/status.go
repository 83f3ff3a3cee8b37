package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	"recpie/internal/queue"
)

// countsOf is how far a batch is, for programs.
func countsOf(s queue.Status) map[string]any {
	m := map[string]any{"batch": s.Name, "state": s.State, "rows": s.Rows, "done": s.OK, "dead": s.Dead, "reused": s.Reused, "left": s.Left(), "queued": s.Queued, "tokens": s.Tokens,
		"rows_last_minute": s.Recent, "rows_per_second": math.Round(s.Rate*100) / 100, "seconds_left": math.Round(s.Remaining().Seconds())}
	if s.Reason != "" {
		m["reason"] = s.Reason
	}
	return m
}

// writeStatus is countsOf for people.
func writeStatus(w io.Writer, s queue.Status) {
	fmt.Fprintf(w, "batch %s is %s\n", s.Name, s.State)
	if s.Reason != "" {
		fmt.Fprintf(w, "  because: %s\n", s.Reason)
	}
	fmt.Fprintf(w, "  rows    %d\n  done    %d (%d reused)\n  dead    %d\n  left    %d (%d in jobs)\n  tokens  %d\n", s.Rows, s.OK, s.Reused, s.Dead, s.Left(), s.Queued, s.Tokens)
	if left := s.Remaining(); left > 0 {
		fmt.Fprintf(w, "  about   %s left at %.1f rows a second\n", left.Round(time.Second), s.Rate)
	}
}

// progressEvery is how often --progress json tells how far a batch is.
const progressEvery = time.Second

// progressLines writes the counts of a batch, one JSON object per line, every second and once more when stop is called. They come out of
// the database, so that what other processes do counts too.
func progressLines(ctx context.Context, w io.Writer, db *queue.DB, b queue.Batch) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	write := func(ctx context.Context) {
		if s, err := db.Status(ctx, b); err == nil { // a database that is away is reported by the work
			_ = json.NewEncoder(w).Encode(countsOf(s))
		}
	}
	wg.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				write(ctx)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		last, end := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer end()
		write(last)
	}
}
