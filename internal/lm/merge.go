package lm

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/torch"
)

// Merge writes the model of a folder with a PEFT adapter added to its weights as a full float32 checkpoint in out, for servers that serve no adapters
// on its architecture. Tokenizer and chat template are copied as they are. The folder appears whole or not at all; an existing one is
// refused.
func Merge(modelDir, adapterDir, out string) error {
	const op = "lm: merge"
	b, err := LoadDir(modelDir)
	if err != nil {
		return err
	}
	defer b.Model.Close()
	cfg, data, err := readAdapter(adapterDir, b.Model.Cfg)
	if err != nil {
		return fault.New(fault.Item, op, err)
	}
	if err := b.Model.mergeAdapter(cfg, data); err != nil {
		return fault.New(fault.Fatal, op, err)
	}
	err = durable.ReplaceDir(out, func(tmp string) error {
		if err := copyTexts(modelDir, tmp); err != nil {
			return err
		}
		if err := writeJSON(filepath.Join(tmp, "config.json"), b.Model.Cfg.file("float32")); err != nil {
			return err
		}
		return b.Model.writeWeights(tmp)
	})
	return fault.New(fault.Fatal, op, err)
}

// mergeAdapter adds an adapter to the weights in place.
func (m *Model) mergeAdapter(c LoRAConfig, data [][]float32) error {
	sp, targets, net := loraSpecs(m.Cfg, c), m.Cfg.targets(c), m.network()
	return m.dev.NoGrad(func(s *torch.Scope) error {
		for i := range net.blocks {
			for k, t := range targets {
				at := 2 * (i*len(targets) + k)
				s.Sub(func(s *torch.Scope) {
					delta := s.MatMul(s.Float32(data[at+1], sp[at+1].shape...), s.Float32(data[at], sp[at].shape...))
					net.blocks[i].linear(t.of).addRows(s, t, s.MulS(delta, c.scale()))
				})
			}
		}
		return nil
	})
}

// addRows adds delta [out, in] to the rows of a target, in place.
func (l *linear) addRows(s *torch.Scope, t target, delta *torch.Tensor) {
	w := l.w
	if l.conv {
		w = s.Transpose(w, 0, 1)
	}
	s.AddInto(s.Narrow(w, 0, t.from, t.out), s.To(delta, w.DType()))
}

// copyTexts copies what a model folder holds beside weights and config.json: tokenizer, chat template, generation settings.
func copyTexts(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := e.Name()
		wanted := strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".jinja") || strings.HasSuffix(name, ".model") || name == "merges.txt" || name == "vocab.txt"
		if !wanted || name == "config.json" || strings.HasSuffix(name, ".index.json") || strings.HasPrefix(name, "adapter_") {
			continue
		}
		info, err := os.Stat(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() || info.Size() > 256<<20 {
			continue
		}
		if err := copyFile(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		_ = dst.Close()
		return err
	}
	return dst.Close()
}
