package torch

import (
	"math"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

/*
#include "shim.h"
*/
import "C"

func (s *Scope) unary(op string, f func(*lib.Ctensor, lib.Ctensor), t *Tensor) *Tensor {
	return s.run(op, func(out *lib.Ctensor) { f(out, t.c) }, t)
}

func (s *Scope) binary(op string, f func(*lib.Ctensor, lib.Ctensor, lib.Ctensor), a, b *Tensor) *Tensor {
	return s.run(op, func(out *lib.Ctensor) { f(out, a.c, b.c) }, a, b)
}

func (s *Scope) scalar(op string, f func(*lib.Ctensor, lib.Ctensor, lib.Cscalar), t *Tensor, v float64) *Tensor {
	return s.run(op, func(out *lib.Ctensor) {
		c := scalarFor(t, v)
		f(out, t.c, c)
		lib.AtsFree(c)
	}, t)
}

// scalarFor makes the C scalar for an operation with t: a whole number stays one with integer tensors, so that
// their type is kept.
func scalarFor(t *Tensor, v float64) lib.Cscalar {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 && t.DType().integral() {
		return lib.AtsInt(int64(v))
	}
	return lib.AtsFloat(v)
}

// Add returns a + b. All two-operand functions broadcast as PyTorch does.
func (s *Scope) Add(a, b *Tensor) *Tensor { return s.binary("add", lib.AtgAdd, a, b) }

// Minus returns a − b. (Sub opens a nested arena.)
func (s *Scope) Minus(a, b *Tensor) *Tensor { return s.binary("minus", lib.AtgSub, a, b) }

// Mul returns a · b, element by element.
func (s *Scope) Mul(a, b *Tensor) *Tensor { return s.binary("mul", lib.AtgMul, a, b) }

// Div returns a / b, true division.
func (s *Scope) Div(a, b *Tensor) *Tensor { return s.binary("div", lib.AtgDiv, a, b) }

// AddS returns t + v.
func (s *Scope) AddS(t *Tensor, v float64) *Tensor { return s.scalar("add", lib.AtgAddScalar, t, v) }

// MulS returns t · v.
func (s *Scope) MulS(t *Tensor, v float64) *Tensor { return s.scalar("mul", lib.AtgMulScalar, t, v) }

// Pow returns t raised to the power v.
func (s *Scope) Pow(t *Tensor, v float64) *Tensor {
	return s.scalar("pow", lib.AtgPowTensorScalar, t, v)
}

// Neg returns −t.
func (s *Scope) Neg(t *Tensor) *Tensor { return s.unary("neg", lib.AtgNeg, t) }

// Exp returns e^t.
func (s *Scope) Exp(t *Tensor) *Tensor { return s.unary("exp", lib.AtgExp, t) }

// Log returns the natural logarithm.
func (s *Scope) Log(t *Tensor) *Tensor { return s.unary("log", lib.AtgLog, t) }

// Log1p returns log(1 + t).
func (s *Scope) Log1p(t *Tensor) *Tensor { return s.unary("log1p", lib.AtgLog1p, t) }

// Sqrt returns the square root.
func (s *Scope) Sqrt(t *Tensor) *Tensor { return s.unary("sqrt", lib.AtgSqrt, t) }

// Rsqrt returns 1/√t.
func (s *Scope) Rsqrt(t *Tensor) *Tensor { return s.unary("rsqrt", lib.AtgRsqrt, t) }

// Square returns t².
func (s *Scope) Square(t *Tensor) *Tensor { return s.unary("square", lib.AtgSquare, t) }

// Abs returns |t|.
func (s *Scope) Abs(t *Tensor) *Tensor { return s.unary("abs", lib.AtgAbs, t) }

// Sin returns the sine.
func (s *Scope) Sin(t *Tensor) *Tensor { return s.unary("sin", lib.AtgSin, t) }

// Cos returns the cosine.
func (s *Scope) Cos(t *Tensor) *Tensor { return s.unary("cos", lib.AtgCos, t) }

// Tanh returns the hyperbolic tangent.
func (s *Scope) Tanh(t *Tensor) *Tensor { return s.unary("tanh", lib.AtgTanh, t) }

// Sigmoid returns 1/(1 + e^−t).
func (s *Scope) Sigmoid(t *Tensor) *Tensor { return s.unary("sigmoid", lib.AtgSigmoid, t) }

// Relu returns max(t, 0).
func (s *Scope) Relu(t *Tensor) *Tensor { return s.unary("relu", lib.AtgRelu, t) }

// Silu returns t · sigmoid(t).
func (s *Scope) Silu(t *Tensor) *Tensor { return s.unary("silu", lib.AtgSilu, t) }

// Gelu returns the tanh approximation of GELU (GPT-2's gelu_new).
func (s *Scope) Gelu(t *Tensor) *Tensor {
	return s.shim("gelu", func(err **C.char) unsafe.Pointer {
		return C.recpie_gelu(unsafe.Pointer(t.c), 1, err)
	}, t)
}

// GeluErf returns the exact GELU (BERT's).
func (s *Scope) GeluErf(t *Tensor) *Tensor {
	return s.shim("gelu (erf)", func(err **C.char) unsafe.Pointer {
		return C.recpie_gelu(unsafe.Pointer(t.c), 0, err)
	}, t)
}

// Clamp returns t limited to [lo, hi]; an infinite bound does not limit.
func (s *Scope) Clamp(t *Tensor, lo, hi float64) *Tensor {
	return s.run("clamp", func(out *lib.Ctensor) {
		l, h := scalarFor(t, lo), scalarFor(t, hi)
		lib.AtgClamp(out, t.c, l, h)
		lib.AtsFree(l)
		lib.AtsFree(h)
	}, t)
}

// Minimum returns the smaller of a and b, element by element.
func (s *Scope) Minimum(a, b *Tensor) *Tensor { return s.binary("minimum", lib.AtgMinimum, a, b) }

// Maximum returns the larger of a and b, element by element.
func (s *Scope) Maximum(a, b *Tensor) *Tensor { return s.binary("maximum", lib.AtgMaximum, a, b) }

// Where returns a where the bool tensor cond holds, else b.
func (s *Scope) Where(cond, a, b *Tensor) *Tensor {
	return s.run("where", func(out *lib.Ctensor) { lib.AtgWhereSelf(out, cond.c, a.c, b.c) }, cond, a, b)
}

// MaskedFill returns t with v where the bool tensor mask holds.
func (s *Scope) MaskedFill(t, mask *Tensor, v float64) *Tensor {
	return s.run("masked_fill", func(out *lib.Ctensor) {
		c := scalarFor(t, v)
		lib.AtgMaskedFill(out, t.c, mask.c, c)
		lib.AtsFree(c)
	}, t, mask)
}

// Eq returns the bool tensor a = b.
func (s *Scope) Eq(a, b *Tensor) *Tensor { return s.binary("eq", lib.AtgEqTensor, a, b) }

// Ne returns the bool tensor a ≠ b.
func (s *Scope) Ne(a, b *Tensor) *Tensor { return s.binary("ne", lib.AtgNeTensor, a, b) }

// Lt returns the bool tensor a < b.
func (s *Scope) Lt(a, b *Tensor) *Tensor { return s.binary("lt", lib.AtgLtTensor, a, b) }

// Le returns the bool tensor a ≤ b.
func (s *Scope) Le(a, b *Tensor) *Tensor { return s.binary("le", lib.AtgLeTensor, a, b) }

// Gt returns the bool tensor a > b.
func (s *Scope) Gt(a, b *Tensor) *Tensor { return s.binary("gt", lib.AtgGtTensor, a, b) }

// Ge returns the bool tensor a ≥ b.
func (s *Scope) Ge(a, b *Tensor) *Tensor { return s.binary("ge", lib.AtgGeTensor, a, b) }

// EqS returns the bool tensor t = v.
func (s *Scope) EqS(t *Tensor, v float64) *Tensor { return s.scalar("eq", lib.AtgEq, t, v) }

// NeS returns the bool tensor t ≠ v.
func (s *Scope) NeS(t *Tensor, v float64) *Tensor { return s.scalar("ne", lib.AtgNe, t, v) }

// LtS returns the bool tensor t < v.
func (s *Scope) LtS(t *Tensor, v float64) *Tensor { return s.scalar("lt", lib.AtgLt, t, v) }

// LeS returns the bool tensor t ≤ v.
func (s *Scope) LeS(t *Tensor, v float64) *Tensor { return s.scalar("le", lib.AtgLe, t, v) }

// GtS returns the bool tensor t > v.
func (s *Scope) GtS(t *Tensor, v float64) *Tensor { return s.scalar("gt", lib.AtgGt, t, v) }

// GeS returns the bool tensor t ≥ v.
func (s *Scope) GeS(t *Tensor, v float64) *Tensor { return s.scalar("ge", lib.AtgGe, t, v) }

// LogicalAnd returns a ∧ b for bool tensors.
func (s *Scope) LogicalAnd(a, b *Tensor) *Tensor {
	return s.binary("logical_and", lib.AtgLogicalAnd, a, b)
}

// LogicalOr returns a ∨ b for bool tensors.
func (s *Scope) LogicalOr(a, b *Tensor) *Tensor {
	return s.binary("logical_or", lib.AtgLogicalOr, a, b)
}

// LogicalNot returns ¬t for a bool tensor.
func (s *Scope) LogicalNot(t *Tensor) *Tensor { return s.unary("logical_not", lib.AtgLogicalNot, t) }
