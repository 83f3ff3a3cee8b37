package lmserver

import (
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

func encodeRows(t testing.TB, rows []float32, width int) string {
	t.Helper()
	out, err := softprompt.Encode(rows, len(rows)/width, width)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func chatBody(parts ...object) object {
	return object{"messages": []object{{"role": "system", "content": "be brief"}, {"role": "user", "content": parts}},
		"max_tokens": 5, "temperature": 0, "return_token_ids": true, "ignore_eos": true, "logprobs": true}
}

func text(s string) object { return object{"type": "text", "text": s} }

// The rows stand where the part stands in the rendered template, under marker ids, and change the answer.
func TestSoftPromptInMidTemplate(t *testing.T) {
	b := bundle(t, "m", 32)
	s, _ := start(t, Options{Model: b})
	embeds := func(seed uint64) object {
		return object{"type": "prompt_embeds", "data": encodeRows(t, randomRows(seed, 3, 32), 32)}
	}
	var res, plain, other openai.ChatResponse
	post(t, s, "/v1/chat/completions", chatBody(text("abc "), embeds(1), text(" def"))).into(t, &res)
	post(t, s, "/v1/chat/completions", chatBody(text("abc "), text(" def"))).into(t, &plain)
	post(t, s, "/v1/chat/completions", chatBody(text("abc "), embeds(2), text(" def"))).into(t, &other)

	encode := func(s string) []int32 { return b.Tok.Encode(s, false) }
	want := slices.Concat(encode("<|bos|><|system|>be brief<|end|><|user|>abc "), []int32{2048, 2048, 2048}, encode(" def<|end|><|assistant|>"))
	if !slices.Equal(res.PromptTokenIDs, want) {
		t.Errorf("prompt ids %v, want %v", res.PromptTokenIDs, want)
	}
	if res.Usage.PromptTokens != len(want) {
		t.Errorf("usage %d, want %d", res.Usage.PromptTokens, len(want))
	}
	first := func(r *openai.ChatResponse) float64 { return r.Choices[0].Logprobs.Content[0].Logprob }
	if first(&res) == first(&plain) || first(&res) == first(&other) {
		t.Error("the soft prompt changes nothing")
	}
	if strings.Contains(*res.Choices[0].Message.Content, "embeds-") {
		t.Error("the sentinel leaks")
	}
}

// Rows equal to the tokens' own embeddings are the tokens: checked through scoring, the sampler's most exact output.
func TestScoringSumsToTheSampledLogprobs(t *testing.T) {
	b := bundle(t, "m", 32)
	s, _ := start(t, Options{Model: b})
	var sampled, scored openai.CompletionResponse
	post(t, s, "/v1/completions", object{"prompt": "def abc", "max_tokens": 6, "temperature": 1, "seed": 3, "return_token_ids": true, "logprobs": 0, "ignore_eos": true}).into(t, &sampled)
	c := sampled.Choices[0]
	ids := slices.Concat(c.PromptTokenIDs, c.TokenIDs)
	post(t, s, "/v1/completions", object{"prompt": ids, "max_tokens": 0, "echo": true, "logprobs": 0}).into(t, &scored)
	got := scored.Choices[0].Logprobs.TokenLogprobs
	if len(got) != len(ids) || got[0] != nil {
		t.Fatalf("%d scores for %d ids, first %v", len(got), len(ids), got[0])
	}
	for i, lp := range c.Logprobs.TokenLogprobs {
		if d := math.Abs(*lp - *got[len(c.PromptTokenIDs)+i]); d > 1e-4 {
			t.Errorf("token %d: sampled at %g, scored at %g", i, *lp, *got[len(c.PromptTokenIDs)+i])
		}
	}
}

func TestFlattenedBatchAndSeeds(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	ask := func() openai.CompletionResponse {
		var res openai.CompletionResponse
		post(t, s, "/v1/completions", object{"prompt": []string{"def", "abc"}, "n": 3, "max_tokens": 4, "temperature": 1, "seed": 11, "return_token_ids": true}).into(t, &res)
		return res
	}
	a, b := ask(), ask()
	if len(a.Choices) != 6 {
		t.Fatalf("%d choices, want 6", len(a.Choices))
	}
	for i, c := range a.Choices {
		if c.Index != i || !slices.Equal(c.TokenIDs, b.Choices[i].TokenIDs) {
			t.Errorf("choice %d has index %d, tokens %v and %v", i, c.Index, c.TokenIDs, b.Choices[i].TokenIDs)
		}
	}
	if slices.Equal(a.Choices[0].TokenIDs, a.Choices[1].TokenIDs) && slices.Equal(a.Choices[1].TokenIDs, a.Choices[2].TokenIDs) {
		t.Error("the samples of one prompt are all equal")
	}
}

func TestStreamCarriesTheSameText(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	body := object{"prompt": "def abc", "max_tokens": 5, "temperature": 0, "ignore_eos": true}
	var whole openai.CompletionResponse
	post(t, s, "/v1/completions", body).into(t, &whole)
	body["stream"] = true
	body["stream_options"] = object{"include_usage": true}
	r := post(t, s, "/v1/completions", body)
	events := strings.Split(strings.TrimSpace(string(r.body)), "\n\n")
	if !strings.HasPrefix(r.kind, "text/event-stream") || events[len(events)-1] != "data: [DONE]" {
		t.Fatalf("no event stream: %s %s", r.kind, r.body)
	}
	if !strings.Contains(events[len(events)-2], `"choices":[],"usage":{"prompt_tokens":`) {
		t.Errorf("no usage chunk: %s", events[len(events)-2])
	}
	if !strings.Contains(events[0], fmt.Sprintf(`"text":%q`, whole.Choices[0].Text)) && !strings.Contains(whole.Choices[0].Text, "\uFFFD") {
		t.Errorf("%s does not carry %q", events[0], whole.Choices[0].Text)
	}
	chat := chatBody(text("x"))
	chat["stream"] = true
	if r := post(t, s, "/v1/chat/completions", chat); !strings.Contains(string(r.body), `"delta":{"content":"","role":"assistant"}`) {
		t.Errorf("no role chunk in %s", r.body)
	}
}

func TestRefusedSoftPrompts(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32), MaxRows: 8})
	nan := strings.Replace(encodeRows(t, make([]float32, 64), 32), "AAAAAAAAAAAAAAAA", "AADAfwAAwH8AAMB/", 1)
	for name, body := range map[string]object{
		"nan":      {"prompt_embeds": nan},
		"too many": {"prompt_embeds": encodeRows(t, randomRows(1, 9, 32), 32)},
		"width":    {"prompt_embeds": encodeRows(t, randomRows(1, 2, 16), 16)},
		"penalty":  {"prompt": "x", "frequency_penalty": 0.5},
		"bias":     {"prompt": "x", "logit_bias": object{"5": 1}},
	} {
		if r := post(t, s, "/v1/completions", body); r.status != http.StatusBadRequest || !strings.Contains(string(r.body), `"BadRequestError"`) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		}
	}
}

// A name loaded in place switches to the new weights while requests with the old ones finish; nothing is ever missing.
func TestAdapterReplacedUnderLoad(t *testing.T) {
	b := bundle(t, "m", 32)
	root := t.TempDir()
	saveAdapter(t, b, filepath.Join(root, "a"), 1)
	saveAdapter(t, b, filepath.Join(root, "b"), 2)
	s, _ := start(t, Options{Model: b, AdapterRoot: root})
	load := func(path string) {
		if r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "ad", "lora_path": path, "load_inplace": true}); r.status != http.StatusOK {
			t.Errorf("load %s: %d %s", path, r.status, r.body)
		}
	}
	load("a")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if r := post(t, s, "/v1/completions", object{"model": "ad", "prompt": "def", "max_tokens": 3}); r.status != http.StatusOK {
					t.Errorf("generate: %d %s", r.status, r.body)
				}
			}
		})
	}
	for i := range 6 {
		load([]string{"b", filepath.Join(root, "a")}[i%2])
	}
	wg.Wait()
	if r := post(t, s, "/v1/unload_lora_adapter", object{"lora_name": "ad"}); r.status != http.StatusOK {
		t.Errorf("unload: %d", r.status)
	}
	if left := s.engine.Adapters(); len(left) != 0 {
		t.Errorf("adapters left in the engine: %v", left)
	}
}

// A continuation that ends within a character is shown up to the last whole one; before a stop string everything is shown.
func TestHalfACharacterIsHeldBack(t *testing.T) {
	b := bundle(t, "m", 32)
	s, _ := start(t, Options{Model: b})
	for _, c := range []struct {
		text string
		stop any
		want string
	}{
		{"ab\uFFFD\uFFFD", nil, "ab"}, {"\uFFFDab", nil, "\uFFFDab"}, {"a\uFFFD", int32(9), "a"}, {"a\uFFFD", "stop", "a\uFFFD"},
	} {
		if got := s.text(&lm.Choice{Text: c.text, StopReason: c.stop}, &openai.Sampling{}); got != c.want {
			t.Errorf("%q, stopped by %v: %q, want %q", c.text, c.stop, got, c.want)
		}
	}
}
