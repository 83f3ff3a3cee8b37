//go:build peers

package peers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// doctor runs "recpie doctor" on one inference server and returns what it found, detail by check; a doubtful one is "warn: …" and one
// that found something missing "miss: …".
func doctor(t *testing.T, url, model string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "recpie.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "inference:\n  model: %s\n  endpoints:\n    - url: %s\n", model, url), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), need(t, "RECPIE_PEERS_BIN"), "doctor", "-c", file, "-o", "json")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, runErr := cmd.Output()
	var list []struct {
		What, Level, Detail string
	}
	if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
		t.Fatalf("%v, %v\n%s\n%s", runErr, err, out, errs.Bytes())
	}
	found, missing := map[string]string{}, false
	for _, f := range list {
		found[f.What] = f.Detail
		if f.Level != "ok" {
			found[f.What] = f.Level + ": " + f.Detail
		}
		missing = missing || f.Level == "miss"
	}
	if (runErr != nil) != missing {
		t.Errorf("the command ended with %v, and found %v", runErr, found)
	}
	return found
}

// The health check of the command line sees what this server can do.
func TestVLLMLlamaDoctor(t *testing.T) {
	found := doctor(t, need(t, "RECPIE_VLLM_URL"), "llama")
	for what, want := range map[string]string{"version": "vLLM 0.32.0", "model": "llama, 512 tokens", "soft prompts": "hidden size 128", "run-time adapters": "the route is there", "prefix cache": "on, in blocks of 128 tokens"} {
		if got, ok := found[what]; !ok || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q (there: %v), want %q; all: %v", what, got, ok, want, found)
		}
	}
	if open := found["open routes"]; !strings.HasPrefix(open, "warn") || !strings.Contains(open, "/adapters") {
		t.Errorf("the routes that its key does not guard: %q", open)
	}
	for what, detail := range found {
		if strings.HasPrefix(detail, "miss") {
			t.Errorf("%s: %s", what, detail)
		}
	}
}

// It also sees what a server cannot do: this one was started without LoRA.
func TestVLLMGPT2Doctor(t *testing.T) {
	found := doctor(t, need(t, "RECPIE_VLLM_URL"), "gpt2")
	if found["soft prompts"] != "hidden size 64" || found["run-time adapters"] != "not there, and only training would need it (the route is there, but LoRA is off)" {
		t.Errorf("found %v", found)
	}
}
