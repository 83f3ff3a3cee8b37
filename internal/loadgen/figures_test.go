package loadgen

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestHistogramIsPrecise: every quantile is within 0.1% of the exact one, whatever the samples.
func TestHistogramIsPrecise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		samples := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, math.MaxInt64).Draw(t, "v") >> rapid.IntRange(0, 62).Draw(t, "shift"))
		}), 1, 300).Draw(t, "samples")
		h := &histogram{}
		for _, d := range samples {
			h.add(d)
		}
		slices.Sort(samples)
		for _, q := range []float64{0, .01, .5, .9, .99, 1} {
			exact := samples[max(0, int(math.Ceil(q*float64(len(samples))))-1)]
			if got := h.quantile(q); math.Abs(float64(got-exact)) > float64(exact)/1000 {
				t.Fatalf("quantile %g is %d, exact %d", q, got, exact)
			}
		}
		if h.max != samples[len(samples)-1] || h.n != int64(len(samples)) {
			t.Fatalf("max %d, n %d", h.max, h.n)
		}
	})
}

func TestHistogramEdges(t *testing.T) {
	h := &histogram{}
	if h.latency() != (Latency{}) || h.quantile(.5) != 0 {
		t.Error("an empty histogram has quantiles")
	}
	h.add(-time.Second)
	if h.max != 0 || h.quantile(1) != 0 {
		t.Error("a negative duration is not 0")
	}
	h.add(math.MaxInt64)
	if len(h.counts) > 28<<10 || float64(h.quantile(1)) < .999*math.MaxInt64 {
		t.Errorf("%d buckets, max %v", len(h.counts), h.quantile(1))
	}
}

// A piece may stand for several tokens or none; the server's own count is the better one.
func TestFiguresOfPieces(t *testing.T) {
	at := func(d time.Duration) time.Time { return time.Unix(0, 0).Add(d) }
	o := outcome{due: at(0), sent: at(50 * ms), ended: at(500 * ms), answer: Answer{OutputTokens: 9},
		arrivals: []arrival{{at(80 * ms), 0}, {at(100 * ms), 1}, {at(200 * ms), 4}, {at(420 * ms), 3}, {at(440 * ms), 0}}}
	f := o.figures()
	if f.ttft != 100*ms || f.tpot != 40*ms || f.e2e != 500*ms || !slices.Equal(f.gaps, []time.Duration{100 * ms, 220 * ms}) {
		t.Errorf("%+v", f)
	}
	for _, c := range []struct {
		slo SLO
		ok  bool
	}{{SLO{}, true}, {SLO{TTFT: 100 * ms, TPOT: 40 * ms, E2E: 500 * ms}, true}, {SLO{TTFT: 99 * ms}, false}, {SLO{TPOT: 39 * ms}, false}, {SLO{E2E: 499 * ms}, false}} {
		if c.slo.meets(f) != c.ok {
			t.Errorf("%+v: %v", c.slo, !c.ok)
		}
	}
	for name, o := range map[string]outcome{"no token": {}, "one token": {arrivals: []arrival{{at(0), 1}}}, "all at once": {arrivals: []arrival{{at(0), 7}}}} {
		if f := o.figures(); f.tpot != 0 || len(f.gaps) != 0 || f.begun != (name != "no token") {
			t.Errorf("%s: %+v", name, f)
		}
	}
}

func TestThresholds(t *testing.T) {
	hit := .25
	r := &Report{Seconds: 10, Succeeded: 95, Failed: 5, RequestsPerSecond: 9.5, TTFT: Latency{Samples: 95, P99: 600, Max: 700}, Goodput: &Goodput{Share: .9}, PrefixCacheHit: &hit}
	for _, c := range []struct {
		text, form string
		broken     bool
	}{
		{"p99_ttft>500ms", "p99_ttft>500ms", true},
		{" p99_ttft > 0.6s ", "p99_ttft>600ms", false},
		{"p99_ttft>=600ms", "p99_ttft>=600ms", true},
		{"max_ttft<1s", "max_ttft<1000ms", true},
		{"error_rate>5%", "error_rate>0.05", false},
		{"error_rate>=0.05", "error_rate>=0.05", true},
		{"goodput<95%", "goodput<0.95", true},
		{"prefix_cache_hit<=0.2", "prefix_cache_hit<=0.2", false},
		{"requests_per_second<10", "requests_per_second<10", true},
		{"p50_tpot>1h", "p50_tpot>3.6e+06ms", true}, // not measured
	} {
		th, err := ParseThreshold(c.text)
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		how, broken := th.Broken(r)
		if th.String() != c.form || broken != c.broken || broken != strings.Contains(how, th.Metric) {
			t.Errorf("%q is %s, broken %v: %q", c.text, th, broken, how)
		}
	}
	for _, text := range []string{"", "p99_ttft", "p99_ttft=5ms", "p99_ttft>5", "p99_ttft>-5ms", "p98_ttft>5ms", ">5ms", "p99_ttft>>5ms", "error_rate>x", "error_rate>NaN", "error_rate>-1", "requests_per_second<10%", "goodput<1e999"} {
		if th, err := ParseThreshold(text); err == nil {
			t.Errorf("%q was read as %v", text, th)
		}
	}
	if how, broken := (Threshold{"goodput", "<", .5}).Broken(&Report{}); !broken || !strings.Contains(how, "not measured") {
		t.Errorf("no objectives: %q", how)
	}
}

func FuzzParseThreshold(f *testing.F) {
	for _, s := range []string{"p99_ttft>500ms", "error_rate>=5%", "requests_per_second<10", "goodput < 0.95", "mean_send_lag<=1h2m", ">", "max_e2e>1ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		th, err := ParseThreshold(text)
		if err != nil {
			return
		}
		if math.IsNaN(th.Value) || th.Value < 0 {
			t.Fatalf("%+v", th)
		}
		if m := metrics[th.Metric]; m.kind != milli { // durations of years lose digits in milliseconds
			if again, err := ParseThreshold(th.String()); err != nil || again != th {
				t.Fatalf("%q: %+v came back as %+v, %v", text, th, again, err)
			}
		}
		th.Broken(&Report{})
	})
}

func TestParseSLO(t *testing.T) {
	s, err := ParseSLO("ttft=500ms, tpot=50ms,e2e=10s")
	if err != nil || s != (SLO{500 * ms, 50 * ms, 10 * time.Second}) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, text := range []string{"", "ttft", "ttft=5", "ttft=0s", "itl=5ms", "ttft=5ms,ttft=6ms", "ttft=5ms,"} {
		if s, err := ParseSLO(text); err == nil {
			t.Errorf("%q was read as %+v", text, s)
		}
	}
}

func TestPrompts(t *testing.T) {
	p := Prompts{Words: 50, Shared: 30, MaxTokens: 7, Seed: 3}
	a, b := p.Request(1), p.Request(2)
	wa, wb := strings.Fields(a.Prompt), strings.Fields(b.Prompt)
	if len(wa) != 50 || len(wb) != 50 || !slices.Equal(wa[:30], wb[:30]) || slices.Equal(wa[30:], wb[30:]) || a.MaxTokens != 7 || b.Index != 2 {
		t.Errorf("%+v\n%+v", a, b)
	}
	if p.Request(1) != a || (Prompts{Words: 50, Shared: 30, Seed: 4}).Request(1).Prompt == a.Prompt {
		t.Error("seed and index do not determine a prompt")
	}
	if got := (Prompts{Words: 3, Shared: 9}).Request(0); len(strings.Fields(got.Prompt)) != 3 {
		t.Errorf("more shared words than words: %q", got.Prompt)
	}
}
