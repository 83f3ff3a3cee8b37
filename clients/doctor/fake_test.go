package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

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
	loraOff    bool // the route is there, and loading fails: a model without LoRA
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
	case "/v1/load_lora_adapter":
		if f.loraOff {
			f.write(w, 500, map[string]any{"error": map[string]any{"type": "InternalServerError", "param": nil, "code": 500,
				"message": "Call to add_lora method failed: Worker failed with error 'LoRA is not enabled. Use --enable-lora to enable LoRA.', please check the stack trace above for the root cause"}})
			return
		}
		f.write(w, 404, map[string]any{"error": map[string]any{"type": "NotFoundError", "param": nil, "code": 404, "message": "Loading lora recpie-probe failed: No adapter found for /does-not-exist"}})
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

// perWord is how many tokens a word has by the recorded answer to the sample text.
func (f *fake) perWord() float64 {
	var r struct{ Count int }
	_, body := recorded(f.t, "llama_043")
	if err := json.Unmarshal(body, &r); err != nil || r.Count == 0 {
		f.t.Errorf("the recorded tokens: %v, %d of them", err, r.Count)
	}
	return float64(r.Count) / sampleWords
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
	if words := strings.Count(string(body), " ") + 1; float64(words)*f.perWord() > float64(f.maxLen) {
		f.write(w, 400, map[string]any{"error": map[string]any{"message": "the prompt is too long", "type": "BadRequestError", "param": "input_tokens", "code": 400}})
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
