// Package softrow is the one formula that turns a consumer's embedding into soft-prompt rows of a language model's width. The trainer of the
// projection differentiates it, the server of soft prompts evaluates it, and neither may know the other.
package softrow

import (
	"fmt"
	"math"
)

// rowEps keeps the rescaling defined for z = 0; it is far below any real row.
const rowEps = 1e-6

// Projection maps an embedding e, [Dim], to Rows rows of width Hidden:
//
//	z_k = W_k e + b_k        s_k = Norm · z_k / √(‖z_k‖² + ε²)
//
// so every row has the mean norm of the model's token embeddings: the paper prepends e_i as a soft prompt and says no more; a row far longer or
// shorter than a token's would be ignored or drown the prompt.
type Projection struct {
	Rows, Hidden, Dim int
	Norm              float64   // mean norm of the token embeddings
	W                 []float32 // [Rows·Hidden, Dim]
	B                 []float32 // [Rows·Hidden]
}

// Check names what of the sizes does not fit.
func (p *Projection) Check() error {
	if p.Rows < 1 || p.Hidden < 1 || p.Dim < 1 || !(p.Norm > 0) || math.IsInf(p.Norm, 0) {
		return fmt.Errorf("%d rows, hidden size %d, embedding width %d, norm %v: all must be positive", p.Rows, p.Hidden, p.Dim, p.Norm)
	}
	if len(p.W) != p.Rows*p.Hidden*p.Dim || len(p.B) != p.Rows*p.Hidden {
		return fmt.Errorf("weights of %d and %d values: they do not fit [%d·%d, %d]", len(p.W), len(p.B), p.Rows, p.Hidden, p.Dim)
	}
	return nil
}

// Linear returns z_k and √(‖z_k‖² + ε²) for an embedding of width Dim.
func (p *Projection) Linear(k int, e []float32) (z []float64, length float64) {
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

// Forward returns the rows of an embedding of width Dim, [Rows·Hidden]. Rows that are not finite are an error: servers answer them with
// garbage, and some keep the damage in their cache.
func (p *Projection) Forward(e []float32) ([]float32, error) {
	if len(e) != p.Dim {
		return nil, fmt.Errorf("consumer embedding of width %d, want %d", len(e), p.Dim)
	}
	rows := make([]float32, p.Rows*p.Hidden)
	for k := range p.Rows {
		z, length := p.Linear(k, e)
		for h, v := range z {
			row := p.Norm * v / length
			if math.IsNaN(row) || math.IsInf(row, 0) {
				return nil, fmt.Errorf("soft row %d is not finite", k)
			}
			rows[k*p.Hidden+h] = float32(row)
		}
	}
	return rows, nil
}

// Gradient returns the gradient with respect to z_k, given that with respect to the k-th row: Norm/r · (g − z (z·g)/r²) with r = √(‖z‖² + ε²).
func (p *Projection) Gradient(k int, e, g []float32) []float64 {
	z, length := p.Linear(k, e)
	dot := 0.0
	for h := range z {
		dot += z[h] * float64(g[h])
	}
	for h := range z {
		z[h] = p.Norm / length * (float64(g[h]) - z[h]*dot/(length*length))
	}
	return z
}
