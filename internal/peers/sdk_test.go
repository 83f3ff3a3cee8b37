//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recpie/internal/lmserver"
)

// TestSDK starts the embedded training server and lets the official SDK loose on it. Each check of the script is a subtest.
func TestSDK(t *testing.T) {
	python := need(t, "RECPIE_SDK_PYTHON")
	const key = "tml-peers"
	dir := filepath.Join(t.TempDir(), "model")
	b := tinyGPT2(t, "tiny")
	if err := b.SaveDir(dir); err != nil {
		t.Fatal(err)
	}
	s := serve(t, lmserver.Options{Model: b, APIKey: key, StateDir: t.TempDir(), LongPoll: 2 * time.Second})

	checks := strings.Fields(os.Getenv("RECPIE_SDK_CHECKS")) // none: all
	cmd := exec.CommandContext(t.Context(), python, append([]string{filepath.Join("..", "..", "scripts", "peers", "sdk_check.py")}, checks...)...)
	cmd.Env = append(os.Environ(), "TINKER_BASE_URL="+s.URL(), "TINKER_API_KEY="+key, "TINKER_TELEMETRY=0", "HF_HUB_OFFLINE=1",
		"RECPIE_SDK_BASE=tiny", "RECPIE_SDK_MODEL="+dir, "PYTHONDONTWRITEBYTECODE=1")
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	made := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var r struct {
			Check, Outcome, Detail string
			Seconds                float64
		}
		if json.Unmarshal(lines.Bytes(), &r) != nil || r.Check == "" {
			t.Log(lines.Text())
			continue
		}
		made++
		t.Run(r.Check, func(t *testing.T) {
			switch r.Outcome {
			case "pass":
				t.Logf("%.1f s  %s", r.Seconds, r.Detail)
			case "skip":
				t.Skip(r.Detail)
			default:
				t.Error(r.Detail)
			}
		})
	}
	if err := cmd.Wait(); err != nil || made == 0 {
		t.Errorf("the script ended with %v after %d checks", err, made)
	}
	if t.Failed() {
		tail := log.Bytes()
		t.Logf("what the SDK wrote:\n%s", tail[max(0, len(tail)-6000):])
	}
}
