package torch

import lib "github.com/sugarme/gotch/libtch"

// Buffer is memory for float32 inputs on the CPU that is filled again for every batch, without copies on the way into a tensor. It belongs to its
// holder, who frees it. The zero value is ready.
type Buffer struct {
	t    *Tensor
	all  []float32
	used int
}

// Floats returns n numbers to be overwritten: their content is whatever was there.
func (b *Buffer) Floats(n int) ([]float32, error) {
	if n > len(b.all) {
		b.Free()
		err := CPU.NoGrad(func(s *Scope) error {
			t := s.empty("buffer", int64(n+n/4))
			if s.Err() == nil {
				b.t = s.Keep(t)
				b.all = t.F32View()
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	b.used = n
	return b.all[:n], nil
}

// Filled returns the numbers of the last call of Floats.
func (b *Buffer) Filled() []float32 { return b.all[:b.used] }

// Width is how many numbers were filled in for each of n rows.
func (b *Buffer) Width(n int64) int64 { return int64(b.used) / max(n, 1) }

// Free gives the memory back. The buffer can be used again.
func (b *Buffer) Free() {
	b.t.Free()
	*b = Buffer{}
}

// View returns the filled part of b as a tensor of the given shape. It shows the buffer's memory, which must not be overwritten before the scope's
// end. On a GPU it is a copy.
func (s *Scope) View(b *Buffer, shape ...int64) *Tensor {
	const op = "view"
	if !s.ready(op) {
		return nil
	}
	if n, err := checkShape(shape); err != nil || n != int64(b.used) {
		s.Fail(shapeError(op, "shape %v for %d numbers", shape, b.used))
		return nil
	}
	if b.used == 0 {
		return s.Zeros(Float32, shape...)
	}
	t := s.run(op, func(out *lib.Ctensor) { lib.AtgNarrow(out, b.t.c, 0, 0, int64(b.used)) }, b.t)
	return s.onto(s.Reshape(t, shape...), s.dev)
}
