package lm

import (
	"testing"

	"recpie/internal/torch"
)

// Masked attention in parts of rows is masked attention, forward and backward.
func TestAttentionInParts(t *testing.T) {
	defer func(n int64) { attendBytes = n }(attendBytes)
	const rows, heads, cols, width, head = 7, 2, 5, 9, 4
	var got [2][]float32
	var grad [2][]float32
	for i, limit := range []int64{1 << 30, 2 * 4 * heads * cols * width} { // all at once; two rows at a time
		attendBytes = limit
		torch.Seed(1)
		err := torch.Do(func(s *torch.Scope) error {
			q, k, v := s.Randn(rows, heads, cols, head), s.Randn(rows, heads, width, head), s.Randn(rows, heads, width, head)
			see := make([]bool, rows*cols*width)
			for j := range see {
				see[j] = j%width == 0 || j*7919%5 < 2
			}
			s.RequireGrad(k)
			y := (&network{cfg: Config{NumHeads: heads, NumKVHeads: heads}}).attend(s, q, k, v, s.Bool(see, rows, 1, cols, width))
			got[i] = s.Float32s(y)
			s.Backward(s.Sum(s.Square(y)))
			grad[i] = s.Float32s(s.Grad(k))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for j := range got[0] {
		if d := got[0][j] - got[1][j]; d > 1e-6 || d < -1e-6 {
			t.Fatalf("value %d is %v in parts, %v at once", j, got[1][j], got[0][j])
		}
	}
	for j := range grad[0] {
		if d := grad[0][j] - grad[1][j]; d > 1e-5 || d < -1e-5 {
			t.Fatalf("gradient %d is %v in parts, %v at once", j, grad[1][j], grad[0][j])
		}
	}
}
