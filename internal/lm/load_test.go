package lm

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/fault"
)

// A saved model loads with the same weights, in one file or in shards.
func TestSaveAndLoadEveryArchitecture(t *testing.T) {
	defer func(n int64) { shardBytes = n }(shardBytes)
	every(t, 11, func(t *testing.T, b *Bundle) {
		for shards, limit := range map[bool]int64{false: 1 << 30, true: 6000} {
			shardBytes = limit
			dir := filepath.Join(t.TempDir(), "model")
			if err := b.SaveDir(dir); err != nil {
				t.Fatal(err)
			}
			_, err := os.Stat(filepath.Join(dir, "model.safetensors.index.json"))
			if (err == nil) != shards {
				t.Errorf("an index of shards: %v, want %v", err == nil, shards)
			}
			back, err := LoadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer back.Model.Close()
			for _, sp := range b.Model.specs {
				if !slices.Equal(b.Model.weight(sp.name), back.Model.weight(sp.name)) {
					t.Errorf("%s differs", sp.name)
				}
			}
			ids := promptKeys(&GenRequest{Prompt: []int32{1, 5, 9, 30, 2}}, nil)
			got, want := reference(t, back, nil, ids, nil), reference(t, b, nil, ids, nil)
			for i := range want {
				if !slices.Equal(got[i], want[i]) {
					t.Fatalf("the loaded model computes something else at position %d", i)
				}
			}
		}
	})
}

// An index may name files of the folder only, and a tensor must not be there twice.
func TestShardsAreChecked(t *testing.T) {
	defer func(n int64) { shardBytes = n }(shardBytes)
	shardBytes = 6000
	b := tiny(t, 1)
	index := func(dir string) string { return filepath.Join(dir, "model.safetensors.index.json") }
	for name, c := range map[string]struct {
		say   string
		spoil func(t *testing.T, dir string)
	}{
		"outside": {"no safetensors file of the folder", func(t *testing.T, dir string) {
			write(t, index(dir), map[string]any{"weight_map": map[string]string{"transformer.wte.weight": "../model.safetensors"}})
		}},
		"absent": {"no such file", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
			if err := os.Remove(files[len(files)-1]); err != nil {
				t.Fatal(err)
			}
		}},
		"twice": {"another shard", func(t *testing.T, dir string) {
			files, _ := filepath.Glob(filepath.Join(dir, "model-*.safetensors"))
			data, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(files[1], data, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
		"broken": {"index.json", func(t *testing.T, dir string) {
			if err := os.WriteFile(index(dir), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		dir := filepath.Join(t.TempDir(), "model")
		if err := b.SaveDir(dir); err != nil {
			t.Fatal(err)
		}
		c.spoil(t, dir)
		loaded, err := LoadDir(dir)
		if err == nil {
			loaded.Model.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want an error that says %q", name, err, c.say)
		}
	}
}

func write(t *testing.T, path string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A model that cannot fit is refused by its configuration, before its weights are looked for.
func TestMemoryIsEstimatedBeforeLoading(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), map[string]any{"model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072, "hidden_size": 16384,
		"num_hidden_layers": 126, "num_attention_heads": 128, "num_key_value_heads": 8, "intermediate_size": 53248}) // Llama 3.1 405B
	_, err := LoadDir(dir)
	if err == nil || !strings.Contains(err.Error(), "the model needs 15") || fault.HintOf(err) == "" {
		t.Errorf("error %v, hint %q", err, fault.HintOf(err))
	}
	small := tiny(t, 1)
	one := filepath.Join(t.TempDir(), "model")
	if err := small.SaveDir(one); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(one, LoadOptions{MaxMemory: 1 << 20}); err == nil || !strings.Contains(err.Error(), "the limit is") {
		t.Errorf("a limit of 1 MiB: %v", err)
	}
}

func TestLoadOptionsAreChecked(t *testing.T) {
	for o, say := range map[LoadOptions]string{
		{Device: "tpu"}:    "no device",
		{Device: "cuda:x"}: "no device",
		{BFloat16: true}:   "bfloat16 is for GPUs",
	} {
		if _, err := Load(t.TempDir(), o); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%+v: %v, want an error that says %q", o, err, say)
		}
	}
}

// Activations computed again give the gradients of activations kept.
func TestCheckpointingDoesNotChangeGradients(t *testing.T) {
	every(t, 12, func(t *testing.T, b *Bundle) {
		var lora, soft [2][][]float32
		for i, on := range []bool{false, true} {
			tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
			tr.opt.Checkpointing = on
			soft[i] = pass1(t, tr, someData(b, 5, 3), "ppo", map[string]float64{cfgSharedGrads: 1}, false).EmbedGrads
			lora[i] = tr.grads
		}
		for i := range lora[0] {
			for j, v := range lora[0][i] {
				near(t, "adapter gradient", float64(lora[1][i][j]), float64(v), 1e-5*max(1, gradNorm(lora[0])))
			}
		}
		for i := range soft[0] {
			for j, v := range soft[0][i] {
				near(t, "soft gradient", float64(soft[1][i][j]), float64(v), 1e-5*max(1, gradNorm(soft[0])))
			}
		}
	})
}

// Modules are named as PEFT names them, and an adapter may sit on some of a fused matrix's parts.
func TestTargetModules(t *testing.T) {
	every(t, 13, func(t *testing.T, b *Bundle) {
		cfg := b.Model.Cfg
		one := "v_proj"
		if cfg.gpt() {
			one = "mlp.c_proj"
		}
		c := LoRAConfig{Rank: 2, Alpha: 4, Modules: []string{one}}
		tr := trained(t, b, c)
		if len(tr.specs) != 2*cfg.NumLayers {
			t.Fatalf("%d tensors for one module in %d layers", len(tr.specs), cfg.NumLayers)
		}
		dir := filepath.Join(t.TempDir(), "adapter")
		if err := tr.Save(dir, false); err != nil {
			t.Fatal(err)
		}
		back, _, err := readAdapter(dir, cfg)
		if err != nil || !slices.Equal(back.Modules, []string{one}) || back.Attn || back.MLP {
			t.Errorf("read back as %+v, %v", back, err)
		}
		if err := (LoRAConfig{Rank: 2, Alpha: 4, Modules: []string{"up_down"}}).check(cfg); err == nil || !strings.Contains(err.Error(), "c_proj") && !strings.Contains(err.Error(), "q_proj") {
			t.Errorf("an unknown module: %v", err)
		}
	})
}

// Dropout changes a training pass and nothing else.
func TestDropoutIsForTrainingAlone(t *testing.T) {
	b := tiny(t, 14)
	data := someData(b, 2, 3)
	var fwd, back [2]float64
	for i, p := range []float64{0, 0.5} {
		tr := trained(t, b, LoRAConfig{Rank: 4, Attn: true, Dropout: p})
		fwd[i] = pass1(t, tr, data, "cross_entropy", nil, true).Metrics["loss:sum"]
		back[i] = pass1(t, tr, data, "cross_entropy", nil, false).Metrics["loss:sum"]
	}
	if near(t, "a pass without dropout", back[0], fwd[0], 1e-4); fwd[0] != fwd[1] || math.Abs(back[1]-back[0]) < 1e-2 {
		t.Errorf("losses scoring %v, training %v with dropout 0 and .5", fwd, back)
	}
}
