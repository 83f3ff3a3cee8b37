package recommender

import (
	"math"
	"math/rand/v2"
	"testing"

	"recpie/internal/torch"
)

// wake makes every parameter matter: fresh networks have a last layer of zeros and tiny ids.
func wake(m *Model) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, p := range m.params.All() {
		for k, w := 0, p.F32View(); k < len(w); k++ {
			w[k] += .3 * float32(rng.NormFloat64())
		}
	}
}

func prepared(t testing.TB, set Settings, dim int) (*Model, *Explanations, []int32) {
	t.Helper()
	ds, split := world(t, 20, 20, 8)
	in := Input{Data: newData(t, split.TrainView(ds)), Train: split.Train, Val: split.Val, Settings: set, Seed: 4}
	if dim > 0 {
		in.Expl = noise(ds, dim)
	}
	m, err := prepare(in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	wake(m)
	return m, in.Expl, split.Train
}

func assembled(t testing.TB, m *Model, p pairs, vectors *Vectors) *batch {
	t.Helper()
	b := new(batch)
	t.Cleanup(b.free)
	if err := m.assemble(b, p, vectors); err != nil {
		t.Fatal(err)
	}
	return b
}

// The gradient of the whole network is that of finite differences, along random directions in every parameter.
func TestGradient(t *testing.T) {
	for _, loss := range []Loss{MSE, BCE} {
		for _, residual := range []bool{false, true} {
			set := tiny()
			set.Loss, set.Residual = loss, residual
			m, expl, train := prepared(t, set, 3)
			recs := train[:12]
			b := assembled(t, m, expl.of(recs), expl.Vectors)
			labels := m.data.ds.Labels(recs)
			for k := range labels {
				labels[k] = target(loss, labels[k])
			}
			evaluate := func(gradients map[string][]float32) (value float64) {
				err := torch.Do(func(s *torch.Scope) error {
					f := &forward{s: s, m: m, lookup: func(table string, ids []int64) *torch.Tensor {
						return s.Embedding(m.params.Get(table), s.Int64(ids, int64(len(ids))))
					}}
					_, whole, _ := f.loss(b, labels)
					whole = s.Add(whole, f.surprise(b, b.base, labels)) // to the head of the spread, predictions are plain numbers
					value = s.Item(whole)
					if gradients != nil {
						s.Backward(whole)
						for _, name := range m.params.Names() {
							if g := s.Grad(m.params.Get(name)); g != nil {
								gradients[name] = s.Float32s(g)
							}
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				return value
			}
			gradients := map[string][]float32{}
			evaluate(gradients)
			rng := rand.New(rand.NewPCG(1, 9))
			for _, name := range m.params.Names() {
				w, g := m.params.Get(name).F32View(), gradients[name]
				if g == nil && name == "seq.k.bias" {
					continue // it adds the same to all scores of a query
				}
				if g == nil {
					t.Errorf("%s has no gradient", name)
					continue
				}
				// Along the gradient's own signs, perturbed, the difference stands out of float32's noise.
				dir, want := make([]float64, len(w)), 0.0
				for k := range dir {
					dir[k] = math.Copysign(1, float64(g[k])) * (.5 + rng.Float64())
					want += dir[k] * float64(g[k])
				}
				if want < 1e-6 {
					continue // nothing to measure: a key's bias cancels in the softmax
				}
				eps := min(1e-4/want, 1e-3) // few rectifiers change sides on so short a way
				old := append([]float32(nil), w...)
				shifted := func(by float64) float64 {
					for k := range w {
						w[k] = float32(float64(old[k]) + by*dir[k])
					}
					return evaluate(nil)
				}
				got := (shifted(eps) - shifted(-eps)) / (2 * eps)
				copy(w, old)
				if math.Abs(got-want) > .02*want+2e-4 {
					t.Errorf("%s %s residual %v: finite difference %.5f, gradient %.5f", loss, name, residual, got, want)
				}
			}
		}
	}
}

func TestAttentionRowsSumToOne(t *testing.T) {
	for _, dim := range []int{0, 3} {
		m, expl, train := prepared(t, tiny(), dim)
		err := torch.NoGrad(func(s *torch.Scope) error {
			f := &forward{s: s, m: m, lookup: func(table string, ids []int64) *torch.Tensor {
				return s.Embedding(m.params.Get(table), s.Int64(ids, int64(len(ids))))
			}}
			var vectors *Vectors
			if expl != nil {
				vectors = expl.Vectors
			}
			b := assembled(t, m, expl.of(train[:9]), vectors)
			o := f.run(b)
			for _, sum := range s.Float32s(s.SumDim(o.attention, -1, false)) {
				if math.Abs(float64(sum)-1) > 1e-5 {
					t.Errorf("a row of α sums to %v", sum)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range mustPredict(t, m, train, expl).Attention {
			sum := float32(0)
			for _, x := range a {
				sum += x
			}
			if math.Abs(float64(sum)-1) > 1e-5 || (dim == 0) != (a[0] == 0 && a[1] == 0) {
				t.Fatalf("ᾱ = %v with explanations of %d dimensions", a, dim)
			}
		}
	}
}

// The attention layer knows no order: with tokens and types permuted, α is permuted.
func TestPermutedTokensPermuteAttention(t *testing.T) {
	m, _, _ := prepared(t, tiny(), 3)
	rng := rand.New(rand.NewPCG(2, 2))
	const n, tokens, d = 4, 6, 8
	x, perm := make([]float32, n*tokens*d), rng.Perm(tokens)
	for k := range x {
		x[k] = float32(rng.NormFloat64())
	}
	permuted := make([]float32, len(x))
	for b := range n {
		for i, p := range perm {
			copy(permuted[(b*tokens+i)*d:(b*tokens+i+1)*d], x[(b*tokens+p)*d:])
		}
	}
	read := func(x []float32) (alpha, z []float32) {
		err := torch.NoGrad(func(s *torch.Scope) error {
			f := &forward{s: s, m: m}
			zt, at := f.attend(s.Float32(x, n, tokens, d))
			alpha, z = s.Float32s(at), s.Float32s(zt)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return alpha, z
	}
	a, z := read(x)
	ap, zp := read(permuted)
	for bh := range n * m.settings.Heads {
		for i, pi := range perm {
			for j, pj := range perm {
				if got, want := ap[(bh*tokens+i)*tokens+j], a[(bh*tokens+pi)*tokens+pj]; math.Abs(float64(got-want)) > 1e-5 {
					t.Fatalf("α[%d,%d] = %v, want %v", i, j, got, want)
				}
			}
		}
	}
	for b := range n {
		for i, pi := range perm {
			for k := range d {
				if math.Abs(float64(zp[(b*tokens+i)*d+k]-z[(b*tokens+pi)*d+k])) > 1e-4 {
					t.Fatal("the layer's output is not permuted with its input")
				}
			}
		}
	}
}

// A missing explanation differs from every present one, and one record's inputs never reach another record of its batch.
func TestRecordsAreIndependent(t *testing.T) {
	m, expl, train := prepared(t, tiny(), 3)
	all := mustPredict(t, m, train, expl)
	for k, r := range train[:20] {
		one := mustPredict(t, m, []int32{r}, expl)
		if math.Abs(float64(one.Y[0]-all.Y[k])) > 1e-4 {
			t.Errorf("record %d: %v alone, %v in a batch", r, one.Y[0], all.Y[k])
		}
	}
	r := train[1]
	p, err := m.PredictWith(t.Context(), []int32{r, r, r}, []int32{expl.Pos[r], -1, 3}, []int32{expl.Neg[r], -1, 3}, expl.Vectors)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(p.Y[0]-all.Y[1])) > 1e-5 {
		t.Errorf("PredictWith %v, Predict %v", p.Y[0], all.Y[1])
	}
	if p.Attention[1] == p.Attention[2] {
		t.Error("no explanation is treated like one")
	}
}
