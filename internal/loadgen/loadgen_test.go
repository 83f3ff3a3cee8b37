package loadgen

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"recpie/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ms = time.Millisecond

// server answers on the synthetic clock: the first token after ttft, further ones every gap. It can serve one request at a time.
type server struct {
	ttft, gap time.Duration
	tokens    int
	fail      func(i int) error // nil: never
	stall     time.Duration     // requests sent before start+stall wait for it
	start     time.Time
	calls     atomic.Int64
}

func (s *server) Send(ctx context.Context, r Request, token func(time.Time, int)) (Answer, error) {
	s.calls.Add(1)
	sleep := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case <-ctx.Done():
			return fault.New(fault.Transient, "send", ctx.Err())
		}
	}
	if d := time.Until(s.start.Add(s.stall)); s.stall > 0 && d > 0 {
		if err := sleep(d); err != nil {
			return Answer{}, err
		}
	}
	if s.fail != nil {
		if err := s.fail(r.Index); err != nil {
			if serr := sleep(5 * ms); serr != nil {
				return Answer{}, serr
			}
			return Answer{}, err
		}
	}
	for i := range s.tokens {
		d := s.gap
		if i == 0 {
			d = s.ttft
		}
		if err := sleep(d); err != nil {
			return Answer{}, err
		}
		token(time.Now(), 1)
	}
	return Answer{PromptTokens: 10, OutputTokens: s.tokens}, nil
}

func near(t *testing.T, what string, got, want, rel float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > rel*math.Abs(want) {
		t.Errorf("%s is %v, want %v ± %g%%", what, got, want, rel*100)
	}
}

var plain = Prompts{Words: 5, MaxTokens: 5}.Request

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{ttft: 100 * ms, gap: 20 * ms, tokens: 5}
		rep, err := Run(t.Context(), s, Options{Concurrency: 4, Duration: 9 * time.Second, WarmUp: 900 * ms, Request: plain, SLO: SLO{TTFT: 150 * ms, TPOT: 30 * ms}})
		if err != nil {
			t.Fatal(err)
		}
		// 180 ms each, so 50 rounds of 4 in 9 s; the warm-up is 5 rounds.
		if rep.Sent != 200 || rep.Succeeded != 200 || rep.Failed != 0 || rep.Mode != "closed" || rep.Concurrency != 4 || rep.SendLag.Samples != 0 {
			t.Errorf("%+v", rep)
		}
		near(t, "requests/s", rep.RequestsPerSecond, 4/.18, .03)
		near(t, "tokens/s", rep.OutputTokensPerSecond, 20/.18, .03)
		for what, l := range map[string]struct {
			got  Latency
			want float64
			n    int64
		}{"ttft": {rep.TTFT, 100, 200}, "tpot": {rep.TPOT, 20, 200}, "itl": {rep.ITL, 20, 800}, "e2e": {rep.E2E, 180, 200}} {
			if l.got.Samples != l.n {
				t.Errorf("%s: %d samples, want %d", what, l.got.Samples, l.n)
			}
			for _, v := range []float64{l.got.Mean, l.got.P50, l.got.P90, l.got.P99, l.got.Max} {
				near(t, what, v, l.want, .002)
			}
		}
		if rep.Goodput.Share != 1 || rep.PromptTokens != 2000 || rep.OutputTokens != 1000 || rep.PrefixCacheHit != nil {
			t.Errorf("goodput %+v, %d and %d tokens", rep.Goodput, rep.PromptTokens, rep.OutputTokens)
		}
	})
}

func TestRequestsAreCounted(t *testing.T) {
	for name, o := range map[string]Options{"closed": {Concurrency: 3}, "open": {Rate: 50}} {
		synctest.Test(t, func(t *testing.T) {
			o.Requests, o.WarmUp, o.Request = 20, time.Second, plain
			s := &server{ttft: 100 * ms, gap: 20 * ms, tokens: 5}
			rep, err := Run(t.Context(), s, o)
			if err != nil || rep.Sent != 20 || rep.Succeeded != 20 || s.calls.Load() <= 20 || rep.RequestsPerSecond <= 0 {
				t.Errorf("%s: %+v, %v, %d calls", name, rep, err, s.calls.Load())
			}
		})
	}
}

// TestOpenLoopIsPoisson: the rate holds, the gaps vary as those of a Poisson process, and a seed repeats them.
func TestOpenLoopIsPoisson(t *testing.T) {
	times := func(seed uint64) (out []time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			s := &server{tokens: 1, fail: func(int) error { out = append(out, time.Since(start)); return nil }}
			if _, err := Run(t.Context(), s, Options{Rate: 100, Concurrency: 1 << 20, Duration: 50 * time.Second, Seed: seed, Request: plain}); err != nil {
				t.Fatal(err)
			}
		})
		return out
	}
	a, again, other := times(1), times(1), times(2)
	near(t, "requests in 50 s", float64(len(a)), 5000, .05)
	sum, squares := 0., 0.
	for i := 1; i < len(a); i++ {
		d := (a[i] - a[i-1]).Seconds()
		sum, squares = sum+d, squares+d*d
	}
	n := float64(len(a) - 1)
	near(t, "the gaps' variation", math.Sqrt(squares/n-sum*sum/n/n)/(sum/n), 1, .1)
	if len(again) != len(a) || again[100] != a[100] || len(other) == len(a) && other[100] == a[100] {
		t.Error("the seed does not determine the times")
	}
}

// TestNoCoordinatedOmission: a server that stands still for two seconds makes those late who were due then, although the limit on
// requests under way keeps most of them from being sent at all.
func TestNoCoordinatedOmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{ttft: 10 * ms, tokens: 1, stall: 2 * time.Second, start: time.Now()}
		rep, err := Run(t.Context(), s, Options{Rate: 100, Concurrency: 8, Duration: 10 * time.Second, Request: plain})
		if err != nil {
			t.Fatal(err)
		}
		// Due evenly over 10 s, those of the first two wait up to 2 s: a tenth of all waits for a second or more.
		near(t, "p90", rep.E2E.P90, 1000, .25)
		near(t, "p99", rep.E2E.P99, 1900, .1)
		near(t, "p50", rep.E2E.P50, 10, .2)
		near(t, "p99 of the sending", rep.SendLag.P99, 1850, .1)
		if rep.Concurrency != 8 {
			t.Errorf("%d under way", rep.Concurrency)
		}
		closed, err := Run(t.Context(), &server{ttft: 10 * ms, tokens: 1, stall: 2 * time.Second, start: time.Now()}, Options{Concurrency: 1, Duration: 10 * time.Second, Request: plain})
		if err != nil || closed.E2E.P99 > 20 {
			t.Errorf("the closed loop sends one request into the stall, p99 %v, %v", closed.E2E.P99, err)
		}
	})
}

func TestFailuresAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{ttft: 100 * ms, tokens: 1, fail: func(i int) error {
			switch i % 4 {
			case 1:
				return fault.Newf(fault.Transient, "send", "busy")
			case 2:
				return fault.Newf(fault.Endpoint, "send", "broken")
			}
			return nil
		}}
		rep, err := Run(t.Context(), s, Options{Concurrency: 1, Requests: 40, Request: plain, SLO: SLO{E2E: time.Second}})
		if err != nil {
			t.Fatal(err)
		}
		if rep.Succeeded != 20 || rep.Failed != 20 || rep.Classes["transient"] != 10 || rep.Classes["endpoint"] != 10 || rep.Classes["item"] != 0 || !strings.Contains(rep.FirstOf["endpoint"], "broken") {
			t.Errorf("%+v", rep)
		}
		near(t, "success", rep.E2E.Max, 100, .002)
		near(t, "failure", rep.Failure.Max, 5, .002)
		near(t, "goodput", rep.Goodput.Share, .5, 0)
		if _, err := json.Marshal(rep); err != nil {
			t.Error(err)
		}
	})
}

func TestFatalEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{ttft: ms, tokens: 1, fail: func(i int) error {
			if i == 5 {
				return fault.Newf(fault.Fatal, "send", "HTTP 401")
			}
			return nil
		}}
		rep, err := Run(t.Context(), s, Options{Rate: 100, Duration: time.Hour, Request: plain})
		if rep != nil || fault.ClassOf(err) != fault.Fatal || !strings.Contains(err.Error(), "401") || s.calls.Load() > 10 {
			t.Errorf("%+v, %v after %d calls", rep, err, s.calls.Load())
		}
	})
}

func TestBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		s := &server{ttft: 400 * ms, tokens: 1}
		rep, err := Run(ctx, s, Options{Concurrency: 2, Duration: time.Hour, Request: plain})
		if !errors.Is(err, context.DeadlineExceeded) || rep == nil || rep.Succeeded != 14 || rep.Abandoned != 2 || rep.Failed != 0 {
			t.Errorf("%+v, %v", rep, err)
		}
	})
}

func TestPrefixCache(t *testing.T) {
	for _, c := range []struct {
		name  string
		reads []Cache
		want  float64 // -1: unknown
	}{
		{"share", []Cache{{1000, 900}, {3000, 1400}}, .25},
		{"restarted", []Cache{{1000, 900}, {200, 100}}, -1},
		{"no prompts", []Cache{{1000, 900}, {1000, 900}}, -1},
		{"not offered", nil, -1},
	} {
		for _, warm := range []time.Duration{0, time.Second} {
			synctest.Test(t, func(t *testing.T) {
				start, n := time.Now(), 0
				o := Options{Concurrency: 1, Duration: time.Second, WarmUp: warm, Request: plain, Cache: func(context.Context) (Cache, error) {
					if n == 0 && time.Since(start) != warm {
						t.Errorf("first read after %v, not at the end of the warm-up of %v", time.Since(start), warm)
					}
					if n++; c.reads == nil {
						return Cache{}, errors.New("no metrics")
					}
					return c.reads[n-1], nil
				}}
				rep, err := Run(t.Context(), &server{ttft: 10 * ms, tokens: 1}, o)
				if err != nil {
					t.Fatal(err)
				}
				if got := rep.PrefixCacheHit; (got == nil) != (c.want < 0) || got != nil && *got != c.want {
					t.Errorf("%s: %v, want %v", c.name, got, c.want)
				}
			})
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Rate: 1, Requests: 1, Request: plain}
	for name, change := range map[string]func(*Options){
		"no load": func(o *Options) { o.Rate = 0 }, "NaN": func(o *Options) { o.Rate = math.NaN() }, "no end": func(o *Options) { o.Requests = 0 },
		"negative": func(o *Options) { o.WarmUp = -1 }, "no requests": func(o *Options) { o.Request = nil }, "infinite": func(o *Options) { o.Rate = math.Inf(1) },
	} {
		o := good
		change(&o)
		if _, err := Run(t.Context(), &server{}, o); fault.ClassOf(err) != fault.Fatal || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
