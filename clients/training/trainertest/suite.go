package trainertest

import (
	"math"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/internal/safetensors"
	"recpie/internal/wire/tinker"
)

// Server is a server of the training API under the suite.
type Server struct {
	URL  string
	Base string // base model, with a vocabulary of 16 ids at least
	Slow bool   // a pass takes seconds: fewer of them
}

// Exercise runs the suite.
func (s Server) Exercise(t *testing.T) {
	t.Run("losses", s.losses)
	t.Run("sums", s.sums)
	t.Run("answers lost", s.lostAnswers)
	t.Run("restored", s.restored)
	t.Run("samples", s.samples)
	t.Run("refusals", s.refusals)
	t.Run("soft prompts", s.softPrompts)
}

// dial opens a session through a round tripper that wrap makes of the real one; a nil wrap leaves it as it is.
func (s Server) dial(t *testing.T, wrap func(http.RoundTripper) http.RoundTripper) *training.Session {
	t.Helper()
	base := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(base.CloseIdleConnections)
	set := transport.Settings{BaseURL: s.URL, Attempts: 4, BackoffFirst: time.Millisecond, BackoffMax: 20 * time.Millisecond, RoundTripper: base}
	if wrap != nil {
		set.RoundTripper = wrap(base)
	}
	session, err := training.Dial(t.Context(), training.Config{Settings: set})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close(t.Context()) })
	return session
}

// model makes an adapter that is the same every time.
func (s Server) model(t *testing.T, session *training.Session) *training.Model {
	t.Helper()
	seed := int64(11)
	m, err := session.CreateModel(t.Context(), s.Base, tinker.LoRAConfig{Rank: 4, Seed: &seed, TrainAttn: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// texts are two sequences of different length.
func texts() []training.Datum {
	return []training.Datum{
		{Tokens: []int32{5, 6, 7, 8, 9}, Targets: []int64{6, 7, 8, 9, 10}, Weights: []float32{0, 1, 1, 1, 1}},
		{Tokens: []int32{4, 11, 12}, Targets: []int64{11, 12, 13}, Weights: []float32{1, 1, 1}},
	}
}

// sampled turns texts with current log-probabilities into ppo data whose ratios lie on both sides of both bounds, for advantages of both signs.
func sampled(data []training.Datum, lp [][]float32) []training.Datum {
	ratios, advantages := []float64{1.5, .5, 1.05, 1.5, .5, .95, 1.6, .4}, []float32{1, 1, -2, -1, -.5, .25, 1, -1}
	out, k := make([]training.Datum, len(data)), 0
	for i, d := range data {
		out[i] = training.Datum{Tokens: d.Tokens, Targets: d.Targets, Logprobs: make([]float32, len(d.Tokens)), Advantages: make([]float32, len(d.Tokens))}
		for j := range d.Tokens {
			out[i].Logprobs[j] = lp[i][j] - float32(math.Log(ratios[k%len(ratios)]))
			if d.Weights[j] != 0 {
				out[i].Advantages[j] = advantages[k%len(advantages)]
			}
			k++
		}
	}
	return out
}

var clip = map[string]float64{tinker.ConfigClipLow: .7, tinker.ConfigClipHigh: 1.3}

// sgd makes Adam's first step proportional to the gradient, so that steps tell gradients apart, not signs alone.
var sgd = tinker.AdamParams{LearningRate: .5, Beta1: .9, Beta2: .95, Eps: 1}

// forward returns log-probabilities of the targets as they are now.
func forward(t *testing.T, m *training.Model, data []training.Datum) [][]float32 {
	t.Helper()
	p, err := m.Forward(t.Context(), data, tinker.LossCrossEntropy, nil)
	if err != nil {
		t.Fatal(err)
	}
	pass, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pass.Logprobs
}

// train makes a step on the data; both requests are in flight before either is awaited.
func train(t *testing.T, m *training.Model, data []training.Datum) *training.Pass {
	t.Helper()
	p, err := m.ForwardBackward(t.Context(), data, tinker.LossPPO, clip)
	if err != nil {
		t.Fatal(err)
	}
	step, err := m.OptimStep(t.Context(), sgd)
	if err != nil {
		t.Fatal(err)
	}
	pass, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := step.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return pass
}

// weights downloads the adapter and returns all its numbers, in the order of the tensors' names.
func weights(t *testing.T, session *training.Session, m *training.Model, name string) []float32 {
	t.Helper()
	p, err := m.SaveWeightsForSampler(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := p.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "adapter")
	if err := session.Download(t.Context(), saved.Path, dir); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open(filepath.Join(dir, "adapter_model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []float32
	for _, n := range f.Names() {
		data, _, err := f.Float32(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, data...)
	}
	if len(all) == 0 {
		t.Fatal("the adapter has no tensors")
	}
	return all
}

// near compares by the norm of the difference, relative to that of want.
func near(t *testing.T, what string, got, want []float32, within float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	var diff, size float64
	for i := range got {
		d := float64(got[i]) - float64(want[i])
		diff, size = diff+d*d, size+float64(want[i])*float64(want[i])
	}
	if !(math.Sqrt(diff) <= within*math.Sqrt(size)) {
		t.Errorf("%s differ by %.3g relative, allowed is %.0g", what, math.Sqrt(diff/size), within)
	}
}

// moved fails when two log-probabilities are the same: then a step has taught nothing and comparisons of steps are empty.
func moved(t *testing.T, before, after [][]float32) {
	t.Helper()
	var most float64
	for i := range before {
		for j := range before[i] {
			most = max(most, math.Abs(float64(before[i][j]-after[i][j])))
		}
	}
	if most < 1e-4 {
		t.Errorf("a step moved no log-probability by more than %.2g", most)
	}
}
