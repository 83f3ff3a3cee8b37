package lm

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// Config holds the fields of a GPT-2 config.json that change the computation. Others are kept as they are when a model is saved again
// only if they stand here.
type Config struct {
	ModelType         string   `json:"model_type"`
	Architectures     []string `json:"architectures"`
	VocabSize         int      `json:"vocab_size"`
	NPositions        int      `json:"n_positions"`
	NEmbd             int      `json:"n_embd"`
	NLayer            int      `json:"n_layer"`
	NHead             int      `json:"n_head"`
	NInner            *int     `json:"n_inner"`
	Activation        string   `json:"activation_function"`
	LayerNormEps      float64  `json:"layer_norm_epsilon"`
	InitializerRange  float64  `json:"initializer_range"`
	ScaleAttnWeights  *bool    `json:"scale_attn_weights,omitempty"`
	ScaleByLayer      bool     `json:"scale_attn_by_inverse_layer_idx,omitempty"`
	TieWordEmbeddings *bool    `json:"tie_word_embeddings,omitempty"`
	BOS               *int32   `json:"bos_token_id,omitempty"`
	EOS               *int32   `json:"eos_token_id,omitempty"`
	PAD               *int32   `json:"pad_token_id,omitempty"`
	TorchDType        string   `json:"torch_dtype,omitempty"`
}

// Inner returns the width of the feed-forward layer, 4 × NEmbd unless the file says otherwise.
func (c Config) Inner() int {
	if c.NInner != nil && *c.NInner > 0 {
		return *c.NInner
	}
	return 4 * c.NEmbd
}

// Head returns the width of one attention head.
func (c Config) Head() int { return c.NEmbd / c.NHead }

// withDefaults fills what config.json may leave out with GPT-2's own values.
func (c Config) withDefaults() Config {
	if c.ModelType == "" {
		c.ModelType = "gpt2"
	}
	if len(c.Architectures) == 0 {
		c.Architectures = []string{"GPT2LMHeadModel"}
	}
	if c.Activation == "" {
		c.Activation = "gelu_new"
	}
	if c.LayerNormEps == 0 {
		c.LayerNormEps = 1e-5
	}
	if c.InitializerRange == 0 {
		c.InitializerRange = 0.02
	}
	return c
}

// Validate refuses models that this package would compute wrongly.
func (c Config) Validate() error {
	const limit = 1 << 24
	switch {
	case c.ModelType != "gpt2":
		return fmt.Errorf("model_type %q is not supported (gpt2 is)", c.ModelType)
	case c.VocabSize < 2 || c.VocabSize > limit, c.NPositions < 1 || c.NPositions > limit, c.NLayer < 1 || c.NLayer > 1024,
		c.NHead < 1, c.NEmbd < 1 || c.NEmbd > 1<<16, c.Inner() > 1<<18:
		return fmt.Errorf("sizes out of range: vocab_size %d, n_positions %d, n_embd %d, n_layer %d, n_head %d, n_inner %d",
			c.VocabSize, c.NPositions, c.NEmbd, c.NLayer, c.NHead, c.Inner())
	case c.NEmbd%c.NHead != 0:
		return fmt.Errorf("n_embd %d is no multiple of n_head %d", c.NEmbd, c.NHead)
	case c.Activation != "gelu_new" && c.Activation != "gelu_pytorch_tanh":
		return fmt.Errorf("activation_function %q is not supported (gelu_new is)", c.Activation)
	case c.ScaleByLayer, c.ScaleAttnWeights != nil && !*c.ScaleAttnWeights:
		return fmt.Errorf("attention scales other than 1/sqrt(head width) are not supported")
	case c.TieWordEmbeddings != nil && !*c.TieWordEmbeddings:
		return fmt.Errorf("an untied lm_head is not supported")
	case c.LayerNormEps <= 0:
		return fmt.Errorf("layer_norm_epsilon %g must be positive", c.LayerNormEps)
	}
	return nil
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
