package torch

import (
	"testing"
)

func TestBasics(t *testing.T) {
	err := Do(func(s *Scope) error {
		a := s.RequireGrad(s.Float32([]float32{1, 2, 3, 4}, 2, 2))
		b := s.Float32([]float32{1, 0, 0, 1}, 2, 2)
		loss := s.Sum(s.Square(s.MatMul(a, b)))
		if got := s.Item(loss); got != 30 {
			t.Errorf("loss %v", got)
		}
		s.Backward(loss)
		g := s.Float32s(s.Grad(a))
		for i, want := range []float32{2, 4, 6, 8} {
			if g[i] != want {
				t.Errorf("grad %v", g)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	err = NoGrad(func(s *Scope) error {
		x := s.MatMul(s.Zeros(Float32, 2, 3), s.Zeros(Float32, 4, 5))
		_ = s.Softmax(x, -1)
		return nil
	})
	t.Log(err)
	if err == nil {
		t.Fatal("no error")
	}
}
