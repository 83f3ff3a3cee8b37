package vllm

import (
	"context"
	"math"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"
)

func TestRecordedMetrics(t *testing.T) {
	page, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	m, err := newClient(t, newFake(t, answer(string(page))).URL).Metrics(context.Background())
	if want := (Metrics{PrefixQueries: 2573, PrefixHits: 768, HasPrefixCache: true}); err != nil || m != want {
		t.Errorf("%+v, %v, want %+v", m, err, want)
	}
	if _, err := newClient(t, newFake(t, answer("<html>")).URL).Metrics(context.Background()); fault.ClassOf(err) != fault.Endpoint {
		t.Errorf("a page without metrics: %v", err)
	}
}

func TestParseMetrics(t *testing.T) {
	const queues = "vllm:num_requests_running{engine=\"0\",model_name=\"a b} 7\"} 3\nvllm:num_requests_running{engine=\"1\"} 4 1795388475\nvllm:num_requests_waiting 2\n"
	for _, tc := range []struct {
		page string
		want Metrics
		ok   bool
	}{
		{queues, Metrics{Running: 7, Waiting: 2}, true},
		{queues + "vllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.5\n", Metrics{Running: 7, Waiting: 2, KVUsage: .5}, true},
		{queues + "vllm:prefix_cache_queries_total 10\n", Metrics{Running: 7, Waiting: 2, PrefixQueries: 10}, true},
		{queues + "vllm:prefix_cache_queries_total 10\nvllm:prefix_cache_hits_total 1e1\n", Metrics{Running: 7, Waiting: 2, PrefixQueries: 10, PrefixHits: 10, HasPrefixCache: true}, true},
		{queues + "vllm:kv_cache_usage_perc NaN\n", Metrics{}, false},
		{queues + "vllm:kv_cache_usage_perc{a=\"b\" 1\n", Metrics{}, false},
		{"vllm:num_requests_running -1\nvllm:num_requests_waiting 0\n", Metrics{}, false},
		{"vllm:num_requests_running 1\n", Metrics{}, false},
	} {
		if m, err := parseMetrics([]byte(tc.page)); m != tc.want || (err == nil) != tc.ok {
			t.Errorf("%q: %+v, %v", tc.page, m, err)
		}
	}
}

func FuzzParseMetrics(f *testing.F) {
	page, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(page)
	f.Add([]byte("vllm:num_requests_running{a=\"} \"} 1e999\n" + strings.Repeat("x", 100)))
	f.Fuzz(func(t *testing.T, page []byte) {
		m, err := parseMetrics(page)
		if err != nil {
			return
		}
		for _, v := range []float64{m.Running, m.Waiting, m.KVUsage, m.PrefixQueries, m.PrefixHits} {
			if math.IsNaN(v) || v < 0 {
				t.Fatalf("%+v", m)
			}
		}
	})
}

// A server whose every place is taken by long calls is busy, not ill: looks at it do not wait for a place.
func TestBusyServerIsLookedAt(t *testing.T) {
	page, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	arrived, leave := make(chan bool), make(chan bool)
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/completions":
			arrived <- true
			<-leave
		case "/metrics":
			_, _ = w.Write(page)
		}
	})
	c := newClient(t, f.URL, func(cfg *Config) { cfg.MaxConcurrent, cfg.Attempts = 1, 1 })
	done := make(chan bool)
	go func() {
		defer close(done)
		_, _ = c.Complete(context.Background(), CompletionRequest{Text: "x", Params: Params{MaxTokens: 1}}) // its answer is empty
	}()
	<-arrived
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.Health(ctx); err != nil {
		t.Errorf("health: %v", err)
	}
	if _, err := c.Metrics(ctx); err != nil {
		t.Errorf("metrics: %v", err)
	}
	short, stop := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer stop()
	if _, err := c.Version(short); err == nil {
		t.Error("a call that takes a place did not wait for one")
	}
	close(leave)
	<-done
}
