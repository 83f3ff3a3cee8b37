package policy

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestRowsHaveTheNormOfTokenEmbeddings(t *testing.T) {
	p, err := NewProjection(3, 8, 5, 2.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := p.Forward([]float32{1, -1, .5, 0, 2})
	if err != nil {
		t.Fatal(err)
	}
	for k := range 3 {
		sum := 0.0
		for _, x := range rows[k*8 : k*8+8] {
			sum += float64(x) * float64(x)
		}
		if math.Abs(math.Sqrt(sum)-2.5) > 1e-5 {
			t.Errorf("row %d has norm %v, want 2.5", k, math.Sqrt(sum))
		}
	}
	other, err := p.Forward([]float32{-1, 1, .5, 0, 2})
	if err != nil {
		t.Fatal(err)
	}
	if rows[0] == other[0] {
		t.Error("two users have the same row")
	}
	if _, err := p.Forward([]float32{1, 2}); err == nil {
		t.Error("an embedding of the wrong width was taken")
	}
	if _, err := p.Forward([]float32{1, 2, 3, 4, float32(math.NaN())}); err == nil {
		t.Error("a non-finite embedding was taken")
	}
}

// Backward agrees with central differences of a random linear functional of the rows within 1e-3 of the gradient's size, the tolerance that float32
// rows leave at a step of 1e-2.
func TestProjectionGradient(t *testing.T) {
	p, err := NewProjection(2, 6, 4, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	e, c := make([]float32, 4), make([]float32, 12)
	for i := range e {
		e[i] = float32(rng.NormFloat64())
	}
	for i := range c {
		c[i] = float32(rng.NormFloat64())
	}
	value := func() float64 {
		rows, err := p.Forward(e)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for i, x := range rows {
			sum += float64(x) * float64(c[i])
		}
		return sum
	}
	if err := p.Backward(e, c); err != nil {
		t.Fatal(err)
	}
	check := func(name string, x []float32, grad []float64) {
		for i := range x {
			const h = 1e-2
			old := x[i]
			x[i] = old + h
			up, wide := value(), float64(x[i])
			x[i] = old - h
			down := value()
			numeric := (up - down) / (wide - float64(x[i]))
			x[i] = old
			if math.Abs(numeric-grad[i]) > 1e-3*math.Max(1, math.Abs(grad[i])) {
				t.Errorf("%s[%d]: gradient %v, numeric %v", name, i, grad[i], numeric)
			}
		}
	}
	check("W", p.W, p.gradW)
	check("B", p.B, p.gradB)
}

func TestAdamFollowsItsDefinition(t *testing.T) {
	a := newAdam(1)
	x := []float32{1}
	p := AdamStep{LR: .1, Beta1: .9, Beta2: .999, Eps: 1e-8}
	a.step(x, []float64{4}, 1, 1, p)
	if math.Abs(float64(x[0])-.9) > 1e-6 { // the first step has length LR whatever the gradient
		t.Errorf("after one step x = %v, want .9", x[0])
	}
	a.step(x, []float64{-4}, 1, 2, p)
	m, v := (.9*.4-.4)/(1-.81), (.999*.016+.016)/(1-.999*.999)
	if want := .9 - .1*m/math.Sqrt(v); math.Abs(float64(x[0])-want) > 1e-5 {
		t.Errorf("after two steps x = %v, want %v", x[0], want)
	}
}

func TestStepClipsAndRefuses(t *testing.T) {
	p, err := NewProjection(1, 2, 1, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Backward([]float32{1}, []float32{0, float32(math.NaN())}); err == nil {
		t.Error("a non-finite gradient was taken")
	}
	before := p.Tensors()
	p.gradW[0] = math.Inf(1)
	if _, err := p.Step(AdamStep{LR: 1}); err == nil {
		t.Error("a non-finite gradient was applied")
	}
	if after := p.Tensors(); after[0].Data[0] != before[0].Data[0] || p.gradW[0] != 0 {
		t.Error("a refused gradient left a trace")
	}
}
