package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"recpie/internal/fault"
)

// Projection turns a consumer's embedding e, [D], into K soft-prompt rows of the language model's width, [K·H]:
//
//	z_k = W_k e + b_k        s_k = norm · z_k / √(‖z_k‖² + ε²)
//
// so every row has the mean norm of the model's token embeddings: the paper prepends e_i as a soft prompt and says no more; a row far longer or
// shorter than a token's would be ignored or drown the prompt. E_c itself is not trained here, W and b are.
type Projection struct {
	Rows, Hidden, Dim int
	Norm              float64   // mean norm of the token embeddings
	W                 []float32 // [K·H, D]
	B                 []float32 // [K·H]

	gradW, gradB []float64
	optW, optB   *adam
	steps        int
}

// rowEps keeps the rescaling defined for z = 0; it is far below any real row.
const rowEps = 1e-6

// NewProjection returns a projection with W ~ N(0, 1/D) and b ~ N(0, .1²), drawn from seed. It expects embeddings of roughly unit size per entry.
func NewProjection(rows, hidden, dim int, norm float64, seed uint64) (*Projection, error) {
	if rows < 1 || hidden < 1 || dim < 1 || !(norm > 0) || math.IsInf(norm, 0) {
		return nil, fault.Newf(fault.Fatal, "policy: projection", "%d rows, hidden size %d, embedding width %d, norm %v: all must be positive", rows, hidden, dim, norm)
	}
	out := rows * hidden
	p := &Projection{
		Rows: rows, Hidden: hidden, Dim: dim, Norm: norm, W: make([]float32, out*dim), B: make([]float32, out),
		gradW: make([]float64, out*dim), gradB: make([]float64, out), optW: newAdam(out * dim), optB: newAdam(out),
	}
	rng := rand.New(rand.NewPCG(seed, 0x50F7))
	for i := range p.W {
		p.W[i] = float32(rng.NormFloat64() / math.Sqrt(float64(dim)))
	}
	for i := range p.B {
		p.B[i] = float32(rng.NormFloat64() * .1)
	}
	return p, nil
}

// Forward returns the soft rows of embedding e, [K·H].
func (p *Projection) Forward(e []float32) ([]float32, error) {
	if err := p.checkEmbedding(e); err != nil {
		return nil, err
	}
	rows := make([]float32, p.Rows*p.Hidden)
	for k := range p.Rows {
		z, length := p.linear(k, e)
		for h, v := range z {
			rows[k*p.Hidden+h] = float32(p.Norm * v / length)
		}
	}
	if i := firstNonFinite(rows); i >= 0 {
		return nil, fault.Newf(fault.Fatal, "policy: projection", "soft row value %d is not finite", i)
	}
	return rows, nil
}

// Backward adds the gradient with respect to W and b, given e and the gradient with respect to the rows, [K·H]:
// ∂L/∂z = norm/r · (g − z (z·g)/r²) with r = √(‖z‖² + ε²).
func (p *Projection) Backward(e, rowGrad []float32) error {
	if err := p.checkEmbedding(e); err != nil {
		return err
	}
	if len(rowGrad) != p.Rows*p.Hidden {
		return fault.Newf(fault.Fatal, "policy: projection", "gradient of %d values for %d rows of %d", len(rowGrad), p.Rows, p.Hidden)
	}
	if i := firstNonFinite(rowGrad); i >= 0 {
		return fault.Newf(fault.Item, "policy: projection", "gradient value %d is not finite", i)
	}
	for k := range p.Rows {
		z, length := p.linear(k, e)
		g := rowGrad[k*p.Hidden : (k+1)*p.Hidden]
		dot := 0.0
		for h := range z {
			dot += z[h] * float64(g[h])
		}
		for h := range z {
			gz := p.Norm / length * (float64(g[h]) - z[h]*dot/(length*length))
			o := k*p.Hidden + h
			p.gradB[o] += gz
			for d, x := range e {
				p.gradW[o*p.Dim+d] += gz * float64(x)
			}
		}
	}
	return nil
}

// Step applies the accumulated gradient with Adam, its norm clipped to a.ClipNorm (0: not), clears it and returns the norm before clipping.
// A non-finite gradient is refused and cleared; the weights stay as they were.
func (p *Projection) Step(a AdamStep) (norm float64, err error) {
	defer p.Clear()
	for _, g := range [][]float64{p.gradW, p.gradB} {
		for _, v := range g {
			norm += v * v
		}
	}
	norm = math.Sqrt(norm)
	if !finite(norm) {
		return norm, fault.Newf(fault.Fatal, "policy: projection", "the gradient is not finite")
	}
	scale := 1.0
	if a.ClipNorm > 0 && norm > a.ClipNorm {
		scale = a.ClipNorm / norm
	}
	p.steps++
	p.optW.step(p.W, p.gradW, scale, p.steps, a)
	p.optB.step(p.B, p.gradB, scale, p.steps, a)
	return norm, nil
}

// Clear forgets the accumulated gradient.
func (p *Projection) Clear() { clear(p.gradW); clear(p.gradB) }

// Tensors returns copies of the weights and of the optimiser's moments.
func (p *Projection) Tensors() []Named {
	out, dim := int64(p.Rows*p.Hidden), int64(p.Dim)
	var ts []Named
	for _, t := range p.named() {
		shape := []int64{out}
		if strings.HasSuffix(t.Name, "W") {
			shape = []int64{out, dim}
		}
		ts = append(ts, Named{t.Name, shape, slices.Clone(t.Data)})
	}
	return ts
}

// restore sets weights and moments from what Tensors returned, and the number of steps taken.
func (p *Projection) restore(ts []Named, steps int) error {
	if steps < 0 {
		return fmt.Errorf("policy: %d optimiser steps", steps)
	}
	// Everything is checked before anything is overwritten: a refused state leaves the old one.
	fresh := make([][]float32, 0, 6)
	for _, t := range p.named() {
		data := make([]float32, len(t.Data))
		if err := take(ts, t.Name, data); err != nil {
			return err
		}
		fresh = append(fresh, data)
	}
	for i, t := range p.named() {
		copy(t.Data, fresh[i])
	}
	p.steps = steps
	p.Clear()
	return nil
}

func (p *Projection) named() []Named {
	return []Named{
		{Name: "projection.W", Data: p.W}, {Name: "projection.B", Data: p.B},
		{Name: "adam.m.W", Data: p.optW.m}, {Name: "adam.m.B", Data: p.optB.m},
		{Name: "adam.v.W", Data: p.optW.v}, {Name: "adam.v.B", Data: p.optB.v},
	}
}

// linear returns z_k and √(‖z_k‖² + ε²).
func (p *Projection) linear(k int, e []float32) (z []float64, length float64) {
	z = make([]float64, p.Hidden)
	square := rowEps * rowEps
	for h := range z {
		o := k*p.Hidden + h
		sum := float64(p.B[o])
		for d, x := range e {
			sum += float64(p.W[o*p.Dim+d]) * float64(x)
		}
		z[h] = sum
		square += sum * sum
	}
	return z, math.Sqrt(square)
}

func (p *Projection) checkEmbedding(e []float32) error {
	if len(e) != p.Dim {
		return fault.Newf(fault.Fatal, "policy: projection", "consumer embedding of width %d, want %d", len(e), p.Dim)
	}
	if i := firstNonFinite(e); i >= 0 {
		return fault.Newf(fault.Item, "policy: projection", "consumer embedding: value %d is not finite", i)
	}
	return nil
}
