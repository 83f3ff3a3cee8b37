package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"recpie/config"
	"recpie/internal/faultproxy"
	"recpie/internal/faultproxy/fakefleet"
	"recpie/orchestrator"
)

// TestOtherWeightsUnderTheName: a server that was away and comes back with other weights under the same name writes nothing; with its own
// it is used again.
func TestOtherWeightsUnderTheName(t *testing.T) {
	var chats, scores [2]atomic.Int64
	var servers [2]*fakefleet.Server
	var proxies [2]*faultproxy.Proxy
	c := &config.Config{Inference: config.Inference{Model: "tiny", Concurrency: 16, MaxTokens: 8}}
	for i := range servers {
		servers[i] = fakefleet.New(fakefleet.Config{Weights: 1, Service: time.Millisecond})
		var err error
		proxies[i], err = faultproxy.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			servers[i].ServeHTTP(w, r)
			if strings.HasSuffix(r.URL.Path, "/chat/completions") {
				chats[i].Add(1)
			} else if strings.HasSuffix(r.URL.Path, "/completions") {
				scores[i].Add(1)
			}
		}), uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		defer proxies[i].Close()
		c.Inference.Endpoints = append(c.Inference.Endpoints, config.Endpoint{URL: proxies[i].URL()})
	}
	b := &backend{base: "tiny"}
	defer b.close()
	if err := b.dial(t.Context(), c, c.Inference.Endpoints, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	var row atomic.Int64
	work := func(until func() bool) {
		t.Helper()
		var all sync.WaitGroup
		end := time.Now().Add(30 * time.Second)
		for range 24 {
			all.Go(func() {
				for !until() {
					if time.Now().After(end) {
						t.Errorf("it does not come to that: %+v", b.fleet.Pool.Stats())
						return
					}
					if _, err := b.fleet.Generate(t.Context(), orchestrator.Request{Model: "tiny", Text: fmt.Sprint(row.Add(1)), N: 1, MaxTokens: 8}); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
	}
	more := func(n int64) func() bool {
		end := row.Load() + n
		return func() bool { return row.Load() >= end }
	}
	work(func() bool { return scores[0].Load() > 0 && scores[1].Load() > 0 }) // as it is
	work(more(200))
	if err := proxies[0].Kill(); err != nil {
		t.Fatal(err)
	}
	work(more(200))
	servers[0].Restart(2)
	if err := proxies[0].Revive(); err != nil {
		t.Fatal(err)
	}
	before := chats[0].Load()
	work(func() bool { return strings.Contains(b.fleet.Pool.Stats()[0].LastError, "other weights") })
	work(more(200))
	if n := chats[0].Load() - before; n > 0 {
		t.Errorf("%d rows were asked of other weights", n)
	}
	servers[0].Restart(1)
	work(func() bool { return chats[0].Load() > before })
}
