package torch

import (
	"math"
	"slices"
	"testing"
)

// TestValues compares operations with values worked out by hand.
func TestValues(t *testing.T) {
	a := func(s *Scope) *Tensor { return s.Float32([]float32{1, 2, 3, 4, 5, 6}, 2, 3) }
	i64 := func(s *Scope, v ...int64) *Tensor { return s.Int64(v, int64(len(v))) }
	e := math.E
	for _, c := range []struct {
		name  string
		f     func(s *Scope) *Tensor
		want  []float64
		shape []int64
	}{
		{"zeros", func(s *Scope) *Tensor { return s.Zeros(Int64, 2) }, []float64{0, 0}, []int64{2}},
		{"ones", func(s *Scope) *Tensor { return s.Ones(Bool, 1, 2) }, []float64{1, 1}, []int64{1, 2}},
		{"full scalar", func(s *Scope) *Tensor { return s.Full(2.5) }, []float64{2.5}, []int64{}},
		{"arange", func(s *Scope) *Tensor { return s.Arange(3) }, []float64{0, 1, 2}, []int64{3}},
		{"empty", func(s *Scope) *Tensor { return s.Float32(nil, 0, 3) }, []float64{}, []int64{0, 3}},
		{"add", func(s *Scope) *Tensor { return s.Add(a(s), s.Float32([]float32{10, 20, 30}, 3)) }, []float64{11, 22, 33, 14, 25, 36}, []int64{2, 3}},
		{"minus", func(s *Scope) *Tensor { return s.Minus(a(s), s.Full(1)) }, []float64{0, 1, 2, 3, 4, 5}, []int64{2, 3}},
		{"mul", func(s *Scope) *Tensor { return s.Mul(a(s), a(s)) }, []float64{1, 4, 9, 16, 25, 36}, []int64{2, 3}},
		{"div", func(s *Scope) *Tensor { return s.Div(a(s), s.Full(2)) }, []float64{.5, 1, 1.5, 2, 2.5, 3}, []int64{2, 3}},
		{"add whole number to int64", func(s *Scope) *Tensor { return s.AddS(i64(s, 1, 2), 3) }, []float64{4, 5}, []int64{2}},
		{"exp log", func(s *Scope) *Tensor { return s.Cat(0, s.Exp(s.Ones(Float32, 1)), s.Log(s.Full(e, 1))) }, []float64{e, 1}, []int64{2}},
		{"log1p sqrt rsqrt", func(s *Scope) *Tensor { return s.Stack(0, s.Log1p(s.Full(e-1)), s.Sqrt(s.Full(9)), s.Rsqrt(s.Full(4))) }, []float64{1, 3, .5}, []int64{3}},
		{"square abs neg pow", func(s *Scope) *Tensor {
			return s.Stack(0, s.Square(s.Full(-3)), s.Abs(s.Full(-3)), s.Neg(s.Full(2)), s.Pow(s.Full(2), 3))
		}, []float64{9, 3, -2, 8}, []int64{4}},
		{"tanh sigmoid relu silu", func(s *Scope) *Tensor {
			return s.Stack(0, s.Tanh(s.Full(1)), s.Sigmoid(s.Full(0)), s.Relu(s.Full(-1)), s.Silu(s.Full(1)))
		}, []float64{math.Tanh(1), .5, 0, 1 / (1 + math.Exp(-1))}, []int64{4}},
		{"gelu of both forms", func(s *Scope) *Tensor { return s.Stack(0, s.Gelu(s.Full(1)), s.GeluErf(s.Full(1))) },
			[]float64{.5 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*1.044715)), .5 * (1 + math.Erf(1/math.Sqrt2))}, []int64{2}},
		{"clamp", func(s *Scope) *Tensor { return s.Clamp(a(s), 2, 4) }, []float64{2, 2, 3, 4, 4, 4}, []int64{2, 3}},
		{"clamp int64 below", func(s *Scope) *Tensor { return s.Clamp(i64(s, -1, 7), 0, 9) }, []float64{0, 7}, []int64{2}},
		{"minimum maximum", func(s *Scope) *Tensor {
			return s.Stack(0, s.Minimum(s.Full(1), s.Full(2)), s.Maximum(s.Full(1), s.Full(2)))
		}, []float64{1, 2}, []int64{2}},
		{"where", func(s *Scope) *Tensor { return s.Where(s.GtS(a(s), 3), a(s), s.Full(0)) }, []float64{0, 0, 0, 4, 5, 6}, []int64{2, 3}},
		{"masked fill", func(s *Scope) *Tensor { return s.MaskedFill(a(s), s.LtS(a(s), 3), -1) }, []float64{-1, -1, 3, 4, 5, 6}, []int64{2, 3}},
		{"compare tensors", func(s *Scope) *Tensor {
			x, y := i64(s, 1, 2, 3), i64(s, 2, 2, 2)
			return s.Stack(0, s.Eq(x, y), s.Ne(x, y), s.Lt(x, y), s.Le(x, y), s.Gt(x, y), s.Ge(x, y))
		}, []float64{0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 1}, []int64{6, 3}},
		{"compare scalars", func(s *Scope) *Tensor {
			x := i64(s, 1, 2, 3)
			return s.Stack(0, s.EqS(x, 2), s.NeS(x, 2), s.LtS(x, 2), s.LeS(x, 2), s.GtS(x, 2), s.GeS(x, 2.5))
		}, []float64{0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1}, []int64{6, 3}},
		{"logic", func(s *Scope) *Tensor {
			x, y := s.Bool([]bool{true, true, false}, 3), s.Bool([]bool{true, false, false}, 3)
			return s.Stack(0, s.LogicalAnd(x, y), s.LogicalOr(x, y), s.LogicalNot(x))
		}, []float64{1, 0, 0, 1, 1, 0, 0, 0, 1}, []int64{3, 3}},
		{"matmul", func(s *Scope) *Tensor { return s.MatMul(a(s), s.Transpose(a(s), 0, 1)) }, []float64{14, 32, 32, 77}, []int64{2, 2}},
		{"bmm", func(s *Scope) *Tensor { return s.Bmm(s.Unsqueeze(a(s), 0), s.Ones(Float32, 1, 3, 1)) }, []float64{6, 15}, []int64{1, 2, 1}},
		{"linear", func(s *Scope) *Tensor {
			return s.Linear(a(s), s.Float32([]float32{1, 0, 1}, 1, 3), s.Float32([]float32{.5}, 1))
		}, []float64{4.5, 10.5}, []int64{2, 1}},
		{"reshape to scalar", func(s *Scope) *Tensor { return s.Reshape(s.Full(3, 1, 1)) }, []float64{3}, []int64{}},
		{"permute", func(s *Scope) *Tensor { return s.Permute(a(s), 1, 0) }, []float64{1, 4, 2, 5, 3, 6}, []int64{3, 2}},
		{"narrow select", func(s *Scope) *Tensor {
			return s.Cat(0, s.Select(a(s), 0, -1), s.Select(s.Narrow(a(s), 1, 1, 1), 1, 0))
		}, []float64{4, 5, 6, 2, 5}, []int64{5}},
		{"index select", func(s *Scope) *Tensor { return s.IndexSelect(a(s), 1, i64(s, 2, 0)) }, []float64{3, 1, 6, 4}, []int64{2, 2}},
		{"gather", func(s *Scope) *Tensor { return s.Gather(a(s), 1, s.Int64([]int64{2, 0}, 2, 1)) }, []float64{3, 4}, []int64{2, 1}},
		{"index add copy", func(s *Scope) *Tensor {
			return s.Stack(0, s.IndexAdd(s.Ones(Float32, 3), 0, i64(s, 1, 1), s.Full(2, 2)), s.IndexCopy(s.Ones(Float32, 3), 0, i64(s, 2), s.Full(7, 1)))
		}, []float64{1, 5, 1, 1, 1, 7}, []int64{2, 3}},
		{"expand squeeze", func(s *Scope) *Tensor { return s.Expand(s.Squeeze(s.Ones(Float32, 2, 1), 1), 3, 2) }, []float64{1, 1, 1, 1, 1, 1}, []int64{3, 2}},
		{"repeat flip tril", func(s *Scope) *Tensor { return s.Tril(s.Flip(s.RepeatInterleave(s.Narrow(a(s), 0, 0, 1), 2, 0), 1), 0) }, []float64{3, 0, 0, 3, 2, 0}, []int64{2, 3}},
		{"sum mean", func(s *Scope) *Tensor { return s.Stack(0, s.Sum(a(s)), s.Mean(a(s))) }, []float64{21, 3.5}, []int64{2}},
		{"sum mean dim", func(s *Scope) *Tensor { return s.Cat(0, s.SumDim(a(s), 0, false), s.MeanDim(a(s), 1, false)) }, []float64{5, 7, 9, 2, 5}, []int64{5}},
		{"max dim", func(s *Scope) *Tensor { v, i := s.MaxDim(a(s), 1, true); return s.Cat(1, v, s.To(i, Float32)) }, []float64{3, 2, 6, 2}, []int64{2, 2}},
		{"argmax", func(s *Scope) *Tensor { return s.Argmax(a(s), 0) }, []float64{1, 1, 1}, []int64{3}},
		{"top k", func(s *Scope) *Tensor { v, i := s.TopK(a(s), 2); return s.Cat(1, v, s.To(i, Float32)) }, []float64{3, 2, 2, 1, 6, 5, 2, 1}, []int64{2, 4}},
		{"sort", func(s *Scope) *Tensor {
			v, i := s.Sort(i64(s, 3, 1, 2), 0, false)
			return s.Stack(0, v, i)
		}, []float64{1, 2, 3, 1, 2, 0}, []int64{2, 3}},
		{"cumsum", func(s *Scope) *Tensor { return s.Cumsum(a(s), 1) }, []float64{1, 3, 6, 4, 9, 15}, []int64{2, 3}},
		{"embedding", func(s *Scope) *Tensor { return s.Embedding(a(s), s.Int64([]int64{1, 0, 1}, 3, 1)) }, []float64{4, 5, 6, 1, 2, 3, 4, 5, 6}, []int64{3, 1, 3}},
		{"layer norm", func(s *Scope) *Tensor {
			return s.LayerNorm(s.Float32([]float32{1, 3}, 1, 2), s.Full(2, 2), s.Full(1, 2), 0)
		}, []float64{-1, 3}, []int64{1, 2}},
		{"softmax", func(s *Scope) *Tensor { return s.Softmax(s.Float32([]float32{0, float32(math.Log(3))}, 2), 0) }, []float64{.25, .75}, []int64{2}},
		{"log prob of", func(s *Scope) *Tensor {
			return s.LogProbOf(s.Float32([]float32{0, float32(math.Log(3)), 5, 6}, 2, 2), i64(s, 1, IgnoredTarget))
		}, []float64{math.Log(.75), 0}, []int64{2}},
		{"losses", func(s *Scope) *Tensor {
			return s.Stack(0, s.MSE(i32f(s, 1, 2), i32f(s, 3, 2)), s.BCEWithLogits(i32f(s, 0), i32f(s, 1)))
		}, []float64{2, math.Ln2}, []int64{2}},
		{"dropout off", func(s *Scope) *Tensor { return s.Dropout(a(s), .9, false) }, []float64{1, 2, 3, 4, 5, 6}, []int64{2, 3}},
		{"bfloat16 and back", func(s *Scope) *Tensor { return s.To(s.To(a(s), BFloat16), Float32) }, []float64{1, 2, 3, 4, 5, 6}, []int64{2, 3}},
		{"in place", func(s *Scope) *Tensor {
			x := s.Zeros(Float32, 2, 3)
			s.CopyInto(s.Select(x, 0, 1), s.Float32([]float32{1, 2, 3}, 3))
			s.AddInto(x, s.Ones(Float32, 3))
			s.IndexCopyInto(x, 1, i64(s, 0), s.Full(9, 2, 1))
			s.IndexAddInto(x, 1, i64(s, 1), s.Full(10, 2, 1))
			s.ZeroInto(s.Select(s.Select(x, 0, 0), 0, 0))
			return x
		}, []float64{0, 11, 1, 9, 13, 4}, []int64{2, 3}},
		{"clone is a copy", func(s *Scope) *Tensor {
			x := s.Zeros(Float32, 2)
			y := s.Clone(x)
			s.ZeroInto(y)
			s.AddInto(y, s.Full(1))
			return x
		}, []float64{0, 0}, []int64{2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, NoGrad(func(s *Scope) error {
				y := c.f(s)
				if !slices.Equal(y.Shape(), c.shape) {
					t.Errorf("shape %v, want %v", y.Shape(), c.shape)
				}
				near(t, "values", s.Float32s(y), c.want, 1e-6)
				return nil
			}))
		})
	}
}

func i32f(s *Scope, v ...float32) *Tensor { return s.Float32(v, int64(len(v))) }

func TestReading(t *testing.T) {
	must(t, Do(func(s *Scope) error {
		x := s.RequireGrad(s.Float32([]float32{1.5, -2.5, 3, 4}, 2, 2))
		if got := s.Int64s(s.Transpose(x, 0, 1)); !slices.Equal(got, []int64{1, 3, -2, 4}) {
			t.Error(got)
		}
		if x.F32View()[1] != -2.5 || s.Transpose(x, 0, 1).F32View() != nil || s.Arange(2).F32View() != nil {
			t.Error("view")
		}
		if x.Dim(-1) != 2 || x.Dim(5) != 0 || x.NumElements() != 4 || x.DType() != Float32 || !x.RequiresGrad() || s.Detach(x).RequiresGrad() {
			t.Error("properties")
		}
		if got := x.String(); got != "float32[2,2]" {
			t.Error(got)
		}
		return nil
	}))
}

func TestRandomNumbersFollowTheSeed(t *testing.T) {
	draw := func(seed int64) (all []float32) {
		Seed(seed)
		must(t, NoGrad(func(s *Scope) error {
			all = append(all, s.Float32s(s.Randn(100))...)
			all = append(all, s.Float32s(s.Rand(100))...)
			all = append(all, s.Float32s(s.Dropout(s.Ones(Float32, 100), 0.5, true))...)
			all = append(all, s.Float32s(s.Multinomial(s.Float32([]float32{0, 1, 3}, 3), 400))...)
			return nil
		}))
		return all
	}
	x, y, z := draw(5), draw(5), draw(6)
	if !slices.Equal(x, y) || slices.Equal(x, z) {
		t.Error("the seed does not decide")
	}
	kept, ones, zeros := 0, 0, 0
	for _, v := range x[200:300] {
		if v != 0 && v != 2 {
			t.Fatalf("dropout made %v of 1", v)
		}
		if v == 2 {
			kept++
		}
	}
	for _, v := range x[300:] {
		if v == 1 {
			ones++
		} else if v == 0 {
			zeros++
		}
	}
	if kept < 25 || kept > 75 || ones < 60 || ones > 140 || zeros != 0 {
		t.Errorf("%d of 100 kept, %d of 400 drawn with probability 1/4, %d with 0", kept, ones, zeros)
	}
}
