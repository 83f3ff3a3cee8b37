package lm

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"recpie/internal/torch"
)

// device returns the device that RECPIE_DEVICE names; without one the tests of this file compute on the CPU what they would elsewhere, by the
// operations that other devices use.
func device(t testing.TB) Device {
	d := Device(os.Getenv("RECPIE_DEVICE"))
	if err := d.device().Available(); err != nil {
		t.Skip(err)
	}
	return d
}

// A model on another device gives the CPU's answers, scores and gradients: in float32 to rounding, in bfloat16 to its three digits.
func TestOtherDevices(t *testing.T) {
	dev := device(t)
	every(t, 31, func(t *testing.T, b *Bundle) {
		dir := filepath.Join(t.TempDir(), "model")
		if err := b.SaveDir(dir); err != nil {
			t.Fatal(err)
		}
		there, err := Load(dir, LoadOptions{Device: dev})
		if err != nil {
			t.Fatal(err)
		}
		defer there.Model.Close()
		scores, gradients := devicesDiffer(t, b, there, true)
		t.Logf("%s: log probabilities within %.1e, gradients within %.1e of their norm", dev, scores, gradients)
		if !(scores <= 1e-4) || !(gradients <= 1e-3) {
			t.Error("that is too much for float32")
		}
		if dev.device() == torch.CPU {
			return
		}
		// bfloat16 has eight bits: a model whose weights are as small as trained ones' keeps two digits.
		cfg := b.Model.Cfg
		cfg.InitializerRange = 0.05
		m, err := NewModel(cfg, 5)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		half, err := newModel(cfg, 5, LoadOptions{Device: dev, BFloat16: true})
		if err != nil {
			t.Fatal(err)
		}
		defer half.Close()
		wrap := func(m *Model) *Bundle { return &Bundle{Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: cfg.positions()} }
		scores, gradients = devicesDiffer(t, wrap(m), wrap(half), false)
		t.Logf("%s, bfloat16: log probabilities within %.1e, gradients within %.1e of their norm", dev, scores, gradients)
		if !(scores <= 0.05) || !(gradients <= 0.35) { // sums of random signs: what is left of them is small
			t.Error("that is too much for bfloat16")
		}
	})
}

// devicesDiffer returns how far prompt scores are apart, and gradients relative to their norm; with tokens, greedy texts must be the same.
func devicesDiffer(t *testing.T, b, there *Bundle, tokens bool) (scores, gradients float64) {
	t.Helper()
	rs := requests(b, 9, func(i int, r *GenRequest) { r.Temperature, r.N, r.PromptLogprobs = 0, 1, 0 })
	here, other := engine(t, b, EngineOptions{}), engine(t, there, EngineOptions{})
	want, got := together(t, here, rs), together(t, other, rs)
	here.Close()
	other.Close()
	for i := range want {
		if tokens {
			sameTokens(t, got[i], want[i])
		}
		for p, w := range want[i].PromptLogprobs {
			if w.Rank > 0 {
				scores = max(scores, math.Abs(float64(w.Logprob-got[i].PromptLogprobs[p].Logprob)))
			}
		}
	}
	return scores, gradientsDiffer(t, b, there)
}

func sameTokens(t *testing.T, got, want *GenResult) {
	t.Helper()
	for n := range want.Choices {
		for k, id := range want.Choices[n].Tokens {
			if got.Choices[n].Tokens[k] != id {
				t.Fatalf("token %d is %d, on the CPU %d", k, got.Choices[n].Tokens[k], id)
			}
		}
	}
}

// gradientsDiffer returns how far the gradients of adapter and soft rows on two devices are apart, relative to their norm.
func gradientsDiffer(t *testing.T, here, there *Bundle) float64 {
	t.Helper()
	var lora, soft [2][][]float32
	for i, b := range []*Bundle{here, there} {
		tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
		soft[i] = pass1(t, tr, someData(b, 4, 3), "ppo", nil, false).EmbedGrads
		lora[i] = tr.grads
		if _, err := tr.OptimStep(AdamParams{LearningRate: 1e-3, Beta1: .9, Beta2: .95, Eps: 1e-8}); err != nil {
			t.Fatal(err)
		}
	}
	worst := 0.0
	for _, pair := range [][2][][]float32{lora, soft} {
		size, diff := 0.0, 0.0
		for i := range pair[0] {
			for j, v := range pair[0][i] {
				d := float64(v) - float64(pair[1][i][j])
				size, diff = size+float64(v)*float64(v), diff+d*d
			}
		}
		worst = max(worst, math.Sqrt(diff/math.Max(size, 1e-12)))
	}
	return worst
}

// BenchmarkDevice is a Llama of a billion weights on the device of RECPIE_DEVICE: 64 texts of 160 + 32 tokens, and a PPO update on them.
func BenchmarkDevice(b *testing.B) {
	dev := device(b)
	if dev.device() == torch.CPU {
		b.Skip("set RECPIE_DEVICE")
	}
	cfg := Config{ModelType: TypeLlama, VocabSize: 32000, MaxPositions: 2048, HiddenSize: 2048, IntermediateSize: 8192, NumLayers: 16, NumHeads: 32, NumKVHeads: 8}
	for _, half := range []bool{false, true} {
		m, err := newModel(cfg, 1, LoadOptions{Device: dev, BFloat16: half})
		if err != nil {
			b.Fatal(err)
		}
		bundle := &Bundle{Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: 2048}
		rng := rand.New(rand.NewPCG(1, 1))
		name := map[bool]string{false: "float32", true: "bfloat16"}[half]
		b.Run("generate/"+name, func(b *testing.B) {
			e := engine(b, bundle, EngineOptions{KVBytes: 4 << 30})
			for b.Loop() {
				results := make(chan error)
				for range 64 {
					r := &GenRequest{Prompt: randomIDs(rng, 160, cfg.VocabSize), MaxTokens: 32, Temperature: 1, IgnoreEOS: true, Logprobs: 0, PromptLogprobs: -1}
					go func() {
						_, err := e.Generate(b.Context(), r)
						results <- err
					}()
				}
				for range 64 {
					if err := <-results; err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(64*32*b.N)/b.Elapsed().Seconds(), "new-tok/s")
		})
		b.Run("update/"+name, func(b *testing.B) {
			tr, err := NewTrainer(bundle, LoRAConfig{Rank: 16, Attn: true}, TrainerOptions{Checkpointing: true})
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Close()
			var data []Datum
			for range 32 {
				d := Datum{Tokens: randomIDs(rng, 192, cfg.VocabSize)}
				for i := range d.Tokens {
					d.Targets = append(d.Targets, int64(rng.IntN(cfg.VocabSize)))
					d.Logprobs = append(d.Logprobs, -10)
					d.Advantages = append(d.Advantages, float32(i/160))
				}
				data = append(data, d)
			}
			start := time.Now()
			for b.Loop() {
				pass1(b, tr, data, "ppo", map[string]float64{cfgOnlyWeighted: 1}, false)
				if _, err := tr.OptimStep(AdamParams{LearningRate: 1e-5, Beta1: .9, Beta2: .95, Eps: 1e-12}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(32*192*b.N)/time.Since(start).Seconds(), "tok/s")
		})
		m.Close()
	}
}
