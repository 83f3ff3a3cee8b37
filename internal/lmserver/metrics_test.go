package lmserver

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var sample = regexp.MustCompile(`^(vllm:[a-z0-9_]+)\{engine="0",model_name="m"(?:,(?:le|finished_reason)="([^"]+)")?\} (\S+)$`)

// scrape reads the page as Prometheus would: every sample belongs to a metric that was declared.
func scrape(t *testing.T, s *Server) map[string]float64 {
	t.Helper()
	r := get(t, s, "/metrics")
	if r.status != http.StatusOK || !strings.HasPrefix(r.kind, "text/plain; version=0.0.4") {
		t.Fatalf("%d %s", r.status, r.kind)
	}
	out, declared := map[string]float64{}, ""
	for line := range strings.Lines(string(r.body)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			declared, _, _ = strings.Cut(rest, " ")
			continue
		} else if strings.HasPrefix(line, "#") {
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], declared) {
			t.Errorf("line %q below %s", line, declared)
			continue
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Errorf("line %q: %v", line, err)
		}
		out[strings.TrimPrefix(m[1], "vllm:")+m[2]] = v
	}
	return out
}

func TestMetricsCount(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	if m := scrape(t, s); m["request_success_totallength"] != 0 || m["e2e_request_latency_seconds_count"] != 0 {
		t.Errorf("at the start: %v", m)
	}
	long := strings.Repeat("def abc ", 40)
	post(t, s, "/v1/completions", object{"prompt": []string{long + "x", long + "y"}, "n": 2, "max_tokens": 4, "temperature": 1, "ignore_eos": true})
	chat := chatBody(text("x"))
	post(t, s, "/v1/chat/completions", chat)
	chat["stream"] = true
	post(t, s, "/v1/chat/completions", chat)
	post(t, s, "/v1/completions", object{"prompt": "def abc", "max_tokens": 0, "echo": true, "logprobs": 0})
	m := scrape(t, s)
	for name, want := range map[string]float64{
		"num_requests_running": 0, "num_requests_waiting": 0, "kv_cache_usage_perc": 0,
		"generation_tokens_total": 4*4 + 5 + 5, "request_success_totallength": 4 + 1 + 1 + 1, "request_success_totalstop": 0, "request_success_totalabort": 0,
		"e2e_request_latency_seconds_count": 5, "e2e_request_latency_seconds_bucket+Inf": 5,
		"time_to_first_token_seconds_count": 4, // scoring gives no token
	} {
		if m[name] != want {
			t.Errorf("%s is %v, want %v", name, m[name], want)
		}
	}
	if m["prompt_tokens_total"] != m["prefix_cache_queries_total"] || m["prefix_cache_hits_total"] < 40 {
		t.Errorf("prompts %v, queries %v, hits %v", m["prompt_tokens_total"], m["prefix_cache_queries_total"], m["prefix_cache_hits_total"])
	}
	if m["time_to_first_token_seconds_sum"] <= 0 || m["time_to_first_token_seconds_sum"] > m["e2e_request_latency_seconds_sum"] {
		t.Errorf("first tokens after %v s, answers after %v s", m["time_to_first_token_seconds_sum"], m["e2e_request_latency_seconds_sum"])
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram([]float64{.1, 1})
	for _, d := range []time.Duration{0, 100 * time.Millisecond, 101 * time.Millisecond, time.Second, 2 * time.Second} {
		h.add(d)
	}
	if !slices.Equal(h.counts, []int64{2, 2, 1}) || math.Abs(h.sum-3.201) > 1e-9 {
		t.Errorf("%+v", h)
	}
}

type embeddingAnswer struct {
	Object string
	Model  string
	Data   []struct {
		Index     int
		Object    string
		Embedding []float64
	}
	Usage struct {
		PromptTokens int `json:"prompt_tokens"`
		TotalTokens  int `json:"total_tokens"`
	}
}

func TestEmbeddings(t *testing.T) {
	b := bundle(t, "m", 32)
	root := t.TempDir()
	saveAdapter(t, b, filepath.Join(root, "a"), 1)
	s, _ := start(t, Options{Model: b, AdapterRoot: root})
	ask := func(body object) (out embeddingAnswer) {
		post(t, s, "/v1/embeddings", body).into(t, &out)
		return out
	}
	long := strings.Repeat("def abc ", 20)
	many := ask(object{"model": "m", "input": []string{"def abc", long + "x", long + "y", "def abc"}})
	if many.Object != "list" || many.Model != "m" || len(many.Data) != 4 || many.Usage.PromptTokens != many.Usage.TotalTokens || many.Usage.PromptTokens < 40 {
		t.Fatalf("%+v", many)
	}
	for i, e := range many.Data {
		sum := 0.0
		for _, v := range e.Embedding {
			sum += v * v
		}
		if e.Index != i || e.Object != "embedding" || len(e.Embedding) != 32 || math.Abs(sum-1) > 1e-5 {
			t.Errorf("embedding %d: index %d, %d numbers, length² %v", i, e.Index, len(e.Embedding), sum)
		}
	}
	same := func(a, b []float64) bool {
		return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-4 })
	}
	if !same(many.Data[0].Embedding, many.Data[3].Embedding) || same(many.Data[1].Embedding, many.Data[2].Embedding) {
		t.Error("equal texts differ, or different ones do not")
	}
	for name, body := range map[string]object{
		"alone":  {"input": "def abc"},
		"ids":    {"input": b.Tok.Encode("def abc", true)},
		"floats": {"input": []string{"def abc"}, "encoding_format": "float", "dimensions": 32, "user": "u"},
	} {
		if got := ask(body); !same(got.Data[0].Embedding, many.Data[0].Embedding) {
			t.Errorf("%s: another embedding", name)
		}
	}
	var coded struct{ Data []struct{ Embedding string } }
	post(t, s, "/v1/embeddings", object{"input": "def abc", "encoding_format": "base64"}).into(t, &coded)
	raw, err := base64.StdEncoding.DecodeString(coded.Data[0].Embedding)
	if err != nil || len(raw) != 4*32 {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	for i, want := range many.Data[0].Embedding {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])); math.Abs(float64(got)-want) > 1e-4 {
			t.Errorf("number %d is %v, as float %v", i, got, want)
		}
	}
	if r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "ad", "lora_path": "a"}); r.status != http.StatusOK {
		t.Fatalf("%s", r.body)
	}
	if got := ask(object{"model": "ad", "input": "def abc"}); got.Model != "ad" || !same(got.Data[0].Embedding, many.Data[0].Embedding) {
		t.Errorf("a fresh adapter, which changes nothing yet: %s", got.Model)
	}
	for name, c := range map[string]struct {
		body object
		code int
	}{
		"no input": {object{}, 400}, "empty list": {object{"input": []string{}}, 400}, "empty text": {object{"input": ""}, 400}, "a number": {object{"input": 5}, 400},
		"format": {object{"input": "x", "encoding_format": "hex"}, 400}, "dimensions": {object{"input": "x", "dimensions": 16}, 400},
		"unknown model": {object{"input": "x", "model": "nobody"}, 404}, "too long": {object{"input": strings.Repeat("def abc ", 600)}, 400},
		"outside the vocabulary": {object{"input": []int{5000}}, 400},
	} {
		if r := post(t, s, "/v1/embeddings", c.body); r.status != c.code || !strings.Contains(string(r.body), `"error":{`) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

func TestNormalize(t *testing.T) {
	for _, v := range [][]float32{{0, 0}, {float32(math.NaN()), 1}, {float32(math.Inf(1)), 1}} {
		if normalize(v) == nil {
			t.Errorf("%v has a direction", v)
		}
	}
	v := []float32{3e30, -4e30}
	if err := normalize(v); err != nil || math.Abs(float64(v[0])-.6) > 1e-6 || math.Abs(float64(v[1])+.8) > 1e-6 {
		t.Errorf("%v, %v", v, err)
	}
}
