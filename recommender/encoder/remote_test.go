package encoder

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"recpie/internal/torch"
)

// elsewhere is an encoder of this package behind the seam, and counts.
type elsewhere struct {
	*Encoder
	change func(n int, vectors [][]float32) ([][]float32, error) // optional: the n-th answer, from 1

	mu       sync.Mutex
	requests int
	texts    map[string]int
}

func (e *elsewhere) Embed(ctx context.Context, model string, texts []string) ([][]float32, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if model != "tiny" {
		return nil, fmt.Errorf("no model %q", model)
	}
	e.requests++
	for _, t := range texts {
		e.texts[t]++
	}
	v, err := e.Encoder.Embed(ctx, texts)
	if err != nil || e.change == nil {
		return v, err
	}
	return e.change(e.requests, v)
}

func source(t *testing.T, kind string) *elsewhere {
	t.Helper()
	enc, err := open(tiny(t, kind, func(s string) string { return s }), "", torch.CPU)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = enc.Close() })
	return &elsewhere{Encoder: enc, texts: map[string]int{}}
}

var asked = RemoteSettings{Endpoint: "http://there", Model: "tiny", Batch: 3, Parallel: 2}

func remote(t *testing.T, src *elsewhere, dir string) *Remote {
	t.Helper()
	r, err := OpenRemote(t.Context(), src, asked, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func words(from, to int) (texts []string) {
	for i := from; i < to; i++ {
		texts = append(texts, fmt.Sprintf("w%d w%d", 4+i%30, 4+i*7%30))
	}
	return texts
}

// Vectors from elsewhere are those of the encoder there; each distinct text is asked for once, in batches, and never again.
func TestRemote(t *testing.T) {
	dir, src := t.TempDir(), source(t, "distilbert")
	src.change = func(_ int, vs [][]float32) ([][]float32, error) { // other lengths are the server's business
		out := make([][]float32, len(vs))
		for i, v := range vs {
			for _, x := range v {
				out[i] = append(out[i], 7*x)
			}
		}
		return out, nil
	}
	r := remote(t, src, dir)
	texts := words(0, 10)
	got, err := r.Embed(t.Context(), append(texts, texts[0]))
	if err != nil {
		t.Fatal(err)
	}
	want, err := src.Encoder.Embed(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	for i := range texts {
		for j := range want[i] {
			if math.Abs(float64(got[i][j]-want[i][j])) > 1e-6 {
				t.Fatalf("text %d: %v, want %v", i, got[i], want[i])
			}
		}
	}
	if !slices.Equal(got[10], got[0]) || src.requests != 1+4 || r.Dim() != 24 {
		t.Errorf("%d requests, dimension %d", src.requests, r.Dim())
	}
	for text, n := range src.texts {
		if n != 1 {
			t.Errorf("%q was asked for %d times", text, n)
		}
	}
	again := remote(t, src, dir)
	back, err := again.Embed(t.Context(), texts)
	if err != nil || src.requests != 6 { // the canary alone
		t.Fatalf("%d requests, %v", src.requests, err)
	}
	for i := range texts {
		if !slices.Equal(back[i], got[i]) {
			t.Errorf("text %d has changed", i)
		}
	}
	other := asked
	other.Model = "other"
	if _, err := OpenRemote(t.Context(), src, other, dir); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("a model that is not served: %v", err)
	}
}

// Another model under the name is found out before its vectors are mixed with those of the cache.
func TestRemoteModelHasChanged(t *testing.T) {
	dir := t.TempDir()
	remote(t, source(t, "distilbert"), dir)
	if _, err := OpenRemote(t.Context(), source(t, "bert"), asked, dir); err == nil || !strings.Contains(err.Error(), "other vectors") {
		t.Error(err)
	}
}

// What was answered before a failure is kept and not asked for again.
func TestRemoteFailure(t *testing.T) {
	dir, src := t.TempDir(), source(t, "bert")
	r := remote(t, src, dir)
	broken := errors.New("the server is gone")
	src.change = func(n int, v [][]float32) ([][]float32, error) {
		if n > 3 {
			return nil, broken
		}
		return v, nil
	}
	texts := words(0, 12)
	if _, err := r.Embed(t.Context(), texts); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	src.change, src.requests = nil, 0
	if _, err := r.Embed(t.Context(), texts); err != nil || src.requests != 2 {
		t.Errorf("%d requests for what two batches did not bring, %v", src.requests, err)
	}
}

func TestRemoteAnswersThatAreNone(t *testing.T) {
	for name, change := range map[string]func([][]float32) [][]float32{
		"too few":  func(v [][]float32) [][]float32 { return v[1:] },
		"zero":     func(v [][]float32) [][]float32 { v[0] = make([]float32, len(v[0])); return v },
		"shorter":  func(v [][]float32) [][]float32 { return [][]float32{v[0][:5], v[1][:5], v[2][:5]} },
		"ragged":   func(v [][]float32) [][]float32 { v[1] = v[1][:5]; return v },
		"infinite": func(v [][]float32) [][]float32 { v[2][0] = float32(math.Inf(1)); return v },
	} {
		src := source(t, "bert")
		r := remote(t, src, t.TempDir())
		src.change = func(_ int, v [][]float32) ([][]float32, error) {
			return change([][]float32{slices.Clone(v[0]), slices.Clone(v[1]), slices.Clone(v[2])}), nil
		}
		if _, err := r.Embed(t.Context(), words(0, 3)); err == nil {
			t.Errorf("%s: taken", name)
		}
		src.change = nil
		if v, err := r.Embed(t.Context(), words(0, 3)); err != nil || len(v[0]) != 24 {
			t.Errorf("%s: afterwards %v", name, err)
		}
	}
}
