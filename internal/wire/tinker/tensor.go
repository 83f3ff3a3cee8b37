package tinker

import (
	"encoding/binary"
	"fmt"
	"math"

	pb "recpie/internal/wire/tinker/tinkerpb"
)

// Float32Bytes packs values little-endian.
func Float32Bytes(v []float32) []byte {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	return b
}

// Int32Bytes packs values little-endian.
func Int32Bytes(v []int32) []byte {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], uint32(x))
	}
	return b
}

// Int64Bytes packs values little-endian.
func Int64Bytes(v []int64) []byte {
	b := make([]byte, 8*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(x))
	}
	return b
}

// Float32s unpacks little-endian values; the length must be a multiple of 4.
func Float32s(b []byte) ([]float32, error) {
	if len(b)%4 != 0 {
		return nil, fmt.Errorf("%d bytes are no float32 array", len(b))
	}
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// Int32s unpacks little-endian values; the length must be a multiple of 4.
func Int32s(b []byte) ([]int32, error) {
	if len(b)%4 != 0 {
		return nil, fmt.Errorf("%d bytes are no int32 array", len(b))
	}
	v := make([]int32, len(b)/4)
	for i := range v {
		v[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v, nil
}

// Int64s unpacks little-endian values; the length must be a multiple of 8.
func Int64s(b []byte) ([]int64, error) {
	if len(b)%8 != 0 {
		return nil, fmt.Errorf("%d bytes are no int64 array", len(b))
	}
	v := make([]int64, len(b)/8)
	for i := range v {
		v[i] = int64(binary.LittleEndian.Uint64(b[8*i:]))
	}
	return v, nil
}

// FloatTensor makes a dense float32 tensor; without a shape it is one-dimensional.
func FloatTensor(v []float32, shape ...int64) *pb.Tensor {
	if len(shape) == 0 {
		shape = []int64{int64(len(v))}
	}
	return &pb.Tensor{Encoding: &pb.Tensor_Dense{Dense: Float32Bytes(v)}, Dtype: pb.DType_DTYPE_FLOAT32, Shape: shape}
}

// IntTensor makes a dense int64 tensor; without a shape it is one-dimensional.
func IntTensor(v []int64, shape ...int64) *pb.Tensor {
	if len(shape) == 0 {
		shape = []int64{int64(len(v))}
	}
	return &pb.Tensor{Encoding: &pb.Tensor_Dense{Dense: Int64Bytes(v)}, Dtype: pb.DType_DTYPE_INT64, Shape: shape}
}

// TensorFloats reads a dense float32 tensor and its shape. Sparse tensors, other types and shapes that do not match the data are refused.
func TensorFloats(t *pb.Tensor) ([]float32, []int64, error) {
	d, err := dense(t, pb.DType_DTYPE_FLOAT32)
	if err != nil {
		return nil, nil, err
	}
	v, err := Float32s(d)
	if err != nil {
		return nil, nil, err
	}
	return v, t.GetShape(), matches(t.GetShape(), len(v))
}

// TensorInts reads a dense int64 tensor and its shape, refusing what TensorFloats refuses.
func TensorInts(t *pb.Tensor) ([]int64, []int64, error) {
	d, err := dense(t, pb.DType_DTYPE_INT64)
	if err != nil {
		return nil, nil, err
	}
	v, err := Int64s(d)
	if err != nil {
		return nil, nil, err
	}
	return v, t.GetShape(), matches(t.GetShape(), len(v))
}

func dense(t *pb.Tensor, want pb.DType) ([]byte, error) {
	if t == nil {
		return nil, fmt.Errorf("the tensor is missing")
	}
	if t.GetDtype() != want {
		return nil, fmt.Errorf("dtype %v, want %v", t.GetDtype(), want)
	}
	d, ok := t.GetEncoding().(*pb.Tensor_Dense)
	if !ok {
		if t.GetEncoding() != nil {
			return nil, fmt.Errorf("sparse tensors are not supported")
		}
		return nil, nil // an empty tensor may leave its encoding out
	}
	return d.Dense, nil
}

func matches(shape []int64, n int) error {
	if p, ok := product(shape); !ok || p != int64(n) {
		return fmt.Errorf("shape %v does not hold %d values", shape, n)
	}
	return nil
}

// product multiplies dimensions; ok is false for a negative one or an overflow beyond what a message can hold.
func product(shape []int64) (int64, bool) {
	p := int64(1)
	for _, d := range shape {
		if d < 0 || (d > 0 && p > math.MaxInt32/d) {
			return 0, false
		}
		p *= d
	}
	return p, true
}

// Batch packs one float32 array per datum; with a trailing shape each array holds a whole number of such blocks (ragged first dimension).
func Batch(rows [][]float32, trailing ...int64) *pb.BatchedTensor {
	offsets, data := make([]int64, 1, len(rows)+1), []byte(nil)
	for _, r := range rows {
		data = append(data, Float32Bytes(r)...)
		offsets = append(offsets, int64(len(data)))
	}
	return &pb.BatchedTensor{Data: data, Offsets: Int64Bytes(offsets), Dtype: pb.DType_DTYPE_FLOAT32, TrailingShape: trailing}
}

// Unbatch returns the n arrays of a float32 field. Offsets that run backwards, leave the data, or cut a block are refused.
func Unbatch(t *pb.BatchedTensor, n int) ([][]float32, error) {
	if t == nil {
		return nil, fmt.Errorf("the field is missing")
	}
	if t.GetDtype() != pb.DType_DTYPE_FLOAT32 {
		return nil, fmt.Errorf("dtype %v, want %v", t.GetDtype(), pb.DType_DTYPE_FLOAT32)
	}
	offsets, err := Int64s(t.GetOffsets())
	if err != nil {
		return nil, err
	}
	if len(offsets) != n+1 {
		return nil, fmt.Errorf("%d offsets for %d data", len(offsets), n)
	}
	block, ok := product(t.GetTrailingShape())
	if !ok || block < 1 {
		return nil, fmt.Errorf("trailing shape %v", t.GetTrailingShape())
	}
	if offsets[0] != 0 || offsets[n] != int64(len(t.GetData())) {
		return nil, fmt.Errorf("offsets run from %d to %d over %d bytes", offsets[0], offsets[n], len(t.GetData()))
	}
	out := make([][]float32, n)
	for i := range out {
		lo, hi := offsets[i], offsets[i+1]
		if lo > hi || lo < 0 || hi > int64(len(t.GetData())) || (hi-lo)%(4*block) != 0 {
			return nil, fmt.Errorf("datum %d: bytes %d to %d are no blocks of %d float32", i, lo, hi, block)
		}
		if out[i], err = Float32s(t.GetData()[lo:hi]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Chunk wraps token ids as a model input.
func Chunk(tokens []int32) *pb.Chunk {
	return &pb.Chunk{Chunk: &pb.Chunk_EncodedText{EncodedText: &pb.EncodedText{Tokens: Int32Bytes(tokens)}}}
}

// Tokens joins the token ids of a model input; images and audio are refused.
func Tokens(chunks []*pb.Chunk) ([]int32, error) {
	var ids []int32
	for i, c := range chunks {
		text, ok := c.GetChunk().(*pb.Chunk_EncodedText)
		if !ok {
			return nil, fmt.Errorf("chunk %d is not encoded text", i)
		}
		part, err := Int32s(text.EncodedText.GetTokens())
		if err != nil {
			return nil, fmt.Errorf("chunk %d: %w", i, err)
		}
		ids = append(ids, part...)
	}
	return ids, nil
}

// LossConfig returns the numbers of a request's loss configuration, v2 preferred when it is set; texts are refused.
func LossConfig(r *pb.ForwardBackwardRequest) (map[string]float64, error) {
	if len(r.GetLossFnConfigV2()) == 0 {
		return r.GetLossFnConfig(), nil
	}
	out := make(map[string]float64, len(r.GetLossFnConfigV2()))
	for k, v := range r.GetLossFnConfigV2() {
		n, ok := v.GetValue().(*pb.LossConfigValue_Number)
		if !ok {
			return nil, fmt.Errorf("loss config %q is not a number", k)
		}
		out[k] = n.Number
	}
	return out, nil
}
