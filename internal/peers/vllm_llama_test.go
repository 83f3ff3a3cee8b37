//go:build peers

package peers

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"recpie/adapters"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/orchestrator"
)

const (
	text    = "The film badu tel mi."
	request = "Say in one sentence what the user likes: gobi."
)

// llama is the client of a vLLM server that holds the model llama.
func llama(t *testing.T) (c *vllm.Client, models string, e embeddings) {
	url, models := need(t, "RECPIE_VLLM_URL"), need(t, "RECPIE_VLLM_MODELS")
	return dial(t, url, "llama"), models, readEmbeddings(t, filepath.Join(models, "llama"), "model.embed_tokens.weight")
}

func TestVLLMLlamaIdentity(t *testing.T) {
	c, _, _ := llama(t)
	if err := c.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v, err := c.Version(t.Context()); err != nil || v != "0.32.0" {
		t.Errorf("version %q, %v", v, err)
	}
	list, err := c.Models(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != "llama" || list[0].Parent != "" || list[0].MaxLen != 512 {
		t.Errorf("models %+v, %v", list, err)
	}
	ids := tokenize(t, c, text)
	if back, err := c.Detokenize(t.Context(), ids); err != nil || back != text {
		t.Errorf("%v is %q, %v", ids, back, err)
	}
}

// Soft rows that are the embeddings of real tokens answer exactly as the tokens do, alone and in mid-template.
func TestVLLMLlamaSoftRowsAreTokens(t *testing.T) {
	c, _, e := llama(t)
	ids := tokenize(t, c, text)
	want := complete(t, c, vllm.CompletionRequest{Tokens: ids, Params: greedy("", 12)})
	got := complete(t, c, vllm.CompletionRequest{Soft: e.soft(t, ids), Params: greedy("", 12)})
	t.Logf("alone: off by %.1e", same(t, "alone", got, want, 1e-4))

	messages := []vllm.Message{
		{Role: "system", Parts: []vllm.Part{{Text: "Answer shortly."}}},
		{Role: "user", Parts: []vllm.Part{{Text: "User:"}, {Soft: e.soft(t, ids)}, {Text: request}}},
	}
	got = chat(t, c, vllm.ChatRequest{Messages: messages, Params: greedy("", 12)})
	at := markers(t, got.PromptTokenIDs, e.vocab(), len(ids))
	if at < 5 || at+len(ids) > len(got.PromptTokenIDs)-5 {
		t.Errorf("the markers stand at %d of %d, want the middle of the template", at, len(got.PromptTokenIDs))
	}
	prompt := slices.Concat(got.PromptTokenIDs[:at], ids, got.PromptTokenIDs[at+len(ids):])
	want = complete(t, c, vllm.CompletionRequest{Tokens: prompt, Params: greedy("", 12)})
	t.Logf("in mid-template: off by %.1e", same(t, "in mid-template", got, want, 1e-4))

	other := slices.Clone(messages)
	other[1] = vllm.Message{Role: "user", Parts: []vllm.Part{{Text: "User:"}, {Soft: e.random(t, 1, len(ids))}, {Text: request}}}
	if r := chat(t, c, vllm.ChatRequest{Messages: other, Params: greedy("", 12)}); slices.Equal(r.Choices[0].TokenIDs, got.Choices[0].TokenIDs) {
		t.Error("another soft prompt gives the same answer")
	}
}

func TestVLLMLlamaSeveralAnswersBySeed(t *testing.T) {
	c, _, e := llama(t)
	draw := func(seed int64) *vllm.Result {
		return chat(t, c, vllm.ChatRequest{Messages: []vllm.Message{vllm.User(e.random(t, 2, 4), request)},
			Params: vllm.Params{N: 4, MaxTokens: 10, Temperature: 1, TopP: 0.95, Seed: &seed, Logprobs: true, IgnoreEOS: true}})
	}
	a, b, other := draw(7), draw(7), draw(8)
	same(t, "the same seed", b, a, 1e-4)
	if slices.Equal(a.Choices[0].TokenIDs, other.Choices[0].TokenIDs) || slices.Equal(a.Choices[0].TokenIDs, a.Choices[1].TokenIDs) {
		t.Error("answers that should differ are equal")
	}
}

// The scorer sees the probabilities that the sampler reported, whatever the temperature.
func TestVLLMLlamaScoreIsGeneration(t *testing.T) {
	c, _, _ := llama(t)
	ids, seed := tokenize(t, c, text), int64(3)
	for _, temperature := range []float64{0, 0.7, 1} {
		r := complete(t, c, vllm.CompletionRequest{Tokens: ids, Params: vllm.Params{MaxTokens: 16, Temperature: temperature, Seed: &seed, Logprobs: true, IgnoreEOS: true}})
		lps, err := c.Score(t.Context(), "", slices.Concat(ids, r.Choices[0].TokenIDs), 16)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("temperature %v: off by %.1e", temperature, near(t, fmt.Sprint("temperature ", temperature), lps, r.Choices[0].Logprobs, 1e-4))
	}
}

// A batch of concurrent requests, with and without soft rows, answers as each of them does alone.
func TestVLLMLlamaGreedyIsStable(t *testing.T) {
	c, _, e := llama(t)
	var reqs []vllm.ChatRequest
	for i := range 24 {
		m := vllm.User(vllm.Soft{}, fmt.Sprintf("%s %d", request, i))
		if i%2 == 0 {
			m = vllm.User(e.random(t, uint64(i), 1+i%5), request)
		}
		reqs = append(reqs, vllm.ChatRequest{Messages: []vllm.Message{m}, Params: greedy("", 8)})
	}
	for i, item := range c.GenerateAll(t.Context(), reqs, 0) {
		if item.Err != nil {
			t.Fatal(item.Err)
		}
		same(t, fmt.Sprint("request ", i), item.Value, chat(t, c, reqs[i]), 1e-3)
	}
}

func TestVLLMLlamaRefusals(t *testing.T) {
	c, _, e := llama(t)
	badRequests(t, c, "llama", e.hidden+1)
	_, err := c.Chat(t.Context(), vllm.ChatRequest{Messages: []vllm.Message{vllm.User(e.random(t, 1, 2), "say <prompt_embeds> twice")}, Params: greedy("", 2)})
	refused(t, "the placeholder's name in a text", err, fault.Item, 400, "messages")
}

// Adapters come and go under new names, and each serves its own weights.
func TestVLLMLlamaAdapters(t *testing.T) {
	c, models, e := llama(t)
	ctx, ids := t.Context(), tokenize(t, c, text)
	load := func(name, dir string) {
		t.Helper()
		if err := c.LoadAdapter(ctx, name, filepath.Join(models, dir)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.UnloadAdapter(context.Background(), name) })
	}
	load("peers-a1", "lora-a")
	load("peers-b1", "lora-b")
	load("peers-zero", "lora-zero")
	load("peers-a1", "lora-a") // a repeated request, as after a lost answer
	base := score(t, c, "", ids)
	canary := map[string][]float64{}
	for _, name := range []string{"peers-a1", "peers-b1"} {
		canary[name] = score(t, c, name, ids)
		if d := distance(canary[name], base); d < 0.05 {
			t.Errorf("%s answers as the base model (%.2g)", name, d)
		}
	}
	if d := distance(canary["peers-a1"], canary["peers-b1"]); d < 0.05 {
		t.Errorf("two adapters answer alike (%.2g)", d)
	}
	near(t, "the adapter that changes nothing", score(t, c, "peers-zero", ids), base, 1e-4)
	near(t, "the base model beside adapters", score(t, c, "", ids), base, 1e-4)

	messages := []vllm.Message{{Role: "user", Parts: []vllm.Part{{Soft: e.soft(t, ids)}, {Text: request}}}}
	got := chat(t, c, vllm.ChatRequest{Messages: messages, Params: greedy("peers-b1", 8)})
	at := markers(t, got.PromptTokenIDs, e.vocab(), len(ids))
	prompt := slices.Concat(got.PromptTokenIDs[:at], ids, got.PromptTokenIDs[at+len(ids):])
	want := complete(t, c, vllm.CompletionRequest{Tokens: prompt, Params: greedy("peers-b1", 8)})
	t.Logf("soft rows under an adapter: off by %.1e", same(t, "soft rows under an adapter", got, want, 1e-4))

	list, err := c.Models(ctx)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(m vllm.Model) bool { return m.ID == "peers-b1" })
	if i < 0 || list[i].Parent != "llama" || list[i].Root != filepath.Join(models, "lora-b") {
		t.Errorf("models %+v", list)
	}

	for range 2 { // the second time it is not there
		if err := c.UnloadAdapter(ctx, "peers-a1"); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Score(ctx, "peers-a1", ids, 0); !vllm.IsUnknownModel(err) {
		t.Errorf("an unloaded adapter: %v", err)
	}
	near(t, "an adapter after another was unloaded", score(t, c, "peers-b1", ids), canary["peers-b1"], 1e-4)
	load("peers-a2", "lora-a")
	near(t, "the same weights under another name", score(t, c, "peers-a2", ids), canary["peers-a1"], 1e-4)

	refused(t, "no such folder", c.LoadAdapter(ctx, "peers-none", filepath.Join(models, "none")), fault.Item, 404, "")
	refused(t, "a truncated adapter", c.LoadAdapter(ctx, "peers-cut", filepath.Join(models, "lora-cut")), fault.Endpoint, 500, "")
	if _, err := c.Score(ctx, "peers-cut", ids, 0); !vllm.IsUnknownModel(err) {
		t.Errorf("an adapter that could not be loaded: %v", err)
	}
}

func distance(a, b []float64) float64 {
	d := 0.0
	for i := range a {
		d = max(d, math.Abs(a[i]-b[i]))
	}
	return d
}

// Versions of the adapter store go into service one after the other; a broken one leaves the one before in place.
func TestVLLMLlamaPublisher(t *testing.T) {
	c, models, _ := llama(t)
	ctx, dir := t.Context(), t.TempDir()
	store, err := adapters.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	version := func(number int, lora string) *adapters.Version {
		t.Helper()
		v, err := store.Write(number, adapters.Lineage{Run: "peers", Step: number}, filepath.Join(models, lora), nil)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	pub, err := adapters.NewPublisher(adapters.PublishSettings{ServerDir: dir},
		[]adapters.Replica{orchestrator.Replica{ID: "one", Client: c, Prompt: tokenize(t, c, text)}})
	if err != nil {
		t.Fatal(err)
	}
	served := func() (names []string) {
		t.Helper()
		list, err := c.Models(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range list {
			if m.Parent != "" {
				names = append(names, m.ID)
			}
		}
		return names
	}
	first, second := version(1, "lora-a"), version(2, "lora-b")
	for _, v := range []*adapters.Version{first, second} {
		if err := pub.Publish(ctx, v); err != nil {
			t.Fatal(err)
		}
		if got := served(); !slices.Equal(got, []string{v.Name}) || pub.Current().Name != v.Name {
			t.Errorf("served %v, current %s, want %s alone", got, pub.Current().Name, v.Name)
		}
	}
	t.Cleanup(func() { _ = c.UnloadAdapter(context.Background(), second.Name) })
	wrong := *first
	wrong.Manifest.Name = "policy-v3-absent00"
	if err := pub.Publish(ctx, &wrong); err == nil {
		t.Error("a version without a folder was published")
	}
	if got := served(); !slices.Equal(got, []string{second.Name}) {
		t.Errorf("after a failed publication %v are served, want %s", got, second.Name)
	}
}
