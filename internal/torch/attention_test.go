package torch

import (
	"math"
	"testing"
)

// byParts is attention by its formula, with an additive mask.
func byParts(s *Scope, q, k, v, bias *Tensor, scale float64) *Tensor {
	scores := s.MulS(s.MatMul(q, s.Transpose(k, -2, -1)), scale)
	if bias != nil {
		scores = s.Add(scores, bias)
	}
	return s.MatMul(s.Softmax(scores, -1), v)
}

// causalBias lets query i of lq see the keys up to i+lk−lq.
func causalBias(s *Scope, lq, lk int64) *Tensor {
	return s.MaskedFill(s.Zeros(Float32, lq, lk), s.LogicalNot(s.Tril(s.Ones(Bool, lq, lk), lk-lq)), math.Inf(-1))
}

func TestAttentionAgreesWithItsFormula(t *testing.T) {
	const tolerance = 2e-5 // float32, sums of up to 70 terms
	for _, c := range []struct {
		name   string
		lq, lk int64
		causal bool
		mask   bool
		scale  float64
	}{
		{"flash", 70, 70, false, false, 0},
		{"flash, longer keys", 5, 70, false, false, 0},
		{"flash, own scale", 9, 9, false, false, 0.3},
		{"flash causal", 70, 70, true, false, 0},
		{"one query over a cache", 1, 33, true, false, 0},
		{"chunk over a cache", 7, 33, true, false, 0},
		{"mask", 7, 33, false, true, 0},
		{"mask, own scale", 7, 33, false, true, 0.3},
		{"mask and causal", 7, 33, true, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			Seed(1)
			must(t, Do(func(s *Scope) error {
				const b, h, d = 2, 3, 16
				var mask, bias *Tensor
				if c.causal {
					bias = causalBias(s, c.lq, c.lk)
				}
				if c.mask {
					mask = s.GtS(s.Rand(b, 1, c.lq, c.lk), 0.4)
					mask = s.LogicalOr(mask, s.EqS(s.Arange(c.lk), 0)) // every query sees key 0
					plain := s.MaskedFill(s.Zeros(Float32, b, 1, c.lq, c.lk), s.LogicalNot(mask), math.Inf(-1))
					if bias == nil {
						bias = plain
					} else {
						bias = s.Add(bias, plain)
					}
				}
				scale := c.scale
				if scale == 0 {
					scale = 0.25
				}
				x := []*Tensor{s.Randn(b, h, c.lq, d), s.Randn(b, h, c.lk, d), s.Randn(b, h, c.lk, d)}
				w := s.Randn(b, h, c.lq, d)
				var out, grads [2][][]float32
				for i := range 2 {
					for _, t := range x {
						s.ZeroGrad(t)
						s.RequireGrad(t)
					}
					var y *Tensor
					if i == 0 {
						y = s.Attention(x[0], x[1], x[2], mask, c.causal, c.scale)
					} else {
						y = byParts(s, x[0], x[1], x[2], bias, scale)
					}
					s.Backward(s.Sum(s.Mul(y, w)))
					out[i] = append(out[i], s.Float32s(y))
					for _, t := range x {
						grads[i] = append(grads[i], s.Float32s(s.Grad(t)))
					}
				}
				if s.Err() != nil {
					return s.Err()
				}
				near(t, "forward", out[0][0], wide(out[1][0]), tolerance)
				for i, name := range []string{"q", "k", "v"} {
					near(t, "gradient of "+name, grads[0][i], wide(grads[1][i]), tolerance)
				}
				return nil
			}))
		})
	}
}

func TestAttentionRefuses(t *testing.T) {
	for name, f := range map[string]func(s *Scope) *Tensor{
		"three dimensions": func(s *Scope) *Tensor { x := s.Randn(2, 3, 4); return s.Attention(x, x, x, nil, false, 0) },
		"empty":            func(s *Scope) *Tensor { x := s.Randn(2, 3, 0, 4); return s.Attention(x, x, x, nil, false, 0) },
		"more queries than keys": func(s *Scope) *Tensor {
			k := s.Randn(1, 1, 2, 4)
			return s.Attention(s.Randn(1, 1, 3, 4), k, k, nil, true, 0)
		},
		"sizes": func(s *Scope) *Tensor {
			return s.Attention(s.Randn(1, 1, 3, 4), s.Randn(1, 1, 3, 5), s.Randn(1, 1, 3, 5), nil, false, 0)
		},
		"heads": func(s *Scope) *Tensor {
			k := s.Randn(1, 2, 3, 4)
			return s.Attention(s.Randn(1, 1, 3, 4), k, k, nil, false, 0)
		},
		"mask shape": func(s *Scope) *Tensor {
			x := s.Randn(1, 1, 3, 4)
			return s.Attention(x, x, x, s.Ones(Bool, 2, 2), false, 0)
		},
		"float mask": func(s *Scope) *Tensor { x := s.Randn(1, 1, 3, 4); return s.Attention(x, x, x, s.Randn(3, 3), true, 0) },
		"mixed types": func(s *Scope) *Tensor {
			x := s.Randn(1, 1, 3, 4)
			return s.Attention(x, s.To(x, Float64), x, nil, false, 0)
		},
	} {
		if err := NoGrad(func(s *Scope) error { f(s); return nil }); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}
