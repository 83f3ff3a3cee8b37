package orchestrator

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/tokenizer"
	"recpie/prompts"
)

// WarmupSettings describe the embedded language model and its supervised warm-up.
type WarmupSettings struct {
	Family                string `json:",omitempty"` // lm.TypeGPT2, the default, lm.TypeQwen2 or lm.TypeLlama
	Layers, Hidden, Heads int
	Vocabulary            int // of the byte-level BPE trained on the corpus
	Context               int // positions
	Steps, Batch          int
	Rate                  float64 // peak learning rate
	Samples               int     // training records whose sentences are shown
	TokenBudget           int     // of a prompt's text
	Seed                  int64
	CacheDir              string // models are kept here, by the digest of everything they depend on
}

// softShare of the warm-up's prompts begin with a random soft row, so that the model has learned to read past one that means
// nothing yet; the others have none, as the reference model's prompts.
const softShare = 0.5

// warmupDraws is how many targets are drawn for each prompt of the corpus.
const warmupDraws = 2

// Warmup returns the folder of a small model, in the Hugging Face layout, that writes explanations in the paper's format: trained
// from nothing on sentences built from training records (the best three and worst three reasons per pair, drawn with variety),
// reproducible by seed. The folder's name holds the digest of data view, prompts and settings; one that is there is used again.
//
// The workspace's prompts are held to the token budget by the model's own tokenizer from here on.
func (w *Workspace) Warmup(ctx context.Context, s WarmupSettings, progress func(step, total int, loss float64)) (string, error) {
	dir, err := w.WarmupDir(s)
	if err != nil {
		return "", err
	}
	cache := s.CacheDir
	s.CacheDir = ""
	if _, err := os.Stat(dir); err == nil {
		return dir, w.LimitBy(dir, s.TokenBudget)
	}
	rows := w.warmupRows(s)
	tok, err := w.trainTokenizer(rows, s)
	if err != nil {
		return "", err
	}
	if err := w.Limit(s.TokenBudget, counter{tok}); err != nil {
		return "", err
	}
	model, err := lm.NewModel(s.architecture(tok.VocabSize()), s.Seed)
	if err != nil {
		return "", err
	}
	defer model.Close()
	model.InitInduction(s.Seed) // the reasons stand in the prompt: begin with a model that can copy
	bundle, err := lm.NewBundle("recpie-embedded", model, tok)
	if err != nil {
		return "", err
	}
	examples, err := w.warmupCorpus(bundle, rows, s)
	if err != nil {
		return "", err
	}
	err = lm.Warmup(ctx, bundle, examples, lm.WarmupOptions{Steps: s.Steps, Batch: s.Batch, LR: s.Rate, Seed: s.Seed, Progress: progress})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fault.New(fault.Fatal, "warm-up", err)
	}
	return dir, bundle.SaveDir(dir)
}

// architecture is the model to be warmed up. Qwen2's has what the circuit of copying needs: biases of queries and keys, and planes that turn slowly.
func (s WarmupSettings) architecture(vocabulary int) lm.Config {
	c := lm.Config{ModelType: lm.TypeGPT2, VocabSize: vocabulary, MaxPositions: s.Context, HiddenSize: s.Hidden, NumLayers: s.Layers, NumHeads: s.Heads, NormEps: 1e-5, InitializerRange: 0.02}
	switch s.Family {
	case lm.TypeLlama:
		c.ModelType = lm.TypeLlama
	case lm.TypeQwen2:
		c.ModelType, c.QKVBias, c.TiedEmbeddings, c.RoPE.Theta, c.NormEps = lm.TypeQwen2, true, true, 1e6, 1e-6
	}
	return c
}

// WarmupDir is the folder that Warmup makes or finds. It must be asked before the prompts are held to a budget.
func (w *Workspace) WarmupDir(s WarmupSettings) (string, error) {
	cache := s.CacheDir
	s.CacheDir = ""
	b, err := json.Marshal(s)
	if err != nil {
		return "", fault.New(fault.Fatal, "warm-up", err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "recpie warm-up 2\n%s\n%s\n%s\n", w.Train.View.Digest(), w.Train.Renderer.Digest(), b))
	return filepath.Join(cache, "lm-"+hex.EncodeToString(sum[:8])), nil
}

// counter counts tokens of the embedded model.
type counter struct{ tok *tokenizer.Tokenizer }

func (c counter) Count(text string) int { return len(c.tok.Encode(text, false)) }

// Limit holds the prompts of both sides to a budget of tokens.
func (w *Workspace) Limit(budget int, c prompts.Counter) error {
	w.prompts.TokenBudget, w.prompts.Counter = budget, c
	return w.render()
}

// warmupRows draws users by seed and takes their training records, sampled users or not, until there are enough.
func (w *Workspace) warmupRows(s WarmupSettings) []int32 {
	byUser := map[int32][]int32{}
	var users []int32
	for _, r := range w.Split.Whole().Train {
		u := w.Data.Records[r].User
		if byUser[u] == nil {
			users = append(users, u)
		}
		byUser[u] = append(byUser[u], r)
	}
	rand.New(rand.NewPCG(uint64(s.Seed), 0x3a)).Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	var rows []int32
	for _, u := range users {
		if len(rows) >= s.Samples {
			break
		}
		rows = append(rows, byUser[u][max(0, len(byUser[u])-64):]...) // no single user fills the corpus
	}
	slices.Sort(rows)
	return rows
}

func (w *Workspace) trainTokenizer(rows []int32, s WarmupSettings) (*tokenizer.Tokenizer, error) {
	examples, err := w.Train.Renderer.WarmupExamples(rows, uint64(s.Seed))
	if err != nil {
		return nil, err
	}
	texts := func(yield func(string) bool) {
		for _, e := range examples {
			if !yield(e.Prompt) || !yield(e.Target) {
				return
			}
		}
	}
	return tokenizer.TrainBPE(iter.Seq[string](texts), tokenizer.TrainOptions{VocabSize: s.Vocabulary, Special: lm.SpecialTokens(), MinFrequency: 2})
}

// warmupCorpus lists a pair's examples together: both polarities, each with several drawn targets, so that the pair's prompt is
// computed once for all of them.
func (w *Workspace) warmupCorpus(b *lm.Bundle, rows []int32, s WarmupSettings) ([]lm.Example, error) {
	var texts []prompts.Example
	for draw := range uint64(warmupDraws) {
		more, err := w.Train.Renderer.WarmupExamples(rows, uint64(s.Seed)<<8+draw)
		if err != nil {
			return nil, err
		}
		texts = append(texts, more...)
	}
	slices.SortStableFunc(texts, func(a, b prompts.Example) int {
		return cmp.Or(cmp.Compare(a.Rec, b.Rec), cmp.Compare(a.Polarity, b.Polarity))
	})
	id := func(token string) int32 { n, _ := b.Tok.ID(token); return n }
	norm := b.Model.EmbeddingNorm()
	marker := int32(b.Model.Cfg.VocabSize)
	var out []lm.Example
	for _, t := range texts {
		var e lm.Example
		e.Prompt = append(e.Prompt, id(lm.TokenBOS), id(lm.TokenUser))
		// one row per user: what a user's prompts share is computed once
		rng := rand.New(rand.NewPCG(uint64(s.Seed), uint64(w.Data.Records[t.Rec].User)))
		if rng.Float64() < softShare {
			e.Soft = &lm.SoftRows{Pos: len(e.Prompt), Rows: 1, Data: direction(rng, s.Hidden, norm)}
			e.Prompt = append(e.Prompt, marker)
		}
		e.Prompt = append(e.Prompt, b.Tok.Encode(t.Prompt, false)...)
		e.Prompt = append(e.Prompt, id(lm.TokenEnd), id(lm.TokenAssistant))
		e.Target = append(b.Tok.Encode(t.Target, false), id(lm.TokenEnd))
		if len(e.Prompt)+len(e.Target) <= s.Context {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "warm-up", "no training record has a prompt of at most %d tokens", s.Context), "raise lm.context or lower prompts.token_budget")
	}
	return out, nil
}

// direction draws a vector of the given length, every direction being as likely.
func direction(rng *rand.Rand, n int, length float64) []float32 {
	v := make([]float64, n)
	var ss float64
	for i := range v {
		v[i] = rng.NormFloat64()
		ss += v[i] * v[i]
	}
	out := make([]float32, n)
	for i := range v {
		out[i] = float32(v[i] * length / math.Sqrt(ss))
	}
	return out
}

// LimitBy holds the prompts to a budget counted by the tokenizer of a model folder.
func (w *Workspace) LimitBy(dir string, budget int) error {
	tok, err := tokenizer.Load(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return err
	}
	return w.Limit(budget, counter{tok})
}
