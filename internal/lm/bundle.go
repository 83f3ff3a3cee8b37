package lm

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/tokenizer"
	"recpie/internal/tokenizer/chat"
)

// NewBundle puts a model and a tokenizer with our special tokens (SpecialTokens) together under our chat template.
func NewBundle(name string, m *Model, tok *tokenizer.Tokenizer) (*Bundle, error) {
	b := &Bundle{Name: name, Model: m, Tok: tok, ChatSource: DefaultChatTemplate, MaxLen: m.Cfg.NPositions}
	for _, t := range []struct {
		id   *int32
		name string
	}{{&b.PAD, TokenPad}, {&b.BOS, TokenBOS}, {&b.EOS, TokenEnd}} {
		id, ok := tok.ID(t.name)
		if !ok {
			return nil, fault.Newf(fault.Fatal, "lm: bundle", "the tokenizer has no %s", t.name)
		}
		*t.id = id
	}
	if id, ok := tok.ID(TokenEOS); ok {
		b.ExtraEOS = []int32{id}
	}
	if tok.VocabSize() > m.Cfg.VocabSize {
		return nil, fault.Newf(fault.Fatal, "lm: bundle", "the tokenizer has %d ids, the model %d", tok.VocabSize(), m.Cfg.VocabSize)
	}
	var err error
	if b.Chat, err = chat.Parse(b.ChatSource, TokenBOS, TokenEnd); err != nil {
		return nil, fault.New(fault.Fatal, "lm: chat template", err)
	}
	return b, nil
}

// idList is an id or a list of ids, as eos_token_id of generation_config.json may be.
type idList []int32

func (l *idList) UnmarshalJSON(b []byte) error {
	var one int32
	if json.Unmarshal(b, &one) == nil {
		*l = idList{one}
		return nil
	}
	return json.Unmarshal(b, (*[]int32)(l))
}

type generationConfig struct {
	BOS *int32 `json:"bos_token_id,omitempty"`
	EOS idList `json:"eos_token_id,omitempty"`
	PAD *int32 `json:"pad_token_id,omitempty"`
}

// tokenName is a token written as a string or as an object with its content.
type tokenName string

func (t *tokenName) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*t = tokenName(s)
		return nil
	}
	var o struct {
		Content string `json:"content"`
	}
	err := json.Unmarshal(b, &o)
	*t = tokenName(o.Content)
	return err
}

type tokenizerConfig struct {
	Class        string    `json:"tokenizer_class,omitempty"`
	ChatTemplate string    `json:"chat_template,omitempty"`
	BOS          tokenName `json:"bos_token,omitempty"`
	EOS          tokenName `json:"eos_token,omitempty"`
	PAD          tokenName `json:"pad_token,omitempty"`
	AddBOS       bool      `json:"add_bos_token"`
	MaxLength    int       `json:"model_max_length,omitempty"`
}

// LoadDir reads a model folder in the Hugging Face layout: config.json, model.safetensors, and where present tokenizer.json,
// tokenizer_config.json and generation_config.json. Without a tokenizer the bundle's Tok is nil and only ids work.
func LoadDir(dir string) (*Bundle, error) {
	b, err := loadDir(dir)
	if err != nil {
		return nil, fault.New(fault.Fatal, "lm: load "+dir, err)
	}
	return b, nil
}

func loadDir(dir string) (*Bundle, error) {
	var cfg Config
	if err := readJSON(dir, "config.json", &cfg, false); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	b := &Bundle{Name: filepath.Base(dir), BOS: -1, EOS: -1, PAD: -1, MaxLen: cfg.NPositions}
	gen := generationConfig{BOS: cfg.BOS, PAD: cfg.PAD}
	if cfg.EOS != nil {
		gen.EOS = idList{*cfg.EOS}
	}
	if err := readJSON(dir, "generation_config.json", &gen, true); err != nil {
		return nil, err
	}
	if gen.BOS != nil {
		b.BOS = *gen.BOS
	}
	if gen.PAD != nil {
		b.PAD = *gen.PAD
	}
	if len(gen.EOS) > 0 {
		b.EOS, b.ExtraEOS = gen.EOS[0], gen.EOS[1:]
	}
	if err := b.loadTokenizer(dir); err != nil {
		return nil, err
	}
	if b.Tok != nil && b.Tok.VocabSize() > cfg.VocabSize {
		return nil, fmt.Errorf("tokenizer.json has %d ids, config.json %d", b.Tok.VocabSize(), cfg.VocabSize)
	}
	m, err := loadModel(filepath.Join(dir, "model.safetensors"), cfg)
	if err != nil {
		return nil, err
	}
	b.Model = m
	return b, nil
}

func (b *Bundle) loadTokenizer(dir string) (err error) {
	path := filepath.Join(dir, "tokenizer.json")
	if _, err := os.Stat(path); os.IsNotExist(err) {
		return nil
	}
	if b.Tok, err = tokenizer.Load(path); err != nil {
		return err
	}
	var tc tokenizerConfig
	if err := readJSON(dir, "tokenizer_config.json", &tc, true); err != nil {
		return err
	}
	b.ChatSource = tc.ChatTemplate
	if b.ChatSource != "" {
		if b.Chat, err = chat.Parse(b.ChatSource, string(tc.BOS), string(tc.EOS)); err != nil {
			return fmt.Errorf("chat_template: %w", err)
		}
	}
	return nil
}

// loadModel reads the weights, with or without the prefix "transformer.". Buffers (attn.bias, attn.masked_bias) and a tied lm_head
// may be there; anything else, and any other shape, is refused.
func loadModel(path string, cfg Config) (*Model, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	want := map[string]bool{}
	for _, sp := range specs(cfg) {
		want[sp.name] = true
	}
	full := map[string]string{}
	for _, name := range f.Names() {
		short := strings.TrimPrefix(name, "transformer.")
		if short == "lm_head.weight" || strings.HasSuffix(short, ".attn.bias") || strings.HasSuffix(short, ".attn.masked_bias") {
			continue
		}
		if !want[short] {
			return nil, fmt.Errorf("%s: unexpected tensor %q", path, name)
		}
		full[short] = name
	}
	return buildModel(cfg, func(sp spec) ([]float32, error) {
		data, shape, err := f.Float32(full[sp.name])
		switch {
		case full[sp.name] == "":
			return nil, fmt.Errorf("%s: no tensor %q", path, sp.name)
		case err != nil:
			return nil, err
		}
		return data, checkTensor(sp, shape, data)
	})
}

// checkTensor refuses another shape than the architecture's, and numbers that are not finite.
func checkTensor(sp spec, shape []int64, data []float32) error {
	if fmt.Sprint(shape) != fmt.Sprint(sp.shape) {
		return fmt.Errorf("tensor %q has shape %v, the model needs %v", sp.name, shape, sp.shape)
	}
	for i, v := range data {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("tensor %q: element %d is not finite", sp.name, i)
		}
	}
	return nil
}

// SaveDir writes the bundle as LoadDir reads it. The folder appears whole or not at all; an existing one is refused.
func (b *Bundle) SaveDir(dir string) error {
	err := durable.ReplaceDir(dir, b.write)
	return fault.New(fault.Fatal, "lm: save "+dir, err)
}

func (b *Bundle) write(dir string) error {
	cfg := b.Model.Cfg
	cfg.TorchDType = "float32"
	opt := func(id int32) *int32 {
		if id < 0 {
			return nil
		}
		return &id
	}
	cfg.BOS, cfg.EOS, cfg.PAD = opt(b.BOS), opt(b.EOS), opt(b.PAD)
	files := map[string]any{"config.json": cfg}
	gen := generationConfig{BOS: cfg.BOS, PAD: cfg.PAD}
	if b.EOS >= 0 {
		gen.EOS = append(idList{b.EOS}, b.ExtraEOS...)
	}
	files["generation_config.json"] = gen
	if b.Tok != nil {
		tc := tokenizerConfig{Class: "PreTrainedTokenizerFast", ChatTemplate: b.ChatSource, MaxLength: b.MaxLen}
		for _, t := range []struct {
			to *tokenName
			id int32
		}{{&tc.BOS, b.BOS}, {&tc.EOS, b.EOS}, {&tc.PAD, b.PAD}} {
			if t.id >= 0 {
				*t.to = tokenName(b.Tok.Token(t.id))
			}
		}
		files["tokenizer_config.json"] = tc
		if err := b.Tok.Save(filepath.Join(dir, "tokenizer.json")); err != nil {
			return err
		}
	}
	for _, name := range []string{"config.json", "generation_config.json", "tokenizer_config.json"} {
		if v, ok := files[name]; ok {
			if err := writeJSON(filepath.Join(dir, name), v); err != nil {
				return err
			}
		}
	}
	var tensors []safetensors.Tensor
	for _, sp := range b.Model.specs {
		tensors = append(tensors, safetensors.F32("transformer."+sp.name, sp.shape, b.Model.weight(sp.name)))
	}
	return safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), map[string]string{"format": "pt"}, tensors)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o644)
}
