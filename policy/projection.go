package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"recpie/internal/fault"
	"recpie/internal/softrow"
)

// Projection is the trained map from a consumer's embedding e, [D], to K soft-prompt rows of the language model's width, [K·H]. E_c itself is not
// trained here, W and b are.
type Projection struct {
	softrow.Projection

	gradW, gradB []float64
	optW, optB   *adam
	steps        int
}

// NewProjection returns a projection with W ~ N(0, 1/D) and b ~ N(0, .1²), drawn from seed. It expects embeddings of roughly unit size per entry.
func NewProjection(rows, hidden, dim int, norm float64, seed uint64) (*Projection, error) {
	if rows < 1 || hidden < 1 || dim < 1 {
		return nil, fault.Newf(fault.Fatal, "policy: projection", "%d rows, hidden size %d, embedding width %d: all must be positive", rows, hidden, dim)
	}
	out := rows * hidden
	p := &Projection{
		Projection: softrow.Projection{Rows: rows, Hidden: hidden, Dim: dim, Norm: norm, W: make([]float32, out*dim), B: make([]float32, out)},
		gradW:      make([]float64, out*dim), gradB: make([]float64, out), optW: newAdam(out * dim), optB: newAdam(out),
	}
	if err := p.Check(); err != nil {
		return nil, fault.New(fault.Fatal, "policy: projection", err)
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
	rows, err := p.Projection.Forward(e)
	return rows, fault.New(fault.Fatal, "policy: projection", err)
}

// Backward adds the gradient with respect to W and b, given e and the gradient with respect to the rows, [K·H].
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
		for h, gz := range p.Gradient(k, e, rowGrad[k*p.Hidden:(k+1)*p.Hidden]) {
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

func (p *Projection) checkEmbedding(e []float32) error {
	if len(e) != p.Dim {
		return fault.Newf(fault.Fatal, "policy: projection", "consumer embedding of width %d, want %d", len(e), p.Dim)
	}
	if i := firstNonFinite(e); i >= 0 {
		return fault.Newf(fault.Item, "policy: projection", "consumer embedding: value %d is not finite", i)
	}
	return nil
}
