package policy

import (
	"fmt"

	"gonum.org/v1/gonum/mat"
)

// Critic predicts a reward from a few features of the pair by ridge regression kept up to date record by record. It is the baseline of pairs that
// have a single usable alternative. The intercept is not penalised apart from the others, being one feature among them.
type Critic struct {
	dim    int // features, plus one for the intercept
	ridge  float64
	count  int
	gram   []float64 // [dim, dim] Σ x xᵀ
	moment []float64 // [dim] Σ r x
	coef   []float64 // [dim] solution, nil when it must be computed anew
}

// CriticState is everything a critic knows; it survives JSON bit for bit.
type CriticState struct {
	Count  int       `json:"count"`
	Gram   []float64 `json:"gram"`
	Moment []float64 `json:"moment"`
}

// NewCritic returns a critic over that many features with the ridge penalty (> 0).
func NewCritic(features int, ridge float64) (*Critic, error) {
	if features < 0 || !(ridge > 0) {
		return nil, fmt.Errorf("policy: critic over %d features with ridge %v", features, ridge)
	}
	dim := features + 1
	return &Critic{dim: dim, ridge: ridge, gram: make([]float64, dim*dim), moment: make([]float64, dim)}, nil
}

// Ready says whether it has seen enough pairs (twice its coefficients) to be trusted.
func (c *Critic) Ready() bool { return c.count >= 2*c.dim }

// Observe adds a pair's features and reward. Non-finite values, or features of another length, are left out and reported by false.
func (c *Critic) Observe(features []float64, reward float64) bool {
	x, ok := c.row(features)
	if !ok || !finite(reward) {
		return false
	}
	for i, a := range x {
		for j, b := range x {
			c.gram[i*c.dim+j] += a * b
		}
		c.moment[i] += reward * a
	}
	c.count++
	c.coef = nil
	return true
}

// Predict returns the expected reward, or the mean seen so far for features that it cannot use.
func (c *Critic) Predict(features []float64) float64 {
	if c.count == 0 {
		return 0
	}
	mean := c.moment[0] / float64(c.count)
	x, ok := c.row(features)
	if !ok || !c.solve() {
		return mean
	}
	sum := 0.0
	for i, v := range x {
		sum += v * c.coef[i]
	}
	return sum
}

// State returns a copy of what it has learned.
func (c *Critic) State() CriticState {
	return CriticState{c.count, append([]float64(nil), c.gram...), append([]float64(nil), c.moment...)}
}

// Restore replaces what it has learned.
func (c *Critic) Restore(s CriticState) error {
	if len(s.Gram) != len(c.gram) || len(s.Moment) != len(c.moment) || s.Count < 0 {
		return fmt.Errorf("policy: critic state of %d and %d values, want %d and %d", len(s.Gram), len(s.Moment), len(c.gram), len(c.moment))
	}
	c.count, c.coef = s.Count, nil
	copy(c.gram, s.Gram)
	copy(c.moment, s.Moment)
	return nil
}

func (c *Critic) row(features []float64) ([]float64, bool) {
	if len(features) != c.dim-1 {
		return nil, false
	}
	x := append([]float64{1}, features...)
	for _, v := range x {
		if !finite(v) {
			return nil, false
		}
	}
	return x, true
}

func (c *Critic) solve() bool {
	if c.coef != nil {
		return true
	}
	a := mat.NewSymDense(c.dim, append([]float64(nil), c.gram...))
	for i := range c.dim {
		a.SetSym(i, i, a.At(i, i)+c.ridge)
	}
	var chol mat.Cholesky
	if !chol.Factorize(a) {
		return false
	}
	coef := make([]float64, c.dim)
	if err := chol.SolveVecTo(mat.NewVecDense(c.dim, coef), mat.NewVecDense(c.dim, c.moment)); err != nil {
		return false
	}
	c.coef = coef
	return true
}
