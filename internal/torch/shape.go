package torch

import (
	lib "github.com/sugarme/gotch/libtch"
)

// Dimensions count from 0, or from the end when negative (−1 is the last).

// Reshape returns t with other sizes and the same elements; one size may be −1.
func (s *Scope) Reshape(t *Tensor, dims ...int64) *Tensor {
	v, n := list(dims)
	return s.run("reshape", func(out *lib.Ctensor) { lib.AtgReshape(out, t.c, v, n) }, t)
}

// Transpose exchanges two dimensions.
func (s *Scope) Transpose(t *Tensor, a, b int64) *Tensor {
	return s.run("transpose", func(out *lib.Ctensor) { lib.AtgTranspose(out, t.c, a, b) }, t)
}

// Permute puts the dimensions in the given order.
func (s *Scope) Permute(t *Tensor, dims ...int64) *Tensor {
	v, n := list(dims)
	return s.run("permute", func(out *lib.Ctensor) { lib.AtgPermute(out, t.c, v, n) }, t)
}

// Cat joins tensors along an existing dimension.
func (s *Scope) Cat(dim int64, ts ...*Tensor) *Tensor { return s.join("cat", lib.AtgCat, dim, ts) }

// Stack joins tensors of one shape along a new dimension.
func (s *Scope) Stack(dim int64, ts ...*Tensor) *Tensor {
	return s.join("stack", lib.AtgStack, dim, ts)
}

func (s *Scope) join(op string, f func(*lib.Ctensor, []lib.Ctensor, int, int64), dim int64, ts []*Tensor) *Tensor {
	if len(ts) == 0 && s.ready(op) {
		s.failOp(op, "needs at least one tensor")
	}
	return s.run(op, func(out *lib.Ctensor) {
		cs := make([]lib.Ctensor, len(ts))
		for i, t := range ts {
			cs[i] = t.c
		}
		f(out, cs, len(cs), dim)
	}, ts...)
}

// Narrow returns the view start … start+length−1 of one dimension.
func (s *Scope) Narrow(t *Tensor, dim, start, length int64) *Tensor {
	return s.run("narrow", func(out *lib.Ctensor) { lib.AtgNarrow(out, t.c, dim, start, length) }, t)
}

// Select returns the view at index i of one dimension, which disappears.
func (s *Scope) Select(t *Tensor, dim, i int64) *Tensor {
	return s.run("select", func(out *lib.Ctensor) { lib.AtgSelect(out, t.c, dim, i) }, t)
}

// IndexSelect returns the slices of one dimension that the int64 vector idx names, in its order.
func (s *Scope) IndexSelect(t *Tensor, dim int64, idx *Tensor) *Tensor {
	return s.run("index_select", func(out *lib.Ctensor) { lib.AtgIndexSelect(out, t.c, dim, idx.c) }, t, idx)
}

// Gather picks one element along dim per element of idx, which has as many dimensions as t.
func (s *Scope) Gather(t *Tensor, dim int64, idx *Tensor) *Tensor {
	return s.run("gather", func(out *lib.Ctensor) { lib.AtgGather(out, t.c, dim, idx.c, 0) }, t, idx)
}

// IndexAdd returns t with src's slices added at the positions idx (an int64 vector) of one dimension.
func (s *Scope) IndexAdd(t *Tensor, dim int64, idx, src *Tensor) *Tensor {
	return s.run("index_add", func(out *lib.Ctensor) { lib.AtgIndexAdd(out, t.c, dim, idx.c, src.c) }, t, idx, src)
}

// IndexCopy returns t with the slices at the positions idx (an int64 vector) of one dimension replaced by src's.
func (s *Scope) IndexCopy(t *Tensor, dim int64, idx, src *Tensor) *Tensor {
	return s.run("index_copy", func(out *lib.Ctensor) { lib.AtgIndexCopy(out, t.c, dim, idx.c, src.c) }, t, idx, src)
}

// Unsqueeze inserts a dimension of size 1.
func (s *Scope) Unsqueeze(t *Tensor, dim int64) *Tensor {
	return s.run("unsqueeze", func(out *lib.Ctensor) { lib.AtgUnsqueeze(out, t.c, dim) }, t)
}

// Squeeze removes a dimension if its size is 1.
func (s *Scope) Squeeze(t *Tensor, dim int64) *Tensor {
	return s.run("squeeze", func(out *lib.Ctensor) { lib.AtgSqueezeDim(out, t.c, dim) }, t)
}

// Expand returns a view that repeats dimensions of size 1; −1 keeps a size.
func (s *Scope) Expand(t *Tensor, dims ...int64) *Tensor {
	v, n := list(dims)
	return s.run("expand", func(out *lib.Ctensor) { lib.AtgExpand(out, t.c, v, n, 0) }, t)
}

// Contiguous returns t itself laid out in row-major order, or a copy that is.
func (s *Scope) Contiguous(t *Tensor) *Tensor { return s.unary("contiguous", lib.AtgContiguous, t) }

// RepeatInterleave repeats every slice of one dimension n times in a row.
func (s *Scope) RepeatInterleave(t *Tensor, n, dim int64) *Tensor {
	if n < 0 && s.ready("repeat_interleave", t) {
		s.failOp("repeat_interleave", "the number of repeats is negative", t)
	}
	return s.run("repeat_interleave", func(out *lib.Ctensor) {
		lib.AtgRepeatInterleaveSelfInt(out, t.c, n, dim, 0, 0, 1)
	}, t)
}

// Flip reverses the order along the given dimensions.
func (s *Scope) Flip(t *Tensor, dims ...int64) *Tensor {
	v, n := list(dims)
	return s.run("flip", func(out *lib.Ctensor) { lib.AtgFlip(out, t.c, v, n) }, t)
}

// Tril keeps the lower triangle of the last two dimensions: elements with column ≤ row + diagonal.
func (s *Scope) Tril(t *Tensor, diagonal int64) *Tensor {
	return s.run("tril", func(out *lib.Ctensor) { lib.AtgTril(out, t.c, diagonal) }, t)
}
