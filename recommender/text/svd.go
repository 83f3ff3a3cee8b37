package text

import (
	"math"
	"math/rand/v2"
)

const (
	oversample = 8 // further directions that the iteration carries for accuracy
	sweeps     = 4 // of the subspace iteration
)

// directions returns the dim strongest right singular directions of the sparse matrix whose rows are given, [columns, dim], by subspace
// iteration from a fixed random start (Halko, Martinsson and Tropp 2011, algorithm 4.4). Their signs are arbitrary but repeatable.
func directions(rows [][]entry, columns, dim int) []float32 {
	k := min(dim+oversample, columns, len(rows))
	rng := rand.New(rand.NewPCG(1, 0x15a))
	q := make([]float64, columns*k)
	for i := range q {
		q[i] = rng.NormFloat64()
	}
	orthonormalise(q, columns, k)
	next, mid := make([]float64, columns*k), make([]float64, k)
	for range sweeps {
		clear(next)
		for _, row := range rows {
			clear(mid)
			for _, e := range row {
				for j, x := range q[int(e.word)*k : (int(e.word)+1)*k] {
					mid[j] += float64(e.weight) * x
				}
			}
			for _, e := range row {
				to := next[int(e.word)*k : (int(e.word)+1)*k]
				for j, x := range mid {
					to[j] += float64(e.weight) * x
				}
			}
		}
		q, next = next, q
		orthonormalise(q, columns, k)
	}
	// The columns come out by falling strength: the first ones of the start were amplified alike, Gram–Schmidt orders what is left.
	out := make([]float32, columns*dim)
	for c := range columns {
		for j := range min(dim, k) {
			out[c*dim+j] = float32(q[c*k+j])
		}
	}
	return out
}

// orthonormalise makes the k columns of q [n,k] orthonormal by Gram–Schmidt, twice for stability. A column that depends on the ones
// before it becomes zero.
func orthonormalise(q []float64, n, k int) {
	for j := range k {
		before := norm(q, n, k, j)
		for range 2 {
			for i := range j {
				dot := 0.0
				for r := range n {
					dot += q[r*k+i] * q[r*k+j]
				}
				for r := range n {
					q[r*k+j] -= dot * q[r*k+i]
				}
			}
		}
		scale := norm(q, n, k, j)
		if scale <= 1e-10*before || scale == 0 {
			scale = math.Inf(1)
		}
		for r := range n {
			q[r*k+j] /= scale
		}
	}
}

func norm(q []float64, n, k, j int) float64 {
	sum := 0.0
	for r := range n {
		sum += q[r*k+j] * q[r*k+j]
	}
	return math.Sqrt(sum)
}
