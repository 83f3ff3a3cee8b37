package lm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/tokenizer"
	"recpie/internal/tokenizer/chat"
	"recpie/internal/torch"
)

// LoadOptions say where a model's weights go. The zero value is float32 on the CPU.
type LoadOptions struct {
	Device    Device
	BFloat16  bool  // keep the weights in bfloat16; on a GPU only, for the CPU computes it many times slower than float32
	MaxMemory int64 // bytes the weights may take; 0 is what the device has free
}

// Device names where a model computes: "" and "cpu", or "cuda" and "cuda:N".
type Device string

func (d Device) device() torch.Device {
	dev, err := torch.ParseDevice(string(d))
	if err != nil {
		return torch.CPU
	}
	return dev
}

func (o LoadOptions) dtype() torch.DType {
	if o.BFloat16 {
		return torch.BFloat16
	}
	return torch.Float32
}

// check refuses what this machine does not have.
func (o LoadOptions) check() error {
	dev, err := torch.ParseDevice(string(o.Device))
	switch {
	case err != nil:
		return err
	case dev == torch.CPU && o.BFloat16:
		return fault.WithHint(errors.New("bfloat16 is for GPUs: this CPU computes it many times slower than float32"), "leave it out: bfloat16 files are converted to float32")
	}
	return dev.Available()
}

// LoadDir is Load with float32 weights on the CPU.
func LoadDir(dir string) (*Bundle, error) { return Load(dir, LoadOptions{}) }

// Load reads a model folder in the Hugging Face layout: config.json, the weights (model.safetensors, or the shards that
// model.safetensors.index.json names), and where present tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json.
// Without a tokenizer the bundle's Tok is nil and only ids work. A model that cannot fit the memory is refused before its weights are read.
func Load(dir string, o LoadOptions) (*Bundle, error) {
	b, err := load(dir, o)
	if err != nil {
		return nil, fault.New(fault.Fatal, "lm: load "+dir, err)
	}
	return b, nil
}

func load(dir string, o LoadOptions) (*Bundle, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	cfg, err := ReadConfig(dir)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Name: filepath.Base(dir), BOS: -1, EOS: -1, PAD: -1, MaxLen: cfg.positions()}
	gen := generationConfig{BOS: cfg.BOS, PAD: cfg.PAD, EOS: cfg.EOS}
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
	if err := checkMemory(cfg, o); err != nil {
		return nil, err
	}
	if b.Model, err = loadModel(dir, cfg, o); err != nil {
		return nil, err
	}
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
	b.ChatSource = string(tc.ChatTemplate)
	switch file, err := os.ReadFile(filepath.Join(dir, "chat_template.jinja")); { // where transformers 5 writes it
	case err == nil && len(file) <= maxConfigBytes:
		b.ChatSource = string(file)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if b.ChatSource != "" {
		if b.Chat, err = chat.Parse(b.ChatSource, string(tc.BOS), string(tc.EOS)); err != nil {
			return fmt.Errorf("chat_template: %w", err)
		}
	}
	return nil
}

// shards finds a checkpoint's tensors in its files.
type shards struct {
	files []*safetensors.File
	of    map[string]*safetensors.File // by the tensor's full name
}

func (s *shards) close() {
	for _, f := range s.files {
		_ = f.Close()
	}
}

// openShards opens model.safetensors, or every file that the index names.
func openShards(dir string) (*shards, error) {
	names := []string{"model.safetensors"}
	index := filepath.Join(dir, "model.safetensors.index.json")
	switch data, err := os.ReadFile(index); {
	case err == nil:
		var idx struct {
			Files map[string]string `json:"weight_map"`
		}
		if err := json.Unmarshal(data, &idx); err != nil {
			return nil, fmt.Errorf("%s: %w", index, err)
		}
		seen := map[string]bool{}
		for tensor, file := range idx.Files {
			if file != filepath.Base(file) || !strings.HasSuffix(file, ".safetensors") {
				return nil, fmt.Errorf("%s: tensor %q is said to be in %q, which is no safetensors file of the folder", index, tensor, file)
			}
			seen[file] = true
		}
		names = names[:0]
		for file := range seen {
			names = append(names, file)
		}
		slices.Sort(names)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	s := &shards{of: map[string]*safetensors.File{}}
	for _, name := range names {
		path := filepath.Join(dir, name)
		f, err := safetensors.Open(path)
		if err != nil {
			s.close()
			if errors.Is(err, fs.ErrNotExist) && len(names) == 1 {
				err = fault.WithHint(err, "a model folder holds model.safetensors, or shards with model.safetensors.index.json; convert pytorch_model.bin with transformers' save_pretrained")
			}
			return nil, err
		}
		s.files = append(s.files, f)
		for _, tensor := range f.Names() {
			if s.of[tensor] != nil {
				s.close()
				return nil, fmt.Errorf("%s: tensor %q is in another shard too", path, tensor)
			}
			s.of[tensor] = f
		}
	}
	return s, nil
}

// loadModel reads the weights, with or without the family's prefix. Buffers and a tied unembedding may be there; anything else, and any other
// shape, is refused.
func loadModel(dir string, cfg Config, o LoadOptions) (*Model, error) {
	files, err := openShards(dir)
	if err != nil {
		return nil, err
	}
	defer files.close()
	want := map[string]bool{}
	for _, sp := range specs(cfg) {
		for _, p := range sp.pieces() {
			want[p.name] = true
		}
	}
	full := map[string]string{}
	for name := range files.of {
		short := strings.TrimPrefix(name, cfg.prefix())
		switch {
		case cfg.ignored(short):
		case !want[short]:
			return nil, fmt.Errorf("%s: unexpected tensor %q for a %s", dir, name, cfg.ModelType)
		default:
			full[short] = name
		}
	}
	return buildModel(cfg, o, func(sp spec) ([]float32, error) {
		var all []float32
		for _, p := range sp.pieces() {
			f := files.of[full[p.name]]
			if f == nil {
				return nil, fmt.Errorf("%s: no tensor %q", dir, cfg.fullName(p.name))
			}
			data, shape, err := f.Float32(full[p.name])
			if err != nil {
				return nil, err
			}
			if err := checkTensor(p, shape); err != nil {
				return nil, err
			}
			if i := notFinite(data); i >= 0 {
				return nil, fmt.Errorf("tensor %q: element %d is not finite", p.name, i)
			}
			if sp.parts == nil {
				return data, nil
			}
			all = append(slices.Grow(all, int(sp.elements())-len(all)), data...)
		}
		return all, nil
	})
}

// checkMemory refuses a model whose weights, one tensor on its way in and some room to compute cannot fit.
func checkMemory(cfg Config, o LoadOptions) error {
	need, largest := int64(0), int64(0)
	size := int64(4)
	if o.BFloat16 {
		size = 2
	}
	for _, sp := range specs(cfg) {
		need += size * sp.elements()
		largest = max(largest, 4*sp.elements())
	}
	free, what := o.MaxMemory, "the limit"
	if free <= 0 {
		free, what = o.Device.device().FreeMemory(), "free memory"
	}
	dev := o.Device
	if dev == "" {
		dev = "cpu"
	}
	const room = 256 << 20
	if dev == "cpu" {
		need += 2 * largest
	}
	if free > 0 && need+room > free {
		return fault.WithHint(fmt.Errorf("the model needs %s in %s on %s, %s is %s", gib(need+room), o.dtype(), dev, what, gib(free)),
			"use a smaller model, a GPU with --dtype bfloat16, or free memory")
	}
	return nil
}

func gib(n int64) string { return fmt.Sprintf("%.2f GiB", float64(n)/math.Exp2(30)) }
