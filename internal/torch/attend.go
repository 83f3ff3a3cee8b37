package torch

import (
	"math"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

/*
#include "fused.h"
*/
import "C"

// Layers of the recommender. For contiguous float32 on the CPU each is one operation with a gradient of its own (attend.cpp); in every other case it
// is put together from libtorch's, as written here.

// Histories divides the rows of a matrix among sequences: sequence k has the rows Starts[k] … Starts[k+1]−1, at least one. Starts has one entry
// more than there are sequences, from 0 to the number of rows.
type Histories struct {
	Starts []int64
	Places []int64 // per row: its place within its sequence
}

// NewHistories makes sequences of the given lengths, using the memory of old.
func NewHistories(lengths []int32, old Histories) Histories {
	h := Histories{append(old.Starts[:0], 0), old.Places[:0]}
	for _, n := range lengths {
		for place := range int64(n) {
			h.Places = append(h.Places, place)
		}
		h.Starts = append(h.Starts, int64(len(h.Places)))
	}
	return h
}

// Len returns the number of sequences.
func (h Histories) Len() int { return max(len(h.Starts)-1, 0) }

func (h Histories) fits(rows int64) bool {
	if len(h.Starts) < 2 || h.Starts[0] != 0 || h.Starts[len(h.Starts)-1] != rows || int64(len(h.Places)) != rows {
		return false
	}
	for k := 1; k < len(h.Starts); k++ {
		if h.Starts[k] <= h.Starts[k-1] || h.Starts[k] > rows {
			return false
		}
	}
	return true
}

func within(at []int64, n int64) bool {
	for _, i := range at {
		if i < 0 || i >= n {
			return false
		}
	}
	return true
}

// direct reports that all operands are what attend.cpp takes: contiguous float32 on the CPU, not empty.
func (s *Scope) direct(operands ...*Tensor) bool {
	if s.dev != CPU {
		return false
	}
	for _, t := range operands {
		if t != nil && (!t.ok() || t.DType() != Float32 || !lib.AtIsContiguous(t.c) || t.NumElements() == 0) {
			return false
		}
	}
	return true
}

func address(v []int64) *C.int64_t { return (*C.int64_t)(unsafe.Pointer(unsafe.SliceData(v))) }

// Rows returns the rows of table [V, d] that at names, [len(at), d]. Its gradient is as large as the table.
func (s *Scope) Rows(table *Tensor, at []int64) *Tensor {
	const op = "rows"
	if !s.ready(op, table) {
		return nil
	}
	if shape := table.Shape(); len(shape) != 2 || !within(at, shape[0]) {
		s.failOp(op, "needs a matrix and indices within it", table)
		return nil
	}
	if len(at) > 0 && s.direct(table) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_rows_op(unsafe.Pointer(table.c), address(at), C.int64_t(len(at)), err)
		}, table)
	}
	return s.Embedding(table, s.Int64(at, int64(len(at))))
}

// HistoryRows returns products [rows, d] plus, per row, the row of rating [R, d] that ratings names and the row of position [P, d] of its place.
func (s *Scope) HistoryRows(products, rating, position *Tensor, ratings []int64, h Histories) *Tensor {
	const op = "history_rows"
	if !s.ready(op, products, rating, position) {
		return nil
	}
	d := products.Dim(-1)
	if len(products.Shape()) != 2 || rating.Dim(-1) != d || position.Dim(-1) != d || !h.fits(products.Dim(0)) || len(ratings) != len(h.Places) ||
		!within(ratings, rating.Dim(0)) || !within(h.Places, position.Dim(0)) {
		s.failOp(op, "the rows, ratings and places do not fit", products, rating, position)
		return nil
	}
	if s.direct(products, rating, position) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_history_rows_op(unsafe.Pointer(products.c), unsafe.Pointer(rating.c), unsafe.Pointer(position.c), address(ratings),
				address(h.Places), address(h.Starts), C.int64_t(h.Len()), err)
		}, products, rating, position)
	}
	n := int64(len(ratings))
	return s.Add(s.Add(products, s.Embedding(rating, s.Int64(ratings, n))), s.Embedding(position, s.Int64(h.Places, n)))
}

// HistoryAttention lets one query per sequence attend to the rows of its sequence, in heads: q [n, d], x [rows, d], keys x·wkᵀ (a bias of keys would
// not change anything: it adds the same to all scores of a query), values x·wvᵀ + bv. It returns softmax(q·kᵀ/√(d/heads))·v, [n, d].
func (s *Scope) HistoryAttention(q, x, wk, wv, bv *Tensor, h Histories, heads int64) *Tensor {
	const op = "history_attention"
	if !s.ready(op, q, x, wk, wv, bv) {
		return nil
	}
	n, rows, d := q.Dim(0), x.Dim(0), x.Dim(-1)
	if len(q.Shape()) != 2 || len(x.Shape()) != 2 || q.Dim(1) != d || wk.NumElements() != d*d || wk.Dim(0) != d || wv.NumElements() != d*d ||
		wv.Dim(0) != d || bv.NumElements() != d || heads < 1 || d%heads != 0 || int64(h.Len()) != n || !h.fits(rows) {
		s.failOp(op, "queries, rows, weights, sequences and heads do not fit", q, x, wk, wv, bv)
		return nil
	}
	if s.direct(q, x, wk, wv, bv) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_history_attention_op(unsafe.Pointer(q.c), unsafe.Pointer(x.c), unsafe.Pointer(wk.c), unsafe.Pointer(wv.c),
				unsafe.Pointer(bv.c), address(h.Starts), C.int64_t(heads), err)
		}, q, x, wk, wv, bv)
	}
	elsewhere := make([]bool, n*rows)
	for i := range elsewhere {
		k, r := i/int(rows), int64(i%int(rows))
		elsewhere[i] = r < h.Starts[k] || r >= h.Starts[k+1]
	}
	split := func(t *Tensor, l int64) *Tensor { return s.Transpose(s.Reshape(t, l, heads, d/heads), 0, 1) }
	scores := s.MulS(s.MatMul(split(q, n), s.Transpose(split(s.Linear(x, wk, nil), rows), 1, 2)), 1/math.Sqrt(float64(d/heads)))
	alpha := s.Softmax(s.MaskedFill(scores, s.Bool(elsewhere, n, rows), math.Inf(-1)), -1)
	return s.Reshape(s.Transpose(s.MatMul(alpha, split(s.Linear(x, wv, bv), rows)), 0, 1), n, d)
}

// Projections are the weights [d, d] and biases [d] of queries, keys and values.
type Projections struct{ WQ, BQ, WK, BK, WV, BV *Tensor }

// TokenAttention lets every token of x [batch, tokens, d] attend to all tokens of its record, in heads. It returns the mixture [batch, tokens, d]
// before the output's layer, and the weights [batch, heads, tokens, tokens].
func (s *Scope) TokenAttention(x *Tensor, w Projections, heads int64) (mixed, alpha *Tensor) {
	const op = "token_attention"
	all := []*Tensor{x, w.WQ, w.BQ, w.WK, w.BK, w.WV, w.BV}
	if !s.ready(op, all...) {
		return nil, nil
	}
	shape := x.Shape()
	ok := len(shape) == 3 && heads > 0 && shape[2]%heads == 0
	for i, t := range all[1:] {
		ok = ok && t.Dim(0) == shape[2] && (i%2 == 1 || len(t.Shape()) == 2 && t.Dim(1) == shape[2]) && (i%2 == 0 || len(t.Shape()) == 1)
	}
	if !ok {
		s.failOp(op, "tokens, weights and heads do not fit", all...)
		return nil, nil
	}
	if s.direct(all...) {
		weights := [6]unsafe.Pointer{}
		for i, t := range all[1:] {
			weights[i] = unsafe.Pointer(t.c)
		}
		out := new([2]unsafe.Pointer)
		var msg *C.char
		if C.recpie_token_attention_op(unsafe.Pointer(x.c), &weights[0], C.int64_t(heads), &out[0], &msg) == 0 {
			s.failOp(op, message(unsafe.Pointer(msg)), all...)
			return nil, nil
		}
		return s.own(lib.Ctensor(out[0])), s.own(lib.Ctensor(out[1]))
	}
	split := func(t *Tensor) *Tensor {
		return s.Transpose(s.Reshape(t, shape[0], shape[1], heads, shape[2]/heads), 1, 2)
	}
	q, k, v := split(s.Linear(x, w.WQ, w.BQ)), split(s.Linear(x, w.WK, w.BK)), split(s.Linear(x, w.WV, w.BV))
	alpha = s.Softmax(s.MulS(s.MatMul(q, s.Transpose(k, -1, -2)), 1/math.Sqrt(float64(shape[2]/heads))), -1)
	return s.Reshape(s.Transpose(s.MatMul(alpha, v), 1, 2), shape...), alpha
}

// AddNorm returns LayerNorm(x + y, w, b); y may be nil.
func (s *Scope) AddNorm(x, y, w, b *Tensor, eps float64) *Tensor {
	const op = "add_norm"
	operands := []*Tensor{x, w, b}
	if y != nil {
		operands = append(operands, y)
	}
	if !s.ready(op, operands...) {
		return nil
	}
	if d := w.NumElements(); d != x.Dim(-1) || b.NumElements() != d || (y != nil && y.NumElements() != x.NumElements()) {
		s.failOp(op, "the operands do not fit", operands...)
		return nil
	}
	if s.direct(operands...) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_add_norm_op(unsafe.Pointer(x.c), handle(y), unsafe.Pointer(w.c), unsafe.Pointer(b.c), C.double(eps), err)
		}, operands...)
	}
	if y != nil {
		x = s.Add(x, y)
	}
	return s.LayerNorm(x, w, b, eps)
}

// LinearRelu returns max(x·wᵀ + b, 0)·mask for x [..., in]; mask has the shape of the result, nil is a mask of ones.
func (s *Scope) LinearRelu(x, w, b, mask *Tensor) *Tensor {
	const op = "linear_relu"
	operands := []*Tensor{x, w, b}
	if mask != nil {
		operands = append(operands, mask)
	}
	if !s.ready(op, operands...) {
		return nil
	}
	if in := x.Dim(-1); len(w.Shape()) != 2 || in == 0 || w.Dim(1) != in || b.NumElements() != w.Dim(0) ||
		(mask != nil && mask.NumElements() != x.NumElements()/in*w.Dim(0)) {
		s.failOp(op, "the operands do not fit", operands...)
		return nil
	}
	if s.direct(operands...) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_linear_relu_op(unsafe.Pointer(x.c), unsafe.Pointer(w.c), unsafe.Pointer(b.c), handle(mask), err)
		}, operands...)
	}
	y := s.Relu(s.Linear(x, w, b))
	if mask != nil {
		y = s.Mul(y, mask)
	}
	return y
}
