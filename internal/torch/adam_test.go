package torch

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// textbook is Adam as published, in float64; decoupled is AdamW.
type textbook struct {
	lr, b1, b2, eps, decay float64
	decoupled              bool
	t                      int
	m, v                   []float64
}

func (a *textbook) step(w, g []float64) {
	if a.m == nil {
		a.m, a.v = make([]float64, len(w)), make([]float64, len(w))
	}
	a.t++
	for i := range w {
		d := g[i]
		if a.decoupled {
			w[i] -= a.lr * a.decay * w[i]
		} else {
			d += a.decay * w[i]
		}
		a.m[i] = a.b1*a.m[i] + (1-a.b1)*d
		a.v[i] = a.b2*a.v[i] + (1-a.b2)*d*d
		mhat := a.m[i] / (1 - math.Pow(a.b1, float64(a.t)))
		vhat := a.v[i] / (1 - math.Pow(a.b2, float64(a.t)))
		w[i] -= a.lr * mhat / (math.Sqrt(vhat) + a.eps)
	}
}

func normal(rng *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(rng.NormFloat64())
	}
	return v
}

func wide(v []float32) []float64 {
	w := make([]float64, len(v))
	for i := range v {
		w[i] = float64(v[i])
	}
	return w
}

// giveGrad makes the gradient of p equal to g.
func giveGrad(t *testing.T, p *Tensor, g []float32) {
	t.Helper()
	must(t, Do(func(s *Scope) error {
		s.Backward(s.Sum(s.Mul(p, s.Float32(g, p.Shape()...))))
		return nil
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func near(t *testing.T, what string, got []float32, want []float64, tolerance float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if d := math.Abs(float64(got[i]) - want[i]); !(d <= tolerance*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

func TestAdamIsTheTextbookFormula(t *testing.T) {
	const tolerance = 2e-6 // float32 arithmetic over 20 steps
	for name, c := range map[string]struct {
		cfg  AdamConfig
		want textbook
	}{
		"adam":      {AdamConfig{LR: 0.01}, textbook{lr: 0.01, b1: 0.9, b2: 0.999, eps: 1e-8}},
		"betas eps": {AdamConfig{LR: 0.01, Beta1: 0.8, Beta2: 0.95, Eps: 1e-3}, textbook{lr: 0.01, b1: 0.8, b2: 0.95, eps: 1e-3}},
		"l2":        {AdamConfig{LR: 0.01, WeightDecay: 0.1}, textbook{lr: 0.01, b1: 0.9, b2: 0.999, eps: 1e-8, decay: 0.1}},
		"adamw":     {AdamConfig{LR: 0.01, WeightDecay: 0.1, Decoupled: true}, textbook{lr: 0.01, b1: 0.9, b2: 0.999, eps: 1e-8, decay: 0.1, decoupled: true}},
		"override": {AdamConfig{LR: 0.01, WeightDecay: 9, Decoupled: true, Decay: func(string) float64 { return 0.2 }},
			textbook{lr: 0.01, b1: 0.9, b2: 0.999, eps: 1e-8, decay: 0.2, decoupled: true}},
	} {
		t.Run(name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 2))
			params := NewParams()
			defer params.Free()
			start := normal(rng, 35)
			w, err := params.Add("w", start, 5, 7)
			must(t, err)
			adam, err := NewAdam(params, c.cfg)
			must(t, err)
			want := wide(start)
			for range 20 {
				g := normal(rng, 35)
				giveGrad(t, w, g)
				norm, err := adam.Step(0)
				must(t, err)
				near(t, "norm", []float32{float32(norm)}, []float64{l2norm(wide(g))}, 1e-6)
				c.want.step(want, wide(g))
				near(t, "weights", w.F32View(), want, tolerance)
			}
		})
	}
}

func l2norm(g []float64) float64 {
	var s float64
	for _, x := range g {
		s += x * x
	}
	return math.Sqrt(s)
}

func TestAdamClipsTheGlobalNorm(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	params := NewParams()
	defer params.Free()
	a0, b0, t0 := normal(rng, 4), normal(rng, 600), normal(rng, 6)
	a, err := params.Add("a", a0, 4)
	must(t, err)
	b, err := params.Add("b", b0, 600)
	must(t, err)
	table, err := params.Add("table", t0, 3, 2)
	must(t, err)
	adam, err := NewAdam(params, AdamConfig{LR: 0.1, Eps: 1, ClipNorm: 0.5}) // a large eps makes the scale visible
	must(t, err)
	must(t, adam.SetRowwise("table"))
	ga, gb, gt := normal(rng, 4), normal(rng, 600), normal(rng, 6)
	giveGrad(t, a, ga)
	giveGrad(t, b, gb)
	must(t, Do(func(s *Scope) error {
		s.Backward(s.Sum(s.Mul(adam.Lookup(s, "table", []int64{0, 1, 2}), s.Float32(gt, 3, 2))))
		return nil
	}))
	norm, err := adam.Step(0)
	must(t, err)
	want := l2norm(wide(slices.Concat(ga, gb, gt)))
	near(t, "norm", []float32{float32(norm)}, []float64{want}, 1e-6)
	for _, c := range []struct {
		t    *Tensor
		w, g []float32
	}{{a, a0, ga}, {b, b0, gb}, {table, t0, gt}} {
		w, g := wide(c.w), wide(c.g)
		for i := range g {
			g[i] *= 0.5 / want
		}
		(&textbook{lr: 0.1, b1: 0.9, b2: 0.999, eps: 1}).step(w, g)
		near(t, "clipped step", c.t.F32View(), w, 1e-6)
	}
}

func TestRowwiseEqualsDenseWhenAllRowsAreLookedUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	start := normal(rng, 12)
	cfg := AdamConfig{LR: 0.05, WeightDecay: 0.1, Decoupled: true}
	dense, rowwise := NewParams(), NewParams()
	defer dense.Free()
	defer rowwise.Free()
	w, err := dense.Add("e", start, 4, 3)
	must(t, err)
	_, err = rowwise.Add("e", start, 4, 3)
	must(t, err)
	da, err := NewAdam(dense, cfg)
	must(t, err)
	ra, err := NewAdam(rowwise, cfg)
	must(t, err)
	must(t, ra.SetRowwise("e"))
	first, second := []int64{3, 1, 1, 0}, []int64{2, 3}
	for range 10 {
		x, y := normal(rng, 12), normal(rng, 6)
		loss := func(s *Scope, a, b *Tensor) *Tensor {
			return s.Add(s.Sum(s.Square(s.Mul(a, s.Float32(x, 4, 3)))), s.Sum(s.Mul(b, s.Float32(y, 2, 3))))
		}
		must(t, Do(func(s *Scope) error {
			s.Backward(loss(s, s.Embedding(w, s.Int64(first, 4)), s.Embedding(w, s.Int64(second, 2))))
			s.Backward(loss(s, ra.Lookup(s, "e", first), ra.Lookup(s, "e", second)))
			return nil
		}))
		dn, err := da.Step(0)
		must(t, err)
		rn, err := ra.Step(0)
		must(t, err)
		near(t, "norm", []float32{float32(rn)}, []float64{dn}, 1e-6)
		near(t, "table", rowwise.Get("e").F32View(), wide(w.F32View()), 1e-6)
	}
}

func TestRowwiseLeavesOtherRowsAlone(t *testing.T) {
	params := NewParams()
	defer params.Free()
	start := []float32{1, 2, 3, 4, 5, 6}
	table, err := params.AddFrozen("e", start, 3, 2)
	must(t, err)
	adam, err := NewAdam(params, AdamConfig{LR: 0.5, WeightDecay: 0.1, Decoupled: true})
	must(t, err)
	must(t, adam.SetRowwise("e"))
	for range 3 {
		must(t, Do(func(s *Scope) error {
			s.Backward(s.Sum(adam.Lookup(s, "e", []int64{1})))
			return nil
		}))
		_, err = adam.Step(0)
		must(t, err)
	}
	got := table.F32View()
	if !slices.Equal(got[:2], start[:2]) || !slices.Equal(got[4:], start[4:]) || got[2] == 3 {
		t.Fatal(got)
	}
	must(t, NoGrad(func(s *Scope) error { // reading does not count as a look-up
		if v := s.Float32s(adam.Lookup(s, "e", []int64{2, 0})); !slices.Equal(v, []float32{5, 6, 1, 2}) {
			t.Error(v)
		}
		return nil
	}))
	if n := len(adam.tables["e"].pending); n != 0 {
		t.Errorf("%d look-ups pending", n)
	}
	err = Do(func(s *Scope) error { adam.Lookup(s, "e", []int64{0, 3}); return nil })
	if err == nil {
		t.Error("row 3 of 3 was accepted")
	}
}

func TestStateRoundTripIsBitEqual(t *testing.T) {
	build := func() (*Params, *Adam) {
		rng := rand.New(rand.NewPCG(7, 8))
		params := NewParams()
		_, err := params.Add("w", normal(rng, 20), 4, 5)
		must(t, err)
		_, err = params.Add("e", normal(rng, 12), 6, 2)
		must(t, err)
		_, err = params.Add("never used", normal(rng, 2), 2)
		must(t, err)
		adam, err := NewAdam(params, AdamConfig{LR: 0.01, ClipNorm: 1, WeightDecay: 0.01})
		must(t, err)
		must(t, adam.SetRowwise("e"))
		return params, adam
	}
	step := func(p *Params, a *Adam, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		giveGrad(t, p.Get("w"), normal(rng, 20))
		must(t, Do(func(s *Scope) error {
			s.Backward(s.Sum(s.Square(a.Lookup(s, "e", []int64{rng.Int64N(6), rng.Int64N(6)}))))
			return nil
		}))
		_, err := a.Step(0)
		must(t, err)
	}
	p1, a1 := build()
	defer p1.Free()
	for i := range uint64(5) {
		step(p1, a1, i)
	}
	p2, a2 := build()
	defer p2.Free()
	must(t, p2.Load(p1.Snapshot()))
	must(t, a2.LoadState(a1.State()))
	for i := range uint64(5) {
		step(p1, a1, 100+i)
		step(p2, a2, 100+i)
	}
	same := func(what string, x, y []Named) {
		if len(x) != len(y) {
			t.Fatalf("%s: %d and %d entries", what, len(x), len(y))
		}
		for i := range x {
			bits := func(a, b float32) int { return int(math.Float32bits(a)) - int(math.Float32bits(b)) }
			if x[i].Name != y[i].Name || !slices.Equal(x[i].Shape, y[i].Shape) || slices.CompareFunc(x[i].Data, y[i].Data, bits) != 0 {
				t.Errorf("%s: %s differs", what, x[i].Name)
			}
		}
	}
	same("weights", p1.Snapshot(), p2.Snapshot())
	same("state", a1.State(), a2.State())
}

func TestLoadStateRefuses(t *testing.T) {
	params := NewParams()
	defer params.Free()
	w, err := params.Add("w", []float32{1, 2}, 2)
	must(t, err)
	adam, err := NewAdam(params, AdamConfig{LR: 1})
	must(t, err)
	giveGrad(t, w, []float32{1, 1})
	_, err = adam.Step(0)
	must(t, err)
	good := adam.State()
	for name, change := range map[string]func(st []Named) []Named{
		"no step":    func(st []Named) []Named { return st[1:] },
		"half step":  func(st []Named) []Named { st[0].Data[0] = 1.5; return st },
		"nan step":   func(st []Named) []Named { st[0].Data[0] = float32(math.NaN()); return st },
		"one moment": func(st []Named) []Named { return st[:2] },
		"wrong size": func(st []Named) []Named { st[1].Data = st[1].Data[:1]; return st },
		"stranger":   func(st []Named) []Named { return append(st, Named{"x.exp_avg", []int64{1}, []float32{0}}) },
	} {
		if err := adam.LoadState(change(adam.State())); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if got := adam.State(); got[0].Data[0] != good[0].Data[0] || !slices.Equal(got[1].Data, good[1].Data) {
			t.Errorf("%s: the state changed", name)
		}
	}
}

func TestStepRefusesWhatIsNotFinite(t *testing.T) {
	params := NewParams()
	defer params.Free()
	w, err := params.Add("w", []float32{1, 2}, 2)
	must(t, err)
	adam, err := NewAdam(params, AdamConfig{LR: 1})
	must(t, err)
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		giveGrad(t, w, []float32{float32(bad), 1})
		if _, err := adam.Step(0); !errors.Is(err, ErrNotFinite) {
			t.Errorf("%v: %v", bad, err)
		}
		if !slices.Equal(w.F32View(), []float32{1, 2}) || adam.Steps() != 0 {
			t.Errorf("%v: the weights changed to %v", bad, w.F32View())
		}
	}
	giveGrad(t, w, []float32{1, 1}) // the bad gradient is gone
	_, err = adam.Step(0)
	must(t, err)
	for _, cfg := range []AdamConfig{{LR: -1}, {LR: math.NaN()}, {Beta1: 1}, {Beta2: 1.5}, {WeightDecay: -1}, {ClipNorm: -1}} {
		if _, err := NewAdam(params, cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
