//go:build peers

package peers

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"recpie/clients/vllm"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
)

// both are clients of vLLM and of the embedded server, over the same checkpoint, which the embedded model wrote.
func both(t *testing.T) (real, ours *vllm.Client, e embeddings) {
	url, models := need(t, "RECPIE_VLLM_URL"), need(t, "RECPIE_VLLM_MODELS")
	dir := filepath.Join(models, "gpt2")
	b, err := lm.LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Model.Close)
	s := serve(t, lmserver.Options{Model: b})
	return dial(t, url, "gpt2"), dial(t, s.URL(), "gpt2"), readEmbeddings(t, dir, "transformer.wte.weight")
}

var phrases = []string{
	text, request, "The", "a", " two  spaces\n\nand lines\t", "naïve café – 日本語 🎬 ﬁ", "The film badu badu badu badu badu badu badu badu", "1998, 3.5/5!?",
}

func TestVLLMGPT2Tokens(t *testing.T) {
	real, ours, _ := both(t)
	for _, p := range phrases {
		for _, special := range []bool{false, true} {
			want, err := real.Tokenize(t.Context(), p, special)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ours.Tokenize(t.Context(), p, special)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v (%v)", p, got, want, err)
			}
		}
		messages := []vllm.Message{{Role: "system", Parts: []vllm.Part{{Text: "Be brief."}}}, vllm.User(vllm.Soft{}, p)}
		want, err := real.TokenizeChat(t.Context(), messages)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ours.TokenizeChat(t.Context(), messages)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("chat of %q: %v, want %v (%v)", p, got, want, err)
		}
	}
}

func TestVLLMGPT2Completions(t *testing.T) {
	real, ours, _ := both(t)
	worst := 0.0
	for _, p := range phrases {
		for _, par := range []vllm.Params{greedy("", 24), {MaxTokens: 24, Logprobs: true}, {MaxTokens: 24, Logprobs: true, Stop: []string{"a"}}, {MaxTokens: 6, MinTokens: 6, Logprobs: true}} {
			req := vllm.CompletionRequest{Text: p, Params: par}
			want, got := complete(t, real, req), complete(t, ours, req)
			if !slices.Equal(got.PromptTokenIDs, want.PromptTokenIDs) || got.PromptTokens != want.PromptTokens || got.CompletionTokens != want.CompletionTokens {
				t.Errorf("%q: prompt %v (%d), %d generated, want %v (%d), %d", p, got.PromptTokenIDs, got.PromptTokens, got.CompletionTokens,
					want.PromptTokenIDs, want.PromptTokens, want.CompletionTokens)
			}
			worst = max(worst, same(t, fmt.Sprintf("%q", p), got, want, 1e-3))
		}
	}
	t.Logf("off by %.1e", worst)
}

func TestVLLMGPT2SoftPrompts(t *testing.T) {
	real, ours, e := both(t)
	worst := 0.0
	for i, p := range phrases {
		soft := e.random(t, uint64(i), 1+i)
		want := complete(t, real, vllm.CompletionRequest{Soft: soft, Params: greedy("", 16)})
		got := complete(t, ours, vllm.CompletionRequest{Soft: soft, Params: greedy("", 16)})
		worst = max(worst, same(t, fmt.Sprintf("%d rows alone", 1+i), got, want, 1e-3))
		for _, messages := range [][]vllm.Message{
			{vllm.User(soft, p)},
			{{Role: "system", Parts: []vllm.Part{{Text: "Be brief."}}}, {Role: "user", Parts: []vllm.Part{{Text: "User:"}, {Soft: soft}, {Text: p}}}},
			{{Role: "user", Parts: []vllm.Part{{Soft: soft}, {Text: p}, {Soft: e.random(t, 99, 2)}}}},
		} {
			req := vllm.ChatRequest{Messages: messages, Params: greedy("", 16)}
			want, got := chat(t, real, req), chat(t, ours, req)
			if !slices.Equal(got.PromptTokenIDs, want.PromptTokenIDs) {
				t.Errorf("%q: prompt %v, want %v", p, got.PromptTokenIDs, want.PromptTokenIDs)
			}
			worst = max(worst, same(t, fmt.Sprintf("chat of %q", p), got, want, 1e-3))
		}
	}
	t.Logf("off by %.1e", worst)
}

func TestVLLMGPT2Scores(t *testing.T) {
	real, ours, _ := both(t)
	worst := 0.0
	for _, p := range phrases {
		ids := tokenize(t, real, p+" and so on.")
		worst = max(worst, near(t, fmt.Sprintf("%q", p), score(t, ours, "", ids), score(t, real, "", ids), 1e-3))
	}
	t.Logf("off by %.1e", worst)
}

// A prompt and an answer that do not fit together are cut to the same length, and the same requests are refused in the same way.
func TestVLLMGPT2Limits(t *testing.T) {
	real, ours, e := both(t)
	long := make([]int32, 505)
	for i := range long {
		long[i] = 20 + int32(i%7)
	}
	for _, n := range []int{500, 505} {
		req := vllm.CompletionRequest{Tokens: long[:n], Params: greedy("", 40)}
		want, got := complete(t, real, req), complete(t, ours, req)
		same(t, fmt.Sprint(n, " tokens"), got, want, 1e-3)
	}
	t.Run("vllm", func(t *testing.T) { badRequests(t, real, "gpt2", e.hidden+1) })
	t.Run("embedded", func(t *testing.T) { badRequests(t, ours, "gpt2", e.hidden+1) })
}
