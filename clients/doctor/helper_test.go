package doctor

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	"POST /v1/load_lora_adapter", // of nothing
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
