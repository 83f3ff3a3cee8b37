package lm

import (
	"context"
	"math/rand/v2"
	"testing"
)

// A fresh model with the circuit continues a repetition: after "… a b … a" it finds b likelier than all but one or two of 512 tokens, most
// of the time. (Before training the likeliest is a itself: embedding and unembedding are one matrix.)
func TestFreshModelCopies(t *testing.T) {
	for name, cfg := range map[string]Config{
		"gpt2":  {ModelType: TypeGPT2},
		"qwen2": {ModelType: TypeQwen2, QKVBias: true, TiedEmbeddings: true, RoPE: RoPE{Theta: 1e6}},
	} {
		t.Run(name, func(t *testing.T) { freshModelCopies(t, cfg) })
	}
}

func freshModelCopies(t *testing.T, cfg Config) {
	cfg.VocabSize, cfg.MaxPositions, cfg.HiddenSize, cfg.NumLayers, cfg.NumHeads, cfg.InitializerRange = 512, 256, 192, 3, 6, 0.02
	m, err := NewModel(cfg, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	copied := func() int {
		e := NewEngine(&Bundle{Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: 256}, EngineOptions{})
		defer e.Close()
		rng := rand.New(rand.NewPCG(1, 2))
		right := 0
		for range 40 {
			perm := rng.Perm(512)[:60]
			var prompt []int32
			for _, id := range perm {
				prompt = append(prompt, int32(id))
			}
			at := 5 + rng.IntN(50)
			prompt = append(prompt, prompt[at])
			res, err := e.Generate(context.Background(), &GenRequest{Prompt: prompt, MaxTokens: 1, Logprobs: 3, PromptLogprobs: -1})
			if err != nil {
				t.Fatal(err)
			}
			for _, top := range res.Choices[0].Top[0] {
				if top.ID == prompt[at+1] {
					right++
					break
				}
			}
		}
		return right
	}
	if n := copied(); n > 5 {
		t.Fatalf("a random model copies %d of 40: the test proves nothing", n)
	}
	if !m.InitInduction(1) {
		t.Fatal("the model is large enough and was left as it is")
	}
	if n := copied(); n < 20 {
		t.Errorf("%d of 40 repetitions continued, want 20 or more", n)
	}
}

func TestInductionNeedsRoom(t *testing.T) {
	m, err := NewModel(Config{ModelType: TypeGPT2, VocabSize: 32, MaxPositions: 16, HiddenSize: 32, NumLayers: 2, NumHeads: 2,
		NormEps: 1e-5, InitializerRange: 0.02}, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	before := append([]float32(nil), m.weight("wte.weight")...)
	if m.InitInduction(1) {
		t.Error("two heads have no room for the circuit")
	}
	for i, x := range m.weight("wte.weight") {
		if x != before[i] {
			t.Fatal("a refused model was changed")
		}
	}
}
