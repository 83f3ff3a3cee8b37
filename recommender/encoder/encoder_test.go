package encoder

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"recpie/internal/realdata"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	if dir := os.Getenv(writerVariable); dir != "" {
		os.Exit(write(dir))
	}
	torch.SetThreads(1)
	os.Exit(m.Run())
}

// miniLM returns the folder of the encoder, which set-up has fetched, and skips the test otherwise.
func miniLM(t testing.TB) string {
	t.Helper()
	return filepath.Dir(realdata.Cached(t, "minilm", "model.safetensors"))
}

type reference struct {
	Dim     int      `json:"dim"`
	Texts   []string `json:"texts"`
	Float16 string   `json:"float16"`
}

func readReference(t *testing.T) (reference, [][]float64) {
	t.Helper()
	raw, err := os.ReadFile("testdata/reference.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	var ref reference
	if err := json.NewDecoder(z).Decode(&ref); err != nil {
		t.Fatal(err)
	}
	b, err := base64.StdEncoding.DecodeString(ref.Float16)
	if err != nil || len(b) != 2*ref.Dim*len(ref.Texts) {
		t.Fatal(len(b), err)
	}
	vectors := make([][]float64, len(ref.Texts))
	for k := range vectors {
		for j := range ref.Dim {
			at := 2 * (k*ref.Dim + j)
			vectors[k] = append(vectors[k], half(uint16(b[at])|uint16(b[at+1])<<8))
		}
	}
	return ref, vectors
}

// half decodes a finite float16.
func half(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&1023)
	v := math.Ldexp(1+frac/1024, exp-15)
	if exp == 0 {
		v = math.Ldexp(frac/1024, -14)
	}
	if h>>15 == 1 {
		return -v
	}
	return v
}

func cosine(a []float32, b []float64) float64 {
	var ab, aa, bb float64
	for k := range a {
		x := float64(a[k])
		ab, aa, bb = ab+x*b[k], aa+x*x, bb+b[k]*b[k]
	}
	return ab / math.Sqrt(aa*bb)
}

// The vectors are those of sentence-transformers.
func TestAgainstSentenceTransformers(t *testing.T) {
	e, err := Open(miniLM(t), "", "cpu")
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ref, want := readReference(t)
	if len(ref.Texts) < 50 || e.Dim() != ref.Dim {
		t.Fatalf("%d texts of %d dimensions", len(ref.Texts), ref.Dim)
	}
	got, err := e.Embed(t.Context(), ref.Texts)
	if err != nil {
		t.Fatal(err)
	}
	worst := 1.0
	for k, v := range got {
		c := cosine(v, want[k])
		worst = min(worst, c)
		if !(c > .9999) {
			t.Errorf("cosine %.6f for %.60q", c, ref.Texts[k])
		}
	}
	t.Logf("%d texts, least cosine %.7f", len(got), worst)
}

func TestEachTextOnce(t *testing.T) {
	dir, store := miniLM(t), t.TempDir()
	e, err := Open(dir, store, "cpu")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"one film", "another film", "one film", ""}
	first, err := e.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(first[0], first[2]) || slices.Equal(first[0], first[1]) {
		t.Error("equal texts need equal vectors, different ones different")
	}
	files, err := filepath.Glob(filepath.Join(store, "*.bin"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	size := func() int64 {
		info, err := os.Stat(files[0])
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	record := e.known.cache.recordSize()
	if got := size(); got != headerSize+3*record {
		t.Errorf("cache of %d bytes for three distinct texts", got)
	}
	other, err := Open(dir, store, "cpu") // a second process
	if err != nil {
		t.Fatal(err)
	}
	if other.known.cache.index.entries() != 3 {
		t.Errorf("%d vectors read back", other.known.cache.index.entries())
	}
	if _, err := other.Embed(t.Context(), []string{"third film"}); err != nil {
		t.Fatal(err)
	}
	again, err := e.Embed(t.Context(), append(texts, "third film"))
	if err != nil {
		t.Fatal(err)
	}
	for k := range texts {
		if !slices.Equal(again[k], first[k]) {
			t.Errorf("the vector of %q changed", texts[k])
		}
	}
	if got := size(); got != headerSize+4*record {
		t.Errorf("cache of %d bytes after both wrote", got)
	}
	for _, e := range []*Encoder{e, other} {
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.TempDir(), "", "cpu"); err == nil {
		t.Error("an empty folder opened")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"model_type":"gpt2"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "", "cpu"); err == nil {
		t.Error("a GPT-2 opened as sentence encoder")
	}
}
