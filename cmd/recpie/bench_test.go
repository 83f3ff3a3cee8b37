package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/loadgen"
	"recpie/internal/tokenizer"
)

// slowServer streams three tokens, the first after 50 ms, the others 20 ms apart; every fourth request is refused.
func slowServer(t *testing.T, seen *atomic.Int64) *httptest.Server {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			n := seen.Load()
			fmt.Fprintf(w, "vllm:num_requests_running 0\nvllm:num_requests_waiting 0\nvllm:prefix_cache_queries_total %d\nvllm:prefix_cache_hits_total %d\n", 100*n, 40*n)
		case "/v1/models":
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"fake"}]}`)
		case "/v1/chat/completions":
			if r.Header.Get("Authorization") != "Bearer s3cret" {
				http.Error(w, `{"error":"Unauthorized"}`, http.StatusUnauthorized)
				return
			}
			if seen.Add(1)%4 == 0 {
				http.Error(w, `{"error":{"message":"busy","code":503}}`, http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 3 {
				time.Sleep([]time.Duration{50, 20, 20}[i] * time.Millisecond)
				reason := "null"
				if i == 2 {
					reason = `"length"`
				}
				fmt.Fprintf(w, `data: {"model":"fake","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":%s}]}`+"\n\n", reason)
				w.(http.Flusher).Flush()
			}
			_, _ = io.WriteString(w, `data: {"model":"fake","choices":[],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}}`+"\n\ndata: [DONE]\n\n")
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestBenchClient(t *testing.T) {
	var seen atomic.Int64
	srv := slowServer(t, &seen)
	env := []string{"BENCH_KEY=s3cret"}
	args := []string{"bench", "client", "--url", srv.URL + "/v1", "--key-env", "BENCH_KEY", "--requests", "40", "--warm-up", "0s", "--prompt-tokens", "12", "--output-tokens", "3"}
	dir := t.TempDir()
	for _, load := range [][]string{{"--concurrency", "4"}, {"--rate", "40"}} {
		o := must(t, dir, env, slices.Concat(args, load, []string{"-o", "json", "--slo", "ttft=10s", "--fail-if", "error_rate>30%"})...)
		var r loadgen.Report
		if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
			t.Fatal(err)
		}
		if r.Sent != 40 || r.Succeeded != 30 || r.Classes["transient"] != 10 || r.Goodput == nil || r.Goodput.Share != .75 || r.OutputTokens != 90 || r.PromptTokens != 360 {
			t.Errorf("%s: %s", load, o.stdout)
		}
		if r.TTFT.P50 < 45 || r.E2E.P50 < 85 || r.TPOT.P50 < 15 || r.TTFT.P50 > r.E2E.P50 || r.PrefixCacheHit == nil || math.Abs(*r.PrefixCacheHit-.4) > 1e-9 {
			t.Errorf("%s: ttft %+v, tpot %+v, e2e %+v, hits %v", load, r.TTFT, r.TPOT, r.E2E, r.PrefixCacheHit)
		}
	}
	o := recpie(t, dir, env, slices.Concat(args, []string{"--fail-if", "p50_ttft>40ms", "--fail-if", "p50_ttft>1h", "--fail-if", "goodput<1%"})...)
	if o.code != exitFailed || !strings.Contains(o.stderr, "p50_ttft>40ms") || strings.Contains(o.stderr, "1h") || !strings.Contains(o.stderr, "goodput was not measured") || !strings.Contains(o.stdout, "10 failures of class transient") {
		t.Errorf("broken thresholds: %d, %s%s", o.code, o.stdout, o.stderr)
	}
	for _, c := range []struct {
		env, args []string
		code      int
		says      string
	}{
		{env, []string{"bench", "client"}, exitUsage, "--url"},
		{env, slices.Concat(args, []string{"--fail-if", "p99_ttft"}), exitUsage, "p99_ttft"},
		{env, slices.Concat(args, []string{"--slo", "ttft"}), exitUsage, "ttft"},
		{env, slices.Concat(args, []string{"--shared-prefix", "13"}), exitUsage, "13"},
		{nil, args, exitUsage, "BENCH_KEY"},
		{[]string{"BENCH_KEY=wrong"}, args, exitFailed, "401"},
		{env, []string{"bench", "client", "--url", "http://127.0.0.1:1", "--requests", "1"}, exitFailed, "--url"},
	} {
		if o := recpie(t, dir, c.env, c.args...); o.code != c.code || !strings.Contains(o.stderr, c.says) || strings.Contains(o.stderr, "wrong") || strings.Contains(o.stderr, "s3cret") {
			t.Errorf("%v: %d, %s", c.args, o.code, o.stderr)
		}
	}
}

// TestBenchEmbeddedServer: the embedded server streams, counts, and its prompts are as long as they were asked to be.
func TestBenchEmbeddedServer(t *testing.T) {
	words := func(yield func(string) bool) {
		for i := range 200 {
			if !yield(loadgen.Prompts{Words: 40, Seed: 9}.Request(i).Prompt) {
				return
			}
		}
	}
	tok, err := tokenizer.TrainBPE(words, tokenizer.TrainOptions{VocabSize: 700, Special: lm.SpecialTokens(), MinFrequency: 1})
	if err != nil {
		t.Fatal(err)
	}
	model, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 256, HiddenSize: 32, NumLayers: 2, NumHeads: 2, InitializerRange: .2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	bundle, err := lm.NewBundle("tiny", model, tok)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := lmserver.New(lmserver.Options{Model: bundle})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(t.Context()) }()
	o := must(t, t.TempDir(), nil, "bench", "client", "--url", srv.URL(), "--concurrency", "8", "--requests", "60", "--warm-up", "0s", "--prompt-tokens", "120", "--shared-prefix", "90", "--output-tokens", "8", "-o", "json", "--fail-if", "error_rate>0")
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	var r loadgen.Report
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatal(err)
	}
	if r.Succeeded != 60 || r.OutputTokens != 480 || r.ITL.Samples < 300 || r.TTFT.Max > r.E2E.Max {
		t.Errorf("%s", o.stdout)
	}
	if mean := float64(r.PromptTokens) / 60; math.Abs(mean-120) > 8 {
		t.Errorf("prompts of %v tokens", mean)
	}
	if r.PrefixCacheHit == nil || *r.PrefixCacheHit < .2 {
		t.Errorf("prefix hits %v", r.PrefixCacheHit)
	}
}
