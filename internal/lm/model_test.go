package lm

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden is what transformers computed; see scripts/reference/gpt2_golden.py.
type golden struct {
	IDs      [][]int32     `json:"ids"`
	Logits   [][][]float64 `json:"logits"`
	SoftPos  int           `json:"soft_pos"`
	SoftRows [][][]float32 `json:"soft_rows"`
	SoftLast [][]float64   `json:"soft_logits_last"`
	Greedy   []int32       `json:"greedy"`
}

func logSoftmax(x []float64) []float64 {
	top := math.Inf(-1)
	for _, v := range x {
		top = max(top, v)
	}
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = v - top - math.Log(sum)
	}
	return out
}

func loadGolden(t *testing.T) (*Bundle, *golden) {
	t.Helper()
	b, err := LoadDir("testdata/gpt2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Model.Close)
	g := &golden{}
	readGolden(t, "testdata/gpt2/golden.json", g)
	return b, g
}

func TestLogitsEqualTransformers(t *testing.T) {
	b, g := loadGolden(t)
	if b.BOS != 1 || b.EOS != 2 || b.PAD != 0 {
		t.Errorf("special ids %d %d %d", b.BOS, b.EOS, b.PAD)
	}
	for n, ids := range g.IDs {
		keys := promptKeys(&GenRequest{Prompt: ids}, newSoftTable(24))
		for i, row := range reference(t, b, nil, keys, nil) {
			for j, want := range logSoftmax(g.Logits[n][i]) {
				near(t, "log probability", float64(row[j]), want, 2e-5)
			}
		}
	}
}

func TestSoftRowsAndGreedyEqualTransformers(t *testing.T) {
	b, g := loadGolden(t)
	e := engine(t, b, EngineOptions{})
	v := int32(b.Model.Cfg.VocabSize)
	for n, ids := range g.IDs {
		prompt := append([]int32(nil), ids...)
		var rows []float32
		for k, r := range g.SoftRows[n] {
			prompt[g.SoftPos+k] = v
			rows = append(rows, r...)
		}
		res := generate(t, e, &GenRequest{Prompt: prompt, Soft: []SoftRows{{g.SoftPos, 3, rows}}, MaxTokens: 1, IgnoreEOS: true,
			Logprobs: int(v), PromptLogprobs: -1})
		want := logSoftmax(g.SoftLast[n])
		for _, alt := range res.Choices[0].Top[0] {
			near(t, "log probability after soft rows", float64(alt.Logprob), want[alt.ID], 2e-5)
		}
	}
	res := generate(t, e, &GenRequest{Prompt: g.IDs[0], MaxTokens: 12, IgnoreEOS: true, Logprobs: -1, PromptLogprobs: -1})
	if d := cmp.Diff(g.Greedy, res.Choices[0].Tokens); d != "" {
		t.Errorf("greedy continuation differs from transformers (-want +got):\n%s", d)
	}
}

func TestConfigRefusals(t *testing.T) {
	const gpt2 = `"model_type":"gpt2","vocab_size":10,"n_positions":8,"n_embd":8,"n_layer":1,"n_head":2`
	const llama = `"model_type":"llama","vocab_size":10,"max_position_embeddings":8,"hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,"intermediate_size":9`
	for name, c := range map[string]struct{ file, say string }{
		"gpt2":         {gpt2, ""},
		"llama":        {llama, ""},
		"both":         {llama + `,"rope_parameters":{"rope_type":"default","rope_theta":5e5},"eos_token_id":[1,2]`, ""},
		"old type":     {llama + `,"rope_scaling":{"type":"linear","factor":2}`, ""},
		"type":         {`"model_type":"bloom"`, "bloom"},
		"heads":        {strings.Replace(gpt2, `"n_head":2`, `"n_head":3`, 1), "heads"},
		"gelu":         {gpt2 + `,"activation_function":"gelu"`, "activation_function"},
		"layers":       {strings.Replace(gpt2, `"n_layer":1`, `"n_layer":-1`, 1), "layers"},
		"scale":        {gpt2 + `,"scale_attn_weights":false`, "scale"},
		"index":        {gpt2 + `,"scale_attn_by_inverse_layer_idx":true`, "scale"},
		"untied":       {gpt2 + `,"tie_word_embeddings":false`, "lm_head"},
		"key heads":    {llama + `,"num_key_value_heads":3`, "key heads"},
		"odd head":     {llama + `,"head_dim":3`, "even"},
		"activation":   {llama + `,"hidden_act":"gelu"`, "hidden_act"},
		"rope":         {llama + `,"rope_scaling":{"rope_type":"yarn","factor":4}`, "yarn"},
		"llama3":       {llama + `,"rope_scaling":{"rope_type":"llama3","factor":8}`, "low_freq_factor"},
		"partial":      {llama + `,"partial_rotary_factor":0.5`, "partial_rotary_factor"},
		"bias":         {llama + `,"attention_bias":true`, "attention_bias"},
		"experts":      {llama + `,"num_local_experts":4,"num_experts_per_tok":2`, "experts"},
		"quantisation": {llama + `,"quantization_config":{"quant_method":"gptq"}`, "quantization_config"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte("{"+c.file+"}"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := ReadConfig(dir)
		if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: error %v, want one that says %q", name, err, c.say)
		}
	}
}
