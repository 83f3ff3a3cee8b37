package torch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// gradTolerance bounds the difference between a gradient and the central difference of step 1e-5, in float64, relative
// to 1 + |gradient|.
const gradTolerance = 1e-6

// input is one operand of a checked function; all are float64 and drawn from [lo, hi].
type input struct {
	shape  []int64
	lo, hi float64
}

func in(shape ...int64) input       { return input{shape, -2, 2} }
func positive(shape ...int64) input { return input{shape, 0.5, 2} }

// checkGradients compares autograd's gradient of a random projection of f with finite differences, for all inputs.
func checkGradients(t *testing.T, f func(s *Scope, x []*Tensor) *Tensor, inputs ...input) {
	t.Helper()
	rng := rand.New(rand.NewPCG(11, 12))
	values := make([][]float64, len(inputs))
	for i, in := range inputs {
		values[i] = make([]float64, product(in.shape))
		for k := range values[i] {
			values[i][k] = in.lo + (in.hi-in.lo)*rng.Float64()
		}
	}
	var weights []float64
	loss := func(s *Scope) (*Tensor, []*Tensor) {
		x := make([]*Tensor, len(inputs))
		for i, in := range inputs {
			x[i] = s.RequireGrad(s.Float64(values[i], in.shape...))
		}
		y := f(s, x)
		if weights == nil && s.Err() == nil {
			weights = make([]float64, y.NumElements())
			for i := range weights {
				weights[i] = rng.NormFloat64()
			}
		}
		return s.Sum(s.Mul(y, s.Float64(weights, y.Shape()...))), x
	}
	grads := make([][]float64, len(inputs))
	must(t, Do(func(s *Scope) error {
		l, x := loss(s)
		s.Backward(l)
		for i := range x {
			g := s.Grad(x[i])
			if g == nil && s.Err() == nil {
				return fmt.Errorf("operand %d has no gradient", i)
			}
			grads[i] = s.Float64s(g)
		}
		return nil
	}))
	at := func(v *float64, x float64) (y float64) {
		before := *v
		*v = x
		must(t, NoGrad(func(s *Scope) error {
			l, _ := loss(s)
			y = s.Item(l)
			return nil
		}))
		*v = before
		return y
	}
	const h = 1e-5
	for i := range values {
		for k := range values[i] {
			v := &values[i][k]
			want := (at(v, *v+h) - at(v, *v-h)) / (2 * h)
			if got := grads[i][k]; !(math.Abs(got-want) <= gradTolerance*(1+math.Abs(want))) {
				t.Errorf("operand %d, element %d: gradient %g, finite difference %g", i, k, got, want)
			}
		}
	}
}

func TestGradients(t *testing.T) {
	one := func(f func(s *Scope, a *Tensor) *Tensor) func(*Scope, []*Tensor) *Tensor {
		return func(s *Scope, x []*Tensor) *Tensor { return f(s, x[0]) }
	}
	two := func(f func(s *Scope, a, b *Tensor) *Tensor) func(*Scope, []*Tensor) *Tensor {
		return func(s *Scope, x []*Tensor) *Tensor { return f(s, x[0], x[1]) }
	}
	index := func(s *Scope) *Tensor { return s.Int64([]int64{2, 0, 2}, 3) }
	mask := func(s *Scope) *Tensor { return s.Bool([]bool{true, false, true, false, false, true}, 2, 3) }
	for _, c := range []struct {
		name   string
		f      func(*Scope, []*Tensor) *Tensor
		inputs []input
	}{
		{"lora linear", func(s *Scope, x []*Tensor) *Tensor {
			w := s.MulS(s.Sin(s.To(s.Arange(12), Float64)), 0.5)
			return s.LoRALinear(x[0], s.Reshape(w, 4, 3), s.Float64([]float64{1, 2, 3, 4}, 4), x[1], x[2], 0.7, []int64{0, 3}, []int64{2, 1})
		}, []input{in(2, 2, 3), in(4, 3), in(3, 2)}},
		{"lora linear of a turned weight", func(s *Scope, x []*Tensor) *Tensor {
			w := s.Transpose(s.Reshape(s.Sin(s.To(s.Arange(12), Float64)), 3, 4), 0, 1)
			return s.LoRALinear(x[0], w, nil, x[1], x[2], 2, []int64{0}, []int64{4})
		}, []input{in(5, 3), in(1, 3), in(4, 1)}},
		{"add", two((*Scope).Add), []input{in(2, 3), in(3)}},
		{"minus", two((*Scope).Minus), []input{in(2, 3), in(2, 1)}},
		{"mul", two((*Scope).Mul), []input{in(2, 3), in(3)}},
		{"div", two((*Scope).Div), []input{in(2, 3), positive(3)}},
		{"add scalar", one(func(s *Scope, a *Tensor) *Tensor { return s.AddS(a, 3) }), []input{in(2, 3)}},
		{"mul scalar", one(func(s *Scope, a *Tensor) *Tensor { return s.MulS(a, -3) }), []input{in(2, 3)}},
		{"pow", one(func(s *Scope, a *Tensor) *Tensor { return s.Pow(a, 1.7) }), []input{positive(5)}},
		{"neg", one((*Scope).Neg), []input{in(4)}},
		{"exp", one((*Scope).Exp), []input{in(4)}},
		{"log", one((*Scope).Log), []input{positive(4)}},
		{"log1p", one((*Scope).Log1p), []input{positive(4)}},
		{"sqrt", one((*Scope).Sqrt), []input{positive(4)}},
		{"rsqrt", one((*Scope).Rsqrt), []input{positive(4)}},
		{"square", one((*Scope).Square), []input{in(4)}},
		{"abs", one((*Scope).Abs), []input{positive(4)}},
		{"sin", one((*Scope).Sin), []input{in(4)}},
		{"cos", one((*Scope).Cos), []input{in(4)}},
		{"tanh", one((*Scope).Tanh), []input{in(4)}},
		{"sigmoid", one((*Scope).Sigmoid), []input{in(4)}},
		{"relu", one((*Scope).Relu), []input{in(6)}},
		{"silu", one((*Scope).Silu), []input{in(4)}},
		{"gelu", one((*Scope).Gelu), []input{in(6)}},
		{"gelu erf", one((*Scope).GeluErf), []input{in(6)}},
		{"clamp", one(func(s *Scope, a *Tensor) *Tensor { return s.Clamp(a, -1, math.Inf(1)) }), []input{in(6)}},
		{"minimum", two((*Scope).Minimum), []input{in(6), in(6)}},
		{"maximum", two((*Scope).Maximum), []input{in(6), in(6)}},
		{"where", two(func(s *Scope, a, b *Tensor) *Tensor { return s.Where(mask(s), a, b) }), []input{in(2, 3), in(3)}},
		{"masked fill", one(func(s *Scope, a *Tensor) *Tensor { return s.MaskedFill(a, mask(s), -7) }), []input{in(2, 3)}},
		{"matmul", two((*Scope).MatMul), []input{in(2, 3, 4), in(4, 2)}},
		{"bmm", two((*Scope).Bmm), []input{in(2, 3, 4), in(2, 4, 2)}},
		{"linear", func(s *Scope, x []*Tensor) *Tensor { return s.Linear(x[0], x[1], x[2]) }, []input{in(2, 3), in(4, 3), in(4)}},
		{"linear without bias", two(func(s *Scope, a, b *Tensor) *Tensor { return s.Linear(a, b, nil) }), []input{in(2, 3), in(4, 3)}},
		{"reshape", one(func(s *Scope, a *Tensor) *Tensor { return s.Reshape(a, 3, -1) }), []input{in(2, 3)}},
		{"transpose", one(func(s *Scope, a *Tensor) *Tensor { return s.Transpose(a, 0, 1) }), []input{in(2, 3)}},
		{"permute", one(func(s *Scope, a *Tensor) *Tensor { return s.Permute(a, 2, 0, 1) }), []input{in(2, 3, 2)}},
		{"cat", two(func(s *Scope, a, b *Tensor) *Tensor { return s.Cat(-1, a, b) }), []input{in(2, 3), in(2, 1)}},
		{"stack", two(func(s *Scope, a, b *Tensor) *Tensor { return s.Stack(1, a, b) }), []input{in(2, 3), in(2, 3)}},
		{"narrow", one(func(s *Scope, a *Tensor) *Tensor { return s.Narrow(a, 1, 1, 2) }), []input{in(2, 3)}},
		{"select", one(func(s *Scope, a *Tensor) *Tensor { return s.Select(a, 1, 2) }), []input{in(2, 3)}},
		{"index select", one(func(s *Scope, a *Tensor) *Tensor { return s.IndexSelect(a, 0, index(s)) }), []input{in(3, 2)}},
		{"gather", one(func(s *Scope, a *Tensor) *Tensor { return s.Gather(a, 1, s.Unsqueeze(index(s), 1)) }), []input{in(3, 3)}},
		{"index add", two(func(s *Scope, a, b *Tensor) *Tensor { return s.IndexAdd(a, 0, index(s), b) }), []input{in(3, 2), in(3, 2)}},
		{"index copy", two(func(s *Scope, a, b *Tensor) *Tensor { return s.IndexCopy(a, 0, s.Int64([]int64{2, 0}, 2), b) }), []input{in(3, 2), in(2, 2)}},
		{"unsqueeze squeeze", one(func(s *Scope, a *Tensor) *Tensor { return s.Squeeze(s.Unsqueeze(s.Square(a), 1), 1) }), []input{in(3)}},
		{"expand", one(func(s *Scope, a *Tensor) *Tensor { return s.Expand(a, 4, -1, 3) }), []input{in(2, 1)}},
		{"contiguous", one(func(s *Scope, a *Tensor) *Tensor { return s.Contiguous(s.Transpose(a, 0, 1)) }), []input{in(2, 3)}},
		{"clone", one(func(s *Scope, a *Tensor) *Tensor { return s.Clone(a) }), []input{in(2, 3)}},
		{"repeat interleave", one(func(s *Scope, a *Tensor) *Tensor { return s.RepeatInterleave(a, 3, 0) }), []input{in(2, 2)}},
		{"flip", one(func(s *Scope, a *Tensor) *Tensor { return s.Flip(a, 0, 1) }), []input{in(2, 3)}},
		{"tril", one(func(s *Scope, a *Tensor) *Tensor { return s.Tril(a, 0) }), []input{in(3, 3)}},
		{"sum", one((*Scope).Sum), []input{in(2, 3)}},
		{"mean", one((*Scope).Mean), []input{in(2, 3)}},
		{"sum dim", one(func(s *Scope, a *Tensor) *Tensor { return s.SumDim(a, 0, true) }), []input{in(2, 3)}},
		{"mean dim", one(func(s *Scope, a *Tensor) *Tensor { return s.MeanDim(a, -1, false) }), []input{in(2, 3)}},
		{"max dim", one(func(s *Scope, a *Tensor) *Tensor { v, _ := s.MaxDim(a, 1, false); return v }), []input{in(2, 3)}},
		{"top k", one(func(s *Scope, a *Tensor) *Tensor { v, _ := s.TopK(a, 2); return v }), []input{in(2, 4)}},
		{"sort", one(func(s *Scope, a *Tensor) *Tensor { v, _ := s.Sort(a, 1, true); return v }), []input{in(2, 4)}},
		{"cumsum", one(func(s *Scope, a *Tensor) *Tensor { return s.Cumsum(a, 1) }), []input{in(2, 4)}},
		{"embedding", one(func(s *Scope, a *Tensor) *Tensor { return s.Embedding(a, index(s)) }), []input{in(3, 2)}},
		{"layer norm", func(s *Scope, x []*Tensor) *Tensor { return s.LayerNorm(x[0], x[1], x[2], 1e-5) }, []input{in(2, 5), in(5), in(5)}},
		{"layer norm plain", one(func(s *Scope, a *Tensor) *Tensor { return s.LayerNorm(a, nil, nil, 1e-5) }), []input{in(2, 5)}},
		{"softmax", one(func(s *Scope, a *Tensor) *Tensor { return s.Softmax(a, -1) }), []input{in(2, 5)}},
		{"log softmax", one(func(s *Scope, a *Tensor) *Tensor { return s.LogSoftmax(a, 0) }), []input{in(2, 5)}},
		{"mse", two((*Scope).MSE), []input{in(2, 3), in(2, 3)}},
		{"bce", one(func(s *Scope, a *Tensor) *Tensor { return s.BCEWithLogits(a, s.Float64([]float64{0, 1, .3}, 3)) }), []input{in(3)}},
		{"log prob of", one(func(s *Scope, a *Tensor) *Tensor { return s.LogProbOf(a, index(s)) }), []input{in(3, 4)}},
		{"dropout off", one(func(s *Scope, a *Tensor) *Tensor { return s.Square(s.Dropout(a, 0.5, false)) }), []input{in(3)}},
		{"attention", attend(false, false), []input{in(1, 2, 3, 4), in(1, 2, 3, 4), in(1, 2, 3, 4)}},
		{"attention causal", attend(true, false), []input{in(2, 1, 3, 4), in(2, 1, 3, 4), in(2, 1, 3, 4)}},
		{"attention causal continued", attend(true, false), []input{in(1, 1, 2, 4), in(1, 1, 5, 4), in(1, 1, 5, 4)}},
		{"attention masked", attend(false, true), []input{in(1, 1, 3, 4), in(1, 1, 3, 4), in(1, 1, 3, 4)}},
	} {
		t.Run(c.name, func(t *testing.T) { checkGradients(t, c.f, c.inputs...) })
	}
}

func attend(causal, masked bool) func(s *Scope, x []*Tensor) *Tensor {
	return func(s *Scope, x []*Tensor) *Tensor {
		var mask *Tensor
		if masked {
			mask = s.Bool([]bool{true, true, false, true, false, true, false, true, true}, 3, 3)
		}
		return s.Attention(x[0], x[1], x[2], mask, causal, 0)
	}
}
