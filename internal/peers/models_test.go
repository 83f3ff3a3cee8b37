//go:build peers

package peers

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/safetensors"
)

const (
	llamaHidden, llamaInner, llamaLayers, llamaHeads = 128, 256, 2, 4
	loraRank                                         = 8
)

// TestWriteModels makes the models that vLLM is to serve, all with random weights and one tokenizer and chat template of ours:
// llama, gpt2 (exactly as the embedded server saves a model), and LoRA adapters for llama, one of them cut short.
func TestWriteModels(t *testing.T) {
	out := need(t, "RECPIE_PEERS_OUT")
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	b := tinyGPT2(t, "gpt2")
	if err := b.SaveDir(filepath.Join(out, "gpt2")); err != nil {
		t.Fatal(err)
	}
	writeLlama(t, filepath.Join(out, "llama"), filepath.Join(out, "gpt2"), b, nil)
	writeTrainees(t, out)
	writeWriter(t, filepath.Join(out, "writer"))
	for i, name := range []string{"lora-a", "lora-b"} {
		writeLoRA(t, filepath.Join(out, name), uint64(i+1), 0.2)
	}
	writeLoRA(t, filepath.Join(out, "lora-zero"), 3, 0)
	writeLoRA(t, filepath.Join(out, "lora-cut"), 4, 0.2)
	weights := filepath.Join(out, "lora-cut", "adapter_model.safetensors")
	if err := os.Truncate(weights, 40); err != nil {
		t.Fatal(err)
	}
}

// writeLlama makes a Llama with the tokenizer of another checkpoint. bend, where given, changes its token embeddings and its last layer,
// both [vocabulary, hidden].
func writeLlama(t *testing.T, dir, tokenizerDir string, b *lm.Bundle, bend func(embeddings, head []float32)) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "generation_config.json"} {
		copyFile(t, filepath.Join(tokenizerDir, name), filepath.Join(dir, name))
	}
	vocab := int64(b.Model.Cfg.VocabSize)
	writeJSON(t, filepath.Join(dir, "config.json"), map[string]any{
		"model_type": "llama", "architectures": []string{"LlamaForCausalLM"}, "torch_dtype": "float32", "vocab_size": vocab,
		"hidden_size": llamaHidden, "intermediate_size": llamaInner, "num_hidden_layers": llamaLayers, "num_attention_heads": llamaHeads,
		"num_key_value_heads": llamaHeads, "head_dim": llamaHidden / llamaHeads, "max_position_embeddings": b.Model.Cfg.MaxPositions, "rms_norm_eps": 1e-5,
		"rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false, "bos_token_id": b.BOS, "eos_token_id": b.EOS, "pad_token_id": b.PAD,
	})
	rng := rand.New(rand.NewPCG(5, 0))
	var tensors []safetensors.Tensor
	add := func(name string, shape ...int64) {
		tensors = append(tensors, safetensors.F32(name, shape, draw(rng, 0.2, shape...)))
	}
	ones := func(name string) {
		tensors = append(tensors, safetensors.F32(name, []int64{llamaHidden}, repeat(1, llamaHidden)))
	}
	table, head := draw(rng, 0.2, vocab, llamaHidden), draw(rng, 0.2, vocab, llamaHidden)
	if bend != nil {
		bend(table, head)
	}
	tensors = append(tensors, safetensors.F32("model.embed_tokens.weight", []int64{vocab, llamaHidden}, table),
		safetensors.F32("lm_head.weight", []int64{vocab, llamaHidden}, head))
	ones("model.norm.weight")
	for i := range llamaLayers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		ones(layer + "input_layernorm.weight")
		ones(layer + "post_attention_layernorm.weight")
		for _, p := range []string{"q", "k", "v", "o"} {
			add(layer+"self_attn."+p+"_proj.weight", llamaHidden, llamaHidden)
		}
		add(layer+"mlp.gate_proj.weight", llamaInner, llamaHidden)
		add(layer+"mlp.up_proj.weight", llamaInner, llamaHidden)
		add(layer+"mlp.down_proj.weight", llamaHidden, llamaInner)
	}
	writeTensors(t, filepath.Join(dir, "model.safetensors"), tensors)
}

// writeLoRA makes an adapter in the PEFT layout. A deviation of 0 gives one that changes nothing.
func writeLoRA(t *testing.T, dir string, seed uint64, deviation float32) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	modules := []string{"q_proj", "k_proj", "v_proj", "o_proj"}
	writeJSON(t, filepath.Join(dir, "adapter_config.json"), map[string]any{
		"peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "llama", "r": loraRank, "lora_alpha": 16, "lora_dropout": 0,
		"bias": "none", "fan_in_fan_out": false, "inference_mode": true, "target_modules": modules,
	})
	rng := rand.New(rand.NewPCG(seed, 1))
	var tensors []safetensors.Tensor
	for i := range llamaLayers {
		for _, m := range modules {
			name := fmt.Sprintf("base_model.model.model.layers.%d.self_attn.%s.", i, m)
			tensors = append(tensors, safetensors.F32(name+"lora_A.weight", []int64{loraRank, llamaHidden}, draw(rng, 0.2, loraRank, llamaHidden)),
				safetensors.F32(name+"lora_B.weight", []int64{llamaHidden, loraRank}, draw(rng, deviation, llamaHidden, loraRank)))
		}
	}
	writeTensors(t, filepath.Join(dir, "adapter_model.safetensors"), tensors)
}

// draw returns the random numbers of a tensor.
func draw(rng *rand.Rand, deviation float32, shape ...int64) []float32 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	data := make([]float32, n)
	for i := range data {
		data[i] = deviation * float32(rng.NormFloat64())
	}
	return data
}

func repeat(v float32, n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func writeTensors(t *testing.T, path string, tensors []safetensors.Tensor) {
	t.Helper()
	if err := safetensors.WriteFile(path, map[string]string{"format": "pt"}, tensors); err != nil {
		t.Fatal(err)
	}
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
