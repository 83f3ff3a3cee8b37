package encoder

import (
	"fmt"
	"path/filepath"

	"recpie/internal/safetensors"
	"recpie/internal/torch"
)

// bert holds the weights under the names that a BertModel gives them, whatever the file calls them.
type bert struct {
	config
	w   *torch.Params
	dev torch.Device
}

func loadBERT(dir string, c config, dev torch.Device) (*bert, error) {
	f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m := &bert{config: c, w: dev.NewParams(), dev: dev}
	for name, shape := range m.shapes() {
		stored, err := c.stored(f, name)
		if err != nil {
			m.w.Free()
			return nil, err
		}
		values, got, err := f.Float32(stored)
		if err == nil && fmt.Sprint(got) != fmt.Sprint(shape) {
			err = fmt.Errorf("%s has shape %v, config.json says %v", stored, got, shape)
		}
		if err == nil {
			_, err = m.w.AddFrozen(name, values, shape...)
		}
		if err != nil {
			m.w.Free()
			return nil, err
		}
	}
	return m, nil
}

// shapes lists the weights that are used.
func (m *bert) shapes() map[string][]int64 {
	h, i := int64(m.Hidden), int64(m.Intermediate)
	all := map[string][]int64{
		"embeddings.word_embeddings.weight":     {int64(m.Vocab), h},
		"embeddings.position_embeddings.weight": {int64(m.Positions), h},
		"embeddings.LayerNorm.weight":           {h},
		"embeddings.LayerNorm.bias":             {h},
	}
	if m.TokenTypes > 0 {
		all["embeddings.token_type_embeddings.weight"] = []int64{int64(m.TokenTypes), h}
	}
	linear := func(name string, out, in int64) {
		all[name+".weight"], all[name+".bias"] = []int64{out, in}, []int64{out}
	}
	for l := range m.Layers {
		p := layerName(l)
		linear(p+"attention.self.query", h, h)
		linear(p+"attention.self.key", h, h)
		linear(p+"attention.self.value", h, h)
		linear(p+"attention.output.dense", h, h)
		linear(p+"intermediate.dense", i, h)
		linear(p+"output.dense", h, i)
		for _, norm := range []string{"attention.output.LayerNorm", "output.LayerNorm"} {
			all[p+norm+".weight"], all[p+norm+".bias"] = []int64{h}, []int64{h}
		}
	}
	return all
}

func layerName(l int) string { return fmt.Sprintf("encoder.layer.%d.", l) }

// encode returns one vector of length 1 per text, [B·hidden], for token ids with special tokens; no text may be empty.
func (m *bert) encode(texts [][]int32) ([]float32, error) {
	n, longest := len(texts), 0
	for _, ids := range texts {
		longest = max(longest, len(ids))
	}
	ids, positions := make([]int64, n*longest), make([]int64, n*longest)
	present, weight := make([]bool, n*longest), make([]float32, n*longest)
	for k, text := range texts {
		for j := range longest {
			positions[k*longest+j] = int64(j)
		}
		for j, id := range text {
			ids[k*longest+j], present[k*longest+j] = int64(id), true
			if !m.cls {
				weight[k*longest+j] = 1 / float32(len(text))
			}
		}
		if m.cls {
			weight[k*longest] = 1
		}
	}
	var out []float32
	err := m.dev.NoGrad(func(s *torch.Scope) error {
		b, l := int64(n), int64(longest)
		x := s.Add(s.Embedding(m.w.Get("embeddings.word_embeddings.weight"), s.Int64(ids, b, l)),
			s.Embedding(m.w.Get("embeddings.position_embeddings.weight"), s.Int64(positions, b, l)))
		if m.TokenTypes > 0 {
			x = s.Add(x, s.Select(m.w.Get("embeddings.token_type_embeddings.weight"), 0, 0))
		}
		x = m.norm(s, x, "embeddings.LayerNorm")
		mask := s.Bool(present, b, 1, 1, l)
		for layer := range m.Layers {
			next := x
			s.Sub(func(s *torch.Scope) { next = s.Lift(m.layer(s, x, mask, layer)) })
			x = next
		}
		mean := s.SumDim(s.Mul(x, s.Float32(weight, b, l, 1)), 1, false)
		length := s.Sqrt(s.SumDim(s.Square(mean), 1, true))
		out = s.Float32s(s.Div(mean, s.Clamp(length, 1e-12, 1e30)))
		return nil
	})
	return out, err
}

// layer is one post-norm Transformer layer over x [B,L,H].
func (m *bert) layer(s *torch.Scope, x, mask *torch.Tensor, layer int) *torch.Tensor {
	p, shape := layerName(layer), x.Shape()
	if len(shape) != 3 {
		return x // a failed scope
	}
	heads := func(name string) *torch.Tensor {
		t := m.linear(s, x, p+"attention.self."+name)
		return s.Transpose(s.Reshape(t, shape[0], shape[1], int64(m.Heads), int64(m.Hidden/m.Heads)), 1, 2)
	}
	a := s.Attention(heads("query"), heads("key"), heads("value"), mask, false, 0)
	a = m.linear(s, s.Reshape(s.Transpose(a, 1, 2), shape...), p+"attention.output.dense")
	x = m.norm(s, s.Add(x, a), p+"attention.output.LayerNorm")
	h := m.linear(s, s.GeluErf(m.linear(s, x, p+"intermediate.dense")), p+"output.dense")
	return m.norm(s, s.Add(x, h), p+"output.LayerNorm")
}

func (m *bert) linear(s *torch.Scope, x *torch.Tensor, name string) *torch.Tensor {
	return s.Linear(x, m.w.Get(name+".weight"), m.w.Get(name+".bias"))
}

func (m *bert) norm(s *torch.Scope, x *torch.Tensor, name string) *torch.Tensor {
	return s.LayerNorm(x, m.w.Get(name+".weight"), m.w.Get(name+".bias"), m.Eps)
}
