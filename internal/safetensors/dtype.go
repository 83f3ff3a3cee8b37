package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// DType is an element type by its name in the header.
type DType string

// The element types that the package knows.
const (
	Bool     DType = "BOOL"
	Uint8    DType = "U8"
	Int8     DType = "I8"
	Int16    DType = "I16"
	Uint16   DType = "U16"
	Float16  DType = "F16"
	BFloat16 DType = "BF16"
	Int32    DType = "I32"
	Uint32   DType = "U32"
	Float32  DType = "F32"
	Float64  DType = "F64"
	Int64    DType = "I64"
	Uint64   DType = "U64"
)

// order is the reference implementation's ranking of types: its writer puts later ones first, which keeps every tensor aligned.
var order = map[DType]int{Bool: 0, Uint8: 1, Int8: 2, Int16: 3, Uint16: 4, Float16: 5, BFloat16: 6, Int32: 7, Uint32: 8, Float32: 9, Float64: 10, Int64: 11, Uint64: 12}

// Size returns the bytes of one element, 0 for a type that the package does not know.
func (d DType) Size() int64 {
	switch d {
	case Bool, Uint8, Int8:
		return 1
	case Int16, Uint16, Float16, BFloat16:
		return 2
	case Int32, Uint32, Float32:
		return 4
	case Float64, Int64, Uint64:
		return 8
	default:
		return 0
	}
}

// byteSize returns the bytes of a tensor, or an error when the type is unknown, a dimension negative or the product over int64.
func byteSize(d DType, shape []int64) (int64, error) {
	size := d.Size()
	if size == 0 {
		return 0, fmt.Errorf("unknown dtype %q", string(d))
	}
	// A zero dimension makes the tensor empty whatever the others are, but the others must still be sane.
	zero := false
	for _, n := range shape {
		switch {
		case n < 0:
			return 0, fmt.Errorf("negative dimension in shape %v", shape)
		case n == 0:
			zero = true
		case size > math.MaxInt64/n:
			return 0, fmt.Errorf("shape %v overflows", shape)
		default:
			size *= n
		}
	}
	if zero {
		return 0, nil
	}
	return size, nil
}

// toFloat32 decodes src, whole elements of type d, into dst.
func toFloat32(d DType, src []byte, dst []float32) error {
	switch d {
	case Float32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case Float16:
		for i := range dst {
			dst[i] = halfToFloat32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BFloat16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case Float64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	default:
		return fmt.Errorf("dtype %s is not a floating-point type", d)
	}
	return nil
}

// toInt64 decodes src, whole elements of type d, into dst.
func toInt64(d DType, src []byte, dst []int64) error {
	le := binary.LittleEndian
	switch d {
	case Float16, BFloat16, Float32, Float64:
		return fmt.Errorf("dtype %s is not an integer type", d)
	}
	for i := range dst {
		switch d {
		case Int64:
			dst[i] = int64(le.Uint64(src[8*i:]))
		case Uint64:
			v := le.Uint64(src[8*i:])
			if v > math.MaxInt64 {
				return fmt.Errorf("U64 value %d does not fit int64", v)
			}
			dst[i] = int64(v)
		case Int32:
			dst[i] = int64(int32(le.Uint32(src[4*i:])))
		case Uint32:
			dst[i] = int64(le.Uint32(src[4*i:]))
		case Int16:
			dst[i] = int64(int16(le.Uint16(src[2*i:])))
		case Uint16:
			dst[i] = int64(le.Uint16(src[2*i:]))
		case Int8:
			dst[i] = int64(int8(src[i]))
		default: // Uint8, Bool
			dst[i] = int64(src[i])
		}
	}
	return nil
}

// halfToFloat32 widens an IEEE 754 binary16, which is always exact.
func halfToFloat32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	frac := uint32(h & 0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac · 2⁻²⁴
		v := float32(frac) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 0x1f: // infinity or NaN, payload kept
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	default:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
}
