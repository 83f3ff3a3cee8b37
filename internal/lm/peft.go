package lm

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"recpie/internal/safetensors"
)

// peftPrefix stands before the tensor names of a PEFT adapter of a causal language model.
func peftPrefix(m Config) string { return "base_model.model." + m.prefix() }

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
	LoRABias       bool           `json:"lora_bias,omitempty"`
	UseQALoRA      bool           `json:"use_qalora,omitempty"`
	UseBDLoRA      any            `json:"use_bdlora,omitempty"`
	TargetParams   []string       `json:"target_parameters,omitempty"`
	LayersToDo     any            `json:"layers_to_transform,omitempty"`
	InitLoraWeight any            `json:"init_lora_weights,omitempty"`
}

// readPEFTConfig reads what adapter_config.json in dir says, and refuses what this package does not compute.
func readPEFTConfig(dir string, m Config) (LoRAConfig, error) {
	var p peftConfig
	if err := readJSON(dir, "adapter_config.json", &p, false); err != nil {
		return LoRAConfig{}, err
	}
	c := LoRAConfig{Rank: p.R, Alpha: p.Alpha, Dropout: p.Dropout, Modules: p.TargetModules}
	switch {
	case p.PeftType != "LORA":
		return c, fmt.Errorf("%s: peft_type %q is not LORA", dir, p.PeftType)
	case p.UseRSLoRA, p.UseDoRA, len(p.ModulesToSave) > 0, len(p.RankPattern) > 0, len(p.AlphaPattern) > 0, p.LayersToDo != nil, p.LoRABias, p.UseQALoRA,
		p.UseBDLoRA != nil && p.UseBDLoRA != false, len(p.TargetParams) > 0, p.Bias != "" && p.Bias != "none":
		return c, fmt.Errorf("%s: only plain LoRA without biases, patterns, chosen layers and saved modules is supported", dir)
	case len(p.TargetModules) == 0:
		return c, fmt.Errorf("%s: adapter_config.json names no target_modules", dir)
	}
	if err := c.check(m); err != nil {
		return c, fmt.Errorf("%s: %w", dir, err)
	}
	return c.named(m), nil
}

// named says Attn and MLP instead of modules where the modules are exactly those.
func (c LoRAConfig) named(m Config) LoRAConfig {
	for _, kind := range []LoRAConfig{{Attn: true}, {MLP: true}, {Attn: true, MLP: true}} {
		if slices.Equal(m.targets(c), m.targets(kind)) {
			c.Attn, c.MLP, c.Modules = kind.Attn, kind.MLP, nil
			return c
		}
	}
	return c
}

// readAdapter reads a PEFT folder. Every tensor of the configuration must be there with its exact shape, finite, and nothing else.
func readAdapter(dir string, m Config) (LoRAConfig, [][]float32, error) {
	c, err := readPEFTConfig(dir, m)
	if err != nil {
		return c, nil, err
	}
	data, err := readTensors(filepath.Join(dir, "adapter_model.safetensors"), peftPrefix(m), loraSpecs(m, c))
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
		if out[i], err = readTensor(f, prefix+s.name, s); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

// readTensor reads one tensor and refuses another shape and numbers that are not finite.
func readTensor(f *safetensors.File, name string, want spec) ([]float32, error) {
	data, shape, err := f.Float32(name)
	if err != nil {
		return nil, err
	}
	if err := checkTensor(want, shape); err != nil {
		return nil, err
	}
	if i := notFinite(data); i >= 0 {
		return nil, fmt.Errorf("tensor %q: element %d is not finite", name, i)
	}
	return data, nil
}

// writeAdapter writes a PEFT folder's two files into dir. Modules are named by their last parts, as PEFT and vLLM match them, unless such a name
// would match others too.
func writeAdapter(dir, base string, m Config, c LoRAConfig, sp []spec, data [][]float32) error {
	p := peftConfig{
		PeftType: "LORA", TaskType: "CAUSAL_LM", BaseModel: base, R: c.Rank, Alpha: c.Alpha, Dropout: c.Dropout, TargetModules: m.moduleNames(c),
		FanInFanOut: m.gpt(), Bias: "none", InferenceMode: true, InitLoraWeight: true,
	}
	if err := writeJSON(filepath.Join(dir, "adapter_config.json"), p); err != nil {
		return err
	}
	return safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), map[string]string{"format": "pt"}, namedTensors(peftPrefix(m), sp, data))
}

func (c Config) moduleNames(l LoRAConfig) []string {
	on := c.targets(l)
	var out []string
	for _, t := range on {
		short := t.name[strings.LastIndexByte(t.name, '.')+1:]
		if !slices.Equal(c.targets(LoRAConfig{Modules: []string{short}}), []target{t}) {
			short = t.name
		}
		out = append(out, short)
	}
	return out
}

func namedTensors(prefix string, sp []spec, data [][]float32) []safetensors.Tensor {
	out := make([]safetensors.Tensor, len(sp))
	for i, s := range sp {
		out[i] = safetensors.F32(prefix+s.name, s.shape, data[i])
	}
	return out
}
