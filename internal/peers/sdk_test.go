//go:build peers

package peers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recpie/clients/training"
	"recpie/clients/transport"
	"recpie/internal/lmserver"
	"recpie/internal/wire/tinker"
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
	made, handedOver := 0, ""
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
		if r.Check == "state_for_another_client" && r.Outcome == "pass" {
			handedOver, r.Detail = r.Detail, ""
		}
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
	if handedOver != "" {
		t.Run("our_client_continues", func(t *testing.T) { continues(t, s.URL(), key, handedOver) })
	}
	if t.Failed() {
		tail := log.Bytes()
		t.Logf("what the SDK wrote:\n%s", tail[max(0, len(tail)-6000):])
	}
}

// continues takes up, with our own client, the state that the SDK saved: the same log-probabilities, the same gradient of the soft
// rows, and the same model after one more step.
func continues(t *testing.T, url, key, found string) {
	var want struct {
		Path                                   string
		IDs                                    []int32
		Weights, Rows, Gradient, Before, After []float32
		Loss                                   float64
	}
	if err := json.Unmarshal([]byte(found), &want); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RECPIE_PEERS_KEY", key)
	secret, err := transport.SecretFromEnv("RECPIE_PEERS_KEY")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	session, err := training.Dial(ctx, training.Config{Settings: transport.Settings{BaseURL: url, Key: secret}})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close(context.Background())
	if !session.PromptEmbeds() {
		t.Fatal("the server does not offer gradients of soft prompts")
	}
	m, err := session.CreateFromCheckpoint(ctx, want.Path, "tiny", true)
	if err != nil {
		t.Fatal(err)
	}
	d := training.Datum{Tokens: want.IDs[:len(want.IDs)-1], Weights: want.Weights, Embeds: want.Rows, EmbedPositions: []int64{1, 2}}
	for _, id := range want.IDs[1:] {
		d.Targets = append(d.Targets, int64(id))
	}
	backward, err := m.ForwardBackward(ctx, []training.Datum{d}, tinker.LossCrossEntropy, nil)
	if err != nil {
		t.Fatal(err)
	}
	step, err := m.OptimStep(ctx, tinker.AdamParams{LearningRate: 3e-2, Beta1: .9, Beta2: .95, Eps: 1e-8})
	if err != nil {
		t.Fatal(err)
	}
	before, err := backward.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := step.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	forward, err := m.Forward(ctx, []training.Datum{d}, tinker.LossCrossEntropy, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, err := forward.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "log-probabilities", wide(before.Logprobs[0]), wide(want.Before), 1e-5)
	near(t, "gradient of the soft rows", wide(before.EmbedGrads[0]), wide(want.Gradient), 1e-4)
	near(t, "loss", []float64{before.Metrics["loss:sum"]}, []float64{want.Loss}, 1e-4)
	near(t, "log-probabilities after a step", wide(after.Logprobs[0]), wide(want.After), 1e-4)
}

func wide(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
