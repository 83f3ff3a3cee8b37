package servertest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"recpie/clients/tgi"
	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/safetensors"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
	"recpie/orchestrator"
	"recpie/orchestrator/servertest"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func settings(url string) transport.Settings {
	return transport.Settings{BaseURL: url, Attempts: 1}
}

// The imitation of TGI, with its chat template and without.
func TestTGI(t *testing.T) {
	for _, chat := range []bool{false, true} {
		t.Run(fmt.Sprint("chat ", chat), func(t *testing.T) {
			servertest.Run(t, func(t *testing.T) servertest.Server {
				s := tgitest.New(t, tgitest.Options{Adapters: []string{"lora"}, Chat: true, MaxInput: 400, MaxTotal: 512, TokenTime: time.Millisecond})
				c, err := tgi.New(tgi.Config{Settings: settings(s.URL), Model: "base", Adapters: []string{"lora"}, Chat: chat})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				g := orchestrator.TGI{Client: c, Tokenizer: s.Tokenizer}
				return servertest.Server{Model: g, Scorer: g, Base: "base", MaxLen: 512, Adapter: "lora", Vocabulary: int32(s.Tokenizer.VocabSize()), SoftAsText: true}
			})
		})
	}
}

// The embedded server, through the client of vLLM.
func TestEmbedded(t *testing.T) {
	const hidden = 32
	servertest.Run(t, func(t *testing.T) servertest.Server {
		rng := rand.New(rand.NewPCG(1, 2))
		tok, err := tokenizer.TrainBPE(func(yield func(string) bool) {
			for range 500 {
				word := make([]byte, 3+rng.IntN(8))
				for i := range word {
					word[i] = byte('a' + rng.IntN(26))
				}
				if !yield("This film " + string(word)) {
					return
				}
			}
		}, tokenizer.TrainOptions{VocabSize: 512, Special: lm.SpecialTokens(), MinFrequency: 1})
		if err != nil {
			t.Fatal(err)
		}
		m, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 512, HiddenSize: hidden, NumLayers: 2, NumHeads: 2, InitializerRange: 0.2}, 7)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Close)
		b, err := lm.NewBundle("base", m, tok)
		if err != nil {
			t.Fatal(err)
		}
		root := t.TempDir()
		s, err := lmserver.New(lmserver.Options{Model: b, AdapterRoot: root})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx) }()
		c, err := vllm.New(vllm.Config{Settings: settings(s.URL()), Model: "base"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			c.Close()
			cancel()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
		dir := filepath.Join(root, "lora")
		adapter(t, b, dir)
		if err := c.LoadAdapter(t.Context(), "lora", dir); err != nil {
			t.Fatal(err)
		}
		g := orchestrator.VLLM{Client: c}
		return servertest.Server{Model: g, Scorer: g, Base: "base", MaxLen: 512, Adapter: "lora", Hidden: hidden, Vocabulary: int32(tok.VocabSize())}
	})
}

// adapter writes one that changes what the model says: a fresh one changes nothing, its second factors being 0.
func adapter(t *testing.T, b *lm.Bundle, dir string) {
	t.Helper()
	tr, err := lm.NewTrainer(b, lm.LoRAConfig{Rank: 4, Alpha: 32, Seed: 1, Attn: true}, lm.TrainerOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if err := tr.Save(dir, false); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "adapter_model.safetensors")
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(3, 4))
	var tensors []safetensors.Tensor
	for _, name := range f.Names() {
		data, shape, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] = float32(.2 * rng.NormFloat64())
		}
		tensors = append(tensors, safetensors.F32(name, shape, data))
	}
	if err := safetensors.WriteFile(path, f.Metadata(), tensors); err != nil {
		t.Fatal(err)
	}
}
