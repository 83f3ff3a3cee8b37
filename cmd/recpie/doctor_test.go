package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/clients/doctor"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
	"recpie/internal/tokenizer"
)

// embeddedServer serves a tiny model with random weights, for inference and for training, until the test ends.
func embeddedServer(t *testing.T) string {
	t.Helper()
	words := func(yield func(string) bool) {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 300 {
			word := make([]byte, 3+rng.IntN(8))
			for i := range word {
				word[i] = byte('a' + rng.IntN(26))
			}
			if !yield("the user likes " + string(word)) {
				return
			}
		}
	}
	tok, err := tokenizer.TrainBPE(words, tokenizer.TrainOptions{VocabSize: 400, Special: lm.SpecialTokens(), MinFrequency: 1})
	if err != nil {
		t.Fatal(err)
	}
	model, err := lm.NewModel(lm.Config{VocabSize: tok.VocabSize(), MaxPositions: 512, HiddenSize: 32, NumLayers: 1, NumHeads: 2, InitializerRange: 0.2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	bundle, err := lm.NewBundle("tiny", model, tok)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := lmserver.New(lmserver.Options{Model: bundle, AdapterRoot: t.TempDir(), StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return srv.URL()
}

// The program's own server, seen by the program as any other; and the exit codes.
func TestDoctor(t *testing.T) {
	t.Parallel()
	url, dir := embeddedServer(t), t.TempDir()
	write := func(name, model string) {
		text := fmt.Sprintf("inference:\n  model: %s\n  endpoints:\n    - url: %s\ntraining: {url: %s}\n", model, url, url)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("well.yaml", "tiny")
	write("ill.yaml", "other")
	o := must(t, dir, nil, "doctor", "-c", "well.yaml", "--probe", "-o", "json")
	var all []doctor.Finding
	if err := json.Unmarshal([]byte(o.stdout), &all); err != nil {
		t.Fatal(err)
	}
	found := map[string]doctor.Finding{}
	for _, f := range all {
		found[f.What] = f
	}
	for what, detail := range map[string]string{"reachable": "answers", "version": "vLLM " + lmserver.Version, "model": "tiny, 512 tokens", "length": "384", "chat template": "tokens", "prompt scoring": "echo", "soft prompts": "hidden size 32",
		"run-time adapters": "route", "canary": "same greedy answer", "throughput": "answers/s", "dialect": "0.38", "base model": "tiny", "prompt_embeds.v1": "gradients", "losses": "ppo, importance_sampling, cross_entropy"} {
		if f := found[what]; !strings.Contains(f.Detail, detail) || f.Level == doctor.Miss || f.Level == doctor.Warn && what != "throughput" {
			t.Errorf("%s: %+v, want %q", what, f, detail)
		}
	}
	t.Logf("%s", o.stdout)
	text := must(t, dir, nil, "doctor", "-c", "well.yaml").stdout
	if !strings.Contains(text, "0 missing") || !strings.Contains(text, url+"\n") {
		t.Errorf("%s", text)
	}
	if o := recpie(t, dir, nil, "doctor", "-c", "well.yaml", "--strict"); strings.Contains(text, " 0 doubtful") == (o.code != 0) {
		t.Errorf("--strict: exit code %d for\n%s", o.code, text)
	}
	if o := recpie(t, dir, nil, "doctor", "-c", "ill.yaml"); o.code != exitFailed || !strings.Contains(o.stdout, "miss  model") || !strings.Contains(o.stderr, "missing") {
		t.Errorf("%d\n%s\n%s", o.code, o.stdout, o.stderr)
	}
}
