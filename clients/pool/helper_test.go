package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"recpie/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a fake that answers after its latency, or as its mode says. It serves any number of calls at once.
type server struct {
	name     string
	mu       sync.Mutex
	mode     mode
	latency  time.Duration
	after    time.Duration // with refuse
	calls    atomic.Int64
	served   atomic.Int64
	inFlight atomic.Int64
	most     atomic.Int64
	probes   atomic.Int64
}

type mode int

const (
	works   mode = iota
	dead         // refuses connections
	hung         // never answers
	refuses      // 429
	garbles      // answers garbage, though healthy by its check
)

func (s *server) set(m mode, latency time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode, s.latency = m, latency
}

func (s *server) get() (mode, time.Duration, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode, s.latency, s.after
}

func (s *server) call(ctx context.Context) error {
	s.calls.Add(1)
	n := s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	m, latency, after := s.get()
	switch m {
	case dead:
		return fault.Newf(fault.Endpoint, s.name, "connection refused")
	case garbles:
		return fault.Newf(fault.Endpoint, s.name, "garbage")
	case refuses:
		return &fault.Error{Class: fault.Transient, RetryAfter: after, Err: errors.New("HTTP 429")}
	case hung:
		<-ctx.Done()
		return fault.New(fault.Endpoint, s.name, ctx.Err())
	}
	if err := sleep(ctx, latency); err != nil {
		return fault.New(fault.Transient, s.name, err)
	}
	s.served.Add(1)
	return nil
}

func (s *server) health(ctx context.Context) error {
	s.probes.Add(1)
	switch m, _, _ := s.get(); m {
	case dead:
		return errors.New("connection refused")
	case hung:
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func servers(n int, latency time.Duration) []*server {
	out := make([]*server, n)
	for i := range out {
		out[i] = &server{name: fmt.Sprintf("http://s%d", i), latency: latency}
	}
	return out
}

// over makes a pool over the servers, with health checks when probes is set, closed at the test's end.
func over(t testing.TB, s Settings, probes bool, all []*server) *Pool[*server] {
	t.Helper()
	var eps []Endpoint[*server]
	for _, f := range all {
		ep := Endpoint[*server]{Name: f.name, Client: f}
		if probes {
			ep.Probe = f.health
		}
		eps = append(eps, ep)
	}
	p, err := New(s, eps)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func do(ctx context.Context, p *Pool[*server], key string) error {
	return p.Do(ctx, Call{Op: "test", Key: key}, func(ctx context.Context, s *server) error { return s.call(ctx) })
}

func sum(all []*server, of func(*server) int64) (n int64) {
	for _, s := range all {
		n += of(s)
	}
	return n
}

func calls(s *server) int64  { return s.calls.Load() }
func served(s *server) int64 { return s.served.Load() }
