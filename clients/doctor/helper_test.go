package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorded is the answer of a recorded exchange with vLLM 0.32.0.
func recorded(t *testing.T, name string) (status int, body []byte) {
	t.Helper()
	files, _ := filepath.Glob("../../internal/wire/openai/testdata/recorded/" + name + "*.json")
	if len(files) != 1 {
		t.Fatalf("%s: %d recordings", name, len(files))
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var x struct {
		Response struct {
			Status int
			JSON   json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	return x.Response.Status, x.Response.JSON
}

// recordedMetrics is what matters of the page that a vLLM 0.32.0 with LoRA gave.
func recordedMetrics(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fake is a vLLM with faults. Its zero value, after newFake, is in good health.
type fake struct {
	t   *testing.T
	key string

	version    string // "": the route is not there
	maxLen     int
	health     int
	noTemplate bool
	noScoring  bool
	noEmbeds   bool // without --enable-prompt-embeds
	blind      bool // takes soft prompts of any width
	noLoRA     bool // the route is not there
	open       []string
	anyOptions bool // OPTIONS is answered with 204 for any path
	openapi    string
	skew       time.Duration
	metrics    string
	hitsGrow   bool
	answers    []string
	latency    func(inFlight int) time.Duration
	limit      int // more requests in flight get 429

	mu       sync.Mutex
	seen     []string
	inFlight int
	chats    int
}

func newFake(t *testing.T) *fake {
	return &fake{t: t, version: "0.32.0", maxLen: 512, health: 200, metrics: recordedMetrics(t), answers: []string{"A quiet film."},
		latency: func(n int) time.Duration { return 100 * time.Millisecond * time.Duration((n+15)/16) }} // 16 answers at a time
}

func (f *fake) write(w http.ResponseWriter, status int, body any) {
	w.WriteHeader(status)
	if b, ok := body.([]byte); ok {
		_, _ = w.Write(b)
		return
	}
	_ = json.NewEncoder(w).Encode(body)
}

func (f *fake) recorded(w http.ResponseWriter, name string) {
	status, body := recorded(f.t, name)
	f.write(w, status, body)
}

// ServeHTTP answers as vLLM does: the key is asked for below /v1 only, and never for OPTIONS.
func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen = append(f.seen, r.Method+" "+r.URL.Path)
	f.mu.Unlock()
	w.Header().Set("Date", time.Now().Add(f.skew).UTC().Format(http.TimeFormat))
	if f.key != "" && strings.HasPrefix(r.URL.Path, "/v1") && r.Method != http.MethodOptions && r.Header.Get("Authorization") != "Bearer "+f.key {
		f.recorded(w, "auth_001")
		return
	}
	routes := map[string]string{"/health": "GET", "/v1/models": "GET", "/metrics": "GET", "/tokenize": "POST", "/v1/chat/completions": "POST", "/v1/completions": "POST"}
	if f.version != "" {
		routes["/version"] = "GET"
	}
	if !f.noLoRA {
		routes["/v1/load_lora_adapter"] = "POST"
	}
	if f.openapi != "" {
		routes["/openapi.json"] = "GET"
	}
	for _, path := range f.open {
		routes[path] = "POST"
	}
	switch method, known := routes[r.URL.Path]; {
	case f.anyOptions && r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	case !known:
		f.recorded(w, "llama_210")
	case method != r.Method:
		f.recorded(w, "llama_211")
	default:
		f.answer(w, r)
	}
}

func (f *fake) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/health":
		w.WriteHeader(f.health)
	case "/version":
		f.write(w, 200, map[string]string{"version": f.version})
	case "/openapi.json":
		f.write(w, 200, []byte(f.openapi))
	case "/metrics":
		page := f.metrics
		if f.hitsGrow {
			f.mu.Lock()
			page = strings.ReplaceAll(page, "HITS", fmt.Sprint(100*f.chats))
			f.mu.Unlock()
		}
		f.write(w, 200, []byte(page))
	case "/v1/models":
		_, list := recorded(f.t, "llama_001")
		f.write(w, 200, []byte(strings.ReplaceAll(string(list), `512`, fmt.Sprint(f.maxLen))))
	case "/tokenize":
		if f.noTemplate {
			f.write(w, 400, map[string]any{"error": map[string]any{"message": "the model has no chat template", "type": "BadRequestError", "code": 400}})
			return
		}
		f.recorded(w, "llama_043")
	case "/v1/completions":
		f.score(w, body)
	case "/v1/chat/completions":
		f.chat(w, r, body)
	default:
		f.t.Errorf("%s %s was called", r.Method, r.URL.Path)
	}
}

func (f *fake) score(w http.ResponseWriter, body []byte) {
	var req struct{ Prompt []int32 }
	_ = json.Unmarshal(body, &req)
	if f.noScoring {
		f.recorded(w, "llama_194")
		return
	}
	lps := make([]any, len(req.Prompt))
	for i := range lps[1:] {
		lps[i+1] = -1.5
	}
	f.write(w, 200, map[string]any{"model": "tiny-llama", "choices": []any{map[string]any{"index": 0, "text": "", "finish_reason": "length", "logprobs": map[string]any{"token_logprobs": lps}}}})
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request, body []byte) {
	if strings.Contains(string(body), `"prompt_embeds"`) && !f.blind {
		if f.noEmbeds {
			f.recorded(w, "off_001")
		} else {
			f.write(w, 400, map[string]any{"error": map[string]any{"type": "BadRequestError", "param": "prompt_embeds", "code": 400,
				"message": "`prompt_embeds` hidden_size 3 does not match the model's hidden_size 128. (parameter=prompt_embeds)"}})
		}
		return
	}
	f.mu.Lock()
	f.inFlight++
	n := f.inFlight
	f.chats++
	text := f.answers[(f.chats-1)%len(f.answers)]
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.inFlight--
		f.mu.Unlock()
	}()
	if f.limit > 0 && n > f.limit {
		w.Header().Set("Retry-After", "1")
		f.write(w, 429, map[string]any{"error": map[string]any{"message": "too many", "type": "TooManyRequests", "code": 429}})
		return
	}
	select {
	case <-r.Context().Done():
		return
	case <-time.After(f.latency(n)):
	}
	f.write(w, 200, map[string]any{"model": "tiny-llama", "prompt_token_ids": []int{4, 5}, "usage": map[string]int{"prompt_tokens": 2, "completion_tokens": 1},
		"choices": []any{map[string]any{"index": 0, "message": map[string]any{"role": "assistant", "content": text}, "finish_reason": "length", "token_ids": []int{1}}}})
}

// direct hands requests to a handler without a network, so that time can be a bubble's.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	d.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// harmless are the only requests that doctor may send to an inference server.
var harmless = []string{"GET /health", "GET /version", "GET /info", "GET /v1/models", "GET /metrics", "GET /openapi.json", "GET /v1/load_lora_adapter",
	"POST /tokenize", "POST /v1/completions", "POST /v1/chat/completions"}

// examine runs an examination in a bubble and holds it to what is true of all: nothing but harmless requests, and a remedy for
// everything that is not in order.
func (f *fake) examine(change ...func(*Inference)) []Finding {
	f.t.Helper()
	i := Inference{URL: "http://127.0.0.1:8000/v1/", Model: "tiny-llama", PromptTokens: 384, AnswerTokens: 48, SoftPrompts: true, Adapters: true, Concurrency: 32, Timeout: 30 * time.Second, RoundTripper: direct{f}}
	for _, c := range change {
		c(&i)
	}
	var all []Finding
	synctest.Test(f.t, func(t *testing.T) { all = Examine(t.Context(), []Server{i}, 1) })
	for _, call := range f.seen {
		if !slices.Contains(harmless, call) && !strings.HasPrefix(call, "OPTIONS ") {
			f.t.Errorf("it sent %s", call)
		}
	}
	remedied(f.t, all)
	return all
}

func remedied(t *testing.T, all []Finding) {
	t.Helper()
	for _, f := range all {
		if (f.Level == OK) != (f.Remedy == "") || f.Detail == "" || f.Server == "" {
			t.Errorf("a finding without detail, or with a remedy out of place: %+v", f)
		}
	}
}

// want finds what was said of something.
func want(t *testing.T, all []Finding, what string, level Level, says ...string) {
	t.Helper()
	for _, f := range all {
		if f.What != what {
			continue
		}
		if f.Level != level {
			t.Errorf("%s is %s, want %s: %s", what, f.Level, level, f.Detail)
		}
		for _, s := range says {
			if !strings.Contains(f.Detail+" "+f.Remedy, s) {
				t.Errorf("%s does not say %q: %s (%s)", what, s, f.Detail, f.Remedy)
			}
		}
		return
	}
	t.Errorf("nothing was said of %s: %v", what, all)
}

func absent(t *testing.T, all []Finding, what string) {
	t.Helper()
	for _, f := range all {
		if f.What == what {
			t.Errorf("%s: %s", what, f.Detail)
		}
	}
}
