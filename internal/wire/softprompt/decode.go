package softprompt

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// Limits bounds what Decode accepts. Zero fields take the defaults: 2048 rows, 16384 columns, 4 Mi elements.
type Limits struct {
	Rows, Cols, Elements int
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Rows, 2048)
	set(&l.Cols, 16384)
	set(&l.Elements, 1<<22)
	return l
}

// overhead bounds everything in the archive that is not tensor data: names, the program, up to 64 KiB of alignment.
const overhead = 1 << 17

// ErrNotBase64 is wrapped by Decode when the text is not standard, padded base64 without line breaks.
var ErrNotBase64 = errors.New("non-base64 digit found")

// ErrDType is wrapped by Decode when the tensor holds no floating point numbers.
var ErrDType = errors.New("dtype is not a floating type")

// Decode reads a soft prompt and returns its row-major float32 values and shape. Float32, float16, bfloat16 and float64 tensors of
// shape [rows, cols] or [1, rows, cols] are accepted, stored or deflated, aligned or not; checksums are verified, NaN and infinities
// refused. Nothing larger than the limits is ever allocated or inflated, and no part of the pickle is executed.
func Decode(b64 string, limits Limits) (data []float32, rows, cols int, err error) {
	limits = limits.withDefaults()
	if maxText := base64.StdEncoding.EncodedLen(8*limits.Elements + overhead); len(b64) > maxText {
		return nil, 0, 0, fmt.Errorf("soft prompt of %d characters, at most %d are read", len(b64), maxText)
	}
	if strings.ContainsAny(b64, "\r\n") { // the decoder would skip them
		return nil, 0, 0, fmt.Errorf("soft prompt: %w", ErrNotBase64)
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("soft prompt: %w: %v", ErrNotBase64, err)
	}
	data, rows, cols, err = decodeZip(raw, limits)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("soft prompt: %w", err)
	}
	return data, rows, cols, nil
}

func decodeZip(raw []byte, limits Limits) ([]float32, int, int, error) {
	// zip.NewReader trusts the record count to size its table; the archives of torch hold at most seven.
	if n, ok := recordCount(raw); !ok || n > 16 {
		return nil, 0, 0, errors.New("not a torch.save archive")
	}
	zr, err := zip.NewReader(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, 0, 0, fmt.Errorf("not a torch.save archive: %w", err)
	}
	files, err := records(zr)
	if err != nil {
		return nil, 0, 0, err
	}
	if v, err := read(files, "version", 16); err != nil {
		return nil, 0, 0, err
	} else if strings.TrimSpace(string(v)) == "" {
		return nil, 0, 0, errors.New("record version is empty")
	}
	if _, ok := files["byteorder"]; ok {
		if v, err := read(files, "byteorder", 16); err != nil {
			return nil, 0, 0, err
		} else if string(v) != "little" {
			return nil, 0, 0, fmt.Errorf("byte order %q is not little", v)
		}
	}
	program, err := read(files, "data.pkl", 4096)
	if err != nil {
		return nil, 0, 0, err
	}
	h, err := parsePickle(program)
	if err != nil {
		return nil, 0, 0, err
	}
	width, convert, err := converter(h.storage)
	if err != nil {
		return nil, 0, 0, err
	}
	rows, cols, err := h.matrix()
	if err != nil {
		return nil, 0, 0, err
	}
	if rows > limits.Rows || cols > limits.Cols || rows > limits.Elements/cols {
		return nil, 0, 0, fmt.Errorf("shape [%d, %d] is beyond the limit of %d rows, %d columns, %d elements", rows, cols, limits.Rows, limits.Cols, limits.Elements)
	}
	if h.count != rows*cols {
		return nil, 0, 0, fmt.Errorf("a storage of %d elements for shape [%d, %d]", h.count, rows, cols)
	}
	body, err := read(files, "data/"+h.key, int64(width*h.count))
	if err != nil {
		return nil, 0, 0, err
	}
	if len(body) != width*h.count {
		return nil, 0, 0, fmt.Errorf("record data/%s has %d bytes, %d elements of %s need %d", h.key, len(body), h.count, h.storage, width*h.count)
	}
	out := make([]float32, h.count)
	for i := range out {
		v := convert(body[i*width:])
		if math.Float32bits(v)&0x7f800000 == 0x7f800000 {
			return nil, 0, 0, fmt.Errorf("row %d, column %d is %v: %w", i/cols, i%cols, v, ErrNotFinite)
		}
		out[i] = v
	}
	return out, rows, cols, nil
}

// recordCount reads the number of entries from the end record, which must be present without a comment longer than 64 KiB.
func recordCount(raw []byte) (int, bool) {
	at := bytes.LastIndex(raw, []byte("PK\x05\x06"))
	if at < 0 || len(raw)-at < 22 {
		return 0, false
	}
	return int(binary.LittleEndian.Uint16(raw[at+10:])), true
}

// records indexes the archive's files by their path below the one top folder, whose name is free.
func records(zr *zip.Reader) (map[string]*zip.File, error) {
	files := make(map[string]*zip.File, len(zr.File))
	top := ""
	for _, f := range zr.File {
		folder, rest, ok := strings.Cut(f.Name, "/")
		if !ok || rest == "" || folder == "" || (top != "" && folder != top) {
			return nil, fmt.Errorf("record %.60q does not lie in the archive's one folder", f.Name)
		}
		top = folder
		if _, dup := files[rest]; dup {
			return nil, fmt.Errorf("record %.60q occurs twice", f.Name)
		}
		files[rest] = f
	}
	return files, nil
}

// read returns a record of at most max bytes, whatever its header claims; archive/zip verifies the checksum.
func read(files map[string]*zip.File, name string, max int64) ([]byte, error) {
	f, ok := files[name]
	if !ok {
		return nil, fmt.Errorf("record %s is missing", name)
	}
	if f.UncompressedSize64 > uint64(max) {
		return nil, fmt.Errorf("record %s has %d bytes, want at most %d", name, f.UncompressedSize64, max)
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, max+1))
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", name, err)
	}
	if int64(len(b)) > max {
		return nil, fmt.Errorf("record %s has more than %d bytes", name, max)
	}
	return b, nil
}

// converter returns the width in bytes of a storage's elements and how to read one.
func converter(storage string) (int, func([]byte) float32, error) {
	switch storage {
	case "FloatStorage":
		return 4, func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }, nil
	case "DoubleStorage":
		return 8, func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) }, nil
	case "BFloat16Storage":
		return 2, func(b []byte) float32 { return math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16) }, nil
	case "HalfStorage":
		return 2, func(b []byte) float32 { return half(binary.LittleEndian.Uint16(b)) }, nil
	}
	return 0, nil, fmt.Errorf("%w: torch.%s", ErrDType, storage)
}

// half widens an IEEE 754 binary16 number; every value is exact in float32.
func half(v uint16) float32 {
	sign, exp, frac := uint32(v>>15)<<31, uint32(v>>10)&31, uint32(v)&1023
	switch exp {
	case 0:
		f := float32(frac) * (1.0 / (1 << 24))
		if sign != 0 {
			f = -f
		}
		return f
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
