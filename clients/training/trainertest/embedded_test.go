package trainertest

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	goleak.VerifyTestMain(m)
}

// TestEmbedded runs the suite over the embedded server with a GPT-2 of two layers.
func TestEmbedded(t *testing.T) {
	words := func(yield func(string) bool) {
		for a := 'a'; a <= 'z'; a++ {
			for b := 'a'; b <= 'z'; b++ {
				if !yield(string([]rune{a, b, a, ' ', b, b, a})) {
					return
				}
			}
		}
	}
	tok, err := tokenizer.TrainBPE(words, tokenizer.TrainOptions{VocabSize: 300, Special: lm.SpecialTokens(), MinFrequency: 1})
	if err != nil {
		t.Fatal(err)
	}
	model, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 64, HiddenSize: 32, NumLayers: 2, NumHeads: 2, InitializerRange: .2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	b, err := lm.NewBundle("tiny", model, tok)
	if err != nil {
		t.Fatal(err)
	}
	adapters := filepath.Join(t.TempDir(), "adapters")
	if err := os.Mkdir(adapters, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := lmserver.New(lmserver.Options{Model: b, StateDir: t.TempDir(), AdapterRoot: adapters})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	Server{URL: s.URL(), Base: "tiny"}.Exercise(t)
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
