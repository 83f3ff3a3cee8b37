package lm

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
)

// quickstart is the model of the quickstart: 4 layers × 192 over 4096 ids.
func quickstart(b *testing.B) *Bundle {
	b.Helper()
	m, err := NewModel(Config{VocabSize: 4096, MaxPositions: 512, HiddenSize: 192, NumLayers: 4, NumHeads: 6}, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	return &Bundle{Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: 512}
}

// sized is GPT-2's layer shape of the published prototypes: 6 × 256 over 8192 ids.
func sized(b *testing.B) *Bundle {
	b.Helper()
	m, err := NewModel(Config{VocabSize: 8192, MaxPositions: 512, HiddenSize: 256, NumLayers: 6, NumHeads: 8}, 1)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(m.Close)
	return &Bundle{Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: 512}
}

// pairPrompts makes n prompts of 160 tokens; groups of 8 share their first 130.
func pairPrompts(n, vocab int) [][]int32 {
	rng := rand.New(rand.NewPCG(1, 2))
	var out [][]int32
	var head []int32
	for i := range n {
		if i%8 == 0 {
			head = randomIDs(rng, 130, vocab)
		}
		out = append(out, append(append([]int32(nil), head...), randomIDs(rng, 30, vocab)...))
	}
	return out
}

func BenchmarkGenerate(b *testing.B) {
	for _, m := range []struct {
		name string
		make func(*testing.B) *Bundle
	}{{"4x192", quickstart}, {"6x256", sized}} {
		for _, c := range []struct {
			name   string
			share  bool
			tokens int
		}{{"prefill", false, 1}, {"prefill-shared", true, 1}, {"160+32", false, 32}, {"160+32-shared", true, 32}} {
			b.Run(m.name+"/"+c.name, func(b *testing.B) {
				bundle := m.make(b)
				e := engine(b, bundle, EngineOptions{NoSharing: !c.share})
				prompts := pairPrompts(64, bundle.Model.Cfg.VocabSize)
				for b.Loop() {
					var wg sync.WaitGroup
					for _, p := range prompts {
						wg.Go(func() {
							r := &GenRequest{Prompt: p, MaxTokens: c.tokens, Temperature: 1, IgnoreEOS: true, Logprobs: 0, PromptLogprobs: -1}
							if _, err := e.Generate(context.Background(), r); err != nil {
								b.Error(err)
							}
						})
					}
					wg.Wait()
				}
				s, sec := e.Stats(), b.Elapsed().Seconds()
				b.ReportMetric(float64(s.PromptTokensSent)/sec, "prompt-tok/s")
				b.ReportMetric(float64(s.GeneratedTokens)/sec, "new-tok/s")
				b.ReportMetric(float64(s.PromptTokensComputed)/float64(s.PromptTokensSent), "computed/sent")
			})
		}
	}
}

// BenchmarkPPO is one update: 64 samples, 4 for each of 16 prompts (160+32 tokens), soft rows in front.
func BenchmarkPPO(b *testing.B) {
	bundle := quickstart(b)
	rng := rand.New(rand.NewPCG(3, 3))
	var data []Datum
	for _, p := range pairPrompts(16, 4096) {
		rows := randomRows(rng, 192)
		for range 4 {
			d := Datum{Tokens: append(append([]int32(nil), p...), randomIDs(rng, 32, 4096)...), EmbedPos: []int64{1}, Embeds: rows}
			for i := range d.Tokens {
				adv := float32(0)
				if i >= 159 {
					adv = 1
				}
				d.Targets = append(d.Targets, int64(rng.IntN(4096)))
				d.Advantages = append(d.Advantages, adv)
				d.Logprobs = append(d.Logprobs, -8.3)
			}
			data = append(data, d)
		}
	}
	for _, c := range []map[string]float64{nil, {cfgOnlyWeighted: 1}, {cfgOnlyWeighted: 1, cfgSharedGrads: 1}} {
		b.Run(fmt.Sprint(len(c), "-savings"), func(b *testing.B) {
			tr, err := NewTrainer(bundle, LoRAConfig{Rank: 16, Attn: true}, TrainerOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer tr.Close()
			for b.Loop() {
				pass1(b, tr, data, "ppo", c, false)
				if _, err := tr.OptimStep(AdamParams{LearningRate: 1e-5, Beta1: .9, Beta2: .95, Eps: 1e-12}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(data)*192*b.N)/b.Elapsed().Seconds(), "tok/s")
		})
	}
}

// BenchmarkWarmup is one step of 48 examples (170+25 tokens), six to a pair.
func BenchmarkWarmup(b *testing.B) {
	bundle := quickstart(b)
	rng := rand.New(rand.NewPCG(4, 4))
	var ex []Example
	for range 40 {
		head := randomIDs(rng, 150, 4096)
		for range 2 {
			p := append(append([]int32(nil), head...), randomIDs(rng, 20, 4096)...)
			for range 3 {
				ex = append(ex, Example{Prompt: p, Target: randomIDs(rng, 25, 4096)})
			}
		}
	}
	steps := 0
	for b.Loop() {
		if err := Warmup(context.Background(), bundle, ex, WarmupOptions{Steps: 3, Batch: 48}); err != nil {
			b.Fatal(err)
		}
		steps += 3
	}
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(steps), "ms/step")
	b.ReportMetric(float64(steps*48)/b.Elapsed().Seconds(), "examples/s")
}
