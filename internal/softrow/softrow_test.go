package softrow

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The numbers were computed apart.
func TestForwardEqualsTheReference(t *testing.T) {
	p := Projection{Rows: 2, Hidden: 3, Dim: 2, Norm: 1.25, W: []float32{1, 2, 3, 4, 5, 6, -1, -2, -3, -4, -5, .5}, B: []float32{.1, .2, .3, .4, .5, .6}}
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ e, want []float32 }{
		{[]float32{1, 0}, []float32{0.218668, 0.636124, 1.05358, -0.147172, -0.613217, -1.079262}},
		{[]float32{1, 1}, []float32{0.28176, 0.654411, 1.027062, -0.405554, -1.013884, -0.60833}},
	} {
		rows, err := p.Forward(c.e)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c.want {
			if math.Abs(float64(rows[i]-c.want[i])) > 2e-6 {
				t.Errorf("embedding %v: row value %d is %v, want %v", c.e, i, rows[i], c.want[i])
			}
		}
	}
}

// Every row has the asked norm, whatever the weights, and the gradient agrees with central differences of a linear functional of the row.
func TestNormAndGradient(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		draw := func(n int) []float32 {
			xs := make([]float32, n)
			for i := range xs {
				xs[i] = float32(rng.NormFloat64())
			}
			return xs
		}
		rows, hidden, dim := rapid.IntRange(1, 3).Draw(rt, "rows"), rapid.IntRange(2, 6).Draw(rt, "hidden"), rapid.IntRange(1, 4).Draw(rt, "dim")
		p := Projection{Rows: rows, Hidden: hidden, Dim: dim, Norm: rapid.Float64Range(.1, 5).Draw(rt, "norm"), W: draw(rows * hidden * dim), B: draw(rows * hidden)}
		e, c := draw(dim), draw(hidden)
		if err := p.Check(); err != nil {
			rt.Fatal(err)
		}
		out, err := p.Forward(e)
		if err != nil {
			rt.Fatal(err)
		}
		for k := range rows {
			sum := 0.0
			for _, x := range out[k*hidden : (k+1)*hidden] {
				sum += float64(x) * float64(x)
			}
			if math.Abs(math.Sqrt(sum)-p.Norm) > 1e-5*p.Norm {
				rt.Fatalf("row %d has norm %v, want %v", k, math.Sqrt(sum), p.Norm)
			}
			value := func() (sum float64) {
				z, length := p.Linear(k, e)
				for h := range z {
					sum += p.Norm * z[h] / length * float64(c[h])
				}
				return sum
			}
			_, length := p.Linear(k, e)
			for h, g := range p.Gradient(k, e, c) {
				o, step := k*hidden+h, float32(1e-3*length) // b moves z one to one
				old := p.B[o]
				p.B[o] = old + step
				up, high := value(), float64(p.B[o])
				p.B[o] = old - step
				down := value()
				numeric := (up - down) / (high - float64(p.B[o]))
				p.B[o] = old
				if math.Abs(numeric-g) > 1e-3*p.Norm/length*math.Max(1, math.Sqrt(float64(hidden))) {
					rt.Fatalf("z[%d,%d]: gradient %v, numeric %v", k, h, g, numeric)
				}
			}
		}
	})
}

func TestZeroAndBroken(t *testing.T) {
	p := Projection{Rows: 1, Hidden: 2, Dim: 1, Norm: 1, W: []float32{0, 0}, B: []float32{0, 0}}
	if rows, err := p.Forward([]float32{1}); err != nil || rows[0] != 0 || rows[1] != 0 {
		t.Errorf("z = 0 gives %v, %v", rows, err)
	}
	p.W[0] = float32(math.Inf(1))
	for want, e := range map[string][]float32{"not finite": {1}, "width 2": {1, 2}} {
		if _, err := p.Forward(e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", e, err)
		}
	}
	for _, p := range []Projection{
		{Hidden: 1, Dim: 1, Norm: 1}, {Rows: 1, Dim: 1, Norm: 1}, {Rows: 1, Hidden: 1, Norm: 1}, {Rows: 1, Hidden: 1, Dim: 1},
		{Rows: 1, Hidden: 1, Dim: 1, Norm: math.NaN(), W: []float32{1}, B: []float32{1}}, {Rows: 1, Hidden: 1, Dim: 1, Norm: math.Inf(1), W: []float32{1}, B: []float32{1}},
		{Rows: 1, Hidden: 1, Dim: 1, Norm: 1, W: []float32{1, 2}, B: []float32{1}}, {Rows: 1, Hidden: 1, Dim: 1, Norm: 1, W: []float32{1}},
	} {
		if p.Check() == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
