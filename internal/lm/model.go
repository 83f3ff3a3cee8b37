package lm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"recpie/internal/torch"
)

// Model is a language model's weights. They are read-only once an Engine or a Trainer uses them; both only read.
type Model struct {
	Cfg   Config
	specs []spec
	w     map[string]*torch.Tensor
	dev   torch.Device
	dtype torch.DType
	rope  *ropeTable // nil for learned positions
	norm  float64    // mean norm of the token embeddings
}

// NewModel makes a model with initial weights on the CPU: normal with the configured deviation, in GPT-2 that of the projections into the residual
// stream divided by sqrt(2·layers), biases 0 and gains 1. Equal seeds give equal weights.
func NewModel(cfg Config, seed int64) (*Model, error) { return newModel(cfg, seed, LoadOptions{}) }

func newModel(cfg Config, seed int64, o LoadOptions) (*Model, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lm: %w", err)
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x67707432))
	return buildModel(cfg, o, func(sp spec) ([]float32, error) {
		data := make([]float32, sp.elements())
		std := cfg.InitializerRange
		switch {
		case strings.HasSuffix(sp.name, ".bias"):
			return data, nil
		case len(sp.shape) == 1:
			for i := range data {
				data[i] = 1
			}
			return data, nil
		case cfg.gpt() && strings.HasSuffix(sp.name, "c_proj.weight"):
			std /= math.Sqrt(2 * float64(cfg.NumLayers))
		}
		for i := range data {
			data[i] = float32(rng.NormFloat64() * std)
		}
		return data, nil
	})
}

// buildModel makes a model whose weights come from read, which is called once for each tensor.
func buildModel(cfg Config, o LoadOptions, read func(spec) ([]float32, error)) (*Model, error) {
	m := &Model{Cfg: cfg, specs: specs(cfg), w: map[string]*torch.Tensor{}, dev: o.Device.device(), dtype: o.dtype()}
	for i, sp := range m.specs {
		data, err := read(sp)
		if err == nil && i == 0 { // the token embeddings
			m.norm = meanNorm(data, cfg.HiddenSize)
		}
		if err == nil {
			err = m.dev.NoGrad(func(s *torch.Scope) error {
				m.w[sp.name] = s.Keep(s.To(s.Float32(data, sp.shape...), m.dtype))
				return nil
			})
		}
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("lm: %s: %w", sp.name, err)
		}
	}
	if !cfg.gpt() {
		m.rope = &ropeTable{freq: cfg.frequencies(), dev: m.dev}
	}
	return m, nil
}

// Close frees the weights. Engines and trainers over the model must be closed before.
func (m *Model) Close() {
	for _, t := range m.w {
		t.Free()
	}
	if m.rope != nil {
		m.rope.free()
	}
}

// NumParameters returns the number of weights, a tied embedding counted once.
func (m *Model) NumParameters() int64 {
	n := int64(0)
	for _, sp := range m.specs {
		n += sp.elements()
	}
	return n
}

// EmbeddingNorm returns the mean Euclidean norm of the token embeddings: the length soft rows should have.
func (m *Model) EmbeddingNorm() float64 { return m.norm }

func meanNorm(rows []float32, width int) float64 {
	sum := 0.0
	for i := 0; i < len(rows); i += width {
		q := 0.0
		for _, v := range rows[i : i+width] {
			q += float64(v) * float64(v)
		}
		sum += math.Sqrt(q)
	}
	return sum / float64(len(rows)/width)
}

// weight returns the elements of a tensor in place; the model must be in float32 on the CPU.
func (m *Model) weight(name string) []float32 { return m.w[name].F32View() }

// plain reports whether the weights can be read and changed in place.
func (m *Model) plain() bool { return m.dev == torch.CPU && m.dtype == torch.Float32 }

// data returns the elements of a tensor as float32: in place where that is possible, else a copy.
func (m *Model) data(name string) (data []float32, err error) {
	if m.plain() {
		return m.weight(name), nil
	}
	err = m.dev.NoGrad(func(s *torch.Scope) error {
		data = s.Float32s(m.w[name])
		return nil
	})
	return data, err
}

// network returns the weights arranged for computing.
func (m *Model) network() *network {
	return newNetwork(m.Cfg, m.rope, func(n string) *torch.Tensor { return m.w[n] })
}
