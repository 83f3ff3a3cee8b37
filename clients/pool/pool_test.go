package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"recpie/internal/fault"
)

func TestNewRefuses(t *testing.T) {
	one := []Endpoint[int]{{Name: "a"}}
	for _, tc := range []struct {
		s   Settings
		eps []Endpoint[int]
	}{
		{Settings{}, nil}, {Settings{}, []Endpoint[int]{{Name: "a"}, {Name: "a"}}}, {Settings{MaxInFlight: -1}, one}, {Settings{Attempts: -1}, one},
		{Settings{Failures: -1}, one}, {Settings{Attempt: -1}, one}, {Settings{TokenRate: -1}, one}, {Settings{RequestRate: math.NaN()}, one},
	} {
		if _, err := New(tc.s, tc.eps); err == nil || fault.ClassOf(err) != fault.Fatal {
			t.Errorf("%+v, %+v: %v", tc.s, tc.eps, err)
		}
	}
}

// The class decides whether a call is tried elsewhere and what it says against the endpoint.
func TestClasses(t *testing.T) {
	for class, want := range map[fault.Class]struct {
		tries int
		state State
	}{fault.Item: {20, Closed}, fault.Fatal: {20, Closed}, fault.Endpoint: {40, Open}, fault.Transient: {40, Resting}} {
		synctest.Test(t, func(t *testing.T) {
			all := servers(2, 0)
			p := over(t, Settings{}, true, all)
			defer p.Close()
			broken := errors.New("broken")
			tries := 0
			for range 20 {
				err := p.Do(t.Context(), Call{Op: "op", Key: "k"}, func(_ context.Context, s *server) error {
					if tries++; tries%2 == 1 {
						return fault.New(class, "x", broken)
					}
					return nil
				})
				if retried := want.tries > 20; retried != (err == nil) || err != nil && !errors.Is(err, broken) {
					t.Errorf("%v: %v", class, err)
				}
				tries = (tries + 1) &^ 1 // each call begins with a failure
			}
			if class == fault.Item || class == fault.Fatal {
				for _, st := range p.Stats() {
					if st.State != Closed || st.Endpoint != 0 || st.Transient != 0 || st.Retries != 0 {
						t.Errorf("%v: %+v", class, st)
					}
				}
			}
		})
	}
}

// An item error never opens a breaker nor lowers a limit, and lets a recovering endpoint back.
func TestItemErrorsAreNotTheServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(1, 10*time.Millisecond)
		p := over(t, Settings{}, false, all)
		defer p.Close()
		for range 500 {
			err := p.Do(t.Context(), Call{}, func(context.Context, *server) error { return fault.Newf(fault.Item, "op", "HTTP 400") })
			if fault.ClassOf(err) != fault.Item {
				t.Fatal(err)
			}
		}
		if st := p.Stats()[0]; st.State != Closed || st.Item != 500 || st.Limit != startLimit {
			t.Errorf("%+v", st)
		}
	})
}

// The caller's cancellation comes back as its cause and is not held against the endpoint.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(1, time.Hour)
		p := over(t, Settings{MaxInFlight: 1, Attempt: 2 * time.Hour}, false, all)
		defer p.Close()
		why := errors.New("the batch was cancelled")
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for range 3 { // one in flight, two wait
			wg.Go(func() {
				err := do(ctx, p, "")
				if !errors.Is(err, why) || fault.ClassOf(err) != fault.Transient {
					t.Errorf("%v (%v)", err, fault.ClassOf(err))
				}
			})
		}
		time.Sleep(time.Second)
		cancel(why)
		wg.Wait()
		if st := p.Stats()[0]; st.Endpoint+st.Transient+st.Fatal != 0 || st.Abandoned != 1 || st.InFlight != 0 || st.LastError != "" {
			t.Errorf("%+v", st)
		}
		if err := do(ctx, p, ""); !errors.Is(err, why) {
			t.Errorf("begun afterwards: %v", err)
		}
	})
}

// With all endpoints out a call waits until its deadline and then says what each endpoint's last error was.
func TestAllOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(3, 0)
		p := over(t, Settings{}, true, all)
		defer p.Close()
		all[0].set(dead, 0)
		all[1].set(garbles, 0)
		all[2].after = 20 * time.Second
		all[2].set(refuses, 0)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		begun := time.Now()
		err := do(ctx, p, "k")
		if time.Since(begun) != 3*time.Minute || !errors.Is(err, context.DeadlineExceeded) || fault.ClassOf(err) != fault.Transient {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		for _, want := range []string{"http://s0", "refused", "http://s1", "garbage", "http://s2", "429"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in %v", want, err)
			}
		}
	})
}

// A call that breaks what it touches is given up when others get through.
func TestPoisonIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(4, 10*time.Millisecond)
		p := over(t, Settings{Attempts: 6}, true, all)
		defer p.Close()
		stop := load(t, p, 8)
		tries, last := 0, ""
		err := p.Do(t.Context(), Call{Op: "poison"}, func(_ context.Context, s *server) error {
			if tries++; s.name == last {
				t.Errorf("twice in a row at %s", last)
			}
			last = s.name
			return fault.Newf(fault.Endpoint, "op", "the engine died")
		})
		stop()
		if fault.ClassOf(err) != fault.Endpoint || tries != 6 {
			t.Errorf("%d tries: %v", tries, err)
		}
	})
}

// With every try failing, retries stay within their share of the calls, besides the floor and the reserve.
func TestRetryAmplification(t *testing.T) {
	for _, m := range []mode{garbles, refuses} {
		synctest.Test(t, func(t *testing.T) {
			all := servers(4, 0)
			s := Settings{RetryShare: 0.2, MaxInFlight: 8, Failures: 1 << 30} // the breaker out of the way
			p := over(t, s, true, all)
			defer p.Close()
			for _, f := range all {
				f.set(m, 0)
			}
			const n, wait = 2000, 30 * time.Second
			ctx, cancel := context.WithTimeout(t.Context(), wait)
			defer cancel()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { _ = do(ctx, p, fmt.Sprint(i)) })
			}
			wg.Wait()
			most := n*(1+s.RetryShare) + 4*8 + retryFloor*wait.Seconds()
			if got := float64(sum(all, calls)); got > most {
				t.Errorf("mode %d: %.0f requests for %d calls, want at most %.0f", m, got, n, most)
			}
		})
	}
}

func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(2, time.Millisecond)
		p := over(t, Settings{RequestRate: 100, TokenRate: 1000}, false, all)
		defer p.Close()
		run := func(n, tokens int) time.Duration {
			begun := time.Now()
			var wg sync.WaitGroup
			for range n {
				wg.Go(func() {
					if err := p.Do(t.Context(), Call{Tokens: tokens}, func(ctx context.Context, s *server) error { return s.call(ctx) }); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			return time.Since(begun)
		}
		if d := run(1000, 0); d < 9800*time.Millisecond || d > 10100*time.Millisecond {
			t.Errorf("1000 requests at 100/s took %v", d)
		}
		if d := run(20, 500); d < 9800*time.Millisecond || d > 10100*time.Millisecond {
			t.Errorf("10,000 tokens at 1000/s took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		err := p.Do(ctx, Call{Tokens: 1 << 20}, func(context.Context, *server) error { return nil })
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		if d := run(1, 500); d > 700*time.Millisecond {
			t.Errorf("the call that left still holds what it did not use: %v", d)
		}
	})
}

// Those who wait are served in the order they came, and those who leave make room.
func TestFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(1, 10*time.Millisecond)
		p := over(t, Settings{MaxInFlight: 1}, false, all)
		defer p.Close()
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 50 {
			ctx := t.Context()
			if i%5 == 4 {
				var cancel func()
				ctx, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
			}
			wg.Go(func() {
				_ = p.Do(ctx, Call{Key: fmt.Sprint(i)}, func(ctx context.Context, s *server) error {
					mu.Lock()
					order = append(order, i)
					mu.Unlock()
					return s.call(ctx)
				})
			})
			synctest.Wait()
		}
		wg.Wait()
		if len(order) != 40 || !slices.IsSorted(order) {
			t.Errorf("order %v", order)
		}
	})
}

func TestEach(t *testing.T) {
	p := over(t, Settings{}, false, servers(3, 0))
	seen := make(chan string, 3)
	err := p.Each(t.Context(), func(_ context.Context, name string, s *server) error {
		seen <- s.name
		switch name {
		case "http://s1":
			return fault.Newf(fault.Endpoint, "load", "out of memory")
		case "http://s2":
			return fault.Newf(fault.Transient, "load", "busy")
		}
		return nil
	})
	if len(seen) != 3 || fault.ClassOf(err) != fault.Endpoint || !strings.Contains(err.Error(), "http://s1: load: out of memory") || !strings.Contains(err.Error(), "busy") {
		t.Errorf("%d, %v", len(seen), err)
	}
	if err := p.Each(t.Context(), func(context.Context, string, *server) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(1, time.Hour)
		p := over(t, Settings{MaxInFlight: 1, Attempt: 2 * time.Hour}, true, all)
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- do(ctx, p, "") }()
			synctest.Wait()
		}
		p.Close()
		p.Close()
		if err := <-errs; fault.ClassOf(err) != fault.Fatal { // the one that waited
			t.Error(err)
		}
		if err := do(t.Context(), p, ""); fault.ClassOf(err) != fault.Fatal {
			t.Error(err)
		}
		cancel()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// A place in flight survives a panic that the caller's framework recovers from.
func TestPanicFreesItsPlace(t *testing.T) {
	p := over(t, Settings{MaxInFlight: 1}, false, servers(1, 0))
	func() {
		defer func() { _ = recover() }()
		_ = p.Do(t.Context(), Call{}, func(context.Context, *server) error { panic("bug") })
	}()
	if err := do(t.Context(), p, ""); err != nil || p.Stats()[0].InFlight != 0 {
		t.Errorf("%v, %+v", err, p.Stats())
	}
}
