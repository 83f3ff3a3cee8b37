package encoder

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"recpie/internal/safetensors"
)

// config is what of config.json, sentence_bert_config.json and 1_Pooling/config.json is used.
type config struct {
	Hidden       int     `json:"hidden_size"`
	Layers       int     `json:"num_hidden_layers"`
	Heads        int     `json:"num_attention_heads"`
	Intermediate int     `json:"intermediate_size"`
	Positions    int     `json:"max_position_embeddings"`
	Vocab        int     `json:"vocab_size"`
	TokenTypes   int     `json:"type_vocab_size"` // 0: there are none
	Eps          float64 `json:"layer_norm_eps"`
	Activation   string  `json:"hidden_act"`
	Type         string  `json:"model_type"` // bert or distilbert
	PosType      string  `json:"position_embedding_type"`

	maxTokens int  // of a text, special tokens included
	cls       bool // a text's vector is the first token's last state, else the mean over the tokens
}

// distilled are the names that a DistilBertConfig gives to the same things.
type distilled struct {
	Hidden       int    `json:"dim"`
	Layers       int    `json:"n_layers"`
	Heads        int    `json:"n_heads"`
	Intermediate int    `json:"hidden_dim"`
	Activation   string `json:"activation"`
}

func readConfig(dir string) (config, error) {
	c := config{TokenTypes: 2, Eps: 1e-12}
	path := filepath.Join(dir, "config.json")
	if err := readJSON(path, &c); err != nil {
		return c, err
	}
	if c.Type == "distilbert" {
		var d distilled
		if err := readJSON(path, &d); err != nil {
			return c, err
		}
		c.Hidden, c.Layers, c.Heads, c.Intermediate, c.Activation = d.Hidden, d.Layers, d.Heads, d.Intermediate, d.Activation
		c.TokenTypes, c.Eps = 0, 1e-12 // fixed in the model
	}
	switch {
	case c.Type != "bert" && c.Type != "distilbert" || c.Activation != "gelu" || (c.PosType != "" && c.PosType != "absolute"):
		return c, fmt.Errorf("a model of type %q with activation %q and %q positions; bert or distilbert, gelu and absolute are read", c.Type, c.Activation, c.PosType)
	case c.Hidden < 1 || c.Heads < 1 || c.Hidden%c.Heads != 0 || c.Layers < 1 || c.Layers > 1000 || c.Intermediate < 1 || c.Positions < 3 || c.Vocab < 1 || c.TokenTypes < 0 || !(c.Eps > 0):
		return c, fmt.Errorf("impossible sizes in config.json")
	}
	var sentence struct {
		Max int `json:"max_seq_length"`
	}
	if err := readJSON(filepath.Join(dir, "sentence_bert_config.json"), &sentence); err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, err
	}
	c.maxTokens = c.Positions
	if sentence.Max >= 3 {
		c.maxTokens = min(sentence.Max, c.Positions)
	}
	var err error
	c.cls, err = readPooling(dir)
	return c, err
}

// readPooling says whether sentence-transformers takes the first token's state, where the folder says how it pools.
func readPooling(dir string) (cls bool, err error) {
	var modes map[string]any
	err = readJSON(filepath.Join(dir, "1_Pooling", "config.json"), &modes)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var on []string
	for name, val := range modes {
		if yes, _ := val.(bool); yes && strings.HasPrefix(name, "pooling_mode_") {
			on = append(on, strings.TrimPrefix(name, "pooling_mode_"))
		}
	}
	if len(on) != 1 || on[0] != "mean_tokens" && on[0] != "cls_token" {
		return false, fmt.Errorf("1_Pooling/config.json asks for %q; mean_tokens or cls_token alone is done", on)
	}
	return on[0] == "cls_token", nil
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

// toDistilled turns a BertModel's names of weights into a DistilBertModel's.
var toDistilled = strings.NewReplacer("encoder.layer.", "transformer.layer.",
	"attention.self.query", "attention.q_lin", "attention.self.key", "attention.k_lin", "attention.self.value", "attention.v_lin",
	"attention.output.dense", "attention.out_lin", "attention.output.LayerNorm", "sa_layer_norm",
	"intermediate.dense", "ffn.lin1", "output.dense", "ffn.lin2", "output.LayerNorm", "output_layer_norm")

// toGamma turns the names of norms into those of checkpoints that came from TensorFlow.
var toGamma = strings.NewReplacer("LayerNorm.weight", "LayerNorm.gamma", "LayerNorm.bias", "LayerNorm.beta")

// stored finds the name under which the file holds a weight of a BertModel. A model with a head has its base model's name before it.
func (c config) stored(f *safetensors.File, name string) (string, error) {
	if c.Type == "distilbert" {
		name = toDistilled.Replace(name)
	}
	for _, n := range []string{name, c.Type + "." + name, toGamma.Replace(name), c.Type + "." + toGamma.Replace(name)} {
		if _, ok := f.Info(n); ok {
			return n, nil
		}
	}
	return "", fmt.Errorf("model.safetensors has no %s", name)
}
