package softprompt

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Bounds of what Encode will write: far above any context length, far below what would hurt a server.
const (
	MaxRows = 1 << 16
	MaxCols = 1 << 16
	MaxSize = 1 << 26 // elements
)

// Encode returns the base64 text of the row-major [rows, cols] float32 matrix data. It refuses NaN and infinities, because servers
// do not check them and poison their key/value cache, empty matrices, and sizes beyond the bounds above.
// The result is a function of the values alone: equal rows give equal bytes.
func Encode(data []float32, rows, cols int) (string, error) {
	if rows < 1 || cols < 1 || rows > MaxRows || cols > MaxCols || rows*cols > MaxSize {
		return "", fmt.Errorf("soft prompt of shape [%d, %d]: dimensions must be positive and at most [%d, %d], %d elements in all", rows, cols, MaxRows, MaxCols, MaxSize)
	}
	if len(data) != rows*cols {
		return "", fmt.Errorf("soft prompt of shape [%d, %d] with %d values", rows, cols, len(data))
	}
	raw := make([]byte, 4*len(data))
	for i, v := range data {
		bits := math.Float32bits(v)
		if bits&0x7f800000 == 0x7f800000 {
			return "", fmt.Errorf("soft prompt row %d, column %d is %v: %w", i/cols, i%cols, v, ErrNotFinite)
		}
		binary.LittleEndian.PutUint32(raw[4*i:], bits)
	}
	z := newZip(len(raw) + 700)
	z.add("archive/data.pkl", pickle(rows, cols))
	z.add("archive/byteorder", []byte("little"))
	z.add("archive/data/0", raw)
	z.add("archive/version", []byte("3\n"))
	return base64.StdEncoding.EncodeToString(z.finish()), nil
}

// ErrNotFinite is what Encode's and Decode's errors wrap when a value is NaN or infinite.
var ErrNotFinite = errors.New("not a finite number")

// pickle is the 148-byte protocol-2 program that rebuilds a contiguous FloatTensor of shape [rows, cols].
func pickle(rows, cols int) []byte {
	i32 := func(b []byte, v int) []byte { return binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(v)) }
	str := func(b []byte, s string) []byte {
		return append(binary.LittleEndian.AppendUint32(append(b, 'X'), uint32(len(s))), s...)
	}
	b := append(make([]byte, 0, 148), "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(("...)
	b = append(str(b, "storage"), "ctorch\nFloatStorage\n"...)
	b = str(str(b, "0"), "cpu")
	b = append(i32(b, rows*cols), 't', 'Q')
	b = i32(b, 0)
	b = append(i32(i32(b, rows), cols), 0x86)
	b = append(i32(i32(b, cols), 1), 0x86)
	return append(b, "\x89ccollections\nOrderedDict\n)RtR."...)
}

// zipWriter writes stored records with their sizes in the local headers and no extra fields: what Python's zipfile does without a
// date, byte for byte, so that the recorded vectors pin it. archive/zip would add data descriptors.
type zipWriter struct {
	buf, dir []byte
	n        uint16
}

const dosEpoch = 0x0021 // 1980-01-01

func newZip(size int) *zipWriter { return &zipWriter{buf: make([]byte, 0, size)} }

func (z *zipWriter) add(name string, data []byte) {
	offset := uint32(len(z.buf))
	var common []byte // version needed .. extra length, shared by both headers
	common = append(common, 0, 0, 0, 0, 0, 0, 0, 0)
	common = binary.LittleEndian.AppendUint16(common, dosEpoch)
	common = binary.LittleEndian.AppendUint32(common, crc32.ChecksumIEEE(data))
	common = binary.LittleEndian.AppendUint32(common, uint32(len(data)))
	common = binary.LittleEndian.AppendUint32(common, uint32(len(data)))
	common = binary.LittleEndian.AppendUint16(common, uint16(len(name)))
	common = binary.LittleEndian.AppendUint16(common, 0)
	z.buf = append(append(append(append(z.buf, "PK\x03\x04"...), common...), name...), data...)
	z.dir = append(append(z.dir, "PK\x01\x02\x00\x00"...), common...)
	z.dir = append(z.dir, make([]byte, 10)...) // comment length, disk, attributes
	z.dir = append(binary.LittleEndian.AppendUint32(z.dir, offset), name...)
	z.n++
}

func (z *zipWriter) finish() []byte {
	offset, size := uint32(len(z.buf)), uint32(len(z.dir))
	b := append(append(z.buf, z.dir...), "PK\x05\x06\x00\x00\x00\x00"...)
	b = binary.LittleEndian.AppendUint16(b, z.n)
	b = binary.LittleEndian.AppendUint16(b, z.n)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = binary.LittleEndian.AppendUint32(b, offset)
	return append(b, 0, 0)
}
