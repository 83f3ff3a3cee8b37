package torch

import (
	"errors"
	"math"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

/*
#cgo LDFLAGS: -lm
#include "kernels.h"
#include "fused.h"
*/
import "C"

// PageSize is how many positions a page of keys and values holds.
const PageSize = C.RECPIE_PAGE

// PagedKV is memory for keys and values of a fixed number of pages, float32 on the CPU, taken once. Pages are named by their index. It belongs to
// its holder, who frees it; several scopes may use disjoint pages at a time.
type PagedKV struct {
	c     C.recpie_paged_kv
	pages int
	size  int64 // bytes
}

// NewPagedKV takes the memory: 8 bytes · layers · kvHeads · head for each position. Pages that were never written take none of the machine's.
func NewPagedKV(pages, layers, kvHeads, head int) (*PagedKV, error) {
	page := int64(2 * PageSize * head)
	size := 4 * int64(layers) * int64(kvHeads) * page
	if pages < 1 || layers < 1 || kvHeads < 1 || head < 1 || int64(pages) > (1<<46)/size {
		return nil, errors.New("torch: the memory for keys and values has no size that can be")
	}
	kv := &PagedKV{pages: pages, size: size * int64(pages), c: C.recpie_paged_kv{pages: C.int64_t(pages), page_floats: C.int64_t(page),
		layers: C.int(layers), kv_heads: C.int(kvHeads), head: C.int(head)}}
	if kv.c.mem = C.recpie_map(C.int64_t(kv.size)); kv.c.mem == nil {
		return nil, errors.New("torch: no memory for keys and values")
	}
	return kv, nil
}

// Free gives the memory back.
func (kv *PagedKV) Free() {
	if kv.c.mem != nil {
		C.recpie_unmap(kv.c.mem, C.int64_t(kv.size))
		kv.c.mem = nil
	}
}

// CopyPage copies the content of a page.
func (kv *PagedKV) CopyPage(dst, src int32) {
	n := int64(kv.c.page_floats)
	all := unsafe.Slice((*float32)(unsafe.Pointer(kv.c.mem)), kv.size/4)
	for part := int64(0); part < int64(len(all)); part += int64(kv.pages) * n {
		copy(all[part+int64(dst)*n:][:n], all[part+int64(src)*n:][:n])
	}
}

// PagedQueries say what attends to what: query n is token Tokens[n], and its keys are the first Lengths[n] positions of the pages
// Tables[At[n]], Tables[At[n]+1], …
type PagedQueries struct {
	Tokens, Lengths, Tables []int32
	At                      []int64
}

// PagedAttention rotates the queries and keys of qkv [tokens, (heads + 2·kvHeads)·head] in place by the angles of cos and sin [tokens, head/2]
// (nil: not at all), writes keys and values into slots (page·PageSize + place, one per token), and then attends: [queries, heads·head].
// It has no gradient.
func (s *Scope) PagedAttention(kv *PagedKV, layer, heads int, qkv, cos, sin *Tensor, slots []int64, q *PagedQueries) *Tensor {
	const op = "paged attention"
	if !s.ready(op, qkv) {
		return nil
	}
	data := qkv.F32View()
	tokens, width := int(qkv.Dim(0)), qkv.Dim(-1)
	size := int(kv.c.head)
	if data == nil || len(qkv.Shape()) != 2 || int(width) != (heads+2*int(kv.c.kv_heads))*size || tokens != len(slots) || tokens == 0 || heads%int(kv.c.kv_heads) != 0 {
		s.failOp(op, "qkv must be contiguous float32 [slots, (heads + 2·key heads)·head]", qkv)
		return nil
	}
	var c, n *C.float
	if cos != nil {
		cv, sv := cos.F32View(), sin.F32View()
		if len(cv) != tokens*size/2 || len(sv) != len(cv) {
			s.failOp(op, "the angles must be contiguous float32 [tokens, head/2]", qkv, cos, sin)
			return nil
		}
		c, n = f32(cv), f32(sv)
	}
	if err := q.check(kv, tokens, slots); err != nil {
		s.failOp(op, err.Error(), qkv)
		return nil
	}
	C.recpie_paged_write(&kv.c, C.int(layer), f32(data), C.int64_t(width), C.int(heads), c, n, (*C.int64_t)(unsafe.Pointer(&slots[0])), C.int(tokens))
	if len(q.Tokens) == 0 {
		return nil
	}
	out := s.empty(op, int64(len(q.Tokens)), int64(heads*size))
	if out == nil {
		return nil
	}
	longest := int32(0)
	for _, l := range q.Lengths {
		longest = max(longest, l)
	}
	scores := make([]float32, (int(longest)+PageSize-1)/PageSize*PageSize)
	C.recpie_paged_attend(&kv.c, C.int(layer), f32(data), C.int64_t(width), f32(out.F32View()), C.int(heads), i32(q.Tokens), i32(q.Tables),
		(*C.int64_t)(unsafe.Pointer(&q.At[0])), i32(q.Lengths), C.int(len(q.Tokens)), f32(scores))
	return out
}

// check keeps the kernel inside its memory.
func (q *PagedQueries) check(kv *PagedKV, tokens int, slots []int64) error {
	if kv.c.mem == nil {
		return errors.New("the memory was freed")
	}
	for _, slot := range slots {
		if slot < 0 || slot >= int64(kv.pages)*PageSize {
			return errors.New("a slot is outside the memory")
		}
	}
	for _, p := range q.Tables {
		if p < 0 || int(p) >= kv.pages {
			return errors.New("a page is outside the memory")
		}
	}
	if len(q.Lengths) != len(q.Tokens) || len(q.At) != len(q.Tokens) {
		return errors.New("the queries have unequal lists")
	}
	for n, t := range q.Tokens {
		pages := (int64(q.Lengths[n]) + PageSize - 1) / PageSize
		if t < 0 || int(t) >= tokens || q.Lengths[n] < 1 || q.At[n] < 0 || q.At[n]+pages > int64(len(q.Tables)) {
			return errors.New("a query is outside its lists")
		}
	}
	return nil
}

func i32(v []int32) *C.int32_t { return (*C.int32_t)(unsafe.Pointer(&v[0])) }

// empty makes a float32 tensor on the CPU whose content is to be written at once.
func (s *Scope) empty(op string, shape ...int64) *Tensor {
	return s.run(op, func(out *lib.Ctensor) { lib.AtgEmpty(out, shape, len(shape), int32(Float32), int32(CPU)) })
}

// fused reports whether a loop of ours can take the place of libtorch's operations: without autograd, contiguous float32 on the CPU.
func (s *Scope) fused(operands ...*Tensor) bool {
	if s.grad || s.dev != CPU {
		return false
	}
	for _, t := range operands {
		if !t.ok() || t.DType() != Float32 || !lib.AtIsContiguous(t.c) || t.NumElements() == 0 {
			return false
		}
	}
	return true
}

// SiluMul returns silu(a)·b for x [..., 2n] that holds a in the first half of its last dimension and b in the second.
func (s *Scope) SiluMul(x *Tensor) (y *Tensor) {
	const op = "silu_mul"
	if !s.ready(op, x) {
		return nil
	}
	shape := x.Shape()
	if len(shape) == 0 || shape[len(shape)-1]%2 != 0 {
		s.failOp(op, "needs an even last dimension", x)
		return nil
	}
	n := shape[len(shape)-1] / 2
	if s.fused(x) {
		shape[len(shape)-1] = n
		if y = s.empty(op, shape...); y != nil {
			C.recpie_silu_mul(f32(x.F32View()), f32(y.F32View()), C.int64_t(x.NumElements()/(2*n)), C.int64_t(n))
		}
		return y
	}
	if s.followed(x) {
		return s.shim(op, func(err **C.char) unsafe.Pointer { return C.recpie_silu_mul_op(unsafe.Pointer(x.c), err) }, x)
	}
	s.Sub(func(s *Scope) { y = s.Lift(s.Mul(s.Silu(s.Narrow(x, -1, 0, n)), s.Narrow(x, -1, n, n))) })
	return y
}

// Choose draws an index from softmax(logits/temperature) by u in [0, 1), or takes the likeliest when temperature is 0, and returns its log
// probability at temperature 1. weights is scratch of the same length.
func Choose(logits []float32, temperature, u float64, weights []float32) (id int32, logprob float32) {
	if len(logits) == 0 || len(weights) < len(logits) {
		return 0, float32(math.NaN())
	}
	var draw *C.double
	inverse := 0.0
	if temperature > 0 {
		draw, inverse = (*C.double)(&u), 1/temperature
	}
	var c C.int32_t
	var lp C.float
	C.recpie_choose(f32(logits), C.int(len(logits)), C.float(inverse), draw, f32(weights), &c, &lp)
	return int32(c), float32(lp)
}
