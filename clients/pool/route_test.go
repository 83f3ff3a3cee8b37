package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"recpie/internal/fault"
)

// In flight never exceeds the limit, whatever the servers do.
func TestInFlightNeverExceedsTheLimit(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "servers")
		most := rapid.IntRange(1, 12).Draw(rt, "most")
		modes := rapid.SliceOfN(rapid.IntRange(0, int(garbles)), 6, 6).Draw(rt, "modes")
		synctest.Test(t, func(t *testing.T) {
			all := servers(n, 50*time.Millisecond)
			p := over(t, Settings{MaxInFlight: most, Attempt: 3 * time.Second}, true, all)
			defer p.Close()
			stop := load(t, p, 20)
			for i, m := range modes {
				all[i%n].set(mode(m), 50*time.Millisecond)
				for range 10 {
					time.Sleep(100 * time.Millisecond)
					for _, st := range p.Stats() {
						if st.Limit < 1 || st.Limit > most || st.InFlight > most || st.InFlight < 0 {
							t.Errorf("%+v", st)
						}
					}
				}
			}
			for _, s := range all {
				s.set(works, 50*time.Millisecond)
				if m := s.most.Load(); m > int64(most) {
					t.Errorf("%d in flight at %s, the cap is %d", m, s.name, most)
				}
			}
			stop()
			for _, st := range p.Stats() {
				if st.InFlight != 0 {
					t.Errorf("left in flight: %+v", st)
				}
			}
		})
	})
}

// homes counts, per key, at which servers its calls were served.
func homes(t *testing.T, p *Pool[*server], callers, users, each int) (atHome float64) {
	var mu sync.Mutex
	at := map[string]map[string]int{}
	var wg sync.WaitGroup
	work := make(chan string)
	for range callers {
		wg.Go(func() {
			for key := range work {
				err := p.Do(t.Context(), Call{Key: key}, func(ctx context.Context, s *server) error {
					mu.Lock()
					if at[key] == nil {
						at[key] = map[string]int{}
					}
					at[key][s.name]++
					mu.Unlock()
					return s.call(ctx)
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range each {
		for u := range users {
			work <- fmt.Sprint("user", u)
		}
	}
	close(work)
	wg.Wait()
	top, total := 0, 0
	for _, servers := range at {
		most := 0
		for _, n := range servers {
			most, total = max(most, n), total+n
		}
		top += most
	}
	return float64(top) / float64(total)
}

// Users stay at one server, also when the pool has more to do than it can at once.
func TestSticky(t *testing.T) {
	for callers, want := range map[int]float64{8: 0.99, 64: 0.65, 400: 0.75} {
		synctest.Test(t, func(t *testing.T) {
			p := over(t, Settings{MaxInFlight: 16}, true, servers(4, 50*time.Millisecond))
			defer p.Close()
			share := homes(t, p, callers, 100, 30)
			t.Logf("%d callers: %.3f of the calls at their key's server", callers, share)
			if share < want {
				t.Errorf("%d callers: %.3f of the calls at their key's server, want %.2f", callers, share, want)
			}
		})
	}
}

// A call that failed at its home takes the next place elsewhere, although home has room.
func TestHomeThatFailedIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(2, time.Second)
		p := over(t, Settings{MaxInFlight: 1}, false, all)
		defer p.Close()
		keyOf := func(s *server) string {
			for i := 0; ; i++ {
				if k := fmt.Sprint(i); p.core.home(hash(k), time.Now()).name == s.name {
					return k
				}
			}
		}
		busy := make(chan error)
		go func() { busy <- do(t.Context(), p, keyOf(all[1])) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun, failed := time.Now(), false
		err := p.Do(ctx, Call{Key: keyOf(all[0])}, func(ctx context.Context, s *server) error {
			if !failed {
				failed = true
				return fault.Newf(fault.Endpoint, "op", "reset")
			}
			return s.call(ctx)
		})
		if d := time.Since(begun); err != nil || d != 2*time.Second || all[1].served.Load() != 2 {
			t.Errorf("after %v: %v", d, err)
		}
		if err := <-busy; err != nil {
			t.Error(err)
		}
	})
}

// One key's burst spills, and a server that others keep busy is left alone by its own metrics.
func TestSpill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := servers(4, 50*time.Millisecond)
		busy := Load{Waiting: 40, Running: 64, KV: 0.8}
		var eps []Endpoint[*server]
		for i, s := range all {
			eps = append(eps, Endpoint[*server]{Name: s.name, Client: s, Load: func(context.Context) (Load, error) {
				switch i {
				case 0:
					return busy, nil
				case 1:
					return Load{}, errors.New("no metrics")
				}
				return Load{}, nil
			}})
		}
		p, err := New(Settings{}, eps)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		run := func() []int64 {
			before := make([]int64, 4)
			for i, s := range all {
				before[i] = s.calls.Load()
			}
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					for n := range 25 {
						if err := do(t.Context(), p, fmt.Sprint(i, n)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for i, s := range all {
				before[i] = s.calls.Load() - before[i]
			}
			return before
		}
		run() // metrics are read while there is traffic
		if got := run(); got[0] > 25 {
			t.Errorf("calls per server %v, the first is busy with others' work", got)
		}
		busy = Load{}
		run()
		if got := run(); got[0] < 80 {
			t.Errorf("calls per server %v, the first is free again", got)
		}
		var wg sync.WaitGroup
		for range 24 {
			wg.Go(func() { _ = do(t.Context(), p, "one user") })
		}
		synctest.Wait()
		for _, st := range p.Stats() {
			if st.InFlight > 12 {
				t.Errorf("one user's burst: %+v", st)
			}
		}
		wg.Wait()
	})
}

// BenchmarkDo measures the pool alone: the call does nothing.
func BenchmarkDo(b *testing.B) {
	for _, n := range []int{1, 4, 32} {
		b.Run(fmt.Sprint(n, " endpoints"), func(b *testing.B) {
			p := over(b, Settings{}, true, servers(n, 0))
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if err := p.Do(b.Context(), Call{Op: "bench", Key: keys[i%len(keys)]}, func(context.Context, *server) error { return nil }); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

var keys = func() (out [256]string) {
	for i := range out {
		out[i] = fmt.Sprint("user", i)
	}
	return out
}()
