package torch

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// The paged kernel against plain attention, for sizes that do and do not fill vectors and pages.
func TestPagedAttentionEqualsAttention(t *testing.T) {
	for _, c := range []struct{ heads, kv, head, length int }{{4, 2, 16, 37}, {2, 2, 6, 8}, {6, 1, 64, 9}, {3, 3, 40, 71}, {2, 1, 2, 1}} {
		rng := rand.New(rand.NewPCG(1, uint64(c.length)))
		const layers = 2
		pages := (c.length+PageSize-1)/PageSize + 2
		kv, err := NewPagedKV(pages+1, layers, c.kv, c.head)
		if err != nil {
			t.Fatal(err)
		}
		defer kv.Free()
		table := make([]int32, pages)
		for i, p := range rng.Perm(pages) {
			table[i] = int32(p)
		}
		n, width := c.length, (c.heads+2*c.kv)*c.head
		data := make([]float32, n*width)
		for i := range data {
			data[i] = float32(rng.NormFloat64())
		}
		angles := make([]float32, n*c.head/2)
		for i := range angles {
			angles[i] = float32(rng.Float64() * 6)
		}
		slots := make([]int64, n)
		q := &PagedQueries{Tables: table}
		for i := range slots {
			slots[i] = int64(table[i/PageSize])*PageSize + int64(i%PageSize)
			q.Tokens, q.Lengths, q.At = append(q.Tokens, int32(i)), append(q.Lengths, int32(i+1)), append(q.At, 0)
		}
		for _, rotated := range []bool{false, true} {
			err = NoGrad(func(s *Scope) error {
				shape := []int64{int64(n), int64(c.heads + 2*c.kv), int64(c.head)}
				x := s.Float32(data, shape...)
				a := s.Float32(angles, int64(n), int64(c.head/2))
				cos, sin := s.Cos(a), s.Sin(a)
				qk, v := s.Narrow(x, 1, 0, int64(c.heads+c.kv)), s.Narrow(x, 1, int64(c.heads+c.kv), int64(c.kv))
				if rotated {
					qk = s.Rotate(qk, s.Unsqueeze(cos, 1), s.Unsqueeze(sin, 1))
				}
				part := func(x *Tensor, from, n int) *Tensor {
					y := s.Unsqueeze(s.Transpose(s.Narrow(x, 1, int64(from), int64(n)), 0, 1), 0)
					if n < c.heads {
						y = s.RepeatInterleave(y, int64(c.heads/n), 1)
					}
					return y
				}
				want := s.Float32s(s.Transpose(s.Attention(part(qk, 0, c.heads), part(qk, c.heads, c.kv), part(v, 0, c.kv), nil, true, 0), 1, 2))
				flat := s.Float32(data, int64(n), int64(width))
				if !rotated {
					cos, sin = nil, nil
				}
				got := s.Float32s(s.PagedAttention(kv, 1, c.heads, flat, cos, sin, slots, q))
				for i := range want {
					if d := math.Abs(float64(want[i] - got[i])); !(d < 2e-5) {
						t.Fatalf("%+v rotated %v: element %d is %g, want %g", c, rotated, i, got[i], want[i])
					}
				}
				// a copied page stands in for its original
				last := table[(n-1)/PageSize]
				kv.CopyPage(int32(pages), last)
				moved := append([]int32(nil), table...)
				moved[(n-1)/PageSize] = int32(pages)
				flat = s.Float32(data, int64(n), int64(width))
				again := s.Float32s(s.PagedAttention(kv, 1, c.heads, flat, cos, sin, slots, &PagedQueries{Tables: moved, Tokens: []int32{int32(n - 1)}, Lengths: []int32{int32(n)}, At: []int64{0}}))
				for i, g := range again {
					if g != got[(n-1)*c.heads*c.head+i] {
						t.Fatalf("%+v: the copied page gives %g, its original %g", c, g, got[(n-1)*c.heads*c.head+i])
					}
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The kernel is never sent outside its memory.
func TestPagedAttentionRefusals(t *testing.T) {
	kv, err := NewPagedKV(2, 1, 1, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Free()
	one := func() *PagedQueries {
		return &PagedQueries{Tokens: []int32{0}, Lengths: []int32{1}, Tables: []int32{0}, At: []int64{0}}
	}
	for say, c := range map[string]struct {
		slot  int64
		width int64
		spoil func(q *PagedQueries)
	}{
		"slot":        {slot: 2 * PageSize, width: 12},
		"contiguous":  {width: 11},
		"page is":     {width: 12, spoil: func(q *PagedQueries) { q.Tables[0] = 2 }},
		"its lists":   {width: 12, spoil: func(q *PagedQueries) { q.Lengths[0] = PageSize + 1 }},
		"unequal":     {width: 12, spoil: func(q *PagedQueries) { q.At = nil }},
		"query is ou": {width: 12, spoil: func(q *PagedQueries) { q.Tokens[0] = 1 }},
	} {
		q := one()
		if c.spoil != nil {
			c.spoil(q)
		}
		err := NoGrad(func(s *Scope) error {
			s.PagedAttention(kv, 0, 1, s.Zeros(Float32, 1, c.width), nil, nil, []int64{c.slot}, q)
			return nil
		})
		if err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("error %v, want one that says %q", err, say)
		}
	}
	for _, n := range []int{0, -1, 1 << 50} {
		if kv, err := NewPagedKV(n, 1, 1, 4); err == nil {
			kv.Free()
			t.Errorf("%d pages were made", n)
		}
	}
}

// Without autograd the norm and the gated product take a loop of their own: it must agree with libtorch's operations.
func TestFusedLoopsEqualOperations(t *testing.T) {
	var fused, plain [2][]float32
	for i, run := range []func(func(*Scope) error) error{NoGrad, Do} {
		if err := run(func(s *Scope) error {
			Seed(3)
			x, w := s.MulS(s.Randn(5, 3, 46), 3), s.Randn(46)
			out := [2][]float32{s.Float32s(s.RMSNorm(x, w, 1e-5)), s.Float32s(s.SiluMul(x))}
			if i == 0 {
				fused = out
			} else {
				plain = out
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	for k := range fused {
		if len(fused[k]) != len(plain[k]) || len(fused[k]) == 0 {
			t.Fatalf("%d and %d numbers", len(fused[k]), len(plain[k]))
		}
		for i := range fused[k] {
			if d := math.Abs(float64(fused[k][i] - plain[k][i])); !(d <= 1e-5*max(1, math.Abs(float64(plain[k][i])))) {
				t.Errorf("case %d element %d: %g fused, %g plain", k, i, fused[k][i], plain[k][i])
			}
		}
	}
}

// Choose follows the distribution: for every number in [0, 1) the index whose share of the mass it falls into.
func TestChooseFollowsTheDistribution(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	for _, n := range []int{1, 2, 63, 64, 65, 1000} {
		logits, weights := make([]float32, n), make([]float32, n)
		for i := range logits {
			logits[i] = float32(rng.NormFloat64() * 3)
		}
		logits[rng.IntN(n)] = -200
		for _, temperature := range []float64{0, 0.5, 1, 2} {
			top, total, plain := math.Inf(-1), 0.0, 0.0
			for _, l := range logits {
				top = max(top, float64(l))
			}
			for _, l := range logits {
				plain += math.Exp(float64(l) - top)
				total += math.Exp((float64(l) - top) / math.Max(temperature, 1e-9))
			}
			for range 50 {
				u := rng.Float64()
				id, lp := Choose(logits, temperature, u, weights)
				if want := float64(logits[id]) - top - math.Log(plain); math.Abs(want-float64(lp)) > 1e-5*max(1, math.Abs(want)) {
					t.Fatalf("log probability %g, want %g", lp, want)
				}
				if temperature == 0 {
					if float64(logits[id]) != top {
						t.Fatalf("the likeliest is not %d", id)
					}
					continue
				}
				below := 0.0
				for _, l := range logits[:id] {
					below += math.Exp((float64(l) - top) / temperature)
				}
				share := math.Exp((float64(logits[id]) - top) / temperature)
				if lo, hi := below/total, (below+share)/total; u < lo-1e-5 || u > hi+1e-5 {
					t.Fatalf("n %d temperature %g: %g chose %d of [%g, %g)", n, temperature, u, id, lo, hi)
				}
			}
		}
	}
}
