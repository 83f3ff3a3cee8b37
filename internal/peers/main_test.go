//go:build peers

// Package peers tests the clients and the embedded server against programs that others wrote: a real vLLM server, and the official
// Python SDK of the training API. The scripts of scripts/peers install those, start what has to run, and then call these tests;
// without them every test here skips.
package peers

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	os.Exit(m.Run())
}

// need returns an environment variable that the calling script sets.
func need(t testing.TB, name string) string {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		t.Skipf("%s is not set: run scripts/peers/vllm.sh or scripts/peers/sdk.sh", name)
	}
	return v
}

var vocabulary = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	return tokenizer.TrainBPE(sentences, tokenizer.TrainOptions{VocabSize: 512, Special: lm.SpecialTokens(), MinFrequency: 1})
})

// sentences yields made-up text, enough for a small vocabulary.
func sentences(yield func(string) bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 600 {
		text := "The film"
		for range 6 {
			text += " " + syllables(rng, 1+rng.IntN(3))
		}
		if !yield(text + ".") {
			return
		}
	}
}

func syllables(rng *rand.Rand, n int) string {
	word := ""
	for range n {
		word += string("bdfglmnprstv"[rng.IntN(12)]) + string("aeiou"[rng.IntN(5)])
	}
	return word
}

// tinyGPT2 is a real but small GPT-2 with random weights, larger than initial ones so that every part of it shows in the output.
func tinyGPT2(t testing.TB, name string) *lm.Bundle {
	t.Helper()
	tok, err := vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	m, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 512, HiddenSize: 64, NumLayers: 2, NumHeads: 2, InitializerRange: 0.2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	b, err := lm.NewBundle(name, m, tok)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// serve runs the embedded server until the test ends.
func serve(t testing.TB, opt lmserver.Options) *lmserver.Server {
	t.Helper()
	s, err := lmserver.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("the embedded server: %v", err)
		}
	})
	return s
}

// near compares two rows of numbers and returns the largest difference.
func near(t testing.TB, what string, got, want []float64, tol float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	worst := 0.0
	for i := range got {
		if d := math.Abs(got[i] - want[i]); !(d <= tol) {
			t.Errorf("%s[%d] = %.7g, want %.7g ± %g", what, i, got[i], want[i], tol)
		} else {
			worst = max(worst, d)
		}
	}
	return worst
}
