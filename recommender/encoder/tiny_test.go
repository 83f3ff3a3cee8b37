package encoder

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/safetensors"
	"recpie/internal/torch"
)

// golden are the vectors of scripts/reference/encoder_tiny.py.
type golden struct {
	IDs    [][]int32 `json:"ids"`
	Models map[string]struct {
		Mean [][]float64 `json:"mean"`
		CLS  [][]float64 `json:"cls"`
	} `json:"models"`
}

var tinyConfig = map[string]string{
	"bert": `{"model_type":"bert","vocab_size":40,"hidden_size":24,"num_hidden_layers":3,"num_attention_heads":4,"intermediate_size":56,"max_position_embeddings":20,
		"type_vocab_size":3,"hidden_act":"gelu","layer_norm_eps":1e-12}`,
	"distilbert": `{"model_type":"distilbert","vocab_size":40,"dim":24,"n_layers":3,"n_heads":4,"hidden_dim":56,"max_position_embeddings":20,"activation":"gelu"}`,
}

// tiny makes the folder of a small model whose weights follow the script's formula. rename says under which name the file holds a weight.
func tiny(t *testing.T, kind string, rename func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("config.json", tinyConfig[kind])
	vocab := []string{`"[PAD]":0`, `"[CLS]":1`, `"[SEP]":2`, `"[UNK]":3`}
	for i := 4; i < 40; i++ {
		vocab = append(vocab, fmt.Sprintf(`"w%d":%d`, i, i))
	}
	write("tokenizer.json", `{"version":"1.0","truncation":null,"padding":null,"added_tokens":[
		{"id":1,"content":"[CLS]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},
		{"id":2,"content":"[SEP]","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true}],
		"normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
		"pre_tokenizer":{"type":"BertPreTokenizer"},"post_processor":null,"decoder":null,
		"model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##","max_input_chars_per_word":100,"vocab":{`+strings.Join(vocab, ",")+`}}}`)
	c, err := readConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []safetensors.Tensor
	for name, shape := range (&bert{config: c}).shapes() {
		if kind == "distilbert" {
			name = toDistilled.Replace(name)
		}
		n := int64(1)
		for _, d := range shape {
			n *= d
		}
		phase, norm := float64(crc32.ChecksumIEEE([]byte(name))%1000), strings.Contains(strings.ToLower(name), "norm") && strings.HasSuffix(name, "weight")
		values := make([]float32, n)
		for i := range values {
			v := math.Sin(float64(i+1)*0.37 + phase)
			if values[i] = float32(0.3 * v); norm {
				values[i] = float32(1 + 0.2*v)
			}
		}
		all = append(all, safetensors.F32(rename(name), shape, values))
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := safetensors.Write(f, nil, all); err != nil {
		t.Fatal(err)
	}
	return dir
}

func readGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/tiny.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

// The vectors are those of transformers' BertModel and DistilBertModel, whatever names a checkpoint gives its weights.
func TestAgainstTransformers(t *testing.T) {
	g := readGolden(t)
	digests := map[string]string{}
	for _, kind := range []string{"bert", "distilbert"} {
		for name, rename := range map[string]func(string) string{
			"plain": func(s string) string { return s }, "with a head": func(s string) string { return kind + "." + s },
			"from TensorFlow": func(s string) string { return kind + "." + toGamma.Replace(s) },
		} {
			for _, cls := range []bool{false, true} {
				t.Run(fmt.Sprint(kind, " ", name, " cls ", cls), func(t *testing.T) {
					dir := tiny(t, kind, rename)
					want := g.Models[kind].Mean
					if cls {
						want = g.Models[kind].CLS
						if err := os.MkdirAll(filepath.Join(dir, "1_Pooling"), 0o755); err != nil {
							t.Fatal(err)
						}
						if err := os.WriteFile(filepath.Join(dir, "1_Pooling", "config.json"), []byte(`{"word_embedding_dimension":24,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}`), 0o600); err != nil {
							t.Fatal(err)
						}
					}
					e, err := open(dir, "", torch.CPU)
					if err != nil {
						t.Fatal(err)
					}
					defer e.Close()
					if other, ok := digests[e.Digest()]; ok {
						t.Errorf("the digest is that of %s", other)
					}
					digests[e.Digest()] = t.Name()
					var texts []string
					for _, ids := range g.IDs {
						text := ""
						for _, id := range ids[1 : len(ids)-1] {
							text += fmt.Sprintf(" w%d", id)
						}
						texts = append(texts, text)
					}
					got, err := e.Embed(t.Context(), texts)
					if err != nil {
						t.Fatal(err)
					}
					worst := 0.0
					for k := range want {
						if len(got[k]) != len(want[k]) || len(want[k]) != 24 {
							t.Fatalf("text %d has %d numbers, want %d", k, len(got[k]), len(want[k]))
						}
						for j, x := range want[k] {
							worst = max(worst, math.Abs(float64(got[k][j])-x))
						}
					}
					if !(worst < 1e-5) {
						t.Errorf("the largest difference is %.2g", worst)
					}
					t.Logf("largest difference %.2g", worst)
				})
			}
		}
	}
}

func TestFoldersThatAreRefused(t *testing.T) {
	same := func(s string) string { return s }
	for name, c := range map[string]struct {
		file, text, says string
		rename           func(string) string
	}{
		"another pooling":    {"1_Pooling/config.json", `{"pooling_mode_max_tokens":true}`, "max_tokens", same},
		"two poolings":       {"1_Pooling/config.json", `{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}`, "cls_token", same},
		"another activation": {"config.json", strings.Replace(tinyConfig["distilbert"], "gelu", "relu", 1), "relu", same},
		"other sizes":        {"config.json", strings.Replace(tinyConfig["distilbert"], `"hidden_dim":56`, `"hidden_dim":57`, 1), "shape", same},
		"another type":       {"config.json", strings.Replace(tinyConfig["distilbert"], `"distilbert"`, `"roberta"`, 1), "roberta", same},
		"a missing weight":   {"config.json", tinyConfig["distilbert"], "has no", func(s string) string { return strings.Replace(s, "q_lin", "q", 1) }},
	} {
		dir := tiny(t, "distilbert", c.rename)
		path := filepath.Join(dir, c.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := Open(dir, "", "cpu")
		if err == nil {
			_ = e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
