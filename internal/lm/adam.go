package lm

import "math"

// adamState is AdamW with bias correction over flat parameters (Loshchilov and Hutter, 2019). The settings come with each step, as the
// training API wants it.
type adamState struct {
	step int64
	m, v [][]float32
}

func newAdamState(sizes []int) *adamState {
	a := &adamState{m: make([][]float32, len(sizes)), v: make([][]float32, len(sizes))}
	for i, n := range sizes {
		a.m[i], a.v[i] = make([]float32, n), make([]float32, n)
	}
	return a
}

// gradNorm returns the Euclidean norm of all gradients together.
func gradNorm(grads [][]float32) float64 {
	sum := 0.0
	for _, g := range grads {
		for _, v := range g {
			sum += float64(v) * float64(v)
		}
	}
	return math.Sqrt(sum)
}

// update changes the parameters in place. decays says which of them weight decay touches; nil is all. It returns the norm before
// clipping.
func (a *adamState) update(params, grads [][]float32, p AdamParams, decays func(i int) bool) float64 {
	total, clip := gradNorm(grads), 1.0
	if p.GradClipNorm > 0 && total > p.GradClipNorm {
		clip = p.GradClipNorm / total
	}
	a.step++
	b1, b2 := float32(p.Beta1), float32(p.Beta2)
	c1 := p.LearningRate / (1 - math.Pow(p.Beta1, float64(a.step)))
	c2 := float32(1 / math.Sqrt(1-math.Pow(p.Beta2, float64(a.step))))
	rate, eps, scale := float32(c1), float32(p.Eps), float32(clip)
	for i, w := range params {
		g, m, v := grads[i][:len(w)], a.m[i][:len(w)], a.v[i][:len(w)]
		keep := float32(1)
		if decays == nil || decays(i) {
			keep = float32(1 - p.LearningRate*p.WeightDecay)
		}
		for j := range w {
			x := g[j] * scale
			m[j] = b1*m[j] + (1-b1)*x
			v[j] = b2*v[j] + (1-b2)*x*x
			w[j] = w[j]*keep - rate*m[j]/(sqrt32(v[j])*c2+eps)
		}
	}
	return total
}

func sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
