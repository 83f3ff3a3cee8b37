package main

import (
	"context"
	"fmt"
	"time"

	"recpie/clients/pool"
	"recpie/internal/progress"
)

// silence tells when no server of a pool has been usable for a while: calls wait then, which looks like a program that hangs.
type silence struct {
	since time.Time // zero while a server is usable
	told  bool
}

const (
	silenceEvery = 5 * time.Second
	silenceLong  = 20 * time.Second
)

// look returns what is to be said now, "" for nothing.
func (s *silence) look(servers []pool.EndpointStats, now time.Time) string {
	worst := ""
	for _, e := range servers {
		if e.State != pool.Open && e.State != pool.HalfOpen {
			told := s.told
			*s = silence{}
			if told {
				return "inference servers answer again"
			}
			return ""
		}
		worst = fmt.Sprintf("%s: %s", e.Name, e.LastError)
	}
	if s.since.IsZero() {
		s.since = now
	}
	if s.told || now.Sub(s.since) < silenceLong || worst == "" {
		return ""
	}
	s.told = true
	return fmt.Sprintf("no inference server has answered for %s (%s). Requests wait until one does; stopping loses nothing, the same command continues", now.Sub(s.since).Round(time.Second), worst)
}

// watch reports silence until the returned function is called.
func watch(stats func() []pool.EndpointStats, show *progress.Reporter) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(silenceEvery)
		defer tick.Stop()
		var s silence
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				if text := s.look(stats(), now); text != "" {
					show.Printf("%s", text)
				}
			}
		}
	}()
	return func() { cancel(); <-done }
}
