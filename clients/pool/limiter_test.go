package pool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever happens, the limit stays between 1 and its cap, and is cut at most once per round trip.
func TestLimiterBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 300).Draw(t, "most")
		l := newLimiter(most, false)
		now := time.Unix(1_000_000, 0)
		for range rapid.IntRange(1, 400).Draw(t, "steps") {
			d := time.Duration(math.Pow(10, rapid.Float64Range(0, 11).Draw(t, "latency exponent")))
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(d)).Draw(t, "pause")))
			before, cut := l.limit, l.cut
			trip := time.Duration(l.short * float64(time.Second))
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0:
				l.started(rapid.IntRange(1, l.limit).Draw(t, "in flight"))
			case 1:
				l.refusal(rapid.Bool().Draw(t, "firm"), now)
			case 2:
				l.shrink(0.5, now)
			case 3:
				l.slow(d)
			case 4:
				l.restart()
				before = l.limit
			default:
				l.answered(d, now)
			}
			if l.limit < 1 || l.limit > most {
				t.Fatalf("limit %d of %d", l.limit, most)
			}
			if l.limit < before && (l.limit < before/2 || !cut.IsZero() && now.Sub(cut) < min(trip, time.Minute) && l.short >= trip.Seconds()) {
				t.Fatalf("cut from %d to %d %v after the last cut, a round trip is %v", before, l.limit, now.Sub(cut), trip)
			}
			if math.IsNaN(l.short+l.base+l.refused) || l.refused < 0 || l.refused > 1 {
				t.Fatalf("%+v", l)
			}
		}
	})
}

// play runs round trips at the limit against a server whose latency depends on what is in flight.
func play(l *limiter, now *time.Time, trips int, latency func(inFlight int) time.Duration) {
	for range trips {
		l.started(l.limit)
		d := latency(l.limit)
		*now = now.Add(d)
		for range l.limit {
			l.answered(d, *now)
		}
	}
}

func TestLimiterFollowsTheServer(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	l := newLimiter(64, false)
	flat := func(int) time.Duration { return 100 * time.Millisecond }
	play(&l, &now, 5, flat)
	if l.limit != 64 {
		t.Errorf("limit %d while the latency holds, want the cap", l.limit)
	}
	now = now.Add(time.Second)
	for range 64 { // one round trip's worth of refusals
		l.refusal(false, now)
	}
	if l.limit != 32 {
		t.Errorf("limit %d after refusals, want half", l.limit)
	}
	play(&l, &now, 20, flat)
	if l.limit <= 32 {
		t.Errorf("limit %d, it does not grow again", l.limit)
	}
	play(&l, &now, 4, func(int) time.Duration { return 2 * time.Second })
	if l.limit > 8 {
		t.Errorf("limit %d after the latency grew 20 times", l.limit)
	}
	play(&l, &now, 200, func(int) time.Duration { return 2 * time.Second })
	if l.limit < 32 {
		t.Errorf("limit %d: longer work throttles for ever", l.limit)
	}
	l = newLimiter(64, false)
	for range 40 { // one refusal in twenty is an accident
		play(&l, &now, 1, flat)
		for range max(1, l.limit/20) {
			l.refusal(false, now)
		}
	}
	if l.limit < 32 {
		t.Errorf("limit %d with 5%% of the calls refused", l.limit)
	}
	if l.limit = 1; true {
		l.refusal(true, now.Add(time.Hour))
	}
	if l.limit != 1 {
		t.Errorf("limit %d, the floor is 1", l.limit)
	}
}

// A server whose queue is known to be empty is used up to the cap although its latency jumps, as on a machine that others use; one that
// has a queue, or tells nothing, is not.
func TestLimiterBelievesAnEmptyQueue(t *testing.T) {
	for _, calm := range []bool{true, false} {
		now := time.Unix(1_000_000, 0)
		l := newLimiter(64, false)
		l.calm = calm
		trip := 0
		play(&l, &now, 150, func(inFlight int) time.Duration {
			trip++
			d := 20*time.Millisecond + time.Duration(inFlight)*time.Millisecond // a batch: the more the longer, and the cheaper each
			return d * time.Duration(1+4*(trip*7%5)/2)
		})
		if calm != (l.limit == 64) {
			t.Errorf("empty queue %v: limit %d of 64", calm, l.limit)
		}
	}
}

// Removing an endpoint moves only its own keys, adding it back restores them, and the keys are spread.
func TestRendezvous(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "endpoints")
		gone := rapid.IntRange(0, n-1).Draw(t, "removed")
		salt := rapid.String().Draw(t, "salt")
		now := time.Unix(1_000_000, 0)
		c := &core{}
		for i := range n {
			c.endpoints = append(c.endpoints, &endpoint{name: fmt.Sprint(i), hash: hash(fmt.Sprintf("http://%s:%d", salt, i)), state: Closed})
		}
		const keys = 2000
		count := make([]int, n)
		for k := range keys {
			key := hash(fmt.Sprint("user", k))
			c.endpoints[gone].state = Closed
			before := c.home(key, now)
			c.endpoints[gone].state = Open
			after := c.home(key, now)
			if after == c.endpoints[gone] || before != c.endpoints[gone] && before != after {
				t.Fatalf("key %d moved from %s to %s when %d went", k, before.name, after.name, gone)
			}
			for i, e := range c.endpoints {
				if e == before {
					count[i]++
				}
			}
		}
		for i, got := range count {
			if mean := keys / float64(n); math.Abs(float64(got)-mean) > 6*math.Sqrt(mean) {
				t.Errorf("endpoint %d is home of %d keys of %d over %d", i, got, keys, n)
			}
		}
	})
}

// A server that computes what it gets as one batch, each call a little later and all of them sooner, is given more until that ends;
// one whose answers only queue is not.
func TestLimiterFollowsAGrowingRate(t *testing.T) {
	run := func(latency func(inFlight int) float64) int {
		l := newLimiter(256, false)
		now := time.Unix(0, 0)
		for range 40 {
			d := time.Duration(latency(l.limit) * float64(time.Second))
			now = now.Add(d)
			for range max(l.limit, bigWindow) {
				l.started(l.limit)
				l.answered(d, now)
			}
		}
		return l.limit
	}
	batching := run(func(n int) float64 { return .05 + .005*float64(n) + .02*max(0, float64(n-96)) }) // the rate grows up to 96
	queueing := run(func(n int) float64 { return .05 * max(1, float64(n)/4) })                        // four at a time
	if batching < 48 {
		t.Errorf("a batching server gets %d calls at once", batching)
	}
	if queueing > 64 {
		t.Errorf("a server that does four at a time gets %d", queueing)
	}
	fixed := newLimiter(256, true)
	fixed.refusal(true, time.Unix(0, 0))
	fixed.restart()
	for range 100 {
		fixed.answered(time.Duration(fixed.limit)*time.Second, time.Unix(1, 0))
	}
	if fixed.limit != 256 {
		t.Errorf("a fixed limit became %d", fixed.limit)
	}
}

// Against a server that answers at once, latencies are the noise of this machine, whatever their ratio: the limit grows to its cap and
// stays there. The same ratios at the length of real answers are a queue.
func TestLimiterNoise(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	run := func(unit time.Duration) (least int) {
		l := newLimiter(64, false)
		now := time.Unix(0, 0)
		for trip := range 300 {
			d := unit/2 + time.Duration(rng.Int64N(int64(unit)))
			if rng.IntN(4) == 0 {
				d *= 5
			}
			now = now.Add(d)
			for range max(l.limit, bigWindow) {
				l.started(l.limit)
				l.answered(d, now)
			}
			if trip == 100 || trip > 100 && l.limit < least {
				least = l.limit
			}
		}
		return least
	}
	if n := run(1500 * time.Microsecond); n != 64 {
		t.Errorf("the limit falls to %d", n)
	}
	if n := run(time.Second); n > 48 {
		t.Errorf("latencies of seconds that grow five times leave the limit at %d", n)
	}
}
