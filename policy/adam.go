package policy

import (
	"fmt"
	"math"
)

// Named is a float32 tensor with a name, ready for a safetensors file.
type Named struct {
	Name  string
	Shape []int64
	Data  []float32
}

// adam is Adam (Kingma and Ba 2015) with bias correction on one parameter, its moments held in float32 so that saving and restoring them
// continues bit for bit.
type adam struct{ m, v []float32 }

func newAdam(n int) *adam { return &adam{make([]float32, n), make([]float32, n)} }

// step applies gradient g, already scaled by the caller, as step number t (from 1).
func (a *adam) step(x []float32, g []float64, scale float64, t int, p AdamStep) {
	c1, c2 := 1-math.Pow(p.Beta1, float64(t)), 1-math.Pow(p.Beta2, float64(t))
	for i := range x {
		gi := g[i] * scale
		a.m[i] = float32(p.Beta1*float64(a.m[i]) + (1-p.Beta1)*gi)
		a.v[i] = float32(p.Beta2*float64(a.v[i]) + (1-p.Beta2)*gi*gi)
		x[i] -= float32(p.LR * (float64(a.m[i])/c1/(math.Sqrt(float64(a.v[i])/c2)+p.Eps) + p.WeightDecay*float64(x[i])))
	}
}

// take copies tensor name out of ts into dst, checking its size and that it is finite.
func take(ts []Named, name string, dst []float32) error {
	for _, t := range ts {
		if t.Name != name {
			continue
		}
		if len(t.Data) != len(dst) {
			return fmt.Errorf("policy: tensor %s has %d values, want %d", name, len(t.Data), len(dst))
		}
		if i := firstNonFinite(t.Data); i >= 0 {
			return fmt.Errorf("policy: tensor %s: value %d is not finite", name, i)
		}
		copy(dst, t.Data)
		return nil
	}
	return fmt.Errorf("policy: tensor %s is missing", name)
}
