package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// Info is a tensor's element type and shape.
type Info struct {
	DType DType
	Shape []int64
}

// File is an open safetensors file whose header has been checked. Its methods may be called concurrently.
type File struct {
	name   string
	r      io.ReaderAt
	start  int64 // of the data section
	header *header
	closer io.Closer
}

// Open checks the header of the file at path and keeps the file open; no tensor is read yet. The caller closes it.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	var sf *File
	if err == nil {
		sf, err = newFile(path, f, st.Size())
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("safetensors: %s: %w", path, err)
	}
	sf.closer = f
	return sf, nil
}

// Parse is Open for bytes in memory; b must not change while the File is in use.
func Parse(b []byte) (*File, error) {
	f, err := newFile("(memory)", bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

func newFile(name string, r io.ReaderAt, size int64) (*File, error) {
	var n8 [8]byte
	if size < 8 {
		return nil, fmt.Errorf("%d bytes are too few", size)
	}
	if err := readAt(r, n8[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(n8[:])
	if n > maxHeader {
		return nil, fmt.Errorf("header of %d bytes is over the limit of %d", n, maxHeader)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("header of %d bytes in a file of %d", n, size)
	}
	raw := make([]byte, n)
	if err := readAt(r, raw, 8); err != nil {
		return nil, err
	}
	h, err := parseHeader(raw, size-8-int64(n))
	if err != nil {
		return nil, err
	}
	return &File{name: name, r: r, start: 8 + int64(n), header: h}, nil
}

// Names returns the tensors' names in the order of their data.
func (f *File) Names() []string { return slices.Clone(f.header.names) }

// Info returns the type and shape of a tensor, false when there is none of that name.
func (f *File) Info(name string) (Info, bool) {
	e, ok := f.header.entries[name]
	return Info{e.DType, slices.Clone(e.Shape)}, ok
}

// Metadata returns the file's __metadata__, nil when it has none.
func (f *File) Metadata() map[string]string { return maps.Clone(f.header.meta) }

// Bytes returns a tensor's raw little-endian bytes in a new slice.
func (f *File) Bytes(name string) ([]byte, error) {
	e, ok := f.header.entries[name]
	if !ok {
		return nil, f.fail(name, errors.New("no such tensor"))
	}
	b := make([]byte, e.end-e.begin)
	if err := readAt(f.r, b, f.start+e.begin); err != nil {
		return nil, f.fail(name, err)
	}
	return b, nil
}

// Float32 returns a tensor's elements in row-major order and its shape. F16 and BF16 are widened exactly, F64 is rounded;
// other types are an error.
func (f *File) Float32(name string) ([]float32, []int64, error) {
	return read(f, name, toFloat32)
}

// Int64s is Float32 for integer and boolean tensors.
func (f *File) Int64s(name string) ([]int64, []int64, error) {
	return read(f, name, toInt64)
}

// chunk is the most bytes of raw data held beside the converted ones; a multiple of every element size.
const chunk = 1 << 20

func read[T any](f *File, name string, convert func(DType, []byte, []T) error) ([]T, []int64, error) {
	e, ok := f.header.entries[name]
	if !ok {
		return nil, nil, f.fail(name, errors.New("no such tensor"))
	}
	if err := convert(e.DType, nil, nil); err != nil { // the type is refused before memory is taken
		return nil, nil, f.fail(name, err)
	}
	size := e.DType.Size()
	out := make([]T, (e.end-e.begin)/size)
	buf := make([]byte, min(chunk, e.end-e.begin))
	for at := e.begin; at < e.end; at += int64(len(buf)) {
		b := buf[:min(int64(len(buf)), e.end-at)]
		if err := readAt(f.r, b, f.start+at); err != nil {
			return nil, nil, f.fail(name, err)
		}
		lo := (at - e.begin) / size
		if err := convert(e.DType, b, out[lo:lo+int64(len(b))/size]); err != nil {
			return nil, nil, f.fail(name, err)
		}
	}
	return out, slices.Clone(e.Shape), nil
}

// Close releases the file.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

func (f *File) fail(tensor string, err error) error {
	return fmt.Errorf("safetensors: %s: tensor %q: %w", f.name, tensor, err)
}

// readAt fills b or fails: io.EOF beside a full buffer is no failure, a short read is (the file shrank).
func readAt(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
