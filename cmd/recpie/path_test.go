package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/lmserver"
)

// serving serves the model of a folder under a name until the test ends.
func serving(t *testing.T, dir, name, root, state string) *url.URL {
	t.Helper()
	b, err := lm.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Model.Close)
	b.Name = name
	srv, err := lmserver.New(lmserver.Options{Model: b, AdapterRoot: root, StateDir: state})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// withoutLoRA is an address behind which another server may be put, and that loads adapters as a vLLM with a GPT-2 does.
func withoutLoRA(t *testing.T) (address string, put func(*url.URL)) {
	t.Helper()
	var at atomic.Pointer[url.URL]
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(at.Load()) }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/load_lora_adapter" && r.Method == http.MethodPost {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"error":{"message":"Call to add_lora method failed: Worker failed with error 'LoRA is not enabled. Use --enable-lora to enable LoRA.', please check the stack trace above for the root cause","type":"InternalServerError","param":null,"code":500}}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, at.Store
}

// A GPT-2 on an inference server that takes no adapters: doctor says which path a run takes, and each path is taken or refused with its remedy.
func TestPaths(t *testing.T) {
	s := newScene(t, t.TempDir())
	tok := s.planted(t)
	m, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 1024, HiddenSize: 32, NumLayers: 2, NumHeads: 4, InitializerRange: 0.1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lm.NewBundle("gpt2", m, tok)
	if err == nil {
		err = recite(t, b)
	}
	if err == nil {
		err = b.SaveDir(s.path("gpt2"))
	}
	m.Close()
	if err != nil {
		t.Fatal(err)
	}
	root := s.path("versions")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	writes, put := withoutLoRA(t)
	trains := serving(t, s.path("gpt2"), "gpt2", root, t.TempDir())
	base := serving(t, s.path("gpt2"), "gpt2", t.TempDir(), "") // it has the route
	put(base)
	settings := func(more string) {
		text := fmt.Sprintf(`
data: {path: planted}
lm: {dir: gpt2}
prompts: {history: 2, token_budget: 800}
inference: {model: gpt2, concurrency: 16, max_tokens: 48, endpoints: [{url: "%s"}]}
training: {url: "%s", rank: 2}
publish: {local_dir: "%s"}
policy: {rounds: 1, steps: 2, pairs: 2, group: 2, minibatch: 8, validation: 8, learning_rate: 1e-4, max_rejected: 0, max_kl: 0, min_entropy: 0, min_unique: 0%s}
recommender: {epochs: 2, seeds: 1, dim: 16}
`, writes, trains, root, more)
		if err := os.WriteFile(s.path("gpt2.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says := func(o output, code int, words ...string) {
		t.Helper()
		if o.code != code {
			t.Fatalf("exit code %d, want %d\n%s%s", o.code, code, o.stdout, o.stderr)
		}
		for _, w := range words {
			if !strings.Contains(o.stdout+o.stderr, w) {
				t.Errorf("nothing is said of %q in\n%s%s", w, o.stdout, o.stderr)
			}
		}
	}
	settings("")
	says(recpie(t, s.dir, s.env, "doctor", "-c", "gpt2.yaml"), exitOK, "policy path", "soft_prompt: the language model stays", "LoRA is off", "policy.path: merged", "recpie lm merge")
	says(recpie(t, s.dir, s.env, "doctor", "-c", "gpt2.yaml", "--set", "policy.path=lora"), exitFailed, "miss  policy path", "policy.path: auto")
	says(recpie(t, s.dir, s.env, "train", "-c", "gpt2.yaml", "--run", "run-lora", "--set", "policy.path=lora"), exitFailed, "LoRA is off", "--enable-lora", "policy.path: auto")
	says(recpie(t, s.dir, s.env, "train", "-c", "gpt2.yaml", "--run", "run-none", "--set", "inference.soft_prompts=false"), exitFailed,
		"adapters cannot be loaded", "inference.soft_prompts is off", "policy.path: merged", "training.frozen: true")
	says(recpie(t, s.dir, s.env, "train", "-c", "gpt2.yaml", "--run", "run-soft"), exitOK, "soft prompts alone are trained", "report:")
	softRun(t, s.path("run-soft"), root)

	says(recpie(t, s.dir, s.env, "doctor", "-c", "gpt2.yaml", "--set", "policy.path=merged"), exitOK, "merged: the training server samples the steps")
	mergedRoot := s.path("merged-versions")
	if err := os.Mkdir(mergedRoot, 0o755); err != nil {
		t.Fatal(err)
	}
	root, trains = mergedRoot, serving(t, s.path("gpt2"), "gpt2", mergedRoot, t.TempDir())
	settings(", path: merged")
	o := recpie(t, s.dir, s.env, "train", "-c", "gpt2.yaml", "--run", "run-merged")
	says(o, exitFailed, "is not served by", "--served-model-name", "the same command")
	version := regexp.MustCompile(`policy-v000002-[0-9a-f]{8}`).FindString(o.stderr)
	put(serving(t, filepath.Join(root, mergedDir, version), version, "", ""))
	says(recpie(t, s.dir, s.env, "train", "-c", "gpt2.yaml", "--run", "run-merged"), exitOK, "report:")
	says(recpie(t, s.dir, s.env, "explain", "--from", "run-merged", "--version", "last", "--run", "run-more"), exitOK, "version "+version+" writes; soft prompts: as rows")
	put(base)
	says(recpie(t, s.dir, s.env, "explain", "--from", "run-merged", "--version", "last", "--run", "run-other"), exitFailed, "is not served by", "--served-model-name "+version)
}

// softRun checks that a run trained soft prompts and nothing else.
func softRun(t *testing.T, run, root string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "policy-*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	soft := 0
	for _, f := range files {
		if strings.HasPrefix(filepath.Base(f), "adapter_") {
			t.Errorf("an adapter was written: %s", f)
		}
		if filepath.Base(f) == "soft_prompt.safetensors" {
			soft++
		}
	}
	if soft != 3 { // one begins the round, two steps
		t.Errorf("%d soft prompts in %q", soft, files)
	}
	lines, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	steps := 0
	for line := range strings.Lines(string(lines)) {
		var m struct {
			Key        string
			SamplerGap float64 `json:"sampler_gap"`
			SoftGrad   float64 `json:"soft_grad"`
		}
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(m.Key, "step/") {
			continue
		}
		if steps++; m.SoftGrad == 0 || m.SamplerGap > 1e-3 {
			t.Errorf("%s", line)
		}
	}
	if steps != 2 {
		t.Errorf("%d steps", steps)
	}
}
