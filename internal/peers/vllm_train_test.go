//go:build peers

package peers

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"recpie/adapters"
	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/wire/tinker"
	"recpie/orchestrator"
)

// trainees are what is trained here and served there: the two families that differ most in what vLLM does with them.
var trainees = map[string]lm.Config{
	"trainee-llama": {ModelType: lm.TypeLlama, HiddenSize: 128, IntermediateSize: 256, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, MaxPositions: 512,
		RoPE: lm.RoPE{Type: "llama3", Theta: 500000, Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 128}},
	"trainee-qwen2": {ModelType: lm.TypeQwen2, HiddenSize: 128, IntermediateSize: 256, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, MaxPositions: 512, QKVBias: true},
}

// writeTrainees makes their folders, with the tokenizer and chat template of ours.
func writeTrainees(t *testing.T, out string) {
	t.Helper()
	tok, err := vocabulary()
	if err != nil {
		t.Fatal(err)
	}
	for name, cfg := range trainees {
		cfg.VocabSize, cfg.InitializerRange = tok.VocabSize(), 0.2
		m, err := lm.NewModel(cfg, 11)
		if err != nil {
			t.Fatal(err)
		}
		b, err := lm.NewBundle(name, m, tok)
		if err == nil {
			err = b.SaveDir(filepath.Join(out, name))
		}
		m.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestVLLMTrainLlama(t *testing.T) { trainHereServeThere(t, "trainee-llama") }
func TestVLLMTrainQwen2(t *testing.T) { trainHereServeThere(t, "trainee-qwen2") }

// trainHereServeThere makes twenty PPO steps on texts that a real vLLM samples, publishing each version there: vLLM's log probabilities of what it
// sampled are those that our server computes for the same tokens under the same version, with and without soft rows, and no answer comes from
// another version.
func trainHereServeThere(t *testing.T, name string) {
	url, models := need(t, "RECPIE_VLLM_URL"), need(t, "RECPIE_VLLM_MODELS")
	c := dial(t, url, name)
	e := readEmbeddings(t, filepath.Join(models, name), "model.embed_tokens.weight")
	b, err := lm.LoadDir(filepath.Join(models, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Model.Close)
	s := serve(t, lmserver.Options{Model: b, StateDir: t.TempDir()})
	ctx := t.Context()
	session, err := training.Dial(ctx, training.Config{Settings: transport.Settings{BaseURL: s.URL()}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(context.WithoutCancel(ctx))
	seed := int64(5)
	m, err := session.CreateModel(ctx, name, tinker.LoRAConfig{Rank: 8, Seed: &seed, TrainAttn: true, TrainMLP: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	store, err := adapters.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := adapters.NewPublisher(adapters.PublishSettings{ServerDir: dir}, []adapters.Replica{orchestrator.Replica{ID: "one", Client: c, Prompt: tokenize(t, c, text)}})
	if err != nil {
		t.Fatal(err)
	}
	const publishes = 20
	var gaps, stale []float64
	most := 0.0
	var previous []sampled
	for v := range publishes {
		publish(t, session, m, store, pub, v, t.TempDir())
		texts := sample(t, c, pub.Current().Name, e, int64(v))
		gap, worst := distances(t, m, texts)
		gaps, most = append(gaps, gap), max(most, worst)
		if v > 0 { // the same texts under this version, as its predecessor gave them: another version is told apart
			old, _ := distances(t, m, previous)
			stale = append(stale, old)
		}
		previous = texts
		train(t, m, texts)
	}
	if err := c.UnloadAdapter(context.Background(), pub.Current().Name); err != nil {
		t.Error(err)
	}
	t.Logf("%d publishes: mean gap of a version %.1e to %.1e nats, of one token at most %.1e; to the version before at least %.1e",
		publishes, slices.Min(gaps), slices.Max(gaps), most, slices.Min(stale))
	if m := slices.Max(gaps); !(m <= 0.02) {
		t.Errorf("sampler and trainer are %g nats a token apart, allowed .02", m)
	}
	if m := slices.Min(stale); m < 10*slices.Max(gaps) {
		t.Errorf("a step moves the log probabilities by %g only: an answer of another version would not be noticed", m)
	}
}

// publish puts the model's present weights on vLLM as a new version.
func publish(t *testing.T, session *training.Session, m *training.Model, store *adapters.Store, pub *adapters.Publisher, v int, tmp string) {
	t.Helper()
	ctx := t.Context()
	p, err := m.SaveWeightsForSampler(ctx, fmt.Sprint("v", v))
	if err != nil {
		t.Fatal(err)
	}
	saved, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(tmp, "adapter")
	if err := session.Download(ctx, saved.Path, source); err != nil {
		t.Fatal(err)
	}
	version, err := store.Write(v+1, adapters.Lineage{Run: "peers", Step: v}, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish(ctx, version); err != nil {
		t.Fatal(err)
	}
}

// sampled is one text that vLLM drew, as the trainer is to see it.
type sampled struct {
	datum training.Datum
	old   []float32 // vLLM's, of the new tokens
	from  int       // the position that predicts the first of them
}

// sample draws texts under an adapter, half of them behind soft rows.
func sample(t *testing.T, c *vllm.Client, adapter string, e embeddings, seed int64) (out []sampled) {
	t.Helper()
	for i := range 8 {
		soft := vllm.Soft{}
		rows := 0
		if i%2 == 1 {
			rows = 2
			soft = e.random(t, uint64(seed)*10+uint64(i), rows)
		}
		message := vllm.Message{Role: "user", Parts: []vllm.Part{{Text: fmt.Sprintf("%s %d", request, i)}}}
		if rows > 0 {
			message.Parts = append([]vllm.Part{{Soft: soft}}, message.Parts...)
		}
		s := seed*100 + int64(i)
		r := chat(t, c, vllm.ChatRequest{Messages: []vllm.Message{message}, Params: vllm.Params{Model: adapter, N: 2, MaxTokens: 16, Temperature: 1, Seed: &s, Logprobs: true, IgnoreEOS: true}})
		at := -1
		if rows > 0 {
			at = markers(t, r.PromptTokenIDs, max(e.vocab(), slices.Max(r.PromptTokenIDs)), rows) // with Qwen2's tokenizer vLLM counts one token more
		}
		for _, choice := range r.Choices {
			ids := slices.Concat(r.PromptTokenIDs, choice.TokenIDs)
			n := len(ids) - 1
			d := training.Datum{Tokens: slices.Clone(ids[:n]), Targets: make([]int64, n), Logprobs: make([]float32, n), Advantages: make([]float32, n)}
			for k := range n {
				if d.Targets[k] = int64(ids[k+1]); ids[k+1] >= e.vocab() { // a soft row is no target
					d.Targets[k] = 0
				}
			}
			for k := range rows {
				d.Tokens[at+k] = 0
				d.EmbedPositions = append(d.EmbedPositions, int64(at+k))
			}
			if rows > 0 {
				d.Embeds = e.rows(uint64(seed)*10+uint64(i), rows)
			}
			from := len(r.PromptTokenIDs) - 1
			one := sampled{from: from}
			for k, lp := range choice.Logprobs {
				d.Logprobs[from+k] = float32(lp)
				d.Advantages[from+k] = float32(k%3) - 1
				one.old = append(one.old, float32(lp))
			}
			one.datum = d
			out = append(out, one)
		}
	}
	return out
}

// distances returns how far the trainer's log probabilities are from those that came with the texts: the mean and the largest.
func distances(t *testing.T, m *training.Model, texts []sampled) (mean, worst float64) {
	t.Helper()
	data := make([]training.Datum, len(texts))
	for i := range texts {
		data[i] = texts[i].datum
	}
	p, err := m.Forward(t.Context(), data, "importance_sampling", nil)
	if err != nil {
		t.Fatal(err)
	}
	pass, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for i, s := range texts {
		for k, old := range s.old {
			d := math.Abs(float64(pass.Logprobs[i][s.from+k] - old))
			mean, worst, n = mean+d, max(worst, d), n+1
		}
	}
	return mean / float64(n), worst
}

// train makes one PPO step large enough that the next version is another one.
func train(t *testing.T, m *training.Model, texts []sampled) {
	t.Helper()
	data := make([]training.Datum, len(texts))
	for i := range texts {
		data[i] = texts[i].datum
	}
	pass, err := m.ForwardBackward(t.Context(), data, "ppo", map[string]float64{"clip_low_threshold": 0.8, "clip_high_threshold": 1.2})
	if err != nil {
		t.Fatal(err)
	}
	step, err := m.OptimStep(t.Context(), tinker.AdamParams{LearningRate: 2e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, GradClipNorm: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pass.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := step.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}
