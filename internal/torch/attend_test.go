package torch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// attendCase is one of the recommender's layers over operands drawn by shape.
type attendCase struct {
	name   string
	shapes [][]int64
	f      func(s *Scope, x []*Tensor) []*Tensor
}

func (c attendCase) String() string { return c.name }

func attendCases(n, tokens, heads, d int64, lengths []int32, rng *rand.Rand) []attendCase {
	h := NewHistories(lengths, Histories{})
	rows := int64(len(h.Places))
	ratings, at := make([]int64, rows), make([]int64, 3*n)
	for i := range ratings {
		ratings[i] = rng.Int64N(11)
	}
	for i := range at {
		at[i] = rng.Int64N(n)
	}
	mask := make([]float32, n*7)
	for i := range mask {
		mask[i] = float32(rng.IntN(2)) * 1.25
	}
	sq, v := []int64{d, d}, []int64{d}
	return []attendCase{
		{"rows", [][]int64{{n, d}}, func(s *Scope, x []*Tensor) []*Tensor { return []*Tensor{s.Rows(x[0], at)} }},
		{"history_rows", [][]int64{{rows, d}, {11, d}, {40, d}}, func(s *Scope, x []*Tensor) []*Tensor {
			return []*Tensor{s.HistoryRows(x[0], x[1], x[2], ratings, h)}
		}},
		{"history_attention", [][]int64{{int64(len(lengths)), d}, {rows, d}, sq, sq, v}, func(s *Scope, x []*Tensor) []*Tensor {
			return []*Tensor{s.HistoryAttention(x[0], x[1], x[2], x[3], x[4], h, heads)}
		}},
		{"token_attention", [][]int64{{n, tokens, d}, sq, v, sq, v, sq, v}, func(s *Scope, x []*Tensor) []*Tensor {
			y, a := s.TokenAttention(x[0], Projections{x[1], x[2], x[3], x[4], x[5], x[6]}, heads)
			return []*Tensor{y, a}
		}},
		{"token_attention without its weights", [][]int64{{n, tokens, d}, sq, v, sq, v, sq, v}, func(s *Scope, x []*Tensor) []*Tensor {
			y, _ := s.TokenAttention(x[0], Projections{x[1], x[2], x[3], x[4], x[5], x[6]}, heads)
			return []*Tensor{y}
		}},
		{"add_norm", [][]int64{{n, d}, {n, d}, v, v}, func(s *Scope, x []*Tensor) []*Tensor {
			return []*Tensor{s.AddNorm(x[0], x[1], x[2], x[3], 1e-5)}
		}},
		{"norm", [][]int64{{n, d}, v, v}, func(s *Scope, x []*Tensor) []*Tensor { return []*Tensor{s.AddNorm(x[0], nil, x[1], x[2], 1e-5)} }},
		{"linear_relu", [][]int64{{n, d}, {7, d}, {7}}, func(s *Scope, x []*Tensor) []*Tensor { return []*Tensor{s.LinearRelu(x[0], x[1], x[2], nil)} }},
		{"linear_relu with mask", [][]int64{{n, d}, {7, d}, {7}}, func(s *Scope, x []*Tensor) []*Tensor {
			return []*Tensor{s.LinearRelu(x[0], x[1], x[2], s.To(s.Float32(mask, n, 7), x[0].DType()))}
		}},
	}
}

// run computes the outputs and the gradients of a random projection of them, in float32 or float64.
func (c attendCase) run(t *testing.T, values, weights [][]float64, double bool) (all [][]float64) {
	t.Helper()
	must(t, Do(func(s *Scope) error {
		arg := func(v []float64, shape ...int64) *Tensor {
			if double {
				return s.Float64(v, shape...)
			}
			return s.To(s.Float64(v, shape...), Float32)
		}
		var leaves []*Tensor
		for i, v := range values {
			leaves = append(leaves, s.RequireGrad(arg(v, c.shapes[i]...)))
		}
		var loss *Tensor
		for i, y := range c.f(s, leaves) {
			if s.Err() != nil {
				return nil
			}
			l := s.Sum(s.Mul(y, arg(weights[i][:y.NumElements()], y.Shape()...)))
			if loss != nil {
				l = s.Add(loss, l)
			}
			loss = l
			all = append(all, s.Float64s(s.To(y, Float64)))
		}
		s.Backward(loss)
		for _, x := range leaves {
			all = append(all, s.Float64s(s.To(s.Grad(x), Float64)))
		}
		return nil
	}))
	return all
}

// The loops in float32 agree with libtorch's operations in float64, outputs and gradients, for any shape and number of threads.
func TestAttendAgreesWithTheReference(t *testing.T) {
	before := Threads()
	defer SetThreads(before)
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		heads := rapid.Int64Range(1, 3).Draw(rt, "heads")
		d := heads * rapid.Int64Range(1, 33).Draw(rt, "size")
		lengths := rapid.SliceOfN(rapid.Int32Range(1, 40), 1, 30).Draw(rt, "lengths")
		SetThreads(rapid.IntRange(1, 2).Draw(rt, "threads"))
		cases := attendCases(rapid.Int64Range(1, 40).Draw(rt, "n"), rapid.Int64Range(1, 6).Draw(rt, "tokens"), heads, d, lengths, rng)
		c := rapid.SampledFrom(cases).Draw(rt, "case")
		drawn := func(n int64, sd float64) []float64 {
			v := make([]float64, n)
			for i := range v {
				v[i] = float64(float32(sd * rng.NormFloat64()))
			}
			return v
		}
		var values [][]float64
		for _, shape := range c.shapes {
			values = append(values, drawn(product(shape), .5))
		}
		weights := [][]float64{drawn(1<<15, 1), drawn(1<<15, 1)}
		got, want := c.run(t, values, weights, false), c.run(t, values, weights, true)
		scale := 1.0 // some gradients are sums that cancel
		for _, x := range slices.Concat(want...) {
			scale = max(scale, math.Abs(x))
		}
		for i := range want {
			for k := range want[i] {
				if !(math.Abs(got[i][k]-want[i][k]) <= 3e-5*scale) {
					rt.Fatalf("%s d=%d heads=%d: array %d, element %d is %g, the reference has %g", c.name, d, heads, i, k, got[i][k], want[i][k])
				}
			}
		}
	})
}

// The reference's own gradients are those of finite differences.
func TestAttendReferenceGradients(t *testing.T) {
	for _, c := range attendCases(4, 3, 2, 6, []int32{1, 4, 2}, rand.New(rand.NewPCG(1, 2))) {
		t.Run(c.name, func(t *testing.T) {
			var inputs []input
			for _, shape := range c.shapes {
				inputs = append(inputs, in(shape...))
			}
			checkGradients(t, func(s *Scope, x []*Tensor) *Tensor {
				ys := c.f(s, x)
				for i, y := range ys {
					ys[i] = s.Reshape(y, -1)
				}
				return s.Cat(0, ys...)
			}, inputs...)
		})
	}
}

// Sums over rows do not depend on how many threads share the work.
func TestAttendIsTheSameWithAnyNumberOfThreads(t *testing.T) {
	before := Threads()
	defer SetThreads(before)
	lengths := make([]int32, 900)
	rng := rand.New(rand.NewPCG(5, 6))
	for k := range lengths {
		lengths[k] = 1 + int32(rng.IntN(20))
	}
	for _, c := range attendCases(900, 4, 2, 64, lengths, rng) {
		if c.name == "rows" || c.name == "history_rows" || c.name == "add_norm" || c.name == "norm" {
			var values [][]float64
			for _, shape := range c.shapes {
				v := make([]float64, product(shape))
				for i := range v {
					v[i] = rng.NormFloat64()
				}
				values = append(values, v)
			}
			weights := [][]float64{make([]float64, 1<<21)}
			for i := range weights[0] {
				weights[0][i] = rng.NormFloat64()
			}
			SetThreads(1)
			one := c.run(t, values, weights, false)
			SetThreads(2)
			if two := c.run(t, values, weights, false); fmt.Sprint(one) != fmt.Sprint(two) {
				t.Errorf("%s differs between one thread and two", c.name)
			}
		}
	}
}

func TestAttendRefusesWhatDoesNotFit(t *testing.T) {
	h := NewHistories([]int32{2, 1}, Histories{})
	for name, f := range map[string]func(s *Scope){
		"index":    func(s *Scope) { s.Rows(s.Ones(Float32, 3, 2), []int64{3}) },
		"negative": func(s *Scope) { s.Rows(s.Ones(Float32, 3, 2), []int64{-1}) },
		"rating": func(s *Scope) {
			s.HistoryRows(s.Ones(Float32, 3, 2), s.Ones(Float32, 2, 2), s.Ones(Float32, 5, 2), []int64{0, 1, 2}, h)
		},
		"place": func(s *Scope) {
			s.HistoryRows(s.Ones(Float32, 3, 2), s.Ones(Float32, 2, 2), s.Ones(Float32, 1, 2), []int64{0, 1, 1}, h)
		},
		"rows": func(s *Scope) {
			s.HistoryRows(s.Ones(Float32, 4, 2), s.Ones(Float32, 2, 2), s.Ones(Float32, 5, 2), []int64{0, 1, 1, 1}, h)
		},
		"sequences": func(s *Scope) {
			w := s.Ones(Float32, 2, 2)
			s.HistoryAttention(s.Ones(Float32, 3, 2), s.Ones(Float32, 3, 2), w, w, s.Ones(Float32, 2), h, 1)
		},
		"heads": func(s *Scope) {
			w, b := s.Ones(Float32, 4, 4), s.Ones(Float32, 4)
			s.TokenAttention(s.Ones(Float32, 2, 3, 4), Projections{w, b, w, b, w, b}, 3)
		},
		"weights": func(s *Scope) {
			w, b := s.Ones(Float32, 4, 4), s.Ones(Float32, 4)
			s.TokenAttention(s.Ones(Float32, 2, 3, 4), Projections{w, b, s.Ones(Float32, 3, 4), b, w, b}, 2)
		},
		"norm": func(s *Scope) { s.AddNorm(s.Ones(Float32, 2, 3), nil, s.Ones(Float32, 2), s.Ones(Float32, 2), 1e-5) },
		"mask": func(s *Scope) {
			s.LinearRelu(s.Ones(Float32, 2, 3), s.Ones(Float32, 4, 3), s.Ones(Float32, 4), s.Ones(Float32, 7))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := Do(func(s *Scope) error { f(s); return nil }); err == nil {
				t.Error("was taken")
			}
		})
	}
}
