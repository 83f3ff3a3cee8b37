package lm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"recpie/internal/safetensors"
)

// The modules of a layer that an adapter may sit on, by their PEFT names.
var (
	attnTargets = []string{"attn.c_attn", "attn.c_proj"}
	mlpTargets  = []string{"mlp.c_fc", "mlp.c_proj"}
)

// defaultAlpha is the training API's: the scale of an adapter is 32/rank unless it says otherwise.
const defaultAlpha = 32

func (c LoRAConfig) targets() []string {
	var out []string
	if c.Attn {
		out = append(out, attnTargets...)
	}
	if c.MLP {
		out = append(out, mlpTargets...)
	}
	return out
}

func (c LoRAConfig) withDefaults() LoRAConfig {
	if c.Alpha == 0 {
		c.Alpha = defaultAlpha
	}
	return c
}

func (c LoRAConfig) validate() error {
	switch {
	case c.Unembed:
		return fmt.Errorf("an adapter on the unembedding is not supported: it is the embedding matrix (train_unembed must be false)")
	case !c.Attn && !c.MLP:
		return fmt.Errorf("an adapter needs a target: attention, feed-forward, or both")
	case c.Rank < 1 || c.Rank > 1024:
		return fmt.Errorf("rank %d is not in 1…1024", c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("alpha %g must be positive and finite", c.Alpha)
	}
	return nil
}

func (c LoRAConfig) scale() float64 { return c.Alpha / float64(c.Rank) }

// loraSpecs lists the adapter's tensors in a fixed order: for each layer and target lora_A [rank, in] and lora_B [out, rank].
func loraSpecs(m Config, c LoRAConfig) []spec {
	d, in, r := int64(m.NEmbd), int64(m.Inner()), int64(c.Rank)
	size := map[string][2]int64{"attn.c_attn": {d, 3 * d}, "attn.c_proj": {d, d}, "mlp.c_fc": {d, in}, "mlp.c_proj": {in, d}}
	var out []spec
	for i := range m.NLayer {
		for _, t := range c.targets() {
			name := "h." + strconv.Itoa(i) + "." + t
			out = append(out, spec{name + ".lora_A.weight", []int64{r, size[t][0]}}, spec{name + ".lora_B.weight", []int64{size[t][1], r}})
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
		out[i] = make([]float32, elements(s.shape))
		if strings.HasSuffix(s.name, ".lora_A.weight") {
			bound := 1 / math.Sqrt(float64(s.shape[1]))
			for j := range out[i] {
				out[i][j] = float32((2*rng.Float64() - 1) * bound)
			}
		}
	}
	return out
}

// peftPrefix stands before the tensor names of a PEFT adapter of GPT2LMHeadModel.
const peftPrefix = "base_model.model.transformer."

// peftConfig holds the fields of adapter_config.json that say what the adapter computes.
type peftConfig struct {
	PeftType       string         `json:"peft_type"`
	TaskType       string         `json:"task_type"`
	BaseModel      string         `json:"base_model_name_or_path"`
	R              int            `json:"r"`
	Alpha          float64        `json:"lora_alpha"`
	Dropout        float64        `json:"lora_dropout"`
	TargetModules  []string       `json:"target_modules"`
	FanInFanOut    bool           `json:"fan_in_fan_out"`
	Bias           string         `json:"bias"`
	InferenceMode  bool           `json:"inference_mode"`
	UseRSLoRA      bool           `json:"use_rslora,omitempty"`
	UseDoRA        bool           `json:"use_dora,omitempty"`
	ModulesToSave  []string       `json:"modules_to_save,omitempty"`
	RankPattern    map[string]any `json:"rank_pattern,omitempty"`
	AlphaPattern   map[string]any `json:"alpha_pattern,omitempty"`
	InitLoraWeight *bool          `json:"init_lora_weights,omitempty"`
}

// ReadAdapterConfig reads what adapter_config.json in dir says, and refuses what this package does not compute.
func ReadAdapterConfig(dir string) (LoRAConfig, error) {
	var p peftConfig
	if err := readJSON(dir, "adapter_config.json", &p, false); err != nil {
		return LoRAConfig{}, err
	}
	c := LoRAConfig{Rank: p.R, Alpha: p.Alpha}
	for _, t := range p.TargetModules {
		switch {
		case t == "c_attn", t == "attn.c_attn", t == "attn.c_proj":
			c.Attn = true
		case t == "c_fc", t == "mlp.c_fc", t == "mlp.c_proj":
			c.MLP = true
		case t == "c_proj": // matches both
		default:
			return c, fmt.Errorf("%s: target module %q is not supported", dir, t)
		}
	}
	switch {
	case p.PeftType != "LORA":
		return c, fmt.Errorf("%s: peft_type %q is not LORA", dir, p.PeftType)
	case p.UseRSLoRA, p.UseDoRA, len(p.ModulesToSave) > 0, len(p.RankPattern) > 0, len(p.AlphaPattern) > 0, p.Bias != "" && p.Bias != "none":
		return c, fmt.Errorf("%s: only plain LoRA without biases, patterns and saved modules is supported", dir)
	}
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("%s: %w", dir, err)
	}
	return c, nil
}

// readAdapter reads a PEFT folder. Every tensor of the configuration must be there with its exact shape, finite, and nothing else.
func readAdapter(dir string, m Config) (LoRAConfig, [][]float32, error) {
	c, err := ReadAdapterConfig(dir)
	if err != nil {
		return c, nil, err
	}
	data, err := readTensors(filepath.Join(dir, "adapter_model.safetensors"), peftPrefix, loraSpecs(m, c))
	return c, data, err
}

// readTensors reads exactly the tensors prefix+spec of a file.
func readTensors(path, prefix string, sp []spec) ([][]float32, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names := f.Names()
	if len(names) != len(sp) {
		return nil, fmt.Errorf("%s: %d tensors, want %d", path, len(names), len(sp))
	}
	out := make([][]float32, len(sp))
	for i, s := range sp {
		if !slices.Contains(names, prefix+s.name) {
			return nil, fmt.Errorf("%s: no tensor %q", path, prefix+s.name)
		}
		data, shape, err := f.Float32(prefix + s.name)
		if err != nil {
			return nil, err
		}
		if err := checkTensor(s, shape, data); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out[i] = data
	}
	return out, nil
}

// writeAdapter writes a PEFT folder's two files into dir.
func writeAdapter(dir, base string, c LoRAConfig, sp []spec, data [][]float32) error {
	yes := true
	p := peftConfig{
		PeftType: "LORA", TaskType: "CAUSAL_LM", BaseModel: base, R: c.Rank, Alpha: c.Alpha, TargetModules: c.targets(),
		FanInFanOut: true, Bias: "none", InferenceMode: true, InitLoraWeight: &yes,
	}
	if err := writeJSON(filepath.Join(dir, "adapter_config.json"), p); err != nil {
		return err
	}
	return safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), map[string]string{"format": "pt"}, namedTensors(peftPrefix, sp, data))
}

func namedTensors(prefix string, sp []spec, data [][]float32) []safetensors.Tensor {
	out := make([]safetensors.Tensor, len(sp))
	for i, s := range sp {
		out[i] = safetensors.F32(prefix+s.name, s.shape, data[i])
	}
	return out
}
