package lm

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/safetensors"
)

// rewrite saves the golden model's tensors in dir after change.
func rewrite(t *testing.T, change func(ts []safetensors.Tensor) []safetensors.Tensor) string {
	t.Helper()
	dir := t.TempDir()
	cfg, err := os.ReadFile("testdata/gpt2/config.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), cfg, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := safetensors.Open("testdata/gpt2/model.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ts []safetensors.Tensor
	for _, name := range f.Names() {
		data, shape, err := f.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, safetensors.F32(name, shape, data))
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "model.safetensors"), nil, change(ts)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The published GPT-2 files have no prefix, and carry buffers.
func TestLoadWithoutPrefixAndWithBuffers(t *testing.T) {
	want, _ := loadGolden(t)
	dir := rewrite(t, func(ts []safetensors.Tensor) []safetensors.Tensor {
		for i := range ts {
			ts[i].Name = strings.TrimPrefix(ts[i].Name, "transformer.")
		}
		return append(ts, safetensors.F32("h.0.attn.bias", []int64{1}, []float32{1}), safetensors.F32("lm_head.weight", []int64{1}, []float32{1}))
	})
	b, err := LoadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Model.Close()
	for _, sp := range b.Model.specs {
		if !slices.Equal(b.Model.weight(sp.name), want.Model.weight(sp.name)) {
			t.Errorf("%s differs", sp.name)
		}
	}
	if n := b.Model.EmbeddingNorm(); n < .1 || n > 5 || b.Model.NumParameters() != 24336 {
		t.Errorf("embedding norm %g, %d parameters", n, b.Model.NumParameters())
	}
}

func TestLoadRefusesOtherWeights(t *testing.T) {
	for name, change := range map[string]func(ts []safetensors.Tensor) []safetensors.Tensor{
		"missing": func(ts []safetensors.Tensor) []safetensors.Tensor { return ts[1:] },
		"extra": func(ts []safetensors.Tensor) []safetensors.Tensor {
			return append(ts, safetensors.F32("h.0.attn.q", []int64{1}, []float32{1}))
		},
		"shape": func(ts []safetensors.Tensor) []safetensors.Tensor {
			ts[0].Shape = []int64{int64(len(ts[0].Data) / 4)}
			return append(ts[:0:0], append([]safetensors.Tensor{{Name: ts[0].Name, DType: ts[0].DType, Shape: []int64{1, ts[0].Shape[0]}, Data: ts[0].Data}}, ts[1:]...)...)
		},
	} {
		if b, err := LoadDir(rewrite(t, change)); err == nil {
			b.Model.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := LoadDir(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder: %v", err)
	}
}

// No content of a configuration file may crash the reader, and what it accepts must be usable.
func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":8,"lora_alpha":32,"target_modules":["attn.c_attn","attn.c_proj"],"bias":"none"}`))
	f.Add([]byte(`{"peft_type":"LORA","r":-1,"target_modules":["q_proj"]}`))
	f.Add([]byte(`{"peft_type":"LORA","r":8,"lora_alpha":1e999,"target_modules":"all-linear"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, m := range []Config{{ModelType: TypeGPT2, NumLayers: 1}, {ModelType: TypeLlama, NumLayers: 1}, {ModelType: TypeMixtral, NumLayers: 1, Experts: 4}} {
			if c, err := readPEFTConfig(dir, m); err == nil && (c.check(m) != nil || len(m.targets(c)) == 0) {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}

func FuzzModelConfig(f *testing.F) {
	f.Add([]byte(`{"model_type":"gpt2","vocab_size":61,"n_positions":48,"n_embd":24,"n_layer":3,"n_head":4}`))
	f.Add([]byte(`{"model_type":"gpt2","vocab_size":61,"n_positions":48,"n_embd":24,"n_layer":3,"n_head":0,"n_inner":-4}`))
	f.Add([]byte(`{"model_type":"llama","vocab_size":61,"max_position_embeddings":48,"hidden_size":24,"num_hidden_layers":3,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":9,"rope_scaling":{"rope_type":"llama3","factor":8,"low_freq_factor":1,"high_freq_factor":4,"original_max_position_embeddings":16}}`))
	f.Add([]byte(`{"model_type":"mixtral","vocab_size":61,"max_position_embeddings":48,"hidden_size":24,"num_hidden_layers":3,"num_attention_heads":4,"intermediate_size":9,"num_local_experts":4,"num_experts_per_tok":2,"eos_token_id":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if b, err := LoadDir(dir); err == nil { // there are no weights
			t.Errorf("loaded %+v", b.Model.Cfg)
		}
	})
}
