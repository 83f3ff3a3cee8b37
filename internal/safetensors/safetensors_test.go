package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// file puts a header and data together.
func file(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

// testdata/reference.safetensors was written by Python's safetensors 0.8.0 (scripts/reference/tokenizer_safetensors.py).
func TestReferenceFile(t *testing.T) {
	f, err := Open("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	floats := map[string][]float32{
		"w":      {0, .25, .5, .75, 1, 1.25},
		"half":   {1.5, -65504, 1.0 / (1 << 24), 0},
		"double": {math.Pi},
		"empty":  {},
	}
	for name, want := range floats {
		got, _, err := f.Float32(name)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v (%v), want %v", name, got, err, want)
		}
	}
	ints := map[string][]int64{"ids": {-1, 1 << 40, 7}, "flag": {1, 0, 1}, `naïve "q"`: {1}}
	for name, want := range ints {
		got, _, err := f.Int64s(name)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s = %v (%v), want %v", name, got, err, want)
		}
	}
	shapes := map[string]Info{"w": {Float32, []int64{2, 3}}, "double": {Float64, []int64{}}, "empty": {Float32, []int64{0, 4}}, "flag": {Bool, []int64{3}}}
	for name, want := range shapes {
		if got, ok := f.Info(name); !ok || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if _, _, err := f.Float32("ids"); err == nil {
		t.Error("integers were read as floats")
	}
	if _, _, err := f.Int64s("w"); err == nil {
		t.Error("floats were read as integers")
	}
	if _, _, err := f.Float32("none"); err == nil {
		t.Error("a tensor that is not there was read")
	}
}

// Writing the reference's tensors again gives the reference's bytes, whatever the order in which they are handed over.
func TestWriteEqualsPython(t *testing.T) {
	want, err := os.ReadFile("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	var ts []Tensor
	for _, name := range f.Names() {
		info, _ := f.Info(name)
		b, err := f.Bytes(name)
		if err != nil {
			t.Fatal(err)
		}
		ts = append(ts, Tensor{name, info.DType, info.Shape, b})
	}
	slices.Reverse(ts)
	var got bytes.Buffer
	if err := Write(&got, f.Metadata(), ts); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("wrote\n%q\nPython wrote\n%q", got.Bytes(), want)
	}
}

func TestMalformedFilesAreRefused(t *testing.T) {
	long := make([]byte, 16)
	binary.LittleEndian.PutUint64(long, maxHeader+1)
	huge := make([]byte, 16)
	binary.LittleEndian.PutUint64(huge, math.MaxUint64)
	for name, b := range map[string][]byte{
		"empty":                {},
		"seven bytes":          make([]byte, 7),
		"no header":            make([]byte, 8),
		"header past the end":  file(`{}`, 0)[:9],
		"header over limit":    long,
		"header length −1":     huge,
		"not JSON":             file(`{"a":`, 0),
		"not an object":        file(`[]`, 0),
		"leading space":        file(` {}`, 0),
		"two objects":          file(`{}{}`, 0),
		"not UTF-8":            file("{\"\xff\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4),
		"duplicate name":       file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1),
		"metadata not strings": file(`{"__metadata__":{"a":1}}`, 0),
		"metadata null":        file(`{"__metadata__":{"a":null}}`, 0),
		"metadata a string":    file(`{"__metadata__":"x"}`, 0),
		"deep nesting":         file(`{"a":`+strings.Repeat("[", 200000), 0),
		"hole at the start":    file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2),
		"hole in the middle":   file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3),
		"overlap":              file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3),
		"same bytes twice":     file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2),
		"bytes left over":      file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 2),
		"data missing":         file(`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, 3),
		"ends before start":    file(`{"a":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}`, 1),
		"negative offset":      file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}}`, 0),
		"offset over int64":    file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551615]}}`, 1),
		"three offsets":        file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1,1]}}`, 1),
		"shape too small":      file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}`, 8),
		"shape overflows to 4": file(`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}`, 16),
		"shape overflows to 0": file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0),
		"overflow beside zero": file(`{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}`, 0),
		"negative dimension":   file(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, 4),
		"fraction":             file(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4),
		"no shape":             file(`{"a":{"dtype":"F32","data_offsets":[0,4]}}`, 4),
		"unknown dtype":        file(`{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}}`, 1),
		"tensor null":          file(`{"a":null}`, 0),
	} {
		if _, err := Parse(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := Open(t.TempDir()); err == nil {
		t.Error("a folder was opened")
	}
}

func TestFileThatShrinksIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := WriteFile(path, nil, []Tensor{F32("a", []int64{1000}, make([]float32, 1000))}); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Truncate(path, 2000); err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Float32("a"); err == nil {
		t.Error("a cut tensor was read")
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := F32("a", []int64{1}, []float32{1})
	for name, ts := range map[string][]Tensor{
		"same name":      {ok, ok},
		"reserved name":  {{"__metadata__", Float32, []int64{1}, ok.Data}},
		"length":         {F32("a", []int64{2}, []float32{1})},
		"unknown dtype":  {{"a", "F8", []int64{4}, ok.Data}},
		"negative shape": {F32("a", []int64{-1}, nil)},
	} {
		path := filepath.Join(t.TempDir(), "f")
		if err := WriteFile(path, nil, ts); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if es, _ := os.ReadDir(filepath.Dir(path)); len(es) != 0 {
			t.Errorf("%s: left %v", name, es)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "tensors")
		var ts []Tensor
		floats, ints := map[string][]float32{}, map[string][]int64{}
		for i := range n {
			name := fmt.Sprintf("%d%s", i, rapid.String().Draw(t, "name"))
			name = strings.ToValidUTF8(name, "?")
			rows, cols := rapid.Int64Range(0, 5).Draw(t, "rows"), rapid.Int64Range(0, 5).Draw(t, "cols")
			size := int(rows * cols)
			if rapid.Bool().Draw(t, "float") {
				floats[name] = rapid.SliceOfN(rapid.Float32(), size, size).Draw(t, "data")
				ts = append(ts, F32(name, []int64{rows, cols}, floats[name]))
			} else {
				ints[name] = rapid.SliceOfN(rapid.Int64(), size, size).Draw(t, "data")
				ts = append(ts, I64(name, []int64{rows, cols}, ints[name]))
			}
		}
		meta := rapid.MapOfN(rapid.StringMatching("[a-z]{1,5}"), rapid.StringMatching("[ -~]*"), 0, 3).Draw(t, "meta")
		path := filepath.Join(dir, "f")
		if err := WriteFile(path, meta, ts); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if len(f.Names()) != n || len(f.Metadata()) != len(meta) || len(meta) > 0 && !cmp.Equal(f.Metadata(), meta) {
			t.Fatalf("names %q, metadata %v", f.Names(), f.Metadata())
		}
		for name, want := range floats {
			if got, _, err := f.Float32(name); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%q: %v (%v), want %v", name, got, err, want)
			}
		}
		for name, want := range ints {
			if got, _, err := f.Int64s(name); err != nil || !slices.Equal(got, want) {
				t.Fatalf("%q: %v (%v), want %v", name, got, err, want)
			}
		}
	})
}

// Tensors larger than the read buffer, and every width of float.
func TestLargeTensorsAndConversions(t *testing.T) {
	const n = chunk/2 + 12345
	half := make([]byte, 2*n)
	for i := range n {
		binary.LittleEndian.PutUint16(half[2*i:], uint16(i))
	}
	var b bytes.Buffer
	if err := Write(&b, nil, []Tensor{{"h", Float16, []int64{n}, half}, {"b", BFloat16, []int64{n}, half}}); err != nil {
		t.Fatal(err)
	}
	f, err := Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := f.Float32("h")
	if err != nil {
		t.Fatal(err)
	}
	bf, _, err := f.Float32("b")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		u := uint16(i)
		if want := uint32(u) << 16; math.Float32bits(bf[i]) != want {
			t.Fatalf("BF16 %04x = %08x", u, math.Float32bits(bf[i]))
		}
		exp, frac := int(u>>10&31), float64(u&1023)
		want := math.Ldexp(frac, -24)
		switch {
		case exp == 31 && frac != 0:
			if h[i] == h[i] {
				t.Fatalf("F16 %04x is no NaN", u)
			}
			continue
		case exp == 31:
			want = math.Inf(1)
		case exp > 0:
			want = math.Ldexp(1024+frac, exp-25)
		}
		if u&0x8000 != 0 {
			want = math.Copysign(want, -1)
		}
		if math.Float32bits(h[i]) != math.Float32bits(float32(want)) {
			t.Fatalf("F16 %04x = %g, want %g", u, h[i], want)
		}
	}
}

// FuzzSafetensors: a file that is accepted can be read whole and written again to the same tensors.
func FuzzSafetensors(f *testing.F) {
	ref, err := os.ReadFile("testdata/reference.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ref)
	f.Add(file(`{"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]},"__metadata__":{"k":"v"}}`, 8))
	f.Add(file(`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,16]}}`, 16))
	f.Fuzz(func(t *testing.T, b []byte) {
		sf, err := Parse(b)
		if err != nil {
			return
		}
		var ts []Tensor
		for _, name := range sf.Names() {
			info, _ := sf.Info(name)
			data, err := sf.Bytes(name)
			if err != nil {
				t.Fatal(err)
			}
			_, _, errF := sf.Float32(name)
			_, _, errI := sf.Int64s(name)
			if errF != nil && errI != nil && info.DType != Uint64 {
				t.Fatalf("%s is neither float nor integer: %v, %v", info.DType, errF, errI)
			}
			ts = append(ts, Tensor{name, info.DType, info.Shape, data})
		}
		var out bytes.Buffer
		if err := Write(&out, sf.Metadata(), ts); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Names()) != len(ts) {
			t.Fatalf("%d tensors of %d came back", len(again.Names()), len(ts))
		}
	})
}
