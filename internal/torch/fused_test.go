package torch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// In float32 on the CPU these operations have loops and gradients of their own; in float64 they are put together from libtorch's, whose gradients
// TestGradients compares with finite differences. Both ways must agree, in shapes that leave a rest behind the vectors too.
func TestFusedGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, size := range [][3]int64{{1, 1, 2}, {2, 3, 6}, {3, 5, 16}, {7, 9, 64}, {40, 33, 32}} {
		rows, cols, d := size[0], size[1], size[2]
		heads, kv := int64(4), int64(2)
		drawn := func(n int64) []float64 {
			v := make([]float64, n)
			for i := range v {
				v[i] = 2 * rng.NormFloat64()
			}
			return v
		}
		w, angles := drawn(d), drawn(rows*cols*d/2)
		cases := []struct {
			name  string
			width int64
			f     func(s *Scope, x *Tensor, arg func(v []float64, shape ...int64) *Tensor) []*Tensor
		}{
			{"rms_norm", d, func(s *Scope, x *Tensor, arg func(v []float64, shape ...int64) *Tensor) []*Tensor {
				return []*Tensor{s.RMSNorm(x, arg(w, d), 1e-5)}
			}},
			{"silu_mul", d, func(s *Scope, x *Tensor, _ func(v []float64, shape ...int64) *Tensor) []*Tensor {
				return []*Tensor{s.SiluMul(x)}
			}},
			{"heads", (heads + 2*kv) * d, func(s *Scope, x *Tensor, arg func(v []float64, shape ...int64) *Tensor) []*Tensor {
				a := arg(angles, rows, cols, 1, d/2)
				q, k, v := s.Heads(x, s.Cos(a), s.Sin(a), heads, kv)
				return []*Tensor{q, k, v}
			}},
			{"heads without angles", (heads + 2*kv) * d, func(s *Scope, x *Tensor, _ func(v []float64, shape ...int64) *Tensor) []*Tensor {
				q, k, v := s.Heads(x, nil, nil, heads, kv)
				return []*Tensor{q, k, v}
			}},
			{"heads of which the queries are not used", (heads + 2*kv) * d, func(s *Scope, x *Tensor, _ func(v []float64, shape ...int64) *Tensor) []*Tensor {
				_, k, v := s.Heads(x, nil, nil, heads, kv)
				return []*Tensor{k, v}
			}},
		}
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s %v", c.name, size), func(t *testing.T) {
				x := drawn(rows * cols * c.width)
				var weights [][]float64
				compute := func(double bool) (all []float64) {
					must(t, Do(func(s *Scope) error {
						arg := func(v []float64, shape ...int64) *Tensor {
							if double {
								return s.Float64(v, shape...)
							}
							return s.To(s.Float64(v, shape...), Float32)
						}
						leaf := s.RequireGrad(arg(x, rows, cols, c.width))
						out := c.f(s, leaf, arg)
						var loss *Tensor
						for i, y := range out {
							if s.Err() != nil {
								return nil
							}
							if len(weights) == i {
								weights = append(weights, drawn(y.NumElements()))
							}
							l := s.Sum(s.Mul(y, arg(weights[i], y.Shape()...)))
							if loss != nil {
								l = s.Add(loss, l)
							}
							loss = l
							all = append(all, s.Float64s(s.To(y, Float64))...)
						}
						s.Backward(loss)
						all = append(all, s.Float64s(s.To(s.Grad(leaf), Float64))...)
						return nil
					}))
					return all
				}
				want, got := compute(true), compute(false)
				for i := range want {
					if !(math.Abs(got[i]-want[i]) <= 2e-5*(1+math.Abs(want[i]))) {
						t.Fatalf("number %d of %d is %g, want %g", i, len(want), got[i], want[i])
					}
				}
			})
		}
	}
}

// Large products in float32 take another way than small ones and float64; all operands' gradients must be those of float64.
func TestLinearGradients(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	drawn := func(n int64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rng.NormFloat64()
		}
		return v
	}
	for _, size := range [][3]int64{{70, 300, 210}, {130, 257, 131}, {3000, 48, 33}, {64, 700, 100}, {5, 1000, 999}} {
		rows, in, out := size[0], size[1], size[2]
		for _, lora := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v lora %t", size, lora), func(t *testing.T) {
				shapes := [][]int64{{rows / 5, 5, in}, {out, in}, {out}, {8, in}, {out - 20, 4}}
				operands := make([][]float64, len(shapes))
				for i, shape := range shapes {
					operands[i] = drawn(product(shape))
				}
				slope := drawn(rows / 5 * 5 * out)
				compute := func(double bool) (all [][]float64) {
					must(t, Do(func(s *Scope) error {
						dt := Float32
						if double {
							dt = Float64
						}
						x := make([]*Tensor, len(shapes))
						for i := range x {
							if x[i] = s.To(s.Float64(operands[i], shapes[i]...), dt); !lora && i < 3 || lora && i != 1 && i != 2 {
								s.RequireGrad(x[i])
							}
						}
						var y *Tensor
						if lora {
							y = s.LoRALinear(x[0], x[1], x[2], x[3], x[4], 0.5, []int64{3, 20}, []int64{10, out - 30})
						} else {
							y = s.Linear(x[0], x[1], x[2])
						}
						s.Backward(s.Sum(s.Mul(y, s.To(s.Float64(slope, y.Shape()...), dt))))
						all = append(all, s.Float64s(s.To(y, Float64)))
						for i := range x {
							if g := s.Grad(x[i]); g != nil {
								all = append(all, s.Float64s(s.To(g, Float64)))
							}
						}
						return nil
					}))
					return all
				}
				want, got := compute(true), compute(false)
				if len(want) != 4 || len(got) != 4 {
					t.Fatalf("%d and %d results, want the value and three gradients", len(want), len(got))
				}
				for k := range want {
					top := 0.0
					for _, v := range want[k] {
						top = max(top, math.Abs(v))
					}
					for i, v := range want[k] {
						if !(math.Abs(got[k][i]-v) <= 2e-6*top) {
							t.Fatalf("result %d, number %d is %g, want %g (largest %g)", k, i, got[k][i], v, top)
						}
					}
				}
			})
		}
	}
}

// LoRALinear is the sum that it stands for.
func TestLoRALinear(t *testing.T) {
	must(t, NoGrad(func(s *Scope) error {
		draw := func(shape ...int64) *Tensor {
			return s.Sin(s.MulS(s.Reshape(s.To(s.Arange(product(shape)), Float32), shape...), 1.3))
		}
		x, w, b := draw(2, 3, 5), draw(7, 5), draw(7)
		a, u := draw(4, 5), draw(5, 2)
		got := s.LoRALinear(x, w, b, a, u, 0.5, []int64{1, 5}, []int64{3, 2})
		part := func(i, at, n int64) *Tensor {
			return s.MulS(s.Linear(s.Linear(x, s.Narrow(a, 0, 2*i, 2), nil), s.Narrow(u, 0, at, n), nil), 0.5)
		}
		delta := s.Cat(-1, s.Zeros(Float32, 2, 3, 1), part(0, 0, 3), s.Zeros(Float32, 2, 3, 1), part(1, 3, 2))
		want := s.Float64s(s.Add(s.Linear(x, w, b), delta))
		for i, v := range s.Float64s(got) {
			if math.Abs(v-want[i]) > 1e-6 {
				t.Errorf("number %d is %g, want %g", i, v, want[i])
			}
		}
		return nil
	}))
	for name, f := range map[string]func(s *Scope, m func(shape ...int64) *Tensor) *Tensor{
		"no parts": func(s *Scope, m func(shape ...int64) *Tensor) *Tensor {
			return s.LoRALinear(m(1, 5), m(7, 5), nil, m(2, 5), m(3, 2), 1, nil, nil)
		},
		"outside": func(s *Scope, m func(shape ...int64) *Tensor) *Tensor {
			return s.LoRALinear(m(1, 5), m(7, 5), nil, m(2, 5), m(3, 2), 1, []int64{5}, []int64{3})
		},
		"another rank": func(s *Scope, m func(shape ...int64) *Tensor) *Tensor {
			return s.LoRALinear(m(1, 5), m(7, 5), nil, m(3, 5), m(3, 2), 1, []int64{0}, []int64{3})
		},
		"another width": func(s *Scope, m func(shape ...int64) *Tensor) *Tensor {
			return s.LoRALinear(m(1, 4), m(7, 5), nil, m(2, 5), m(3, 2), 1, []int64{0}, []int64{3})
		},
		"rows left behind": func(s *Scope, m func(shape ...int64) *Tensor) *Tensor {
			return s.LoRALinear(m(1, 5), m(7, 5), nil, m(2, 5), m(4, 2), 1, []int64{0}, []int64{3})
		},
	} {
		if err := NoGrad(func(s *Scope) error {
			f(s, func(shape ...int64) *Tensor { return s.Ones(Float32, shape...) })
			return nil
		}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestHeadsFaults(t *testing.T) {
	for name, f := range map[string]func(s *Scope){
		"two dimensions":    func(s *Scope) { s.Heads(s.Ones(Float32, 2, 8), nil, nil, 2, 1) },
		"width":             func(s *Scope) { s.Heads(s.Ones(Float32, 1, 2, 9), nil, nil, 2, 1) },
		"sines are missing": func(s *Scope) { s.Heads(s.Ones(Float32, 1, 2, 8), s.Ones(Float32, 1, 2, 1, 1), nil, 2, 1) },
		"too few angles": func(s *Scope) {
			s.Heads(s.Ones(Float32, 1, 2, 8), s.Ones(Float32, 1, 1, 1, 1), s.Ones(Float32, 1, 1, 1, 1), 2, 1)
		},
		"no heads":           func(s *Scope) { s.Heads(s.Ones(Float32, 1, 2, 8), nil, nil, 0, 0) },
		"odd size of a head": func(s *Scope) { s.Heads(s.Ones(Float32, 1, 2, 12), s.Ones(Float32, 3), s.Ones(Float32, 3), 2, 1) },
	} {
		if err := Do(func(s *Scope) error { f(s); return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
