package softprompt

import (
	"encoding/base64"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The files of testdata are the soft prompts of recorded exchanges with vLLM 0.32.0; those named torch_* were written by torch.save of torch 2.13.0.
func load(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".b64")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestEncodeRecorded pins our bytes: decoding what vLLM accepted and encoding it again gives the same text, character by character.
func TestEncodeRecorded(t *testing.T) {
	want := load(t, "f32")
	data, rows, cols, err := Decode(want, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if rows != 5 || cols != 128 {
		t.Fatalf("shape [%d, %d], want [5, 128]", rows, cols)
	}
	got, err := Encode(data, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Error("the encoding differs from the recorded one")
	}
}

func TestDecodeRecordedTypes(t *testing.T) {
	ref, _, _, err := Decode(load(t, "f32"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for name, tol := range map[string]float64{"f64": 0, "f16": 1.0 / (1 << 11), "bf16": 1.0 / (1 << 8)} {
		got, rows, cols, err := Decode(load(t, name), Limits{})
		if err != nil || rows != 5 || cols != 128 {
			t.Errorf("%s: [%d, %d], %v", name, rows, cols, err)
			continue
		}
		for i := range got {
			if d := math.Abs(float64(got[i] - ref[i])); d > tol*math.Abs(float64(ref[i]))+1e-7*min(1, tol*1e9) {
				t.Errorf("%s: value %d is %v, in float32 %v", name, i, got[i], ref[i])
				break
			}
		}
	}
}

func TestDecodeTorchSave(t *testing.T) {
	for name, shape := range map[string][2]int{"torch_f32": {5, 128}, "torch_3d_1": {5, 128}} {
		data, rows, cols, err := Decode(load(t, name), Limits{})
		if err != nil || rows != shape[0] || cols != shape[1] || len(data) != rows*cols {
			t.Errorf("%s: [%d, %d] with %d values, %v", name, rows, cols, len(data), err)
		}
	}
}

func TestDecodeRefusesRecorded(t *testing.T) {
	for name, want := range map[string]string{
		"torch_3d_2": "shape [2 5 128]", "torch_int64": "LongStorage", "legacy": "not a torch.save archive", "safetensors": "not a torch.save archive",
		"npy": "not a torch.save archive", "torch_dict": "not a plain tensor", "torch_1d": "want [rows, hidden]", "zero_rows": "empty",
		"urlsafe": "base64", "unpadded": "base64", "truncated": "not a torch.save archive", "no_version": "version is missing", "torch_nan": "not a finite number",
	} {
		if _, _, _, err := Decode(load(t, name), Limits{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", name, err, want)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	f32 := load(t, "f32")
	for _, l := range []Limits{{Rows: 4}, {Cols: 127}, {Elements: 639}} {
		if _, _, _, err := Decode(f32, l); err == nil {
			t.Errorf("limits %+v let 5x128 through", l)
		}
	}
	if _, _, _, err := Decode(f32, Limits{Rows: 5, Cols: 128, Elements: 640}); err != nil {
		t.Errorf("exact limits: %v", err)
	}
	if _, _, _, err := Decode(strings.Repeat("A", 1<<20), Limits{Elements: 1}); err == nil || !strings.Contains(err.Error(), "characters") {
		t.Errorf("an oversized text: %v", err)
	}
	if _, _, _, err := Decode(f32[:100]+"\n"+f32[100:], Limits{}); !errors.Is(err, ErrNotBase64) {
		t.Errorf("a line break: %v", err)
	}
}

// TestDecodeSpoiled flips one byte at a time all over a small archive: it must never be read as other numbers without an error.
func TestDecodeSpoiled(t *testing.T) {
	text, err := Encode([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		for _, bit := range []byte{1, 0x80} {
			bad := slices.Clone(raw)
			bad[i] ^= bit
			data, _, _, err := Decode(base64.StdEncoding.EncodeToString(bad), Limits{})
			if err == nil && !slices.Equal(data, []float32{1, 2, 3, 4, 5, 6}) {
				t.Errorf("byte %d flipped by %#x: read %v without an error", i, bit, data)
			}
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, c := range map[string]struct {
		data       []float32
		rows, cols int
	}{
		"nan": {[]float32{1, nan}, 1, 2}, "inf": {[]float32{inf, 1}, 2, 1}, "minus inf": {[]float32{-inf}, 1, 1}, "no rows": {nil, 0, 4},
		"no columns": {nil, 4, 0}, "wrong count": {[]float32{1, 2, 3}, 2, 2}, "negative": {nil, -1, -1}, "huge": {nil, 1 << 17, 1},
	} {
		if s, err := Encode(c.data, c.rows, c.cols); err == nil {
			t.Errorf("%s: encoded as %.40s", name, s)
		}
	}
	if _, err := Encode([]float32{nan}, 1, 1); !errors.Is(err, ErrNotFinite) {
		t.Errorf("NaN gives %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, cols := rapid.IntRange(1, 9).Draw(t, "rows"), rapid.IntRange(1, 40).Draw(t, "cols")
		data := make([]float32, rows*cols)
		for i := range data {
			data[i] = rapid.Float32Range(-math.MaxFloat32, math.MaxFloat32).Draw(t, "v")
		}
		text, err := Encode(data, rows, cols)
		if err != nil {
			t.Fatal(err)
		}
		got, r, c, err := Decode(text, Limits{})
		if err != nil || r != rows || c != cols || !slices.Equal(got, data) {
			t.Fatalf("[%d, %d] %v, want [%d, %d] (%v)", r, c, got, rows, cols, err)
		}
	})
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float32{0: 0, 0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0001: 1.0 / (1 << 24), 0x8001: -1.0 / (1 << 24), 0x0400: 1.0 / (1 << 14), 0x3555: 0.333251953125} {
		if got := half(bits); got != want {
			t.Errorf("half(%#x) = %v, want %v", bits, got, want)
		}
	}
	if v := float64(half(0x7c00)); !math.IsInf(v, 1) {
		t.Errorf("half infinity is %v", v)
	}
	if v := float64(half(0x7e00)); !math.IsNaN(v) {
		t.Errorf("half NaN is %v", v)
	}
}

func FuzzDecode(f *testing.F) {
	files, err := os.ReadDir("testdata")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range files {
		if name, ok := strings.CutSuffix(e.Name(), ".b64"); ok {
			raw, err := base64.StdEncoding.DecodeString(load(f, name))
			if err == nil {
				f.Add(raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		data, rows, cols, err := Decode(base64.StdEncoding.EncodeToString(raw), Limits{Rows: 64, Cols: 512, Elements: 1 << 14})
		if err != nil {
			return
		}
		text, err := Encode(data, rows, cols)
		if err != nil {
			t.Fatalf("decoded but not encodable: %v", err)
		}
		if again, _, _, err := Decode(text, Limits{}); err != nil || !slices.Equal(again, data) {
			t.Fatalf("not the same after a round trip: %v", err)
		}
	})
}

func FuzzPickle(f *testing.F) {
	f.Add(pickle(5, 128))
	f.Add([]byte("\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\x00\x00\x00storageq\x01ctorch\nFloatStorage\nq\x02X\x01\x00\x00\x000q\x03X\x03\x00\x00\x00cpuq\x04Ktq\x05QK\x00K\x01K\x01\x86q\x06K\x01K\x01\x86q\x07\x89ccollections\nOrderedDict\nq\x08)Rq\tt\nRq\v."))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := parsePickle(b); err == nil {
			_, _, _ = h.matrix()
		}
	})
}
