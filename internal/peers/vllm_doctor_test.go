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

// doctor runs "recpie doctor" on one inference server and returns what it found, detail by check; a failed check is "MISS: …".
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
		What, Detail string
		OK           bool
	}
	if err := json.Unmarshal(out, &list); err != nil || len(list) == 0 {
		t.Fatalf("%v, %v\n%s\n%s", runErr, err, out, errs.Bytes())
	}
	found, allOK := map[string]string{}, true
	for _, f := range list {
		found[f.What] = f.Detail
		if !f.OK {
			allOK, found[f.What] = false, "MISS: "+f.Detail
		}
	}
	if (runErr == nil) != allOK {
		t.Errorf("the command ended with %v, and found %v", runErr, found)
	}
	return found
}

// The health check of the command line sees what this server can do.
func TestVLLMLlamaDoctor(t *testing.T) {
	found := doctor(t, need(t, "RECPIE_VLLM_URL"), "llama")
	for what, want := range map[string]string{"reachable": "", "model": "llama, 512 tokens", "soft prompts": "hidden size 128", "run-time adapters": ""} {
		if got, ok := found[what]; !ok || got != want {
			t.Errorf("%s: %q (there: %v), want %q; all: %v", what, got, ok, want, found)
		}
	}
	for what, detail := range found {
		if strings.HasPrefix(detail, "MISS") {
			t.Errorf("%s: %s", what, detail)
		}
	}
}

// It also sees what a server cannot do: this one was started without LoRA.
func TestVLLMGPT2Doctor(t *testing.T) {
	found := doctor(t, need(t, "RECPIE_VLLM_URL"), "gpt2")
	if found["soft prompts"] != "hidden size 64" || !strings.HasPrefix(found["run-time adapters"], "MISS") {
		t.Errorf("found %v", found)
	}
}
