package torch

import (
	lib "github.com/sugarme/gotch/libtch"
)

const sameType = -1 // libtch's number for "no other element type"

func flag(b bool) int32 {
	if b {
		return 1
	}
	return 0
}

// Sum returns the sum of all elements.
func (s *Scope) Sum(t *Tensor) *Tensor {
	return s.run("sum", func(out *lib.Ctensor) { lib.AtgSum(out, t.c, sameType) }, t)
}

// Mean returns the mean of all elements.
func (s *Scope) Mean(t *Tensor) *Tensor {
	return s.run("mean", func(out *lib.Ctensor) { lib.AtgMean(out, t.c, sameType) }, t)
}

// SumDim sums over one dimension, which keeps size 1 when keep is set.
func (s *Scope) SumDim(t *Tensor, dim int64, keep bool) *Tensor {
	return s.run("sum", func(out *lib.Ctensor) {
		lib.AtgSumDimIntlist(out, t.c, []int64{dim}, 1, flag(keep), sameType)
	}, t)
}

// MeanDim averages over one dimension, which keeps size 1 when keep is set.
func (s *Scope) MeanDim(t *Tensor, dim int64, keep bool) *Tensor {
	return s.run("mean", func(out *lib.Ctensor) {
		lib.AtgMeanDim(out, t.c, []int64{dim}, 1, flag(keep), sameType)
	}, t)
}

// pair makes two tensors.
func (s *Scope) pair(op string, f func(out *lib.Ctensor), t *Tensor) (a, b *Tensor) {
	if !s.ready(op, t) {
		return nil, nil
	}
	s.out[0], s.out[1] = nil, nil
	f(&s.out[0])
	second := s.out[1]
	if a = s.take(op, s.out[0], t); a == nil {
		return nil, nil
	}
	return a, s.take(op, second, t)
}

// MaxDim returns the largest values along one dimension and their int64 positions.
func (s *Scope) MaxDim(t *Tensor, dim int64, keep bool) (values, indices *Tensor) {
	return s.pair("max", func(out *lib.Ctensor) { lib.AtgMaxDim(out, t.c, dim, flag(keep)) }, t)
}

// Argmax returns the int64 positions of the largest values along one dimension, which disappears.
func (s *Scope) Argmax(t *Tensor, dim int64) *Tensor {
	return s.run("argmax", func(out *lib.Ctensor) { lib.AtgArgmax(out, t.c, dim, 0, 0) }, t)
}

// TopK returns the k largest values of the last dimension, largest first, and their int64 positions.
func (s *Scope) TopK(t *Tensor, k int64) (values, indices *Tensor) {
	return s.pair("topk", func(out *lib.Ctensor) { lib.AtgTopk(out, t.c, k, -1, 1, 1) }, t)
}

// Sort sorts along one dimension and returns the values and their int64 positions.
func (s *Scope) Sort(t *Tensor, dim int64, descending bool) (values, indices *Tensor) {
	return s.pair("sort", func(out *lib.Ctensor) { lib.AtgSort(out, t.c, dim, flag(descending)) }, t)
}

// Cumsum returns the running sums along one dimension.
func (s *Scope) Cumsum(t *Tensor, dim int64) *Tensor {
	return s.run("cumsum", func(out *lib.Ctensor) { lib.AtgCumsum(out, t.c, dim, sameType) }, t)
}
