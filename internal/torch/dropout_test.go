package torch

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// The loop draws what rand.PCG draws and leaves it where it would be.
func TestDropoutDrawsFromPCG(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed, n, p := rapid.Uint64().Draw(rt, "seed"), rapid.IntRange(0, 40).Draw(rt, "n"), rapid.Float64Range(0, .99).Draw(rt, "p")
		a, b := rand.NewPCG(seed, 7), rand.NewPCG(seed, 7)
		x, want := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = float32(i + 1)
			if p == 0 {
				want[i] = x[i]
			} else if uint32(b.Uint64()>>32) >= uint32(p*math.MaxUint32) {
				want[i] = x[i] * float32(1/(1-p))
			}
		}
		Dropout(a, x, p)
		for i := range x {
			if x[i] != want[i] {
				rt.Fatalf("number %d is %v, want %v", i, x[i], want[i])
			}
		}
		if a.Uint64() != b.Uint64() {
			rt.Fatal("the generator stands elsewhere")
		}
	})
}

func TestBufferIsFilledAgain(t *testing.T) {
	var b Buffer
	defer b.Free()
	for _, n := range []int{3, 2, 600} {
		x, err := b.Floats(n)
		must(t, err)
		for i := range x {
			x[i] = float32(n + i)
		}
		must(t, NoGrad(func(s *Scope) error {
			for i, v := range s.Float32s(s.View(&b, int64(n), 1)) {
				if v != float32(n+i) {
					t.Errorf("%d numbers: number %d is %v", n, i, v)
				}
			}
			return nil
		}))
	}
	if err := NoGrad(func(s *Scope) error { s.View(&b, 599); return nil }); err == nil {
		t.Error("a view of another size was given")
	}
}
