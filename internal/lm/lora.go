package lm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// LoRAConfig describes an adapter (Hu et al. 2021): on each of its modules W it adds Alpha/Rank·B·A.
type LoRAConfig struct {
	Rank    int
	Alpha   float64 // the scale is Alpha/Rank; 0 means 32
	Seed    int64
	Attn    bool     // the attention's projections: c_attn and c_proj; q_proj, k_proj, v_proj and o_proj
	MLP     bool     // the feed-forward's: c_fc and c_proj; gate_proj, up_proj and down_proj
	Unembed bool     // refused: vLLM serves no adapter on it, and where it is tied it is the embedding matrix
	Modules []string // instead of Attn and MLP: modules by PEFT's names, as "q_proj" or "self_attn.q_proj"
	Dropout float64  // of an adapter's input in forward_backward; never when sampling or scoring
}

// defaultAlpha is the training API's: the scale of an adapter is 32/rank unless it says otherwise.
const defaultAlpha = 32

func (c LoRAConfig) withDefaults() LoRAConfig {
	if c.Alpha == 0 {
		c.Alpha = defaultAlpha
	}
	return c
}

// takes reports whether the adapter sits on a module, which on says where modules are not named.
func (c LoRAConfig) takes(module string, on bool) bool {
	if len(c.Modules) == 0 {
		return on
	}
	return slices.ContainsFunc(c.Modules, func(m string) bool { return m == module || strings.HasSuffix(module, "."+m) })
}

// check refuses an adapter that the model cannot have.
func (c LoRAConfig) check(m Config) error {
	switch {
	case c.Unembed:
		return fmt.Errorf("an adapter on the unembedding is not supported (train_unembed must be false)")
	case len(c.Modules) == 0 && !c.Attn && !c.MLP:
		return fmt.Errorf("an adapter needs a target: attention, feed-forward, or both")
	case c.Rank < 1 || c.Rank > 1024:
		return fmt.Errorf("rank %d is not in 1…1024", c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("alpha %g must be positive and finite", c.Alpha)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("dropout %g is not in [0, 1)", c.Dropout)
	case len(c.Modules) == 0 && c.MLP && m.Experts > 0:
		return fmt.Errorf("an adapter on the experts of a %s is not supported (train_mlp must be false)", m.ModelType)
	}
	all := m.targets(LoRAConfig{Attn: true, MLP: true})
	for _, name := range c.Modules {
		one := LoRAConfig{Modules: []string{name}}
		if !slices.ContainsFunc(all, func(t target) bool { return one.takes(t.name, false) }) {
			var names []string
			for _, t := range all {
				names = append(names, t.name)
			}
			return fmt.Errorf("target module %q is not supported in %s (%s are)", name, m.ModelType, strings.Join(names, ", "))
		}
	}
	return nil
}

func (c LoRAConfig) scale() float64 { return c.Alpha / float64(c.Rank) }

// fits reports whether weights of one adapter can stand in the place of another's.
func (c LoRAConfig) fits(other LoRAConfig, m Config) bool {
	return c.Rank == other.Rank && c.Alpha == other.Alpha && slices.Equal(m.targets(c), m.targets(other))
}

// describe says what fits compares.
func (c LoRAConfig) describe(m Config) string {
	var names []string
	for _, t := range m.targets(c) {
		names = append(names, t.name)
	}
	return fmt.Sprintf("rank %d, alpha %g on %s", c.Rank, c.Alpha, strings.Join(names, ", "))
}

// loraSpecs lists the adapter's tensors in a fixed order: for each layer and target lora_A [rank, in] and lora_B [out, rank].
func loraSpecs(m Config, c LoRAConfig) []spec {
	r := int64(c.Rank)
	var out []spec
	for i := range m.NumLayers {
		for _, t := range m.targets(c) {
			name := m.layerName(i, t.name)
			out = append(out, spec{name: name + ".lora_A.weight", shape: []int64{r, t.in}}, spec{name: name + ".lora_B.weight", shape: []int64{t.out, r}})
		}
	}
	return out
}

// initialLoRA draws A uniformly from ±1/sqrt(in), as PEFT's Kaiming initialisation does, and leaves B zero: a new adapter changes
// nothing.
func initialLoRA(sp []spec, seed int64) [][]float32 {
	rng := rand.New(rand.NewPCG(uint64(seed), 0x6c6f7261))
	out := make([][]float32, len(sp))
	for i, s := range sp {
		out[i] = make([]float32, s.elements())
		if strings.HasSuffix(s.name, ".lora_A.weight") {
			bound := 1 / math.Sqrt(float64(s.shape[1]))
			for j := range out[i] {
				out[i][j] = float32((2*rng.Float64() - 1) * bound)
			}
		}
	}
	return out
}
