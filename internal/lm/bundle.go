package lm

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/tokenizer"
	"recpie/internal/tokenizer/chat"
)

// NewBundle puts a model and a tokenizer with our special tokens (SpecialTokens) together under our chat template.
func NewBundle(name string, m *Model, tok *tokenizer.Tokenizer) (*Bundle, error) {
	b := &Bundle{Name: name, Model: m, Tok: tok, ChatSource: DefaultChatTemplate, MaxLen: m.Cfg.positions()}
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
	var one *int32
	if json.Unmarshal(b, &one) == nil {
		if one == nil {
			return nil
		}
		*l = idList{*one}
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

// chatNames is a chat template, or the one named "default" of a list of named ones.
type chatNames string

func (t *chatNames) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*t = chatNames(one)
		return nil
	}
	var named []struct {
		Name     string `json:"name"`
		Template string `json:"template"`
	}
	if err := json.Unmarshal(b, &named); err != nil {
		return err
	}
	for _, n := range named {
		if n.Name == "default" {
			*t = chatNames(n.Template)
		}
	}
	return nil
}

type tokenizerConfig struct {
	Class        string    `json:"tokenizer_class,omitempty"`
	ChatTemplate chatNames `json:"chat_template,omitempty"`
	BOS          tokenName `json:"bos_token,omitempty"`
	EOS          tokenName `json:"eos_token,omitempty"`
	PAD          tokenName `json:"pad_token,omitempty"`
	AddBOS       bool      `json:"add_bos_token"`
	MaxLength    int       `json:"model_max_length,omitempty"`
}

// SaveDir writes the bundle as LoadDir reads it. The folder appears whole or not at all; an existing one is refused.
func (b *Bundle) SaveDir(dir string) error {
	err := durable.ReplaceDir(dir, b.write)
	return fault.New(fault.Fatal, "lm: save "+dir, err)
}

func (b *Bundle) write(dir string) error {
	cfg := b.Model.Cfg
	opt := func(id int32) *int32 {
		if id < 0 {
			return nil
		}
		return &id
	}
	cfg.BOS, cfg.PAD, cfg.EOS = opt(b.BOS), opt(b.PAD), nil
	if b.EOS >= 0 {
		cfg.EOS = append([]int32{b.EOS}, b.ExtraEOS...)
	}
	files := map[string]any{"config.json": cfg.file("float32"), "generation_config.json": generationConfig{BOS: cfg.BOS, PAD: cfg.PAD, EOS: cfg.EOS}}
	if b.Tok != nil {
		tc := tokenizerConfig{Class: "PreTrainedTokenizerFast", ChatTemplate: chatNames(b.ChatSource), MaxLength: b.MaxLen}
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
	return b.Model.writeWeights(dir)
}

// shardBytes bounds one file of a checkpoint, as save_pretrained does.
var shardBytes = int64(4 << 30)

// writeWeights writes the weights in float32 under Hugging Face's names: one file, or shards with an index.
func (m *Model) writeWeights(dir string) error {
	var files [][]safetensors.Tensor
	size, total := int64(0), int64(0)
	for _, sp := range m.specs {
		data, err := m.data(sp.name)
		if err != nil {
			return err
		}
		for _, p := range sp.pieces() {
			n := p.elements()
			if len(files) == 0 || size+4*n > shardBytes {
				files, size = append(files, nil), 0
			}
			last := &files[len(files)-1]
			*last = append(*last, safetensors.F32(m.Cfg.fullName(p.name), p.shape, data[:n]))
			data, size, total = data[n:], size+4*n, total+4*n
		}
	}
	meta := map[string]string{"format": "pt"}
	if len(files) == 1 {
		return safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), meta, files[0])
	}
	where := map[string]string{}
	for i, tensors := range files {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(files))
		if err := safetensors.WriteFile(filepath.Join(dir, name), meta, tensors); err != nil {
			return err
		}
		for _, t := range tensors {
			where[t.Name] = name
		}
	}
	return writeJSON(filepath.Join(dir, "model.safetensors.index.json"), map[string]any{
		"metadata": map[string]any{"total_size": total}, "weight_map": where,
	})
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(data, '\n'), 0o644)
}
