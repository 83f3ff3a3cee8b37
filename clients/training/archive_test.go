package training

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"recpie/internal/fault"
)

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tarOf(t testing.TB, zip bool, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len("content"))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("content")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if !zip {
		return b.Bytes()
	}
	var z bytes.Buffer
	gz := gzip.NewWriter(&z)
	_, _ = gz.Write(b.Bytes())
	gz.Close()
	return z.Bytes()
}

func file(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o4777} }

func TestDownload(t *testing.T) {
	adapter := []tar.Header{{Name: "./", Typeflag: tar.TypeDir}, {Name: "/", Typeflag: tar.TypeDir}, file("./adapter_config.json"), file("sub/adapter_model.safetensors")}
	for name, zip := range map[string]bool{"tar": false, "tar.gz": true} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.archive = func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/archive") {
					if r.URL.Path != "/api/v1/training_runs/S:train:0/checkpoints/sampler_weights/v1/archive" {
						t.Errorf("path %s", r.URL.Path)
					}
					http.Redirect(w, r, "/x/download", http.StatusFound)
					return
				}
				_, _ = w.Write(tarOf(t, zip, adapter...))
			}
			s := f.dial(t)
			dir := filepath.Join(t.TempDir(), "a", "v1")
			if err := s.Download(t.Context(), "tinker://S:train:0/sampler_weights/v1", dir); err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"adapter_config.json", "sub/adapter_model.safetensors"} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil || string(b) != "content" {
					t.Errorf("%s: %q, %v", name, b, err)
				}
				if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().Perm()&0o111 != 0 {
					t.Errorf("%s has mode %v: the archive's mode must not count", name, st.Mode())
				}
			}
			if err := s.Download(t.Context(), "tinker://S:train:0/sampler_weights/v1", dir); err == nil {
				t.Error("a version was overwritten")
			}
		})
	}
}

func TestDownloadFails(t *testing.T) {
	for name, tc := range map[string]struct {
		archive http.HandlerFunc
		class   fault.Class
	}{
		"other host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.org/x", http.StatusFound)
		}, fault.Endpoint},
		"loop":    {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, r.URL.Path, http.StatusFound) }, fault.Endpoint},
		"missing": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, fault.Endpoint},
		"bad":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(tarOf(t, false, file("../x"))) }, fault.Endpoint},
		"cut": {func(w http.ResponseWriter, _ *http.Request) {
			b := tarOf(t, false, file("x"))
			_, _ = w.Write(b[:515])
		}, fault.Endpoint},
		"busy": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, fault.Transient},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.archive = tc.archive
			parent := t.TempDir()
			err := f.dial(t).Download(t.Context(), "tinker://S:train:0/sampler_weights/v1", filepath.Join(parent, "v1"))
			if err == nil || fault.ClassOf(err) != tc.class {
				t.Errorf("%v (%v), want %v", err, fault.ClassOf(err), tc.class)
			}
			if left, _ := os.ReadDir(parent); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	if err := newFake(t).dial(t).Download(t.Context(), "tinker://../weights/x", t.TempDir()); err == nil || fault.ClassOf(err) != fault.Item {
		t.Errorf("a path that climbs: %v", err)
	}
}

func TestExtractRefuses(t *testing.T) {
	many := make([]tar.Header, 9)
	for i := range many {
		many[i] = file(string(rune('a' + i)))
	}
	for name, headers := range map[string][]tar.Header{
		"climbs":       {file("../x")},
		"climbs late":  {file("a/../../x")},
		"absolute":     {file("/etc/x")},
		"backslash":    {file(`a\x`)},
		"symlink":      {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}},
		"hard link":    {file("a"), {Name: "x", Typeflag: tar.TypeLink, Linkname: "a"}},
		"device":       {{Name: "x", Typeflag: tar.TypeChar}},
		"fifo":         {{Name: "x", Typeflag: tar.TypeFifo}},
		"twice":        {file("a"), file("a")},
		"bad folder":   {{Name: "../d/", Typeflag: tar.TypeDir}, file("a")},
		"nothing":      nil,
		"too many":     many,
		"too large":    {file("a"), file("b"), file("c")},
		"only folders": {{Name: "d/", Typeflag: tar.TypeDir}},
	} {
		dir := t.TempDir()
		var bad *badArchive
		if err := extract(bytes.NewReader(tarOf(t, false, headers...)), dir, 8, 20); !errors.As(err, &bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzExtract(f *testing.F) {
	f.Add(tarOf(f, false, file("a"), file("b/c")))
	f.Add(tarOf(f, true, file("a")))
	f.Add(tarOf(f, false, file("../a")))
	f.Fuzz(func(t *testing.T, data []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "in")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = extract(bytes.NewReader(data), dir, 8, 1<<16)
		if left, _ := os.ReadDir(parent); len(left) != 1 {
			t.Fatalf("written outside: %v", left)
		}
	})
}
