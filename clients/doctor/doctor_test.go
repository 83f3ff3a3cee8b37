package doctor

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s changed; got\n%s\nwant\n%s", name, got, want)
	}
}

func printed(all []Finding) []byte {
	var b bytes.Buffer
	Write(&b, all)
	return b.Bytes()
}

// A server in good health and one with everything wrong, as they are printed.
func TestGolden(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "k-123")
	well := newFake(t)
	well.key = "k-123"
	all := well.examine(func(i *Inference) { i.KeyEnv, i.Probe = "DOCTOR_TEST_KEY", true })
	golden(t, "well.txt", printed(all))
	asJSON, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "well.json", append(asJSON, '\n'))

	ill := newFake(t)
	ill.version, ill.maxLen, ill.noTemplate, ill.noEmbeds, ill.noLoRA, ill.skew = "0.11.0", 128, true, true, true, -90*time.Second
	ill.open, ill.answers = []string{"/pause", "/update_weights", "/tokenizer"}, []string{"one\x1b[31m", "two"}
	ill.metrics = strings.ReplaceAll(ill.metrics, `enable_prefix_caching="True"`, `enable_prefix_caching="False"`)
	golden(t, "ill.txt", printed(ill.examine(func(i *Inference) { i.URL, i.Probe = "http://203.0.113.7:8000", true })))
}

// Each fault is found, and found alone or with its consequences.
func TestFaults(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "k-123")
	const unset = "DOCTOR_TEST_UNSET"
	for name, tc := range map[string]struct {
		fault  func(*fake)
		change func(*Inference)
		what   string
		level  Level
		says   []string
	}{
		"key that is not set":       {nil, func(i *Inference) { i.KeyEnv = unset }, "key", Miss, []string{"export " + unset}},
		"key that is asked for":     {func(f *fake) { f.key = "k-123" }, nil, "key", Miss, []string{"key_env"}},
		"wrong key":                 {func(f *fake) { f.key = "other" }, func(i *Inference) { i.KeyEnv = "DOCTOR_TEST_KEY" }, "key", Miss, []string{"refuses", "into DOCTOR_TEST_KEY"}},
		"key for nothing":           {nil, func(i *Inference) { i.KeyEnv = "DOCTOR_TEST_KEY" }, "key", Warn, []string{"protects nothing"}},
		"no key on the network":     {nil, func(i *Inference) { i.URL = "http://10.1.2.3:8000" }, "key", Warn, []string{"--api-key"}},
		"no key here":               {nil, nil, "key", OK, []string{"this machine"}},
		"impossible address":        {nil, func(i *Inference) { i.URL = "ftp://x" }, "reachable", Miss, []string{"http(s)"}},
		"dead engine":               {func(f *fake) { f.health = 503 }, nil, "reachable", Miss, []string{"503"}},
		"plain http in the clear":   {nil, func(i *Inference) { i.URL = "http://203.0.113.7" }, "encryption", Warn, []string{"in the clear"}},
		"plain http inside":         {nil, func(i *Inference) { i.URL = "http://[fd00::1]:8000" }, "encryption", OK, []string{"private"}},
		"clock ahead":               {func(f *fake) { f.skew = 3 * time.Minute }, nil, "clock", Warn, []string{"3m0s ahead"}},
		"clock behind":              {func(f *fake) { f.skew = -3 * time.Minute }, nil, "clock", Warn, []string{"behind"}},
		"clock within seconds":      {func(f *fake) { f.skew = 4 * time.Second }, nil, "clock", OK, nil},
		"old version":               {func(f *fake) { f.version = "0.11.0" }, nil, "version", Miss, []string{"CVE-2025-62164", "0.32.0"}},
		"old version, text only":    {func(f *fake) { f.version = "0.11.0" }, func(i *Inference) { i.SoftPrompts = false }, "version", Warn, []string{"CVE-2025-62164"}},
		"switched hole":             {func(f *fake) { f.version = "0.12.0" }, nil, "version", Miss, []string{"CVE-2026-56340"}},
		"switched hole, off":        {func(f *fake) { f.version = "0.12.0" }, func(i *Inference) { i.SoftPrompts = false }, "version", OK, nil},
		"race":                      {func(f *fake) { f.version = "0.25.1+cu129" }, nil, "version", Miss, []string{"CVE-2026-73557"}},
		"lesser hole":               {func(f *fake) { f.version = "0.28.0" }, nil, "version", Warn, []string{"54632"}},
		"no release":                {func(f *fake) { f.version = "main" }, nil, "version", Warn, []string{`"main"`}},
		"not vLLM":                  {func(f *fake) { f.version = "" }, nil, "version", Warn, []string{"OpenAI-compatible"}},
		"unknown model":             {nil, func(i *Inference) { i.Model = "llama-9" }, "model", Miss, []string{"tiny-llama", "inference.model"}},
		"too short":                 {func(f *fake) { f.maxLen = 400 }, nil, "length", Miss, []string{"--max-model-len 432"}},
		"too short, but answers":    {func(f *fake) { f.maxLen = 100 }, nil, "canary", OK, []string{"same greedy answer"}},
		"just long enough":          {func(f *fake) { f.maxLen = 432 }, nil, "length", OK, nil},
		"no template":               {func(f *fake) { f.noTemplate = true }, nil, "chat template", Miss, []string{"--chat-template"}},
		"no template needed":        {func(f *fake) { f.noTemplate = true }, func(i *Inference) { i.Adapters = false }, "chat template", OK, []string{"only training"}},
		"no scoring":                {func(f *fake) { f.noScoring = true }, nil, "prompt scoring", Miss, []string{"training.frozen"}},
		"no scoring needed":         {func(f *fake) { f.noScoring = true }, func(i *Inference) { i.Adapters = false }, "prompt scoring", OK, []string{"only training"}},
		"embeds off":                {func(f *fake) { f.noEmbeds = true }, nil, "soft prompts", Miss, []string{"--enable-prompt-embeds"}},
		"embeds not needed":         {func(f *fake) { f.noEmbeds = true }, func(i *Inference) { i.SoftPrompts = false }, "soft prompts", OK, []string{"not taken"}},
		"any width":                 {func(f *fake) { f.blind = true }, nil, "soft prompts", Miss, []string{"width 3"}},
		"width":                     {nil, nil, "soft prompts", OK, []string{"hidden size 128"}},
		"no route for adapters":     {func(f *fake) { f.noLoRA = true }, nil, "run-time adapters", Miss, []string{"--enable-lora", "404"}},
		"adapters not needed":       {func(f *fake) { f.noLoRA = true }, func(i *Inference) { i.Adapters = false }, "run-time adapters", OK, []string{"only training", "404"}},
		"LoRA off":                  {func(f *fake) { f.metrics = without(f.metrics, "lora_requests_info") }, nil, "run-time adapters", Miss, []string{"LoRA is off"}},
		"LoRA off, seen by loading": {func(f *fake) { f.loraOff = true }, nil, "run-time adapters", Miss, []string{"LoRA is off", "GPT-2"}},
		"LoRA off, path auto":       {func(f *fake) { f.loraOff = true }, func(i *Inference) { i.Path = "auto" }, "run-time adapters", Warn, []string{"policy path", "--enable-lora"}},
		"LoRA off, path merged":     {func(f *fake) { f.loraOff = true }, func(i *Inference) { i.Path = "merged" }, "run-time adapters", OK, []string{"does without"}},
		"LoRA off, path soft":       {func(f *fake) { f.loraOff = true }, func(i *Inference) { i.Path = "soft_prompt" }, "run-time adapters", OK, []string{"does without"}},
		"slots":                     {nil, nil, "adapter slots", OK, []string{"4 in one batch, 0 loaded"}},
		"one slot":                  {func(f *fake) { f.metrics = strings.ReplaceAll(f.metrics, `max_lora="4"`, `max_lora="1"`) }, nil, "adapter slots", Miss, []string{"--max-loras 2"}},
		"one slot is enough": {func(f *fake) { f.metrics = strings.ReplaceAll(f.metrics, `max_lora="4"`, `max_lora="1"`) }, func(i *Inference) { i.Adapters = false },
			"adapter slots", OK, []string{"only training"}},
		"cache by its word": {nil, nil, "prefix cache", OK, []string{"blocks of 128", "30%"}},
		"cache off": {func(f *fake) {
			f.metrics = strings.ReplaceAll(f.metrics, `prefix_caching="True"`, `prefix_caching="False"`)
		}, nil, "prefix cache", Warn, []string{"--no-enable-prefix-caching"}},
		"cache by its counters": {func(f *fake) { f.metrics, f.hitsGrow = counters, true }, nil, "prefix cache", OK, []string{"was found"}},
		"cache that never hits": {func(f *fake) {
			f.metrics, f.hitsGrow = strings.Replace(counters, "hits_total HITS", "hits_total 7", 1), true
		}, nil, "prefix cache", Warn, []string{"not found"}},
		"cache that stands still": {func(f *fake) { f.metrics = strings.ReplaceAll(counters, "HITS", "7") }, nil, "prefix cache", Warn, []string{"stand still"}},
		"no metrics":              {func(f *fake) { f.metrics = "<html>" }, nil, "prefix cache", Warn, []string{"/metrics"}},
		"other text":              {func(f *fake) { f.answers = []string{"one", "two"} }, nil, "canary", Warn, []string{`"one"`, `"two"`}},
		"empty text":              {func(f *fake) { f.answers = []string{" "} }, nil, "canary", Warn, []string{"empty"}},
		"slow":                    {func(f *fake) { f.latency = steady(16 * time.Second) }, nil, "canary", Warn, []string{"inference.timeout"}},
		"hangs":                   {func(f *fake) { f.latency = steady(time.Hour) }, nil, "canary", Miss, []string{"deadline"}},
		"state-changing routes":   {func(f *fake) { f.open = []string{"/sleep", "/collective_rpc"} }, nil, "open routes", Warn, []string{"/sleep", "/collective_rpc"}},
		"routes in the network":   {nil, func(i *Inference) { i.URL = "http://10.1.2.3" }, "open routes", Warn, []string{"/tokenize", "/metrics"}},
		"routes here":             {nil, nil, "open routes", OK, []string{"/tokenize"}},
		"OPTIONS for any path":    {func(f *fake) { f.anyOptions = true }, nil, "open routes", Warn, []string{"by hand"}},
		"routes by their list": {func(f *fake) { f.anyOptions, f.openapi = true, `{"paths":{"/pause":{},"/v1/models":{}}}` }, nil, "open routes", Warn,
			[]string{"can use /pause; and see or compute with /openapi.json"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			if tc.fault != nil {
				tc.fault(f)
			}
			if tc.change == nil {
				tc.change = func(*Inference) {}
			}
			want(t, f.examine(tc.change), tc.what, tc.level, tc.says...)
		})
	}
}

const counters = "# TYPE vllm:prefix_cache_queries_total counter\nvllm:prefix_cache_queries_total HITS\n# TYPE vllm:prefix_cache_hits_total counter\nvllm:prefix_cache_hits_total HITS\n"

func without(page, word string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if !strings.Contains(line, word) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func steady(d time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return d }
}

// A server behind a proxy that asks for the key everywhere has no open routes.
func TestProxyThatGuardsAll(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "k-123")
	f := newFake(t)
	guard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer k-123" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f.ServeHTTP(w, r)
	})
	all := f.examine(func(i *Inference) { i.KeyEnv, i.RoundTripper = "DOCTOR_TEST_KEY", direct{guard} })
	want(t, all, "open routes", OK, "none without the key")
	want(t, all, "key", OK, "asked for")
}

// What is not there ends the examination: the rest would only repeat it.
func TestEndsWhereTheRestDepends(t *testing.T) {
	f := newFake(t)
	all := f.examine(func(i *Inference) { i.Model = "other" })
	if warnings, missing := Count(all); warnings != 0 || missing != 1 || all[len(all)-1].What != "model" {
		t.Errorf("%s", printed(all))
	}
	absent(t, all, "canary")
}

// The probe finds the knee of a server that computes 16 answers at a time.
func TestThroughput(t *testing.T) {
	probe := func(i *Inference) { i.Probe = true }
	want(t, newFake(t).examine(probe), "throughput", OK, "160 answers/s with 16 in flight", "within 100ms", "inference.concurrency is 32")
	want(t, newFake(t).examine(probe, func(i *Inference) { i.Concurrency = 256 }), "throughput", Warn, "set inference.concurrency: 16 (now 256)")
	want(t, newFake(t).examine(probe, func(i *Inference) { i.Concurrency = 4 }), "throughput", Warn, "set inference.concurrency: 16 (now 4)")
	f := newFake(t)
	f.limit = 8
	want(t, f.examine(probe), "throughput", OK, "80 answers/s with 8 in flight")
	f = newFake(t)
	f.latency = func(n int) time.Duration { return time.Duration(n) * time.Second } // one at a time, at length
	want(t, f.examine(probe), "throughput", Warn, "with 1 in flight", "set inference.concurrency: 1")
	absent(t, newFake(t).examine(), "throughput")
	// One hiccup, while 4 are in flight, does not end the climb.
	f = newFake(t)
	hiccup := sync.Once{}
	even := f.latency
	f.latency = func(n int) (d time.Duration) {
		d = even(n)
		if n == 4 {
			hiccup.Do(func() { d = 20 * time.Second })
		}
		return d
	}
	want(t, f.examine(probe), "throughput", OK, "160 answers/s with 16 in flight")
}

// What a server says reaches the terminal as one line of plain text.
func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\nb\tc": "a b c", "\x1b[31mred\x07": "[31mred", "right\u202eleft": "rightleft", "bad\xff": "bad\uFFFD", strings.Repeat("é", 400): strings.Repeat("é", 250) + "…",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}
