package lm

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"recpie/internal/torch"
	"recpie/internal/torch/reexec"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	goleak.VerifyTestMain(m)
}

// tiny returns a bundle without a tokenizer: random weights, larger than initial ones so that every part matters.
func tiny(t testing.TB, seed int64) *Bundle {
	t.Helper()
	m, err := NewModel(Config{VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 3, NumHeads: 2, InitializerRange: 0.25}, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return &Bundle{Name: "tiny", Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: m.Cfg.MaxPositions}
}

// tinyConfigs are small models of every family, with more query than key heads where the family has that, and heads that do not fill the width.
var tinyConfigs = map[string]Config{
	TypeGPT2:    {VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 3, NumHeads: 2},
	TypeLlama:   {VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 3, NumHeads: 4, NumKVHeads: 2, IntermediateSize: 24, RoPE: RoPE{Type: "llama3", Factor: 8, LowFreqFactor: 1, HighFreqFactor: 4, OriginalMaxPositions: 40}},
	TypeQwen2:   {VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, IntermediateSize: 24, QKVBias: true, TiedEmbeddings: true},
	TypeMistral: {VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 2, NumHeads: 4, NumKVHeads: 1, HeadDim: 6, IntermediateSize: 24},
	TypeMixtral: {VocabSize: 37, MaxPositions: 160, HiddenSize: 16, NumLayers: 2, NumHeads: 2, IntermediateSize: 12, Experts: 4, ExpertsPerTok: 2},
}

// every runs a test for every architecture.
func every(t *testing.T, seed int64, f func(t *testing.T, b *Bundle)) {
	for name, cfg := range tinyConfigs {
		t.Run(name, func(t *testing.T) {
			cfg.ModelType, cfg.InitializerRange = name, 0.25
			m, err := NewModel(cfg, seed)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(m.Close)
			f(t, &Bundle{Name: "tiny", Model: m, BOS: -1, EOS: -1, PAD: -1, MaxLen: m.Cfg.positions()})
		})
	}
}

func engine(t testing.TB, b *Bundle, o EngineOptions) *Engine {
	t.Helper()
	e := NewEngine(b, o)
	t.Cleanup(e.Close)
	return e
}

func randomIDs(rng *rand.Rand, n, vocab int) []int32 {
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(rng.IntN(vocab))
	}
	return ids
}

func randomRows(rng *rand.Rand, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(rng.NormFloat64() * 0.3)
	}
	return out
}

// generate answers one request or fails the test.
func generate(t testing.TB, e *Engine, r *GenRequest) *GenResult {
	t.Helper()
	res, err := e.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// reference computes log probabilities of every position of one sequence by the plain forward pass: one level, no cache.
func reference(t testing.TB, b *Bundle, net *network, keys []int64, soft []float32) [][]float32 {
	t.Helper()
	if net == nil {
		net = b.Model.network()
	}
	p := newPlan([][]int64{keys}, false)
	w := newWanted(p)
	for i := range keys {
		w.add(0, i)
	}
	v := b.Model.Cfg.VocabSize
	var out [][]float32
	if err := torch.NoGrad(func(s *torch.Scope) error {
		var rows *torch.Tensor
		if soft != nil {
			rows = s.Float32(soft, int64(len(soft)/b.Model.Cfg.HiddenSize), int64(b.Model.Cfg.HiddenSize))
		}
		h := net.forward(s, p, rows, w)
		data := s.Float32s(s.LogSoftmax(net.logits(s, h), -1))
		for i := range keys {
			if s.Err() == nil {
				out = append(out, data[i*v:(i+1)*v])
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

func near(t testing.TB, what string, got, want, tol float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tol {
		t.Errorf("%s = %.7g, want %.7g ± %g", what, got, want, tol)
	}
}

func readGolden(t testing.TB, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatal(err)
	}
}
