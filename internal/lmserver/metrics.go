package lmserver

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"recpie/internal/lm"
)

// The bounds of vLLM's own histograms, in seconds.
var (
	firstTokenBounds = []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560}
	wholeBounds      = []float64{.3, .5, .8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680}
)

// histogram counts durations by upper bound.
type histogram struct {
	bounds []float64
	counts []int64 // one more than bounds
	sum    float64
}

func newHistogram(bounds []float64) *histogram {
	return &histogram{bounds: bounds, counts: make([]int64, len(bounds)+1)}
}

func (h *histogram) add(d time.Duration) {
	i, _ := slices.BinarySearch(h.bounds, d.Seconds())
	h.counts[i]++
	h.sum += d.Seconds()
}

// meter counts what requests came to. A request is one prompt, as in vLLM.
type meter struct {
	mu                sync.Mutex
	prompted, sampled int64 // tokens
	finished          map[string]int64
	firstToken, whole *histogram
}

func newMeter() *meter {
	return &meter{
		finished:   map[string]int64{"stop": 0, "length": 0, "abort": 0, "error": 0},
		firstToken: newHistogram(firstTokenBounds), whole: newHistogram(wholeBounds),
	}
}

// timing follows one request from its acceptance. Its first token is noted by the goroutine that computes, the rest by the handler,
// after which no token comes.
type timing struct {
	m     *meter
	start time.Time
	once  sync.Once
}

// begin starts the clock of a request and has it notice the first token, before what else listens to tokens.
func (m *meter) begin(req *lm.GenRequest) *timing {
	t := &timing{m: m, start: time.Now()}
	then := req.OnToken
	req.OnToken = func(c *lm.Choice) {
		t.once.Do(func() {
			d := time.Since(t.start)
			m.mu.Lock()
			m.firstToken.add(d)
			m.mu.Unlock()
		})
		if then != nil {
			then(c)
		}
	}
	return t
}

// end counts an answered request of some prompt tokens: its choices, or "length" when it only scored.
func (t *timing) end(prompt int, choices []lm.Choice) {
	d := time.Since(t.start)
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.m.whole.add(d)
	t.m.prompted += int64(prompt)
	if len(choices) == 0 {
		t.m.finished["length"]++
	}
	for _, c := range choices {
		t.m.sampled += int64(len(c.Tokens))
		t.m.finished[c.FinishReason]++
	}
}

// fail counts a request without an answer: given up by its caller, or failed.
func (t *timing) fail(abandoned bool) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if abandoned {
		t.m.finished["abort"]++
	} else {
		t.m.finished["error"]++
	}
}

// page writes Prometheus' text form.
type page struct {
	strings.Builder
	labels string
}

func (p *page) head(name, kind, help string) {
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (p *page) sample(name, label string, v float64) {
	fmt.Fprintf(p, "%s{%s%s} %s\n", name, p.labels, label, strconv.FormatFloat(v, 'g', -1, 64))
}

func (p *page) one(name, kind, help string, v float64) {
	p.head(name, kind, help)
	p.sample(name, "", v)
}

func (p *page) histogram(name, help string, h *histogram) {
	p.head(name, "histogram", help)
	total := int64(0)
	for i, n := range h.counts {
		total += n
		bound := "+Inf"
		if i < len(h.bounds) {
			bound = strconv.FormatFloat(h.bounds[i], 'g', -1, 64)
		}
		p.sample(name+"_bucket", fmt.Sprintf(",le=%q", bound), float64(total))
	}
	p.sample(name+"_sum", "", h.sum)
	p.sample(name+"_count", "", float64(total))
}

// metrics writes what clients and dashboards read, with vLLM's names. Prefix cache counters speak of prompts that were in one batch:
// nothing is kept between batches.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	p := &page{labels: fmt.Sprintf("engine=\"0\",model_name=%q", s.base)}
	stats := s.engine.Stats()
	p.one("vllm:num_requests_running", "gauge", "Requests being computed.", float64(stats.Running))
	p.one("vllm:num_requests_waiting", "gauge", "Requests waiting to be computed.", float64(stats.Waiting))
	p.one("vllm:kv_cache_usage_perc", "gauge", "Share of the memory for keys and values that running requests may come to need, 1 is all.", stats.KVShare)
	p.one("vllm:prefix_cache_queries_total", "counter", "Prompt tokens that could have been shared.", float64(stats.PromptTokensSent))
	p.one("vllm:prefix_cache_hits_total", "counter", "Prompt tokens that were computed for another request as well.", float64(stats.PromptTokensSent-stats.PromptTokensComputed))
	m := s.meter
	m.mu.Lock()
	p.one("vllm:prompt_tokens_total", "counter", "Prompt tokens processed.", float64(m.prompted))
	p.one("vllm:generation_tokens_total", "counter", "Tokens generated.", float64(m.sampled))
	p.head("vllm:request_success_total", "counter", "Requests by how they ended, one for each choice.")
	for _, reason := range slices.Sorted(maps.Keys(m.finished)) {
		p.sample("vllm:request_success_total", fmt.Sprintf(",finished_reason=%q", reason), float64(m.finished[reason]))
	}
	p.histogram("vllm:time_to_first_token_seconds", "From accepting a request to its first token.", m.firstToken)
	p.histogram("vllm:e2e_request_latency_seconds", "From accepting a request to its whole answer.", m.whole)
	m.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(p.String()))
}
