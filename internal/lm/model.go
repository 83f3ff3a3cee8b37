package lm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"recpie/internal/torch"
)

// Model is a GPT-2 with float32 weights. The weights are read-only once an Engine or a Trainer uses them; both only read.
type Model struct {
	Cfg   Config
	specs []spec
	w     map[string]*torch.Tensor
}

// spec is one weight of the architecture.
type spec struct {
	name  string
	shape []int64
}

// specs lists the weights in a fixed order under their Hugging Face names, without "transformer.". Matrices of the blocks are
// Conv1D: [in, out].
func specs(c Config) []spec {
	d, in := int64(c.NEmbd), int64(c.Inner())
	out := []spec{{"wte.weight", []int64{int64(c.VocabSize), d}}, {"wpe.weight", []int64{int64(c.NPositions), d}}}
	for i := range c.NLayer {
		h := "h." + strconv.Itoa(i) + "."
		out = append(out,
			spec{h + "ln_1.weight", []int64{d}}, spec{h + "ln_1.bias", []int64{d}},
			spec{h + "attn.c_attn.weight", []int64{d, 3 * d}}, spec{h + "attn.c_attn.bias", []int64{3 * d}},
			spec{h + "attn.c_proj.weight", []int64{d, d}}, spec{h + "attn.c_proj.bias", []int64{d}},
			spec{h + "ln_2.weight", []int64{d}}, spec{h + "ln_2.bias", []int64{d}},
			spec{h + "mlp.c_fc.weight", []int64{d, in}}, spec{h + "mlp.c_fc.bias", []int64{in}},
			spec{h + "mlp.c_proj.weight", []int64{in, d}}, spec{h + "mlp.c_proj.bias", []int64{d}})
	}
	return append(out, spec{"ln_f.weight", []int64{d}}, spec{"ln_f.bias", []int64{d}})
}

// NewGPT2 makes a model with GPT-2's initial weights: normal with the configured deviation, that of the projections into the residual
// stream divided by sqrt(2·layers), biases 0 and gains 1. Equal seeds give equal weights.
func NewGPT2(cfg Config, seed int64) (*Model, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("lm: %w", err)
	}
	rng := rand.New(rand.NewPCG(uint64(seed), 0x67707432))
	return buildModel(cfg, func(sp spec) ([]float32, error) {
		data := make([]float32, elements(sp.shape))
		std := cfg.InitializerRange
		switch {
		case strings.HasSuffix(sp.name, ".bias"):
			return data, nil
		case len(sp.shape) == 1:
			for i := range data {
				data[i] = 1
			}
			return data, nil
		case strings.HasSuffix(sp.name, "c_proj.weight"):
			std /= math.Sqrt(2 * float64(cfg.NLayer))
		}
		for i := range data {
			data[i] = float32(rng.NormFloat64() * std)
		}
		return data, nil
	})
}

// buildModel makes a model whose weights come from read.
func buildModel(cfg Config, read func(spec) ([]float32, error)) (*Model, error) {
	m := &Model{Cfg: cfg, specs: specs(cfg), w: map[string]*torch.Tensor{}}
	for _, sp := range m.specs {
		data, err := read(sp)
		if err == nil {
			err = torch.NoGrad(func(s *torch.Scope) error {
				m.w[sp.name] = s.Keep(s.Float32(data, sp.shape...))
				return nil
			})
		}
		if err != nil {
			m.Close()
			return nil, fmt.Errorf("lm: %s: %w", sp.name, err)
		}
	}
	return m, nil
}

// Close frees the weights. Engines and trainers over the model must be closed before.
func (m *Model) Close() {
	for _, t := range m.w {
		t.Free()
	}
}

// NumParameters returns the number of weights, the tied embedding counted once.
func (m *Model) NumParameters() int64 {
	n := int64(0)
	for _, sp := range m.specs {
		n += elements(sp.shape)
	}
	return n
}

// EmbeddingNorm returns the mean Euclidean norm of the token embeddings: the length soft rows should have.
func (m *Model) EmbeddingNorm() float64 {
	e := m.w["wte.weight"].F32View()
	sum := 0.0
	for i := 0; i < len(e); i += m.Cfg.NEmbd {
		q := 0.0
		for _, v := range e[i : i+m.Cfg.NEmbd] {
			q += float64(v) * float64(v)
		}
		sum += math.Sqrt(q)
	}
	return sum / float64(m.Cfg.VocabSize)
}

// weight returns the elements of a weight.
func (m *Model) weight(name string) []float32 { return m.w[name].F32View() }

func elements(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}
