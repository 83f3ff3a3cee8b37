package vllm

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"recpie/clients/transport"
	"recpie/internal/wire/openai"
)

var update = flag.Bool("update", false, "rewrite the golden requests")

// TestRequestsGolden pins every request byte for byte: method, path, headers, body. Explicit zeros are there, go-openai's omissions are not.
func TestRequestsGolden(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusBadRequest)
	})
	t.Setenv("RECPIE_TEST_KEY", "k-123")
	key, err := transport.SecretFromEnv("RECPIE_TEST_KEY")
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, f.URL+"/v1/", func(cfg *Config) { cfg.Key = key })
	soft, err := NewSoft([]float32{1, -2, .5, 0}, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	msgs := []Message{{Role: "system", Parts: []Part{{Text: "s"}}}, User(soft, "<html> & ünï")}
	text := []Message{User(Soft{}, "hello")}
	calls := []struct {
		name string
		do   func() error
	}{
		{"chat with a soft prompt, greedy", func() error { _, err := c.Chat(ctx, ChatRequest{msgs, Params{MaxTokens: 40}}); return err }},
		{"chat sampled for PPO", func() error {
			_, err := c.Chat(ctx, ChatRequest{msgs, Params{Model: "ad-1", N: 4, MaxTokens: 40, MinTokens: 1, Temperature: .9, TopP: .95, TopK: 50, Seed: openai.Ptr(int64(0)), Stop: []string{"\n"}, Logprobs: true, IgnoreEOS: true, CacheSalt: "s"}})
			return err
		}},
		{"plain chat through go-openai", func() error {
			_, err := c.Chat(ctx, ChatRequest{text, Params{MaxTokens: 8, Temperature: .7, N: 2, Seed: openai.Ptr(int64(3)), TextOnly: true}})
			return err
		}},
		{"plain greedy chat keeps its zero", func() error {
			_, err := c.Chat(ctx, ChatRequest{text, Params{MaxTokens: 8, TextOnly: true}})
			return err
		}},
		{"completion of text", func() error {
			_, err := c.Complete(ctx, CompletionRequest{Text: "a", Params: Params{MaxTokens: 3, Logprobs: true}})
			return err
		}},
		{"completion of token ids", func() error {
			_, err := c.Complete(ctx, CompletionRequest{Tokens: []int32{1, 2}, Params: Params{MaxTokens: 3}})
			return err
		}},
		{"completion of a soft prompt", func() error {
			_, err := c.Complete(ctx, CompletionRequest{Soft: soft, Params: Params{MaxTokens: 3}})
			return err
		}},
		{"score", func() error { _, err := c.Score(ctx, "", []int32{1, 2, 3}, 2); return err }},
		{"tokenize", func() error { _, err := c.Tokenize(ctx, "a b", false); return err }},
		{"tokenize chat", func() error { _, err := c.TokenizeChat(ctx, text); return err }},
		{"detokenize nothing", func() error { _, err := c.Detokenize(ctx, nil); return err }},
		{"models", func() error { _, err := c.Models(ctx); return err }},
		{"health", func() error { return c.Health(ctx) }},
		{"version", func() error { _, err := c.Version(ctx); return err }},
		{"load adapter", func() error { return c.LoadAdapter(ctx, "ad-1", "/adapters/ad-1") }},
		{"unload adapter", func() error { return c.UnloadAdapter(ctx, "ad-1") }},
		{"embeddings", func() error { _, err := c.Embed(ctx, "enc", []string{"a", "b"}); return err }},
	}
	var b strings.Builder
	for i, call := range calls {
		if err := call.do(); err == nil {
			t.Fatalf("%s: no error from a server that refuses", call.name)
		}
		got := f.requests()
		if len(got) != i+1 {
			t.Fatalf("%s: %d requests in all, want %d", call.name, len(got), i+1)
		}
		s := got[i]
		fmt.Fprintf(&b, "# %s\n%s %s\nContent-Type: %s\nAuthorization: %s\n%s\n\n", call.name, s.Method, s.Path, s.ContentType, s.Auth, s.Body)
	}
	const golden = "testdata/requests.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("requests changed; got\n%s\nwant\n%s", b.String(), want)
	}
}
