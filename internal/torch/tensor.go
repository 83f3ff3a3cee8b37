package torch

import (
	"fmt"
	"strings"
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// DType is the type of a tensor's elements; the values are libtorch's own.
type DType int32

// The element types that the house uses.
const (
	Uint8    DType = 0
	Int32    DType = 3
	Int64    DType = 4
	Float32  DType = 6
	Float64  DType = 7
	Bool     DType = 11
	BFloat16 DType = 15
)

var dtypeNames = map[DType]string{
	Uint8: "uint8", Int32: "int32", Int64: "int64", Float32: "float32", Float64: "float64", Bool: "bool", BFloat16: "bfloat16",
}

// String returns PyTorch's name of the type.
func (d DType) String() string {
	if n, ok := dtypeNames[d]; ok {
		return n
	}
	return fmt.Sprintf("dtype%d", int32(d))
}

func (d DType) integral() bool { return d == Uint8 || d == Int32 || d == Int64 || d == Bool }

// Tensor is a handle of a libtorch tensor. It is valid until its scope ends or, once kept, until Free. All methods
// accept nil and a freed tensor.
type Tensor struct {
	c    lib.Ctensor
	slot int // position in the owning scope's arena, -1 when kept
}

func (t *Tensor) ok() bool { return t != nil && t.c != nil }

// Free releases a kept tensor at once. A second call does nothing.
func (t *Tensor) Free() {
	if t.ok() && t.slot < 0 {
		lib.AtFree(t.c)
		t.c = nil
	}
}

// Shape returns the sizes of all dimensions, nil for a nil or freed tensor.
func (t *Tensor) Shape() []int64 {
	if !t.ok() {
		return nil
	}
	n := int(lib.AtDim(t.c))
	shape := make([]int64, n, n+1) // one spare element: an allocation of its own even without dimensions
	lib.AtShape(t.c, unsafe.Pointer(unsafe.SliceData(shape[:n+1])))
	return shape
}

// Dim returns the size of dimension i, counted from the end when negative; 0 when there is no such dimension.
func (t *Tensor) Dim(i int) int64 {
	shape := t.Shape()
	if i < 0 {
		i += len(shape)
	}
	if i < 0 || i >= len(shape) {
		return 0
	}
	return shape[i]
}

// NumElements returns the number of elements, 0 for a nil or freed tensor.
func (t *Tensor) NumElements() int64 {
	if !t.ok() {
		return 0
	}
	return product(t.Shape())
}

// DType returns the type of the elements, -1 for a nil or freed tensor.
func (t *Tensor) DType() DType {
	if !t.ok() {
		return -1
	}
	return DType(lib.AtScalarType(t.c))
}

// RequiresGrad reports whether autograd follows the tensor.
func (t *Tensor) RequiresGrad() bool { return t.ok() && lib.AtRequiresGrad(t.c) }

// F32View returns the elements of a contiguous float32 tensor without copying, nil for any other tensor. The slice is
// libtorch's memory: it must not be used after the tensor's end, and writing to it changes the tensor behind autograd.
func (t *Tensor) F32View() []float32 {
	if !t.ok() || t.DType() != Float32 || !lib.AtIsContiguous(t.c) {
		return nil
	}
	n := t.NumElements()
	if n == 0 {
		return []float32{}
	}
	return unsafe.Slice((*float32)(lib.AtDataPtr(t.c)), n)
}

// String describes the tensor as "float32[2,3]".
func (t *Tensor) String() string {
	switch {
	case t == nil:
		return "nil"
	case t.c == nil:
		return "freed"
	}
	var b strings.Builder
	b.WriteString(t.DType().String())
	b.WriteByte('[')
	for i, d := range t.Shape() {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprint(&b, d)
	}
	b.WriteByte(']')
	return b.String()
}

func product(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
}

// checkShape returns the number of elements of a shape that is to be made, or an error where libtorch's own check
// would come too late.
func checkShape(shape []int64) (int64, error) {
	n := int64(1)
	for _, d := range shape {
		if d < 0 {
			return 0, fmt.Errorf("shape %v has a negative size", shape)
		}
		if d > 0 && n > (1<<46)/d {
			return 0, fmt.Errorf("shape %v has too many elements", shape)
		}
		n *= d
	}
	return n, nil
}

// list returns v in the form that libtch's functions take: never empty, since they take the address of element 0.
func list(v []int64) ([]int64, int) {
	if len(v) == 0 {
		return []int64{0}, 0
	}
	return v, len(v)
}
