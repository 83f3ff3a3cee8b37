package lm

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
)

// The architectures, by model_type of config.json. Vicuna is a llama.
const (
	TypeGPT2    = "gpt2"
	TypeLlama   = "llama"
	TypeMistral = "mistral"
	TypeMixtral = "mixtral"
	TypeQwen2   = "qwen2"
)

// Config describes an architecture: what changes the computation. ModelType chooses the family, GPT-2 (learned positions, LayerNorm, GELU) or
// Llama (rotary positions, RMSNorm, gated SiLU, grouped-query attention; QKVBias for Qwen2, Experts for Mixtral).
type Config struct {
	ModelType        string
	VocabSize        int
	HiddenSize       int
	IntermediateSize int // width of the feed-forward layer; 0 is 4 × HiddenSize
	NumLayers        int
	NumHeads         int // query heads
	NumKVHeads       int // key and value heads, a divisor of NumHeads; 0 is NumHeads
	HeadDim          int // width of one head; 0 is HiddenSize / NumHeads
	MaxPositions     int // prompt and completion together
	NormEps          float64
	InitializerRange float64

	// Llama's family.
	RoPE           RoPE
	QKVBias        bool // biases of the query, key and value projections
	TiedEmbeddings bool // the unembedding is the embedding matrix
	SlidingWindow  int  // keys a query may look back at; 0 is all. A model serves no more positions than that
	Experts        int  // feed-forward networks per layer, of which a token takes ExpertsPerToken; 0 is one dense network
	ExpertsPerTok  int

	BOS, PAD *int32
	EOS      []int32

	source map[string]json.RawMessage // config.json as it was read, to be written again
}

// RoPE are the settings of rotary position embeddings (Su et al. 2021), in the layout of transformers: the two halves of a head are rotated
// against each other.
type RoPE struct {
	Theta float64 // base of the wavelengths; 0 is 10000
	Type  string  // "default", "linear" (positions divided by Factor) or "llama3" (Llama 3.1: long waves divided by Factor)

	Factor, LowFreqFactor, HighFreqFactor float64
	OriginalMaxPositions                  int
}

// gpt reports whether the model is of GPT-2's family.
func (c Config) gpt() bool { return c.ModelType == TypeGPT2 }

// kvSize is the width of all key heads together, and of all value heads.
func (c Config) kvSize() int { return c.NumKVHeads * c.HeadDim }

// qSize is the width of all query heads together.
func (c Config) qSize() int { return c.NumHeads * c.HeadDim }

// positions is how many positions a sequence may have.
func (c Config) positions() int {
	if c.SlidingWindow > 0 {
		return min(c.MaxPositions, c.SlidingWindow)
	}
	return c.MaxPositions
}

// keptFloats is how many numbers autograd keeps per position and layer, attention to other levels apart.
func (c Config) keptFloats() int {
	if c.gpt() {
		return 18*c.HiddenSize + 3*c.IntermediateSize
	}
	inner := c.IntermediateSize * max(1, c.ExpertsPerTok)
	return 12*c.HiddenSize + 4*c.qSize() + 6*c.kvSize() + 4*inner
}

// kvBytes is what one position's keys and values take in all layers, in bytes.
func (c Config) kvBytes() int { return 2 * 4 * c.NumLayers * c.kvSize() }

// withDefaults fills what may be left out.
func (c Config) withDefaults() Config {
	if c.ModelType == "" {
		c.ModelType = TypeGPT2
	}
	if c.IntermediateSize == 0 {
		c.IntermediateSize = 4 * c.HiddenSize
	}
	if c.NumKVHeads == 0 {
		c.NumKVHeads = c.NumHeads
	}
	if c.HeadDim == 0 && c.NumHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumHeads
	}
	if c.NormEps == 0 {
		c.NormEps = 1e-5
		if !c.gpt() {
			c.NormEps = 1e-6
		}
	}
	if c.InitializerRange == 0 {
		c.InitializerRange = 0.02
	}
	if c.gpt() {
		c.TiedEmbeddings = true
		return c
	}
	if c.RoPE.Type == "" {
		c.RoPE.Type = "default"
	}
	if c.RoPE.Theta == 0 {
		c.RoPE.Theta = 10000
	}
	return c
}

// Validate refuses models that this package would compute wrongly.
func (c Config) Validate() error {
	const limit = 1 << 24
	known := []string{TypeGPT2, TypeLlama, TypeMistral, TypeMixtral, TypeQwen2}
	switch {
	case !slices.Contains(known, c.ModelType):
		return fmt.Errorf("model_type %q is not supported (%v are)", c.ModelType, known)
	case c.VocabSize < 2 || c.VocabSize > limit, c.MaxPositions < 1 || c.MaxPositions > limit, c.NumLayers < 1 || c.NumLayers > 1024,
		c.NumHeads < 1, c.NumKVHeads < 1, c.HeadDim < 1 || c.HeadDim > 1<<12, c.HiddenSize < 1 || c.HiddenSize > 1<<16,
		c.IntermediateSize < 1 || c.IntermediateSize > 1<<18, c.qSize() > 1<<18:
		return fmt.Errorf("sizes out of range: vocabulary %d, positions %d, layers %d, hidden %d, heads %d of %d (%d for keys), feed-forward %d",
			c.VocabSize, c.MaxPositions, c.NumLayers, c.HiddenSize, c.NumHeads, c.HeadDim, c.NumKVHeads, c.IntermediateSize)
	case c.NumHeads%c.NumKVHeads != 0:
		return fmt.Errorf("%d query heads cannot share %d key heads evenly", c.NumHeads, c.NumKVHeads)
	case !(c.NormEps > 0) || math.IsInf(c.NormEps, 0):
		return fmt.Errorf("the norm's epsilon %g must be positive", c.NormEps)
	case c.gpt() && (c.HeadDim*c.NumHeads != c.HiddenSize || c.NumKVHeads != c.NumHeads):
		return fmt.Errorf("hidden size %d is no multiple of the %d heads", c.HiddenSize, c.NumHeads)
	case !c.gpt() && c.HeadDim%2 != 0:
		return fmt.Errorf("rotary positions need an even head size, not %d", c.HeadDim)
	case c.Experts < 0 || c.Experts > 1024 || c.Experts > 0 && (c.ExpertsPerTok < 1 || c.ExpertsPerTok > c.Experts):
		return fmt.Errorf("%d of %d experts per token cannot be", c.ExpertsPerTok, c.Experts)
	case c.Experts > 0 && c.ModelType != TypeMixtral:
		return fmt.Errorf("experts are supported in mixtral only, not in %s", c.ModelType)
	case c.SlidingWindow < 0:
		return fmt.Errorf("a sliding window of %d cannot be", c.SlidingWindow)
	}
	if c.gpt() {
		return nil
	}
	return c.RoPE.validate()
}

func (r RoPE) validate() error {
	positive := func(v ...float64) bool {
		for _, x := range v {
			if !(x > 0) || math.IsInf(x, 0) {
				return false
			}
		}
		return true
	}
	switch {
	case !positive(r.Theta):
		return fmt.Errorf("rope_theta %g must be positive", r.Theta)
	case r.Type == "default":
		return nil
	case r.Type == "linear":
		if !positive(r.Factor) {
			return fmt.Errorf("rope_scaling: factor %g must be positive", r.Factor)
		}
		return nil
	case r.Type == "llama3":
		if !positive(r.Factor, r.LowFreqFactor, r.HighFreqFactor, float64(r.OriginalMaxPositions)) || r.LowFreqFactor >= r.HighFreqFactor {
			return fmt.Errorf("rope_scaling: factor %g, low_freq_factor %g, high_freq_factor %g, original_max_position_embeddings %d cannot be",
				r.Factor, r.LowFreqFactor, r.HighFreqFactor, r.OriginalMaxPositions)
		}
		return nil
	}
	return fmt.Errorf("rope_type %q is not supported (default, linear and llama3 are)", r.Type)
}

// frequencies returns the angle per position of each pair of a head's numbers, [HeadDim/2], in float32 as transformers computes them.
func (c Config) frequencies() []float32 {
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		f := float32(1 / math.Pow(c.RoPE.Theta, float64(float32(2*i)/float32(c.HeadDim))))
		switch c.RoPE.Type {
		case "linear":
			f /= float32(c.RoPE.Factor)
		case "llama3":
			f = c.RoPE.llama3(f)
		}
		out[i] = f
	}
	return out
}

// llama3 divides waves longer than the original context by Factor, leaves short ones, and blends between the two.
func (r RoPE) llama3(f float32) float32 {
	wave := 2 * math.Pi / float64(f)
	low, high := float64(r.OriginalMaxPositions)/r.LowFreqFactor, float64(r.OriginalMaxPositions)/r.HighFreqFactor
	switch {
	case wave < high:
		return f
	case wave > low:
		return float32(float64(f) / r.Factor)
	}
	smooth := (float64(r.OriginalMaxPositions)/wave - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
	return float32((1-smooth)*float64(f)/r.Factor + smooth*float64(f))
}
