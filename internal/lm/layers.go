package lm

import (
	"sync"

	"recpie/internal/torch"
)

// linear is x·wᵀ + b, plus what the adapters on parts of it add.
type linear struct {
	w, b *torch.Tensor
	conv bool       // w is [in, out], as GPT-2 holds it, else [out, in]
	lora []loraPart // by rising first output, of one adapter: they share rank, scale and dropout
}

// loraPart adds scale·(x·aᵀ)·uᵀ to the outputs from … from+n, a being [rank, in] and u [n, rank].
type loraPart struct {
	from, n int64
	a, u    *torch.Tensor
	scale   float64
	dropout float64
}

func (l *linear) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	w := l.w
	if l.conv {
		w = s.Transpose(w, 0, 1)
	}
	if len(l.lora) == 0 {
		return s.Linear(x, w, l.b)
	}
	if l.lora[0].dropout > 0 {
		y := s.Linear(x, w, l.b)
		return s.Add(y, l.dropped(s, x, y.Dim(-1)))
	}
	var a, u []*torch.Tensor
	var from, n []int64
	for _, p := range l.lora {
		a, u, from, n = append(a, s.To(p.a, x.DType())), append(u, s.To(p.u, x.DType())), append(from, p.from), append(n, p.n)
	}
	below := func(t []*torch.Tensor) *torch.Tensor {
		if len(t) == 1 {
			return t[0]
		}
		return s.Cat(0, t...)
	}
	return s.LoRALinear(x, w, l.b, below(a), below(u), l.lora[0].scale, from, n)
}

// dropped returns what adapters add whose input drops out, zeros where no adapter sits.
func (l *linear) dropped(s *torch.Scope, x *torch.Tensor, out int64) *torch.Tensor {
	shape := x.Shape()
	at := int64(0)
	var parts []*torch.Tensor
	fill := func(to int64) {
		if to > at && len(shape) > 0 {
			parts = append(parts, s.Zeros(x.DType(), append(append([]int64{}, shape[:len(shape)-1]...), to-at)...))
		}
	}
	for _, p := range l.lora {
		fill(p.from)
		parts = append(parts, s.MulS(s.Linear(s.Linear(s.Dropout(x, p.dropout, true), s.To(p.a, x.DType()), nil), s.To(p.u, x.DType()), nil), p.scale))
		at = p.from + p.n
	}
	fill(out)
	return s.Cat(-1, parts...)
}

// norm is LayerNorm with gain and bias, or RMSNorm (Zhang and Sennrich 2019) with a gain.
type norm struct {
	w, b *torch.Tensor // b is nil for RMSNorm
	eps  float64
}

func (n norm) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	if n.b == nil {
		return s.RMSNorm(x, n.w, n.eps)
	}
	return s.LayerNorm(x, n.w, n.b, n.eps)
}

// mlp is a feed-forward network: down(gelu(up(x))), or with gated down(silu(gate)·up), gate and up being the halves of the first product.
type mlp struct {
	up, down linear
	gated    bool
}

func (m *mlp) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	h := m.up.apply(s, x)
	if !m.gated {
		return m.down.apply(s, s.Gelu(h))
	}
	return m.down.apply(s, s.SiluMul(h))
}

// mixture is a sparse mixture of experts (Mixtral): each token goes through the perTok experts that the router likes most, weighted by the
// router's softmax over those.
type mixture struct {
	router  *torch.Tensor // [experts, hidden]
	experts []mlp
	perTok  int
}

func (m *mixture) apply(s *torch.Scope, x *torch.Tensor) *torch.Tensor {
	shape := x.Shape()
	if len(shape) == 0 {
		return nil
	}
	d := shape[len(shape)-1]
	x = s.Reshape(x, -1, d)
	n := int(x.Dim(0))
	probs := s.Softmax(s.To(s.Linear(x, m.router, nil), torch.Float32), -1)
	weights, chosen := s.TopK(probs, int64(m.perTok))
	weights = s.To(s.Div(weights, s.SumDim(weights, -1, true)), x.DType()) // [n, perTok]
	experts := s.Int64s(chosen)
	if s.Err() != nil {
		return nil
	}
	of := make([][]int64, len(m.experts)) // the tokens of each expert
	at := make([]int64, len(experts))     // where each choice's result lies among all results
	rank := make([]int, len(experts))     // its place among its expert's
	for i, e := range experts {
		rank[i] = len(of[e])
		of[e] = append(of[e], int64(i/m.perTok))
	}
	first := make([]int64, len(of))
	var results []*torch.Tensor
	total := int64(0)
	for e, tokens := range of {
		first[e] = total
		total += int64(len(tokens))
		if len(tokens) > 0 {
			results = append(results, m.experts[e].apply(s, s.IndexSelect(x, 0, s.Int64(tokens, int64(len(tokens))))))
		}
	}
	for i, e := range experts {
		at[i] = first[e] + int64(rank[i])
	}
	y := s.IndexSelect(s.Cat(0, results...), 0, s.Int64(at, int64(len(at))))
	y = s.Mul(s.Reshape(y, int64(n), int64(m.perTok), d), s.Unsqueeze(weights, -1))
	return s.Reshape(s.SumDim(y, 1, false), shape...)
}

// ropeTable holds the cosines and sines of the angles by position, as far as they were needed so far.
type ropeTable struct {
	freq []float32 // angle per position, [head/2]
	dev  torch.Device

	mu       sync.Mutex
	n        int64
	cos, sin *torch.Tensor // [n, head/2]
}

// at returns cosines and sines of some positions, [len(pos), head/2].
func (r *ropeTable) at(s *torch.Scope, pos []int64) (cos, sin *torch.Tensor) {
	top := int64(0)
	for _, p := range pos {
		top = max(top, p)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if top >= r.n {
		r.grow(s, max(512, 2*r.n, top+1))
	}
	idx := s.Int64(pos, int64(len(pos)))
	return s.Embedding(r.cos, idx), s.Embedding(r.sin, idx)
}

func (r *ropeTable) grow(s *torch.Scope, n int64) {
	s.NoGrad(func() {
		p := s.Reshape(s.To(s.Arange(n), torch.Float32), n, 1)
		angle := s.Mul(p, s.Float32(r.freq, 1, int64(len(r.freq))))
		cos, sin := s.Cos(angle), s.Sin(angle)
		if s.Err() != nil {
			return
		}
		r.free()
		r.n, r.cos, r.sin = n, s.Keep(cos), s.Keep(sin)
	})
}

func (r *ropeTable) free() {
	r.cos.Free()
	r.sin.Free()
	r.n, r.cos, r.sin = 0, nil, nil
}
