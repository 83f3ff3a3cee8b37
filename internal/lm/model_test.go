package lm

import (
	"math"
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
	no, yes := false, true
	good := Config{VocabSize: 10, NPositions: 8, NEmbd: 8, NLayer: 1, NHead: 2}.withDefaults()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"type":   func(c *Config) { c.ModelType = "llama" },
		"heads":  func(c *Config) { c.NHead = 3 },
		"gelu":   func(c *Config) { c.Activation = "gelu" },
		"layers": func(c *Config) { c.NLayer = -1 },
		"scale":  func(c *Config) { c.ScaleAttnWeights = &no },
		"index":  func(c *Config) { c.ScaleByLayer = yes },
		"untied": func(c *Config) { c.TieWordEmbeddings = &no },
	} {
		c := good
		if change(&c); c.Validate() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
