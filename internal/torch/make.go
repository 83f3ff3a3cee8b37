package torch

import (
	"unsafe"

	lib "github.com/sugarme/gotch/libtch"
)

// Float32 makes a tensor of the given shape from a copy of data, in row-major order.
func (s *Scope) Float32(data []float32, shape ...int64) *Tensor {
	return fromSlice(s, "float32", data, 4, Float32, shape)
}

// Float64 is Float32 for float64 elements.
func (s *Scope) Float64(data []float64, shape ...int64) *Tensor {
	return fromSlice(s, "float64", data, 8, Float64, shape)
}

// Int64 is Float32 for int64 elements.
func (s *Scope) Int64(data []int64, shape ...int64) *Tensor {
	return fromSlice(s, "int64", data, 8, Int64, shape)
}

// Bool is Float32 for bool elements.
func (s *Scope) Bool(data []bool, shape ...int64) *Tensor {
	return fromSlice(s, "bool", data, 1, Bool, shape)
}

func fromSlice[T any](s *Scope, op string, data []T, size uint, dt DType, shape []int64) *Tensor {
	if !s.ready(op) {
		return nil
	}
	n, err := checkShape(shape)
	if err != nil {
		s.Fail(shapeError(op, "%v", err))
		return nil
	}
	if n != int64(len(data)) {
		s.Fail(shapeError(op, "shape %v takes %d elements, the data have %d", shape, n, len(data)))
		return nil
	}
	dims, k := list(shape)
	if n == 0 {
		return s.Zeros(dt, shape...)
	}
	t := s.take(op, lib.AtTensorOfData(unsafe.Pointer(unsafe.SliceData(data)), dims, uint(k), size, int(dt)))
	return s.onto(t, s.dev)
}

// onto returns t on a device, t itself when it is there or when everything is on the CPU.
func (s *Scope) onto(t *Tensor, dev Device) *Tensor {
	if s.dev == CPU || !t.ok() {
		return t
	}
	return s.run("to "+dev.String(), func(out *lib.Ctensor) { lib.AtgTo(out, t.c, int32(dev)) }, t)
}

// fill makes a tensor of a checked shape.
func (s *Scope) fill(op string, shape []int64, f func(out *lib.Ctensor, dims []int64, n int)) *Tensor {
	if _, err := checkShape(shape); err != nil && s.ready(op) {
		s.Fail(shapeError(op, "%v", err))
	}
	dims, n := list(shape)
	return s.run(op, func(out *lib.Ctensor) { f(out, dims, n) })
}

// Zeros makes a tensor of zeros.
func (s *Scope) Zeros(dt DType, shape ...int64) *Tensor {
	return s.fill("zeros", shape, func(out *lib.Ctensor, dims []int64, n int) { lib.AtgZeros(out, dims, n, int32(dt), int32(s.dev)) })
}

// Ones makes a tensor of ones.
func (s *Scope) Ones(dt DType, shape ...int64) *Tensor {
	return s.fill("ones", shape, func(out *lib.Ctensor, dims []int64, n int) { lib.AtgOnes(out, dims, n, int32(dt), int32(s.dev)) })
}

// Full makes a float32 tensor of one value.
func (s *Scope) Full(v float64, shape ...int64) *Tensor {
	return s.fill("full", shape, func(out *lib.Ctensor, dims []int64, n int) {
		c := lib.AtsFloat(v)
		lib.AtgFull(out, dims, n, c, int32(Float32), int32(s.dev))
		lib.AtsFree(c)
	})
}

// Randn draws float32 elements from the standard normal distribution.
func (s *Scope) Randn(shape ...int64) *Tensor {
	return s.fill("randn", shape, func(out *lib.Ctensor, dims []int64, n int) { lib.AtgRandn(out, dims, n, int32(Float32), int32(s.dev)) })
}

// Rand draws float32 elements uniformly from [0, 1).
func (s *Scope) Rand(shape ...int64) *Tensor {
	return s.fill("rand", shape, func(out *lib.Ctensor, dims []int64, n int) { lib.AtgRand(out, dims, n, int32(Float32), int32(s.dev)) })
}

// Arange makes the int64 vector 0, 1, …, n−1.
func (s *Scope) Arange(n int64) *Tensor {
	return s.run("arange", func(out *lib.Ctensor) {
		c := lib.AtsInt(n)
		lib.AtgArange(out, c, int32(Int64), int32(s.dev))
		lib.AtsFree(c)
	})
}

// Detach returns a view of t that autograd does not follow.
func (s *Scope) Detach(t *Tensor) *Tensor {
	return s.run("detach", func(out *lib.Ctensor) { lib.AtgDetach(out, t.c) }, t)
}

// Clone returns a copy of t, followed by autograd.
func (s *Scope) Clone(t *Tensor) *Tensor {
	return s.run("clone", func(out *lib.Ctensor) { lib.AtgToDtype(out, t.c, int32(t.DType()), 0, 1) }, t)
}

// To converts the elements to another type; without a change it returns a second handle of the same tensor.
func (s *Scope) To(t *Tensor, dt DType) *Tensor {
	return s.run("to "+dt.String(), func(out *lib.Ctensor) { lib.AtgToDtype(out, t.c, int32(dt), 0, 0) }, t)
}

// Float32s returns a copy of t's elements in row-major order, converted to float32; nil after a failure.
func (s *Scope) Float32s(t *Tensor) []float32 { return toSlice[float32](s, "float32s", t, Float32) }

// Float64s is Float32s for float64.
func (s *Scope) Float64s(t *Tensor) []float64 { return toSlice[float64](s, "float64s", t, Float64) }

// Int64s is Float32s for int64; fractions are cut off.
func (s *Scope) Int64s(t *Tensor) []int64 { return toSlice[int64](s, "int64s", t, Int64) }

func toSlice[T any](s *Scope, op string, t *Tensor, dt DType) (data []T) {
	if !s.ready(op, t) {
		return nil
	}
	s.Sub(func(s *Scope) {
		t := t
		if t.DType() != dt {
			t = s.To(t, dt)
		}
		t = s.Contiguous(s.onto(t, CPU))
		if s.err != nil {
			return
		}
		data = make([]T, t.NumElements())
		if len(data) > 0 {
			copy(data, unsafe.Slice((*T)(lib.AtDataPtr(t.c)), len(data)))
		}
	})
	return data
}

// Item returns the value of a tensor of one element, 0 after a failure.
func (s *Scope) Item(t *Tensor) float64 {
	if !s.ready("item", t) {
		return 0
	}
	if n := t.NumElements(); n != 1 {
		s.failOp("item", "needs exactly one element", t)
		return 0
	}
	var v float64
	s.call("item", func() { v = lib.AtDoubleValueAtIndexes(t.c, nil, 0) }, t)
	return v
}
