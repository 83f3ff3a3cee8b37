package adapters

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"recpie/internal/fault"
)

// server is a replica in memory: it answers the canary out of what its files hold.
type server struct {
	mu     sync.Mutex
	loaded map[string]float64 // name → canary
	value  func(name string) float64
	fail   map[string]error // "load", "unload", "canary"
	log    []string
}

func newServer() *server {
	return &server{loaded: map[string]float64{}, value: func(name string) float64 { return -float64(name[len(name)-1]) / 256 }, fail: map[string]error{}}
}

func (s *server) Load(_ context.Context, name, path string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, "load "+path)
	if err := s.fail["load"]; err != nil {
		return err
	}
	s.loaded[name] = s.value(name)
	return nil
}

func (s *server) Unload(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, "unload "+name)
	if err := errors.Join(ctx.Err(), s.fail["unload"]); err != nil {
		return err
	}
	delete(s.loaded, name)
	return nil
}

func (s *server) Canary(_ context.Context, name string) ([]float64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.loaded[name]
	if !ok {
		return nil, fmt.Errorf("no adapter %q", name)
	}
	return []float64{v, v / 2}, s.fail["canary"]
}

func (s *server) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(func(yield func(string) bool) {
		for n := range s.loaded {
			if !yield(n) {
				return
			}
		}
	})
}

func version(n int, weights string, zeroB bool) *Version {
	return &Version{Manifest: Manifest{Name: fmt.Sprintf("policy-v%06d-%08x", n, n), Number: n, Files: map[string]string{WeightsFile: weights}, ZeroB: zeroB}}
}

func setup(t *testing.T) (*Publisher, []*server) {
	t.Helper()
	servers := []*server{newServer(), newServer(), newServer()}
	p, err := NewPublisher(PublishSettings{ServerDir: "/srv/adapters"}, []Replica{servers[0], servers[1], servers[2]})
	if err != nil {
		t.Fatal(err)
	}
	return p, servers
}

func TestPublishReplacesEverywhere(t *testing.T) {
	p, servers := setup(t)
	a, b := version(1, "aa", false), version(2, "bb", false)
	for _, v := range []*Version{a, b, b} {
		if err := p.Publish(t.Context(), v); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range servers {
		if got := s.names(); !reflect.DeepEqual(got, []string{b.Name}) {
			t.Errorf("replica %d serves %v", i, got)
		}
		want := []string{"load /srv/adapters/" + a.Name, "load /srv/adapters/" + b.Name, "unload " + a.Name}
		if !reflect.DeepEqual(s.log, want) {
			t.Errorf("replica %d: %v, want %v", i, s.log, want)
		}
	}
	if p.Current() != b || len(p.Stale()) != 0 {
		t.Errorf("current %v, stale %v", p.Current(), p.Stale())
	}
	if err := p.Publish(t.Context(), a); err != nil { // back again
		t.Fatal(err)
	}
	if got := servers[2].names(); !reflect.DeepEqual(got, []string{a.Name}) {
		t.Errorf("after rolling back: %v", got)
	}
}

// Whatever fails on the way, the version before goes on serving on every replica and nothing of the new one is left.
func TestFailuresLeaveTheOldVersionServing(t *testing.T) {
	boom := fault.Newf(fault.Transient, "", "boom")
	for name, spoil := range map[string]func([]*server){
		"load on the first":    func(s []*server) { s[0].fail["load"] = boom },
		"load on the last":     func(s []*server) { s[2].fail["load"] = boom },
		"canary on the second": func(s []*server) { s[1].fail["canary"] = boom },
		"canary not finite":    func(s []*server) { s[1].value = func(string) float64 { return math.NaN() } },
		"replicas disagree":    func(s []*server) { s[2].value = func(string) float64 { return -99 } },
		"old weights served": func(s []*server) {
			for _, x := range s {
				old := x.loaded[version(1, "", false).Name]
				x.value = func(string) float64 { return old }
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, servers := setup(t)
			a, b := version(1, "aa", false), version(2, "bb", false)
			if err := p.Publish(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			spoil(servers)
			err := p.Publish(t.Context(), b)
			if err == nil {
				t.Fatal("published")
			}
			if errors.Is(err, boom) && fault.ClassOf(err) != fault.Transient {
				t.Errorf("class %v of %v", fault.ClassOf(err), err)
			}
			for i, s := range servers {
				if got := s.names(); !reflect.DeepEqual(got, []string{a.Name}) {
					t.Errorf("replica %d serves %v", i, got)
				}
			}
			if p.Current() != a || len(p.Stale()) != 0 {
				t.Errorf("current %v, stale %v", p.Current().Name, p.Stale())
			}
		})
	}
}

func TestCancelledPublicationIsUndone(t *testing.T) {
	p, servers := setup(t)
	a := version(1, "aa", false)
	if err := p.Publish(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	servers[1].fail["load"] = context.Canceled
	cancel()
	if err := p.Publish(ctx, version(2, "bb", false)); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v", err)
	}
	for i, s := range servers {
		if got := s.names(); !reflect.DeepEqual(got, []string{a.Name}) {
			t.Errorf("replica %d serves %v", i, got)
		}
	}
}

func TestUnchangedAdaptersMayHaveTheSameCanary(t *testing.T) {
	p, servers := setup(t)
	for _, s := range servers {
		s.value = func(string) float64 { return -1 }
	}
	for _, v := range []*Version{version(1, "aa", true), version(2, "bb", true), version(3, "bb", true)} {
		if err := p.Publish(t.Context(), v); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
	}
	if err := p.Publish(t.Context(), version(4, "cc", false)); err == nil {
		t.Error("trained weights with the canary of untrained ones were published")
	}
}

func TestFailedUnloadIsTriedAgain(t *testing.T) {
	p, servers := setup(t)
	a, b, c := version(1, "aa", false), version(2, "bb", false), version(3, "cc", false)
	if err := p.Publish(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	servers[0].fail["unload"] = errors.New("busy")
	if err := p.Publish(t.Context(), b); err != nil {
		t.Fatalf("a failed unload failed the publication: %v", err)
	}
	if !reflect.DeepEqual(p.Stale(), []string{a.Name}) || p.Current() != b {
		t.Errorf("stale %v, current %v", p.Stale(), p.Current().Name)
	}
	if got := servers[2].names(); !reflect.DeepEqual(got, []string{b.Name}) {
		t.Errorf("the failure on replica 0 kept replica 2 from unloading: %v", got)
	}
	delete(servers[0].fail, "unload")
	if err := p.Publish(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if got := servers[0].names(); !reflect.DeepEqual(got, []string{c.Name}) || len(p.Stale()) != 0 {
		t.Errorf("replica 0 serves %v, stale %v", got, p.Stale())
	}
}

// Requests of the old version finish before it is unloaded, while new ones already use the new version.
func TestOldVersionDrainsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		var p *Publisher
		var sawCurrent string
		p, err := NewPublisher(PublishSettings{ServerDir: "x", Drain: func(_ context.Context, name string) error {
			sawCurrent = p.Current().Name
			time.Sleep(time.Minute) // the last request of the old version
			if _, ok := s.loaded[name]; !ok {
				t.Error("unloaded before the requests had drained")
			}
			return nil
		}}, []Replica{s})
		if err != nil {
			t.Fatal(err)
		}
		a, b := version(1, "aa", false), version(2, "bb", false)
		for _, v := range []*Version{a, b} {
			if err := p.Publish(t.Context(), v); err != nil {
				t.Fatal(err)
			}
		}
		if sawCurrent != b.Name {
			t.Errorf("while draining %q was current", sawCurrent)
		}
	})
}

func TestSoftPromptAloneNeedsNoServer(t *testing.T) {
	p, servers := setup(t)
	v := &Version{Manifest: Manifest{Name: "policy-v000001-00000001", Files: map[string]string{SoftFile: "ff"}}}
	if err := p.Publish(t.Context(), v); err != nil || p.Current() != v || len(servers[0].log) != 0 {
		t.Errorf("%v, current %v, calls %v", err, p.Current(), servers[0].log)
	}
}
