package safetensors

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"

	"recpie/internal/durable"
)

// Tensor is one tensor to be written: raw little-endian elements in row-major order.
type Tensor struct {
	Name  string
	DType DType
	Shape []int64
	Data  []byte
}

// F32 makes a Float32 tensor from a copy of data. That the shape fits is checked when it is written.
func F32(name string, shape []int64, data []float32) Tensor {
	b := make([]byte, 4*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return Tensor{name, Float32, slices.Clone(shape), b}
}

// I64 makes an Int64 tensor from a copy of data.
func I64(name string, shape []int64, data []int64) Tensor {
	b := make([]byte, 8*len(data))
	for i, v := range data {
		binary.LittleEndian.PutUint64(b[8*i:], uint64(v))
	}
	return Tensor{name, Int64, slices.Clone(shape), b}
}

// Write writes a whole file. Tensors go out by type and then name, as the reference implementation does it, so that the bytes do
// not depend on the caller's order and every tensor is aligned.
func Write(w io.Writer, meta map[string]string, tensors []Tensor) error {
	ts := slices.Clone(tensors)
	sort.SliceStable(ts, func(i, j int) bool {
		if a, b := order[ts[i].DType], order[ts[j].DType]; a != b {
			return a > b
		}
		return ts[i].Name < ts[j].Name
	})
	head, err := encodeHeader(meta, ts)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	bw := bufio.NewWriterSize(w, 1<<16)
	var n8 [8]byte
	binary.LittleEndian.PutUint64(n8[:], uint64(len(head)))
	_, _ = bw.Write(n8[:]) // bufio keeps the first error for Flush
	_, _ = bw.Write(head)
	for _, t := range ts {
		_, _ = bw.Write(t.Data)
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	return nil
}

// WriteFile writes the file at path, which is whole or as it was before whatever happens.
func WriteFile(path string, meta map[string]string, tensors []Tensor) error {
	return durable.Write(path, 0o644, func(w io.Writer) error { return Write(w, meta, tensors) })
}

// encodeHeader returns the JSON header, padded with spaces so that the data start at a multiple of 8.
func encodeHeader(meta map[string]string, ts []Tensor) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	if len(meta) > 0 {
		b.WriteString(`"__metadata__":`)
		if err := appendJSON(&b, meta); err != nil { // encoding/json sorts the keys
			return nil, err
		}
	}
	seen := map[string]bool{"__metadata__": true}
	pos := int64(0)
	for _, t := range ts {
		if seen[t.Name] {
			return nil, fmt.Errorf("tensor %q: name taken or reserved", t.Name)
		}
		seen[t.Name] = true
		want, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		if int64(len(t.Data)) != want {
			return nil, fmt.Errorf("tensor %q: %d bytes for %s %v, want %d", t.Name, len(t.Data), t.DType, t.Shape, want)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		if err := appendJSON(&b, t.Name); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		shape := t.Shape
		if shape == nil {
			shape = []int64{} // a scalar; null would not be read back
		}
		err = appendJSON(&b, struct {
			DType   DType    `json:"dtype"`
			Shape   []int64  `json:"shape"`
			Offsets [2]int64 `json:"data_offsets"`
		}{t.DType, shape, [2]int64{pos, pos + want}})
		if err != nil {
			return nil, err
		}
		pos += want
	}
	b.WriteByte('}')
	for b.Len()%8 != 0 {
		b.WriteByte(' ')
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header of %d bytes is over the format's limit", b.Len())
	}
	return b.Bytes(), nil
}

// appendJSON appends v without HTML escapes and without the encoder's newline.
func appendJSON(b *bytes.Buffer, v any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}
