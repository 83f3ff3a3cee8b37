package lm

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// configFile holds the fields of a config.json of every family that this package reads, under their names there.
type configFile struct {
	ModelType     string   `json:"model_type"`
	VocabSize     int      `json:"vocab_size"`
	BOS           *int32   `json:"bos_token_id"`
	EOS           idList   `json:"eos_token_id"`
	PAD           *int32   `json:"pad_token_id"`
	Tie           *bool    `json:"tie_word_embeddings"`
	InitRange     float64  `json:"initializer_range"`
	Quantization  any      `json:"quantization_config"`
	Architectures []string `json:"architectures"`

	// GPT-2's
	NPositions       int     `json:"n_positions"`
	NEmbd            int     `json:"n_embd"`
	NLayer           int     `json:"n_layer"`
	NHead            int     `json:"n_head"`
	NInner           *int    `json:"n_inner"`
	Activation       string  `json:"activation_function"`
	LayerNormEps     float64 `json:"layer_norm_epsilon"`
	ScaleAttnWeights *bool   `json:"scale_attn_weights"`
	ScaleByLayer     bool    `json:"scale_attn_by_inverse_layer_idx"`

	// Llama's
	Hidden         int      `json:"hidden_size"`
	Intermediate   int      `json:"intermediate_size"`
	Layers         int      `json:"num_hidden_layers"`
	Heads          int      `json:"num_attention_heads"`
	KVHeads        *int     `json:"num_key_value_heads"`
	HeadDim        *int     `json:"head_dim"`
	MaxPositions   int      `json:"max_position_embeddings"`
	RMSNormEps     float64  `json:"rms_norm_eps"`
	HiddenAct      string   `json:"hidden_act"`
	RopeTheta      float64  `json:"rope_theta"`
	RopeScaling    *rope    `json:"rope_scaling"`
	RopeParameters *rope    `json:"rope_parameters"` // transformers 5's place of the two before
	PartialRotary  *float64 `json:"partial_rotary_factor"`
	SlidingWindow  *int     `json:"sliding_window"`
	UseSliding     *bool    `json:"use_sliding_window"`
	AttentionBias  bool     `json:"attention_bias"`
	MLPBias        bool     `json:"mlp_bias"`
	Experts        int      `json:"num_local_experts"`
	ExpertsPerTok  int      `json:"num_experts_per_tok"`
}

type rope struct {
	Type     string  `json:"rope_type"`
	OldType  string  `json:"type"`
	Theta    float64 `json:"rope_theta"`
	Factor   float64 `json:"factor"`
	Low      float64 `json:"low_freq_factor"`
	High     float64 `json:"high_freq_factor"`
	Original int     `json:"original_max_position_embeddings"`
	Partial  float64 `json:"partial_rotary_factor"`
}

// ReadConfig reads and checks the config.json of a model folder. What it does not understand and what would change the computation is refused.
func ReadConfig(dir string) (Config, error) {
	var f configFile
	var source map[string]json.RawMessage
	if err := readJSON(dir, "config.json", &f, false); err != nil {
		return Config{}, err
	}
	if err := readJSON(dir, "config.json", &source, false); err != nil {
		return Config{}, err
	}
	c, err := f.config()
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	c.source = source
	c = c.withDefaults()
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", filepath.Join(dir, "config.json"), err)
	}
	return c, nil
}

func (f *configFile) config() (Config, error) {
	c := Config{ModelType: f.ModelType, VocabSize: f.VocabSize, InitializerRange: f.InitRange, BOS: f.BOS, EOS: f.EOS, PAD: f.PAD}
	switch {
	case f.Quantization != nil:
		return c, fmt.Errorf("quantization_config: quantised weights are not supported (use the float16 or bfloat16 checkpoint)")
	case f.ModelType == "" || f.ModelType == TypeGPT2:
		return f.gpt2(c)
	default:
		return f.llama(c)
	}
}

func (f *configFile) gpt2(c Config) (Config, error) {
	c.ModelType = TypeGPT2
	c.HiddenSize, c.NumLayers, c.NumHeads, c.MaxPositions, c.NormEps = f.NEmbd, f.NLayer, f.NHead, f.NPositions, f.LayerNormEps
	if f.NInner != nil {
		c.IntermediateSize = *f.NInner
	}
	switch {
	case f.Activation != "" && f.Activation != "gelu_new" && f.Activation != "gelu_pytorch_tanh":
		return c, fmt.Errorf("activation_function %q is not supported (gelu_new is)", f.Activation)
	case f.ScaleByLayer, f.ScaleAttnWeights != nil && !*f.ScaleAttnWeights:
		return c, fmt.Errorf("attention scales other than 1/sqrt(head width) are not supported")
	case f.Tie != nil && !*f.Tie:
		return c, fmt.Errorf("an untied lm_head is not supported in gpt2")
	}
	return c, nil
}

func (f *configFile) llama(c Config) (Config, error) {
	c.HiddenSize, c.IntermediateSize, c.NumLayers, c.NumHeads = f.Hidden, f.Intermediate, f.Layers, f.Heads
	c.MaxPositions, c.NormEps, c.Experts, c.ExpertsPerTok = f.MaxPositions, f.RMSNormEps, f.Experts, f.ExpertsPerTok
	c.TiedEmbeddings = f.Tie != nil && *f.Tie
	c.QKVBias = c.ModelType == TypeQwen2
	if f.KVHeads != nil {
		c.NumKVHeads = *f.KVHeads
	}
	if f.HeadDim != nil {
		c.HeadDim = *f.HeadDim
	}
	if f.SlidingWindow != nil && (f.UseSliding == nil || *f.UseSliding) {
		c.SlidingWindow = *f.SlidingWindow
	}
	c.RoPE.Theta = f.RopeTheta
	for _, r := range []*rope{f.RopeScaling, f.RopeParameters} {
		if r == nil {
			continue
		}
		if c.RoPE.Type = r.Type; r.Type == "" {
			c.RoPE.Type = r.OldType
		}
		if r.Theta > 0 {
			c.RoPE.Theta = r.Theta
		}
		if r.Partial != 0 && r.Partial != 1 {
			return c, fmt.Errorf("partial_rotary_factor %g is not supported", r.Partial)
		}
		c.RoPE.Factor, c.RoPE.LowFreqFactor, c.RoPE.HighFreqFactor, c.RoPE.OriginalMaxPositions = r.Factor, r.Low, r.High, r.Original
	}
	switch {
	case f.HiddenAct != "" && f.HiddenAct != "silu":
		return c, fmt.Errorf("hidden_act %q is not supported (silu is)", f.HiddenAct)
	case f.AttentionBias, f.MLPBias:
		return c, fmt.Errorf("attention_bias and mlp_bias are not supported in %s", c.ModelType)
	case f.PartialRotary != nil && *f.PartialRotary != 1:
		return c, fmt.Errorf("partial_rotary_factor %g is not supported", *f.PartialRotary)
	}
	return c, nil
}

// file returns what config.json of a saved model says: what was read with it where it was read, and the values in use.
func (c Config) file(dtype string) map[string]any {
	out := map[string]any{}
	if c.source == nil {
		maps.Copy(out, c.fresh())
	}
	for key, v := range c.source {
		out[key] = v // byte for byte: other readers tell 0.0 from 0
	}
	out["torch_dtype"] = dtype
	delete(out, "dtype")
	set := func(key string, id *int32) {
		if id != nil {
			out[key] = *id
		}
	}
	set("bos_token_id", c.BOS)
	set("pad_token_id", c.PAD)
	switch len(c.EOS) {
	case 0:
	case 1:
		out["eos_token_id"] = c.EOS[0]
	default:
		out["eos_token_id"] = c.EOS
	}
	return out
}

// fresh describes a model that was made here.
func (c Config) fresh() map[string]any {
	if c.gpt() {
		return map[string]any{
			"model_type": TypeGPT2, "architectures": []string{"GPT2LMHeadModel"}, "vocab_size": c.VocabSize, "n_positions": c.MaxPositions,
			"n_embd": c.HiddenSize, "n_layer": c.NumLayers, "n_head": c.NumHeads, "n_inner": c.IntermediateSize,
			"activation_function": "gelu_new", "layer_norm_epsilon": c.NormEps, "initializer_range": c.InitializerRange,
		}
	}
	name := map[string]string{TypeLlama: "Llama", TypeMistral: "Mistral", TypeMixtral: "Mixtral", TypeQwen2: "Qwen2"}[c.ModelType]
	out := map[string]any{
		"model_type": c.ModelType, "architectures": []string{name + "ForCausalLM"}, "vocab_size": c.VocabSize, "hidden_size": c.HiddenSize,
		"intermediate_size": c.IntermediateSize, "num_hidden_layers": c.NumLayers, "num_attention_heads": c.NumHeads,
		"num_key_value_heads": c.NumKVHeads, "head_dim": c.HeadDim, "max_position_embeddings": c.MaxPositions, "rms_norm_eps": c.NormEps,
		"hidden_act": "silu", "rope_theta": c.RoPE.Theta, "tie_word_embeddings": c.TiedEmbeddings, "initializer_range": c.InitializerRange,
		"sliding_window": nil,
	}
	if c.SlidingWindow > 0 {
		out["sliding_window"] = c.SlidingWindow
	}
	if c.ModelType == TypeQwen2 {
		out["use_sliding_window"] = c.SlidingWindow > 0
	}
	if c.Experts > 0 {
		out["num_local_experts"], out["num_experts_per_tok"] = c.Experts, c.ExpertsPerTok
	}
	switch c.RoPE.Type {
	case "linear":
		out["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": c.RoPE.Factor}
	case "llama3":
		out["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": c.RoPE.Factor, "low_freq_factor": c.RoPE.LowFreqFactor,
			"high_freq_factor": c.RoPE.HighFreqFactor, "original_max_position_embeddings": c.RoPE.OriginalMaxPositions}
	}
	return out
}

// maxConfigBytes bounds the JSON files of a model folder.
const maxConfigBytes = 16 << 20

// readJSON decodes dir/name into v. With optional, an absent file leaves v alone.
func readJSON(dir, name string, v any, optional bool) error {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		if optional && os.IsNotExist(err) {
			return nil
		}
		return err
	}
	if info.Size() > maxConfigBytes {
		return fmt.Errorf("%s: %d bytes is more than the %d allowed", path, info.Size(), maxConfigBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
