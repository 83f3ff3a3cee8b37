package lmserver

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"
)

func TestRefusesToStart(t *testing.T) {
	b := bundle(t, "m", 32)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, opt := range map[string]Options{
		"off loopback without a key": {Model: b, Listen: "0.0.0.0:0"},
		"a name without a key":       {Model: b, Listen: "example.invalid:0"},
		"no port":                    {Model: b, Listen: "127.0.0.1"},
		"no model":                   {},
		"adapter root is a file":     {Model: b, AdapterRoot: file},
		"state below a file":         {Model: b, StateDir: filepath.Join(file, "x")},
		"padded key":                 {Model: b, APIKey: " k"},
	} {
		if s, err := New(opt); err == nil {
			t.Errorf("%s: it starts", name)
			_ = s.Shutdown(t.Context())
		} else if fault.ClassOf(err) != fault.Fatal {
			t.Errorf("%s: class %v", name, fault.ClassOf(err))
		}
	}
	s, err := New(Options{Model: b, Listen: "0.0.0.0:0", APIKey: "k"})
	if err != nil {
		t.Fatalf("off loopback with a key: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil { // never served
		t.Error(err)
	}
}

func TestGuard(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32), APIKey: "tml-k", StateDir: t.TempDir(), MaxBody: 2000})
	_, port, _ := net.SplitHostPort(s.Addr())
	js := jsonType
	for _, c := range []struct {
		name, method, path string
		headers            map[string]string
		body               string
		status             int
	}{
		{"loopback name", "GET", "/health", map[string]string{"Host": "localhost:" + port}, "", 200},
		{"rebound name", "GET", "/health", map[string]string{"Host": "evil.example:" + port}, "", 403},
		{"loopback as a prefix", "GET", "/health", map[string]string{"Host": "127.0.0.1.evil.example"}, "", 403},
		{"foreign page", "POST", "/v1/completions", map[string]string{"Content-Type": js, "Authorization": "Bearer tml-k", "Origin": "http://evil.example"}, "{}", 403},
		{"no key", "GET", "/v1/models", nil, "", 401},
		{"key", "GET", "/v1/models", map[string]string{"Authorization": "Bearer tml-k"}, "", 200},
		{"basic", "GET", "/v1/models", map[string]string{"Authorization": "Basic tml-k"}, "", 401},
		{"tokenize is closed", "POST", "/tokenize", map[string]string{"Content-Type": js}, `{"prompt":"x"}`, 401},
		{"training, no key", "POST", "/api/v1/create_session", map[string]string{"Content-Type": js}, "{}", 401},
		{"training, bearer", "POST", "/api/v1/create_session", map[string]string{"Content-Type": js, "Authorization": "Bearer tml-k"}, "{}", 401},
		{"training, key", "POST", "/api/v1/create_session", map[string]string{"Content-Type": js, "X-API-Key": "tml-k"}, "{}", 200},
		{"healthz", "GET", "/api/v1/healthz", nil, "", 200},
		{"form", "POST", "/v1/completions", map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Authorization": "Bearer tml-k"}, "a=b", 400},
		{"no type", "POST", "/v1/completions", map[string]string{"Authorization": "Bearer tml-k"}, "{}", 400},
		{"training, text", "POST", "/api/v1/create_session", map[string]string{"Content-Type": "text/plain", "X-API-Key": "tml-k"}, "{}", 415},
		{"protobuf to vLLM", "POST", "/v1/completions", map[string]string{"Content-Type": protoType, "Authorization": "Bearer tml-k"}, "{}", 400},
		{"too large", "POST", "/v1/completions", map[string]string{"Content-Type": js, "Authorization": "Bearer tml-k"}, `{"prompt":"` + strings.Repeat("x", 3000) + `"}`, 413},
		{"unknown encoding", "POST", "/v1/completions", map[string]string{"Content-Type": js, "Authorization": "Bearer tml-k", "Content-Encoding": "br"}, "{}", 400},
		{"lora off", "POST", "/v1/load_lora_adapter", map[string]string{"Content-Type": js, "Authorization": "Bearer tml-k"}, "{}", 404},
	} {
		if got := send(t, c.method, s.URL()+c.path, c.headers, []byte(c.body)); got.status != c.status {
			t.Errorf("%s: %d, want %d: %s", c.name, got.status, c.status, got.body)
		}
	}
}

// Nothing outside the adapter root loads, and the answers do not tell what exists there.
func TestAdapterPathsStayBelowTheRoot(t *testing.T) {
	b := bundle(t, "m", 32)
	top := t.TempDir()
	root := mkdir(t, filepath.Join(top, "root"))
	saveAdapter(t, b, filepath.Join(top, "outside"), 1)
	saveAdapter(t, b, filepath.Join(root, "inside"), 2)
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(top, "outside"), "link")
	mkdir(t, filepath.Join(root, "filelinks"))
	for _, f := range adapterFiles {
		link(filepath.Join(top, "outside", f), filepath.Join("filelinks", f))
	}
	s, _ := start(t, Options{Model: b, AdapterRoot: root})
	for _, path := range []string{"../outside", filepath.Join(top, "outside"), root + "/../outside", "link", "filelinks", "inside/../../outside",
		"inside\x00", "/etc", "no-such", ".", root, strings.Repeat("a/", 3000)} {
		r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "x", "lora_path": path})
		if r.status != http.StatusNotFound || strings.Contains(string(r.body), "outside/") {
			t.Errorf("%q: %d %.200s", path, r.status, r.body)
		}
	}
	for _, name := range []string{"../x", "X", "a/b", "-x", strings.Repeat("a", 65), "é", "a\x00", "m"} {
		r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": name, "lora_path": "inside"})
		if r.status != http.StatusBadRequest || !strings.Contains(string(r.body), "InvalidUserInput") {
			t.Errorf("name %q: %d %.200s", name, r.status, r.body)
		}
	}
	if r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "ok-1.2_x", "lora_path": "inside"}); r.status != http.StatusOK {
		t.Errorf("a good one: %d %s", r.status, r.body)
	}
}

func TestBrokenAdapterNamesOnlyTheCallersPath(t *testing.T) {
	b := bundle(t, "m", 32)
	root := t.TempDir()
	saveAdapter(t, b, filepath.Join(root, "broken"), 1)
	if err := os.Truncate(filepath.Join(root, "broken", "adapter_model.safetensors"), 100); err != nil {
		t.Fatal(err)
	}
	s, _ := start(t, Options{Model: b, AdapterRoot: root})
	r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "x", "lora_path": "broken"})
	if r.status != http.StatusInternalServerError || strings.Contains(string(r.body), os.TempDir()) {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := post(t, s, "/v1/completions", object{"model": "x", "prompt": "x"}); r.status != http.StatusNotFound {
		t.Errorf("a broken adapter is served: %d", r.status)
	}
}

func TestFullServerSaysSo(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32), MaxInFlight: 1})
	s.inFlight <- struct{}{}
	if r := post(t, s, "/v1/completions", object{"prompt": "x"}); r.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", r.status, r.body)
	}
	<-s.inFlight
}

func TestStateFolderIsOneServers(t *testing.T) {
	b := bundle(t, "m", 32)
	dir := t.TempDir()
	_, stop := start(t, Options{Model: b, StateDir: dir, LongPoll: time.Second})
	if s, err := New(Options{Model: b, StateDir: dir}); err == nil {
		t.Error("two servers share a state folder")
		_ = s.Shutdown(t.Context())
	}
	stop()
	_, stop = start(t, Options{Model: b, StateDir: dir})
	stop()
}
