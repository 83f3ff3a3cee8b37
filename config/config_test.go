package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recpie.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNothingGivenIsTheDefault(t *testing.T) {
	c, err := Load(Sources{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(Default(), *c); d != "" {
		t.Error(d)
	}
}

func TestLaterLayersWin(t *testing.T) {
	path := file(t, "preset: llama-3.1-8b\nseed: 5\ninference:\n  concurrency: 9\n  timeout: 30s\n  endpoints:\n    - url: http://a:8000\n      key_env: A_KEY\n    - url: https://b\npolicy: {rounds: 3, kl: 0.5}\n")
	c, err := Load(Sources{
		File:  path,
		Env:   []string{"RECPIE_SEED=6", "RECPIE_POLICY_KL=0.25", "RECPIE_CACHE=/x", "OTHER=1", "RECPIE_INFERENCE_SOFT_PROMPTS=false"},
		Flags: map[string]any{"seed": 7},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Preset, want.Seed = "llama-3.1-8b", 7
	want.Data.SamplePairs = 0
	want.Inference.Model = "meta-llama/Llama-3.1-8B-Instruct"
	want.Inference.Concurrency, want.Inference.Timeout, want.Inference.SoftPrompts, want.Inference.MaxTokens = 9, 30*time.Second, false, 96
	want.Inference.Endpoints = []Endpoint{{URL: "http://a:8000", KeyEnv: "A_KEY"}, {URL: "https://b"}}
	want.Prompts.History, want.Prompts.TokenBudget = 10, 3000
	want.Policy.Rounds, want.Policy.KL = 3, 0.25
	want.Policy.Steps, want.Policy.Pairs, want.Policy.LearningRate, want.Policy.KLTarget = 50, 16, 1e-5, 6
	if d := cmp.Diff(want, *c); d != "" {
		t.Error(d)
	}
}

func TestEveryPresetIsValid(t *testing.T) {
	want := []string{"embedded", "gpt2", "llama-3-8b", "llama-3.1-8b", "mixtral-8x7b", "qwen2-7b", "vicuna-7b"}
	if d := cmp.Diff(want, Presets()); d != "" {
		t.Error(d)
	}
	for _, name := range Presets() {
		c, err := Load(Sources{Flags: map[string]any{"preset": name}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if b, err := c.YAML(); err != nil || !strings.Contains(string(b), "preset: "+name) {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
}

// Every key of the presets is a key: viper would merge a misspelt one without a word until the settings are decoded.
func TestPresetsServeTheModelsOfThePaper(t *testing.T) {
	for name, model := range map[string]string{
		"llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct", "llama-3-8b": "meta-llama/Meta-Llama-3-8B-Instruct", "mixtral-8x7b": "mistralai/Mixtral-8x7B-Instruct-v0.1",
		"vicuna-7b": "lmsys/vicuna-7b-v1.5", "qwen2-7b": "Qwen/Qwen2-7B-Instruct", "gpt2": "openai-community/gpt2", "embedded": "recpie-embedded",
	} {
		c, err := Load(Sources{File: file(t, "preset: "+name+"\ninference: {endpoints: [{url: 'http://gpu1:8000', key_env: VLLM_API_KEY}]}\n")})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if c.Inference.Model != model || len(c.Inference.Endpoints) != 1 {
			t.Errorf("%s: model %s, %d endpoints", name, c.Inference.Model, len(c.Inference.Endpoints))
		}
	}
}

func TestErrorsNameThePlaceAndTheRemedy(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "seed: 1\npolicy:\n  round: 3\n", "recpie.yaml:3: unknown key policy.round, did you mean policy.rounds?"},
		{"unknown section", "polcy:\n  rounds: 3\n", "recpie.yaml:1: unknown key polcy"},
		{"wrong kind", "\nseed: many\n", `recpie.yaml:2: seed: "many" is not of kind int`},
		{"bool", "prompts:\n  taste: 3\n", "recpie.yaml:2: prompts.taste"},
		{"duration", "inference:\n  timeout: 5\n", "recpie.yaml:2: inference.timeout"},
		{"map for a value", "seed:\n  a: 1\n", "recpie.yaml:2: seed must be a single value"},
		{"value for a map", "policy: 3\n", "recpie.yaml:1: policy must hold key: value lines"},
		{"doubled", "seed: 1\nseed: 2\n", "recpie.yaml:2: key seed appears twice"},
		{"endpoint key", "inference:\n  endpoints:\n    - uri: http://x\n", "recpie.yaml:3: unknown key uri in inference.endpoints, did you mean url?"},
		{"endpoints no list", "inference:\n  endpoints: http://x\n", "recpie.yaml:2: inference.endpoints must be a list"},
		{"unknown preset", "preset: lama-3-8b\n", `unknown preset "lama-3-8b", did you mean llama-3-8b?`},
		{"range", "seed: 1\npolicy:\n  clip: 1.5\n", "recpie.yaml:3: policy.clip: 1.5 is not in (0, 1)"},
		{"two faults", "policy: {clip: 1.5}\ndata: {min_records: 1}\n", "recpie.yaml:2: data.min_records: 1 is below 2\n"},
		{"address", "inference:\n  endpoints:\n    - url: http://a\n    - url: 'ftp://x'\n", `recpie.yaml:4: inference.endpoints[1].url: "ftp://x" is not an http or https address`},
		{"no address", "inference:\n  endpoints:\n    - key_env: K\n", `recpie.yaml:3: inference.endpoints[0].url: "" is not`},
		{"encoder twice", "encoder:\n  dir: x\n  endpoint: http://a\n  model: m\n", "recpie.yaml:3: encoder.endpoint: encoder.dir names an encoder too"},
		{"encoder without a model", "encoder:\n  endpoint: http://a\n", "encoder.model: encoder.endpoint needs the name of a model"},
		{"encoder without an endpoint", "encoder:\n  model: m\n", "encoder.endpoint: encoder.model and encoder.key_env are about an endpoint"},
		{"encoder address", "encoder:\n  endpoint: 'a:1'\n  model: m\n", "recpie.yaml:2: encoder.endpoint"},
		{"decay", "recommender:\n  learning_rate_decay: 0\n", "recpie.yaml:2: recommender.learning_rate_decay: 0 is not in (0, 1]"},
		{"history", "recommender:\n  history: 1001\n", "recpie.yaml:2: recommender.history: 1001 is above 1000"},
		{"endpoint kind", "inference:\n  endpoints:\n    - url: http://a\n      kind: tig\n", `recpie.yaml:4: inference.endpoints[0].kind: "tig" is not one of`},
		{"endpoint type", "inference:\n  endpoints:\n    - url: http://a\n      chat: perhaps\n", "recpie.yaml:4: inference.endpoints[0].chat is not of kind bool"},
		{"endpoint doubled", "inference:\n  endpoints:\n    - url: http://a\n      url: http://b\n", "recpie.yaml:4: key url appears twice"},
		{"not a number", "policy: {clip: .nan}\n", "recpie.yaml:1: policy.clip: NaN is not in (0, 1)"},
		{"infinite", "policy: {learning_rate: .inf}\n", "policy.learning_rate: +Inf is not in (0, +Inf)"},
		{"share", "policy: {max_rejected: 50}\n", "policy.max_rejected: 50 is not in [0, 1]"},
		{"limit", "policy: {max_kl: -1}\n", "policy.max_kl: -1 is not in [0, +Inf)"},
		{"no time", "inference: {timeout: 0s}\n", "inference.timeout: 0s is not above 0"},
		{"yaml", "a: [\n", "recpie.yaml: yaml"},
		{"budget", "prompts: {token_budget: 5000}\n", "more than lm.context"},
		{"source", "prompts: {source: review}\n", "recpie.yaml:1: prompts.source"},
		{"source of redacted prompts", "prompts: {source: aspects, redact: true}\n", "prompts.redact"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Load(Sources{File: file(t, c.text)})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v\nwant %q in it", err, c.want)
			}
		})
	}
	if _, err := Load(Sources{File: "no/such.yaml"}); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
	for env, want := range map[string]string{
		"RECPIE_SEED=x":                       `environment variable RECPIE_SEED: "x" is not of kind int`,
		"RECPIE_POLICY_CLIP=2":                "environment variable RECPIE_POLICY_CLIP: policy.clip: 2 is not in (0, 1)",
		"RECPIE_POLICY_ROUND=3":               "RECPIE_POLICY_ROUND sets nothing, did you mean RECPIE_POLICY_ROUNDS?",
		"RECPIE_INFERENCE_ENDPOINTS=http://x": "only a file can give",
	} {
		if _, err := Load(Sources{Env: []string{env}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %q in it", env, err, want)
		}
	}
	for _, env := range []string{"RECPIE_CACHE=/x", "RECPIE_DATA=/x", "RECPIE_DATABASE_URL=x", "RECPIE_DATABASE_URL_FILE=x", "RECPIE_UI_TOKEN=x", "RECPIE_FAILPOINT=x", "RECPIE_LONG=1", "RECPIE_CRASH=1", "RECPIE_LM_KEY=x", "OTHER=1", "broken"} {
		if _, err := Load(Sources{Env: []string{env}}); err != nil {
			t.Errorf("%s: %v", env, err)
		}
	}
	if _, err := Load(Sources{Flags: map[string]any{"policy.clip": 2.0}}); err == nil || !strings.Contains(err.Error(), "command line: policy.clip: 2 is not in") {
		t.Errorf("flag out of range: %v", err)
	}
	if _, err := Load(Sources{Flags: map[string]any{"sede": 1}}); err == nil || !strings.Contains(err.Error(), "did you mean seed?") {
		t.Errorf("bad flag: %v", err)
	}
}

func TestSecretsInAnAddressAreRefusedAndNotShown(t *testing.T) {
	for _, text := range []string{"training: {url: 'https://me:hunter2@host'}\n", "training: {url: 'ftp://me:hunter2@host'}\n", "training: {url: 'https://h', key_env: 'hunter2 hunter2'}\n", "training: {url: 'hunter2@host'}\n", "training: {url: 'me:hunter2@host'}\n"} {
		_, err := Load(Sources{File: file(t, text)})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s gave %v", text, err)
		}
	}
}

func TestYAMLReadsBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		c := Default()
		c.Seed = rapid.Int64Range(0, 1<<40).Draw(rt, "seed")
		c.Policy.KL = rapid.Float64Range(0, 10).Draw(rt, "kl")
		c.Run = rapid.StringMatching(`[a-z0-9:#'" _-]{1,20}[a-z]`).Draw(rt, "run")
		c.Prompts.Taste = rapid.Bool().Draw(rt, "taste")
		if rapid.Bool().Draw(rt, "endpoints") {
			c.Inference.Endpoints = []Endpoint{{URL: "http://h:1", KeyEnv: "K"}}
		}
		b, err := c.YAML()
		if err != nil {
			rt.Fatal(err)
		}
		got, err := Load(Sources{File: file(t, string(b))})
		if err != nil {
			rt.Fatalf("%v\n%s", err, b)
		}
		if d := cmp.Diff(c, *got, cmpopts.EquateEmpty()); d != "" {
			rt.Fatal(d)
		}
	})
}

func FuzzLoad(f *testing.F) {
	f.Add("seed: 1\n")
	f.Add("policy: {rounds: 3}\ninference: {endpoints: [{url: 'http://x'}]}\n")
	f.Add("? [a]\n: b\n")
	f.Add("a: &x [*x]\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, _ = Load(Sources{File: path})
	})
}

// What a run is held to when it is continued leaves out prices and where things are computed, and nothing that decides a result.
func TestLasting(t *testing.T) {
	a := Default()
	b := a
	b.LM.Device, b.LM.Threads, b.LM.KVMemory, b.LM.Checkpoint, b.Encoder.Device, b.Inference.PricePrompt, b.Serve.HideUnfaithful = "cuda:1", 3, 99, true, "cuda", 2, true
	if !reflect.DeepEqual(a.Lasting(), b.Lasting()) {
		t.Error("a run could not be continued on another device")
	}
	for name, change := range map[string]func(c *Config){
		"seed":    func(c *Config) { c.Seed++ },
		"dtype":   func(c *Config) { c.LM.DType = "bfloat16" },
		"sample":  func(c *Config) { c.Data.MaxRecords = 50 },
		"encoder": func(c *Config) { c.Encoder.Dir = "other" },
	} {
		c := a
		change(&c)
		if reflect.DeepEqual(a.Lasting(), c.Lasting()) {
			t.Errorf("a run could be continued with another %s", name)
		}
	}
}
