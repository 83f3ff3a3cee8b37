package torch

import (
	lib "github.com/sugarme/gotch/libtch"
)

// RequireGrad makes autograd follow t, which must be a leaf (not the result of a followed operation). It returns t.
func (s *Scope) RequireGrad(t *Tensor) *Tensor {
	if !s.setRequiresGrad(t, true) {
		return nil
	}
	return t
}

func (s *Scope) setRequiresGrad(t *Tensor, on bool) bool {
	return s.inPlace("requires_grad", func(out *lib.Ctensor) { lib.AtgSetRequiresGrad(out, t.c, flag(on)) }, t)
}

// Backward adds the gradients of loss (one element) to all leaves that require them, and frees the graph.
func (s *Scope) Backward(loss *Tensor) {
	s.call("backward", func() { lib.AtBackward(loss.c, 0, 0) }, loss)
}

// Grad returns the gradient stored at the leaf t (the same memory, not a copy), or nil when there is none.
func (s *Scope) Grad(t *Tensor) *Tensor {
	if !s.ready("grad", t) {
		return nil
	}
	s.out[0] = nil
	lib.AtgGrad(&s.out[0], t.c)
	c := s.out[0]
	if c != nil && !lib.AtDefined(c) {
		lib.AtFree(c)
		return nil
	}
	return s.take("grad", c, t)
}

// ZeroGrad drops the gradient stored at t.
func (s *Scope) ZeroGrad(t *Tensor) {
	if s.ready("zero_grad", t) {
		if err := resetGrad(t); err != nil {
			s.Fail(err)
		}
	}
}

// inPlace runs an operation that changes its first operand and returns a second handle of it, which is dropped.
func (s *Scope) inPlace(op string, f func(out *lib.Ctensor), operands ...*Tensor) bool {
	if !s.ready(op, operands...) {
		return false
	}
	s.out[0] = nil
	f(&s.out[0])
	if s.out[0] == nil {
		s.failOp(op, lastError(), operands...)
		return false
	}
	lib.AtFree(s.out[0])
	return true
}

// CopyInto overwrites dst with src, which broadcasts and is converted. A leaf that requires a gradient can only be
// overwritten with autograd off.
func (s *Scope) CopyInto(dst, src *Tensor) {
	s.call("copy", func() { lib.AtCopy_(dst.c, src.c) }, dst, src)
}

// AddInto adds src to dst.
func (s *Scope) AddInto(dst, src *Tensor) {
	s.inPlace("add into", func(out *lib.Ctensor) { lib.AtgAdd_(out, dst.c, src.c) }, dst, src)
}

// ZeroInto sets dst to zero.
func (s *Scope) ZeroInto(dst *Tensor) {
	s.inPlace("zero", func(out *lib.Ctensor) { lib.AtgZero_(out, dst.c) }, dst)
}

// IndexCopyInto overwrites the slices of dst at the positions idx (an int64 vector) of one dimension with src's.
func (s *Scope) IndexCopyInto(dst *Tensor, dim int64, idx, src *Tensor) {
	s.inPlace("index_copy into", func(out *lib.Ctensor) { lib.AtgIndexCopy_(out, dst.c, dim, idx.c, src.c) }, dst, idx, src)
}

// IndexAddInto adds src's slices to those of dst at the positions idx (an int64 vector) of one dimension.
func (s *Scope) IndexAddInto(dst *Tensor, dim int64, idx, src *Tensor) {
	s.inPlace("index_add into", func(out *lib.Ctensor) { lib.AtgIndexAdd_(out, dst.c, dim, idx.c, src.c) }, dst, idx, src)
}
