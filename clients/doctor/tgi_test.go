package doctor

import (
	"net/http"
	"testing"
	"time"

	"recpie/clients/tgi/tgitest"
)

// ask examines an imitation of TGI: nothing here has met a real one.
func ask(t *testing.T, opt tgitest.Options, change ...func(*Inference)) []Finding {
	t.Helper()
	i := Inference{URL: tgitest.New(t, opt).URL, Model: "base", PromptTokens: 384, AnswerTokens: 48, Concurrency: 64, Timeout: 10 * time.Second}
	for _, c := range change {
		c(&i)
	}
	all := Examine(t.Context(), []Server{i}, 1)
	remedied(t, all)
	return all
}

func TestTGI(t *testing.T) {
	t.Setenv("DOCTOR_TEST_KEY", "k-123")
	all := ask(t, tgitest.Options{})
	for what, level := range map[string]Level{"reachable": OK, "key": OK, "version": Warn, "model": OK, "length": OK, "chat template": OK, "prompt scoring": OK, "soft prompts": OK, "run-time adapters": OK, "canary": OK} {
		want(t, all, what, level)
	}
	absent(t, all, "open routes")
	absent(t, all, "throughput")
	want(t, ask(t, tgitest.Options{Chat: true}, func(i *Inference) { i.Chat = true }), "chat template", OK, "words")
	want(t, ask(t, tgitest.Options{}, func(i *Inference) { i.Chat = true }), "chat template", Miss, "no usable chat template")
	want(t, ask(t, tgitest.Options{NoPrefill: true}), "prompt scoring", OK, "only training")
	want(t, ask(t, tgitest.Options{NoPrefill: true}, func(i *Inference) { i.Adapters = true }), "prompt scoring", Miss, "--enable-prefill-logprobs")
	want(t, ask(t, tgitest.Options{}, func(i *Inference) { i.SoftPrompts = true }), "soft prompts", Warn, "in words")
	want(t, ask(t, tgitest.Options{}, func(i *Inference) { i.Adapters = true }), "run-time adapters", Miss, "vLLM")
	want(t, ask(t, tgitest.Options{MaxInput: 128, MaxTotal: 256}), "length", Miss, "256", "--max-total-tokens")
	want(t, ask(t, tgitest.Options{MaxConcurrent: 8}), "concurrency", Warn, "more than 8")
	want(t, ask(t, tgitest.Options{Key: "k-123"}, func(i *Inference) { i.KeyEnv = "DOCTOR_TEST_KEY" }), "canary", OK)
	want(t, ask(t, tgitest.Options{MaxConcurrent: 1, TokenTime: time.Millisecond}, func(i *Inference) { i.Probe = true }), "throughput", Warn, "set inference.concurrency: 1 (now 64)")
	want(t, ask(t, tgitest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/generate" {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}}), "canary", Miss, "log")
}
