package torch

import (
	"fmt"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

/*
#include "shim.h"
#include "kernels.h"
#include "fused.h"
*/
import "C"

// MatMul is the matrix product, with PyTorch's rules for vectors and batches.
func (s *Scope) MatMul(a, b *Tensor) *Tensor { return s.binary("matmul", lib.AtgMatmul, a, b) }

// Bmm is the matrix product of two batches, [B,n,m] and [B,m,p].
func (s *Scope) Bmm(a, b *Tensor) *Tensor { return s.binary("bmm", lib.AtgBmm, a, b) }

// Linear returns x·wᵀ + b for x [..., in], w [out, in] and b [out] or nil.
func (s *Scope) Linear(x, w, b *Tensor) *Tensor {
	const op = "linear"
	if !s.ready(op, x, w) {
		return nil
	}
	if s.dev == CPU && x.DType() == Float32 && w.DType() == Float32 && w.NumElements() > 0 && w.Dim(-1) == x.Dim(-1) && x.NumElements()*w.NumElements() >= w.Dim(-1)<<22 {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_linear_op(unsafe.Pointer(x.c), unsafe.Pointer(w.c), handle(b), err)
		}, x, w)
	}
	if b == nil {
		return s.run("linear", func(out *lib.Ctensor) { lib.AtgLinear(out, x.c, w.c, nil) }, x, w)
	}
	return s.run("linear", func(out *lib.Ctensor) { lib.AtgLinear(out, x.c, w.c, b.c) }, x, w, b)
}

// Embedding returns the rows of weight [V, d] that idx names: [shape of idx..., d]. Its gradient is as large as the
// table; see Adam.Lookup for tables where that is too much.
func (s *Scope) Embedding(weight, idx *Tensor) *Tensor {
	return s.run("embedding", func(out *lib.Ctensor) { lib.AtgEmbedding(out, weight.c, idx.c, -1, 0, 0) }, weight, idx)
}

// LayerNorm normalises over the last dimension; w and b (of its size) may be nil.
func (s *Scope) LayerNorm(x, w, b *Tensor, eps float64) *Tensor {
	operands := []*Tensor{x}
	var wc, bc lib.Ctensor
	if w != nil {
		operands, wc = append(operands, w), w.c
	}
	if b != nil {
		operands, bc = append(operands, b), b.c
	}
	if s.ready("layer_norm", operands...) && len(x.Shape()) == 0 {
		s.failOp("layer_norm", "needs at least one dimension", operands...)
	}
	return s.run("layer_norm", func(out *lib.Ctensor) {
		lib.AtgLayerNorm(out, x.c, []int64{x.Dim(-1)}, 1, wc, bc, eps, 1)
	}, operands...)
}

// RMSNorm returns x/sqrt(mean(x²)+eps)·w over the last dimension, computed in float32 as transformers' Llama does.
func (s *Scope) RMSNorm(x, w *Tensor, eps float64) (y *Tensor) {
	const op = "rms_norm"
	if !s.ready(op, x, w) {
		return nil
	}
	if width := w.NumElements(); width != x.Dim(-1) {
		s.failOp(op, "the gain must have the size of the last dimension", x, w)
		return nil
	} else if s.fused(x, w) {
		if y = s.empty(op, x.Shape()...); y != nil {
			C.recpie_rms_norm(f32(x.F32View()), f32(w.F32View()), f32(y.F32View()), C.int64_t(x.NumElements()/width), C.int64_t(width), C.float(eps))
		}
		return y
	} else if s.followed(x) && s.plain(w) {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_rms_norm_op(unsafe.Pointer(x.c), unsafe.Pointer(w.c), C.double(eps), err)
		}, x, w)
	}
	s.Sub(func(s *Scope) {
		z := s.To(x, Float32)
		z = s.Mul(z, s.Rsqrt(s.AddS(s.MeanDim(s.Square(z), -1, true), eps)))
		y = s.Lift(s.Mul(s.To(z, x.DType()), w))
	})
	return y
}

// Rotate turns pairs of the last dimension of x by angles: element i of the first half with element i of the second. cos and sin broadcast
// against half of x (rotary position embeddings in the layout of transformers).
func (s *Scope) Rotate(x, cos, sin *Tensor) (y *Tensor) {
	s.Sub(func(s *Scope) {
		half := x.Dim(-1) / 2
		a, b := s.Narrow(x, -1, 0, half), s.Narrow(x, -1, half, half)
		c, d := s.To(cos, x.DType()), s.To(sin, x.DType())
		y = s.Lift(s.Cat(-1, s.Minus(s.Mul(a, c), s.Mul(b, d)), s.Add(s.Mul(b, c), s.Mul(a, d))))
	})
	return y
}

// Heads takes queries, keys and values apart: x [rows, cols, (heads + 2·kv)·d] becomes q [rows, heads, cols, d], k and v [rows, kv, cols, d]. With cos and sin
// [rows, cols, 1, d/2] q and k are turned as Rotate does; nil leaves them.
func (s *Scope) Heads(x, cos, sin *Tensor, heads, kv int64) (q, k, v *Tensor) {
	const op = "heads"
	if !s.ready(op, x) {
		return nil, nil, nil
	}
	shape := x.Shape()
	if len(shape) != 3 || heads < 1 || kv < 1 || shape[2] == 0 || shape[2]%(heads+2*kv) != 0 || (cos == nil) != (sin == nil) {
		s.failOp(op, fmt.Sprintf("needs three dimensions, the last one of %d+2·%d heads, and cosines with sines", heads, kv), x)
		return nil, nil, nil
	}
	d := shape[2] / (heads + 2*kv)
	if half := shape[0] * shape[1] * d / 2; cos != nil && (d%2 != 0 || cos.NumElements() != half || sin.NumElements() != half) {
		s.failOp(op, "needs an angle per position and pair of a head", x, cos, sin)
		return nil, nil, nil
	}
	if s.fused(x) && (cos == nil || s.fused(cos, sin)) || s.followed(x) && (cos == nil || s.plain(cos) && s.plain(sin)) {
		return s.fusedHeads(x, cos, sin, heads, kv)
	}
	y := s.Reshape(x, shape[0], shape[1], heads+2*kv, d)
	qk := s.Narrow(y, 2, 0, heads+kv)
	if cos != nil {
		qk = s.Rotate(qk, cos, sin)
	}
	apart := func(t *Tensor, from, n int64) *Tensor { return s.Transpose(s.Narrow(t, 2, from, n), 1, 2) }
	return apart(qk, 0, heads), apart(qk, heads, kv), apart(y, heads+kv, kv)
}

func (s *Scope) fusedHeads(x, cos, sin *Tensor, heads, kv int64) (q, k, v *Tensor) {
	out := new([3]unsafe.Pointer)
	var msg *C.char
	if C.recpie_heads_op(handle(x), handle(cos), handle(sin), C.int64_t(heads), C.int64_t(kv), &out[0], &msg) == 0 {
		s.failOp("heads", message(unsafe.Pointer(msg)), x)
		return nil, nil, nil
	}
	return s.own(lib.Ctensor(out[0])), s.own(lib.Ctensor(out[1])), s.own(lib.Ctensor(out[2]))
}

// LoRALinear is Linear(x, w, b) with scale·(x·aᵢᵀ)·uᵢᵀ added to the outputs from[i] … from[i]+n[i] (Hu et al. 2021): a [parts·rank, in] and u [Σn, rank] hold the
// parts below one another. w and b are taken as fixed. b may be nil.
func (s *Scope) LoRALinear(x, w, b, a, u *Tensor, scale float64, from, n []int64) *Tensor {
	const op = "lora_linear"
	if !s.ready(op, x, w, a, u) {
		return nil
	}
	rows, parts := int64(0), int64(len(n))
	ok := parts > 0 && len(from) == len(n) && x.DType() == w.DType() && x.DType() == a.DType() && x.DType() == u.DType()
	for i := range n {
		ok = ok && n[i] > 0 && from[i] >= 0 && from[i]+n[i] <= w.Dim(0)
		rows += n[i]
	}
	if !ok || w.Dim(1) != x.Dim(-1) || a.Dim(1) != x.Dim(-1) || u.Dim(0) != rows || a.Dim(0) != parts*u.Dim(1) {
		s.failOp(op, "the parts do not fit the layer", x, w, a, u)
		return nil
	}
	return s.shim(op, func(err **C.char) unsafe.Pointer {
		return C.recpie_lora_linear_op(unsafe.Pointer(x.c), unsafe.Pointer(w.c), handle(b), unsafe.Pointer(a.c), unsafe.Pointer(u.c), C.double(scale),
			(*C.int64_t)(&from[0]), (*C.int64_t)(&n[0]), C.int(parts), err)
	}, x, w, a, u)
}

// handle is t for C, NULL where it is absent.
func handle(t *Tensor) unsafe.Pointer {
	if t == nil {
		return nil
	}
	return unsafe.Pointer(t.c)
}

// followed reports that autograd is on and x is one that the operations of fused.cpp take.
func (s *Scope) followed(x *Tensor) bool {
	return s.grad && s.dev == CPU && x.ok() && x.DType() == Float32 && lib.AtIsContiguous(x.c) && x.NumElements() > 0
}

// plain reports that a further operand may go with it: those get no gradient there.
func (s *Scope) plain(t *Tensor) bool { return s.followed(t) && !t.RequiresGrad() }

// Softmax returns exp(t)/Σexp(t) along one dimension.
func (s *Scope) Softmax(t *Tensor, dim int64) *Tensor {
	return s.run("softmax", func(out *lib.Ctensor) { lib.AtgSoftmax(out, t.c, dim, sameType) }, t)
}

// LogSoftmax returns log(softmax(t)) along one dimension.
func (s *Scope) LogSoftmax(t *Tensor, dim int64) *Tensor {
	return s.run("log_softmax", func(out *lib.Ctensor) { lib.AtgLogSoftmax(out, t.c, dim, sameType) }, t)
}

// Dropout sets elements to zero with probability p and scales the others by 1/(1−p); it does nothing unless train.
func (s *Scope) Dropout(x *Tensor, p float64, train bool) *Tensor {
	return s.run("dropout", func(out *lib.Ctensor) { lib.AtgDropout(out, x.c, p, flag(train)) }, x)
}

// Attention returns softmax(q·kᵀ·scale + mask)·v for q [B,H,Lq,d], k and v [B,H,Lk,d]; scale 0 means 1/√d.
// A mask broadcasts to [B,H,Lq,Lk]: bool, true where attention is allowed, or float, added. Causal attention is
// aligned at the end: query i of Lq sees the keys 0 … i+Lk−Lq, as a continuation with cached keys needs. Without a
// mask, and causal only for Lq = Lk, the fused kernel runs, which never forms the Lq×Lk matrix. A query to which a mask
// leaves no key gets NaN.
func (s *Scope) Attention(q, k, v, mask *Tensor, causal bool, scale float64) *Tensor {
	const op = "attention"
	if !s.ready(op, q, k, v) {
		return nil
	}
	if msg := attentionFault(q.Shape(), k.Shape(), v.Shape()); msg != "" {
		s.failOp(op, msg, q, k, v)
		return nil
	}
	lq, lk := q.Dim(-2), k.Dim(-2)
	if causal && (lq != lk || mask != nil) {
		if lq > lk {
			s.failOp(op, "causal attention needs at least as many keys as queries", q, k, v)
			return nil
		}
		if mask != nil && mask.DType() != Bool {
			s.failOp(op, "causal takes no mask or a bool mask", q, k, v, mask)
			return nil
		}
		earlier := s.Tril(s.Ones(Bool, lq, lk), lk-lq)
		if mask != nil {
			earlier = s.LogicalAnd(mask, earlier)
		}
		mask, causal = earlier, false
	}
	hasScale := flag(scale != 0)
	if mask == nil {
		return s.shim(op, func(err **C.char) unsafe.Pointer {
			return C.recpie_attention(unsafe.Pointer(q.c), unsafe.Pointer(k.c), unsafe.Pointer(v.c),
				C.int(flag(causal)), C.double(scale), C.int(hasScale), err)
		}, q, k, v)
	}
	return s.run(op, func(out *lib.Ctensor) {
		lib.AtgScaledDotProductAttention(out, q.c, k.c, v.c, mask.c, 0, 0, scale, int(1-hasScale))
	}, q, k, v, mask)
}

// attentionFault says what is wrong with the operands' shapes; the fused kernel divides by some of the sizes.
func attentionFault(q, k, v []int64) string {
	if len(q) != 4 || len(k) != 4 || len(v) != 4 {
		return "q, k and v need four dimensions: batch, heads, length, size"
	}
	for i := range q {
		switch {
		case q[i] == 0 || k[i] == 0 || v[i] == 0:
			return "a dimension is empty"
		case i < 2 && (q[i] != k[i] || q[i] != v[i]):
			return "q, k and v differ in batch or heads"
		}
	}
	switch {
	case k[2] != v[2]:
		return "k and v differ in length"
	case q[3] != k[3]:
		return "q and k differ in size"
	}
	return ""
}

// Multinomial draws n indices per row of probs [..., V] with replacement, in proportion to the (non-negative) values.
func (s *Scope) Multinomial(probs *Tensor, n int64) *Tensor {
	return s.run("multinomial", func(out *lib.Ctensor) { lib.AtgMultinomial(out, probs.c, n, 1) }, probs)
}

const (
	perElement = 0 // libtch's numbers for the reduction of a loss
	meanOfAll  = 1
)

// MSE returns the mean of (a − b)².
func (s *Scope) MSE(a, b *Tensor) *Tensor {
	return s.run("mse", func(out *lib.Ctensor) { lib.AtgMseLoss(out, a.c, b.c, meanOfAll) }, a, b)
}

// BCEWithLogits returns the mean of −y·log σ(x) − (1−y)·log(1−σ(x)).
func (s *Scope) BCEWithLogits(x, y *Tensor) *Tensor {
	return s.run("bce_with_logits", func(out *lib.Ctensor) {
		lib.AtgBinaryCrossEntropyWithLogits(out, x.c, y.c, nil, nil, meanOfAll)
	}, x, y)
}

// IgnoredTarget is the target that LogProbOf answers with 0 and no gradient.
const IgnoredTarget = -100

// LogProbOf returns log softmax(logits)[i, targets[i]] for logits [N,V] and int64 targets [N]: shape [N].
func (s *Scope) LogProbOf(logits, targets *Tensor) *Tensor {
	return s.Neg(s.run("log_prob_of", func(out *lib.Ctensor) {
		lib.AtgCrossEntropyLoss(out, logits.c, targets.c, nil, perElement, IgnoredTarget, 0)
	}, logits, targets))
}
