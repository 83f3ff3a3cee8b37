package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"recpie/clients/pool"
	"recpie/internal/progress"
)

const (
	outageLook  = 5 * time.Second  // how often the pool is looked at
	outageAfter = 10 * time.Second // how long no server may be usable before it is told
)

// outage tells people that a run waits for servers: requests wait as long as it takes, and a run that stands still must say why.
type outage struct {
	since time.Time // when no server was found usable; zero: one was
	told  bool
}

// look takes in the state of the servers and returns what is to be told, "" for nothing.
func (o *outage) look(now time.Time, servers []pool.EndpointStats) string {
	var why []string
	for _, s := range servers {
		if s.State == pool.Closed || s.State == pool.Resting {
			was := *o
			*o = outage{}
			if was.told {
				return fmt.Sprintf("%s answers again after %s", s.Name, now.Sub(was.since).Round(time.Second))
			}
			return ""
		}
		why = append(why, fmt.Sprintf("%s (%s)", s.Name, s.LastError))
	}
	if o.since.IsZero() {
		o.since = now
	}
	if o.told || now.Sub(o.since) < outageAfter {
		return ""
	}
	o.told = true
	return "no inference server can be used, the run waits for one: " + strings.Join(why, ", ")
}

// watch tells of outages until the backend is closed.
func (b *backend) watch(ctx context.Context, show *progress.Reporter) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var watching sync.WaitGroup
	watching.Go(func() {
		var o outage
		every := time.NewTicker(outageLook)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-every.C:
				if text := o.look(now, b.fleet.Pool.Stats()); text != "" {
					show.Printf("%s", text)
				}
			}
		}
	})
	b.stop = append(b.stop, func() { cancel(); watching.Wait() })
}
