package trainertest

import (
	"math"
	"math/rand/v2"
	"slices"

	"recpie/internal/wire/tinker"
)

// vocabulary is the number of the fake's token ids.
const vocabulary = 24

// table is a language model in which a token's logits depend on the token before it alone: fixed ones and the adapter's, [vocabulary, vocabulary] each.
type table struct {
	adapter, grad, m, v []float64
	steps               int
}

const tableSize = vocabulary * vocabulary

var fixed = func() []float64 {
	rng, w := rand.New(rand.NewPCG(7, 7)), make([]float64, tableSize)
	for i := range w {
		w[i] = rng.NormFloat64()
	}
	return w
}()

func newTable() *table {
	return &table{make([]float64, tableSize), make([]float64, tableSize), make([]float64, tableSize), make([]float64, tableSize), 0}
}

func (t *table) clone() *table {
	return &table{slices.Clone(t.adapter), slices.Clone(t.grad), slices.Clone(t.m), slices.Clone(t.v), t.steps}
}

// logprobs returns the log-probabilities of all tokens after one.
func (t *table) logprobs(after int32) []float64 {
	lp := make([]float64, vocabulary)
	var most, sum float64
	for i := range lp {
		lp[i] = fixed[int(after)*vocabulary+i] + t.adapter[int(after)*vocabulary+i]
		most = max(most, lp[i])
	}
	for _, l := range lp {
		sum += math.Exp(l - most)
	}
	for i := range lp {
		lp[i] -= most + math.Log(sum)
	}
	return lp
}

// example is a datum of the fake; weights are 1 where none were sent.
type example struct {
	tokens                        []int32
	targets                       []int64
	weights, logprobs, advantages []float32
}

// pass returns log-probabilities and losses per token, and with backward adds gradients.
func (t *table) pass(e example, loss string, low, high float64, backward, mean bool) (lps, losses []float32) {
	var mask float64
	for _, w := range e.weights {
		mask += float64(w)
	}
	for i, tok := range e.tokens {
		all := t.logprobs(tok)
		lp := all[e.targets[i]]
		w := float64(e.weights[i])
		var l, slope float64 // of the loss by lp
		switch loss {
		case tinker.LossCrossEntropy:
			l, slope = -w*lp, -w
		default:
			r, a := math.Exp(lp-float64(e.logprobs[i])), float64(e.advantages[i])
			l, slope = -w*r*a, -w*r*a
			if clipped := math.Min(math.Max(r, low), high) * a; loss == tinker.LossPPO && clipped < r*a {
				l, slope = -w*clipped, 0
			}
		}
		lps, losses = append(lps, float32(lp)), append(losses, float32(l))
		if !backward {
			continue
		}
		if mean {
			slope /= math.Max(mask, 1e-9)
		}
		for k := range all {
			g := -math.Exp(all[k])
			if int64(k) == e.targets[i] {
				g++
			}
			t.grad[int(tok)*vocabulary+k] += slope * g
		}
	}
	return lps, losses
}

// step is Adam's.
func (t *table) step(p tinker.AdamParams) (norm float64) {
	t.steps++
	for i, g := range t.grad {
		norm += g * g
		t.m[i] = p.Beta1*t.m[i] + (1-p.Beta1)*g
		t.v[i] = p.Beta2*t.v[i] + (1-p.Beta2)*g*g
		m, v := t.m[i]/(1-math.Pow(p.Beta1, float64(t.steps))), t.v[i]/(1-math.Pow(p.Beta2, float64(t.steps)))
		t.adapter[i] -= p.LearningRate * m / (math.Sqrt(v) + p.Eps)
	}
	clear(t.grad)
	return math.Sqrt(norm)
}

// sample draws n tokens after one.
func (t *table) sample(after int32, n int, rng *rand.Rand) (ids []int32, lps []float32) {
	for range n {
		lp := t.logprobs(after)
		u, k := rng.Float64(), 0
		for u -= math.Exp(lp[0]); u > 0 && k < vocabulary-1; u -= math.Exp(lp[k]) {
			k++
		}
		after = int32(k)
		ids, lps = append(ids, after), append(lps, float32(lp[k]))
	}
	return ids, lps
}
