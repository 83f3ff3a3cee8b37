package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/tokenizer"
)

// Every preset of the paper's models runs the loop from end to end on a tiny random checkpoint of the same architecture: explanations by the
// embedded server, PPO with soft prompts, published adapters, report. The checkpoint was taught one sentence, for a run needs some that can be used;
// the alarms that end a run are off.
func TestPresetsRun(t *testing.T) {
	s := newScene(t, t.TempDir())
	tok := s.planted(t)
	llama := lm.Config{ModelType: lm.TypeLlama, NumKVHeads: 2, IntermediateSize: 48, RoPE: lm.RoPE{Theta: 500000}}
	with := func(change func(c *lm.Config)) lm.Config {
		c := llama
		change(&c)
		return c
	}
	for preset, cfg := range map[string]lm.Config{
		"llama-3-8b": llama,
		"llama-3.1-8b": with(func(c *lm.Config) {
			c.RoPE = lm.RoPE{Type: "llama3", Theta: 500000, Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 64}
		}),
		"vicuna-7b":    with(func(c *lm.Config) { c.NumKVHeads, c.RoPE = 4, lm.RoPE{} }),
		"qwen2-7b":     with(func(c *lm.Config) { c.ModelType, c.QKVBias, c.TiedEmbeddings = lm.TypeQwen2, true, true }),
		"mixtral-8x7b": with(func(c *lm.Config) { c.ModelType, c.Experts, c.ExpertsPerTok = lm.TypeMixtral, 4, 2 }),
		"gpt2":         {ModelType: lm.TypeGPT2},
	} {
		t.Run(preset, func(t *testing.T) {
			cfg.VocabSize, cfg.MaxPositions, cfg.HiddenSize, cfg.NumLayers, cfg.NumHeads, cfg.InitializerRange = tok.VocabSize(), 1024, 32, 2, 4, 0.1
			m, err := lm.NewModel(cfg, 1)
			if err != nil {
				t.Fatal(err)
			}
			b, err := lm.NewBundle(preset, m, tok)
			if err == nil {
				err = recite(t, b)
			}
			if err == nil {
				err = b.SaveDir(s.path("models", preset))
			}
			m.Close()
			if err != nil {
				t.Fatal(err)
			}
			file := fmt.Sprintf(`
preset: %s
data: {path: planted}
lm: {dir: models/%s}
prompts: {history: 2, token_budget: 800}
inference: {concurrency: 32, max_tokens: 48}
policy: {rounds: 1, steps: 2, pairs: 2, group: 2, minibatch: 8, validation: 8, learning_rate: 1e-6, max_rejected: 0, max_kl: 0, min_entropy: 0, min_unique: 0}
recommender: {epochs: 2, seeds: 1, dim: 16}
`, preset, preset)
			if err := os.WriteFile(s.path(preset+".yaml"), []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			must(t, s.dir, s.env, "train", "-c", preset+".yaml", "--run", "run-"+preset)
			for _, name := range []string{"report.html", "report.json"} {
				if info, err := os.Stat(s.path("run-"+preset, name)); err != nil || info.Size() == 0 {
					t.Errorf("%s: %v", name, err)
				}
			}
			versions, err := filepath.Glob(s.path("run-"+preset, "adapters", "*", "adapter_model.safetensors"))
			if err != nil || len(versions) == 0 {
				t.Errorf("no adapter was published: %v", err)
			}
		})
	}
}

// recite teaches a model to answer everything with a sentence of the wanted form.
func recite(t *testing.T, b *lm.Bundle) error {
	id := func(name string) int32 { n, _ := b.Tok.ID(name); return n }
	rng := rand.New(rand.NewPCG(3, 3))
	target := append(b.Tok.Encode("The user watched this movie because the user loves drama and the movie is praised.", false), id(lm.TokenEnd))
	var examples []lm.Example
	for range 64 {
		e := lm.Example{Prompt: []int32{id(lm.TokenBOS), id(lm.TokenUser)}, Target: target}
		for range 5 + rng.IntN(40) {
			e.Prompt = append(e.Prompt, 7+rng.Int32N(int32(b.Tok.VocabSize())-7))
		}
		e.Prompt = append(e.Prompt, id(lm.TokenEnd), id(lm.TokenAssistant))
		examples = append(examples, e)
	}
	return lm.Warmup(t.Context(), b, examples, lm.WarmupOptions{Steps: 80, Batch: 8, LR: 1e-2})
}

// planted writes a small planted domain into the scene and returns a tokenizer of its items.
func (s *scene) planted(t *testing.T) *tokenizer.Tokenizer {
	t.Helper()
	must(t, s.dir, s.env, "data", "planted", "--out", "planted", "--seed", "3", "--users", "8", "--items", "16", "--per-user", "8")
	text, err := os.ReadFile(s.path("planted", "items.csv"))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.TrainBPE(strings.Lines(strings.Repeat(string(text), 3)), tokenizer.TrainOptions{VocabSize: 400, Special: lm.SpecialTokens(), MinFrequency: 1})
	if err != nil {
		t.Fatal(err)
	}
	return tok
}
