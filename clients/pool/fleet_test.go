package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"recpie/internal/fault"
)

// load keeps so many callers busy, each with keys of its own, until stop is called.
func load(t *testing.T, p *Pool[*server], callers int) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := do(ctx, p, fmt.Sprint(i, n/4)); err != nil && ctx.Err() == nil {
					t.Errorf("caller %d: %v", i, err)
					return
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// rate returns calls served per second in the next d.
func rateOf(all []*server, d time.Duration) float64 {
	before := sum(all, served)
	time.Sleep(d)
	return float64(sum(all, served)-before) / d.Seconds()
}

// TestOneOfFour breaks one of four servers in every way and asks for 70% of what three can do within 10 s, then for its return to use
// within 30 s of its recovery.
func TestOneOfFour(t *testing.T) {
	const callers = 32
	for _, tc := range []struct {
		name    string
		mode    mode
		times   time.Duration
		probes  bool
		latency time.Duration
	}{
		{"killed", dead, 1, true, 200 * time.Millisecond},
		{"killed, without health checks", dead, 1, false, 200 * time.Millisecond},
		{"hung", hung, 1, true, 200 * time.Millisecond},
		{"hung, without health checks", hung, 1, false, 200 * time.Millisecond},
		{"hung, long calls", hung, 1, true, 2 * time.Second},
		{"20 times slower", works, 20, true, 200 * time.Millisecond},
		{"20 times slower, without health checks", works, 20, false, 200 * time.Millisecond},
		{"20 times slower, long calls", works, 20, true, 2 * time.Second},
		{"garbage from a healthy server", garbles, 1, true, 200 * time.Millisecond},
		{"refuses for load", refuses, 1, true, 200 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := servers(4, tc.latency)
				p := over(t, Settings{MaxInFlight: 12, Attempt: 60 * time.Second}, tc.probes, all)
				defer p.Close()
				stop := load(t, p, callers)
				time.Sleep(20 * tc.latency)
				clean := rateOf(all, 20*tc.latency)
				if ideal := callers / tc.latency.Seconds(); clean < 0.9*ideal {
					t.Fatalf("%.0f calls/s while all is well, of %.0f", clean, ideal)
				}
				bad := all[1]
				bad.set(tc.mode, tc.latency*tc.times)
				time.Sleep(10 * time.Second)
				if r := rateOf(all, 10*tc.latency); r < 0.7*0.75*clean {
					t.Errorf("10 s after the failure %.0f calls/s, %.0f before it; %+v", r, clean, p.Stats()[1])
				}
				time.Sleep(50 * time.Second)
				if r := rateOf(all, 10*tc.latency); r < 0.7*0.75*clean {
					t.Errorf("1 min after the failure %.0f calls/s, %.0f before it; %+v", r, clean, p.Stats()[1])
				}
				bad.set(works, tc.latency)
				time.Sleep(30 * time.Second)
				before := bad.served.Load()
				if r := rateOf(all, 20*tc.latency); r < 0.85*clean {
					t.Errorf("30 s after recovery %.0f calls/s, %.0f before", r, clean)
				}
				if share := float64(bad.served.Load()-before) / (callers * 20); share < 0.25/2 {
					t.Errorf("30 s after recovery the server has a share of %.2f; %+v", share, p.Stats()[1])
				}
				stop()
			})
		})
	}
}

// Calls in flight at a server that stops answering are moved when its health checks fail, long before their deadline.
func TestHungCallsMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(2, 100*time.Millisecond)
		p := over(t, Settings{Attempt: 10 * time.Minute}, true, all)
		defer p.Close()
		all[1].set(hung, 0)
		var wg sync.WaitGroup
		begun := time.Now()
		for i := range 8 {
			wg.Go(func() {
				if err := do(t.Context(), p, fmt.Sprint(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(begun); all[1].calls.Load() == 0 || d > 20*time.Second {
			t.Errorf("the calls took %v, %d of them at the hung server", d, all[1].calls.Load())
		}
	})
}

// A hung server without a health check costs a call its attempt's deadline, and is found out.
func TestAttemptDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(2, 100*time.Millisecond)
		p := over(t, Settings{Attempt: 7 * time.Second, Failures: 2}, false, all)
		defer p.Close()
		all[0].set(hung, 0)
		for i := range 50 {
			begun := time.Now()
			if err := do(t.Context(), p, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d > 8*time.Second {
				t.Errorf("a call took %v", d)
			}
		}
		st := p.Stats()
		if st[0].Endpoint < 2 || st[0].State == Closed || st[1].Endpoint != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestBreakerAndRecovery(t *testing.T) {
	for _, probes := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			all := servers(1, 10*time.Millisecond)
			p := over(t, Settings{}, probes, all)
			defer p.Close()
			all[0].set(dead, 0)
			done := make(chan time.Time, 20)
			for range cap(done) {
				go func() {
					if err := do(t.Context(), p, ""); err != nil {
						t.Error(err)
					}
					done <- time.Now()
				}()
			}
			time.Sleep(5 * time.Minute) // a long outage: all wait, none fails
			if n := len(done); n != 0 {
				t.Fatalf("%d calls ended with all servers out", n)
			}
			// those in flight until the breaker opened; then none, or without health checks one each 9 s
			if n, most := all[0].calls.Load(), map[bool]int64{true: 20, false: 60}[probes]; n > most {
				t.Errorf("%d calls in 5 min of outage, want at most %d", n, most)
			}
			if n := all[0].probes.Load(); probes && (n < 25 || n > 40) {
				t.Errorf("%d health checks in 5 min", n)
			}
			back := time.Now()
			all[0].set(works, 10*time.Millisecond)
			var last time.Time
			for range cap(done) {
				last = <-done
			}
			if d := last.Sub(back); d > 15*time.Second {
				t.Errorf("all calls were served %v after the recovery", d)
			}
		})
	}
}

// TestAnotherUnderItsName: a healthy server that is not the one that went away gets no call, until it is that one again. What it is is
// not asked as long as it is in use.
func TestAnotherUnderItsName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(2, 10*time.Millisecond)
		var other atomic.Bool
		var asked atomic.Int64
		var eps []Endpoint[*server]
		for _, s := range all {
			eps = append(eps, Endpoint[*server]{Name: s.name, Client: s, Probe: s.health, Same: func(ctx context.Context) error {
				asked.Add(1)
				if other.Load() {
					return errors.New("other weights")
				}
				return nil
			}})
		}
		p, err := New(Settings{}, eps)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		work := func(d time.Duration) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); {
				if err := errors.Join(do(t.Context(), p, ""), do(t.Context(), p, "")); err != nil {
					t.Fatal(err)
				}
			}
		}
		work(time.Minute)
		if n := asked.Load(); n != 0 {
			t.Errorf("asked %d times of servers in use", n)
		}
		all[0].set(dead, 0)
		work(time.Minute)
		other.Store(true)
		all[0].set(works, 10*time.Millisecond)
		before := all[0].calls.Load()
		work(5 * time.Minute)
		if n := all[0].calls.Load() - before; n > 0 {
			t.Errorf("%d calls to another server under the name", n)
		}
		if st := p.Stats()[0]; st.State != Open || !strings.Contains(st.LastError, "other weights") {
			t.Errorf("%+v", st)
		}
		other.Store(false)
		work(15 * time.Second)
		if all[0].calls.Load() == before {
			t.Error("the server is not used again")
		}
	})
}

// Retry-After is waited for, within its cap, while others take the calls.
func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct{ asked, least, most time.Duration }{
		{5 * time.Second, 5 * time.Second, 6 * time.Second},
		{24 * time.Hour, 30 * time.Second, 34 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			all := servers(2, 10*time.Millisecond)
			p := over(t, Settings{}, true, all)
			defer p.Close()
			all[0].after = tc.asked
			all[0].set(refuses, 0)
			begun := time.Now()
			for i := 0; time.Since(begun) < tc.least; i++ {
				if err := do(t.Context(), p, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			st := p.Stats()[0]
			if n := all[0].calls.Load(); n != 1 || st.Transient != 1 || st.Limit != startLimit/2 {
				t.Errorf("%d calls to a server that asked for %v: %+v", n, tc.asked, st)
			}
			time.Sleep(tc.most - time.Since(begun))
			if st := p.Stats()[0].State; st != Closed {
				t.Errorf("after %v it is %s", tc.most, st)
			}
			// alone, the call waits for it
			all[1].set(dead, 0)
			all[0].set(works, 10*time.Millisecond)
			p2 := over(t, Settings{}, true, all[:1])
			defer p2.Close()
			all[0].set(refuses, 0)
			begun = time.Now()
			go func() { time.Sleep(time.Second); all[0].set(works, 0) }()
			if err := do(t.Context(), p2, ""); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d < tc.least || d > tc.most+time.Second {
				t.Errorf("the call ended after %v, the server asked for %v", d, tc.asked)
			}
		})
	}
}

// With a fifth of all calls spoiled at random the pool still does at least 70% of what it does without; 80% is all that is possible.
// On a synthetic clock, so that it is the pool's rules that are measured.
func TestSpoiledThroughput(t *testing.T) {
	for _, n := range []int{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			all := servers(n, 100*time.Millisecond)
			p := over(t, Settings{MaxInFlight: 24}, true, all)
			defer p.Close()
			rng := rand.New(rand.NewPCG(1, 2))
			var mu sync.Mutex
			run := func(share float64) (time.Duration, float64) {
				before, begun := sum(all, calls), time.Now()
				const rows = 4000
				next := make(chan int)
				var wg sync.WaitGroup
				for range 16 * n {
					wg.Go(func() {
						for i := range next {
							err := p.Do(t.Context(), Call{Key: fmt.Sprint(i / 4)}, func(ctx context.Context, s *server) error {
								err := s.call(ctx)
								mu.Lock()
								defer mu.Unlock()
								switch x := rng.Float64() / share; {
								case err != nil || x >= 1:
									return err
								case x < 0.2:
									return fault.Newf(fault.Transient, "op", "HTTP 503")
								}
								return fault.Newf(fault.Endpoint, "op", "reset")
							})
							if err != nil {
								t.Error(err)
							}
						}
					})
				}
				for i := range rows {
					next <- i
				}
				close(next)
				wg.Wait()
				return time.Since(begun), float64(sum(all, calls)-before) / rows
			}
			clean, _ := run(0)
			spoiled, per := run(0.2)
			t.Logf("%d servers: %.0f%% of the clean throughput, %.3f requests per row", n, 100*clean.Seconds()/spoiled.Seconds(), per)
			if clean.Seconds() < 0.7*spoiled.Seconds() || per > 1.3 {
				t.Errorf("%d servers: %v clean, %v spoiled, %.3f requests per row", n, clean, spoiled, per)
			}
		})
	}
}
