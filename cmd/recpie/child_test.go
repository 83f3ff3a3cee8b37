package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"recpie/internal/torch/reexec"
)

// childVariable makes the test binary stand for the program: what follows its name are the program's arguments.
const childVariable = "RECPIE_TEST_CHILD"

// shared is a folder of this process's tests, removed at the end.
var shared string

func TestMain(m *testing.M) {
	reexec.Ensure()
	if os.Getenv(childVariable) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(func() int {
		var err error
		if shared, err = os.MkdirTemp("", "recpie-cmd-test-*"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(shared)
		return m.Run()
	}())
}

// child prepares a run of the program in folder dir. Settings from the caller's environment do not reach it.
func child(ctx context.Context, dir string, env []string, args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Dir = dir
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "RECPIE_") || strings.HasPrefix(e, "RECPIE_CACHE=") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(append(cmd.Env, childVariable+"=1"), env...)
	return cmd
}

// output is what a finished child left.
type output struct {
	code           int // -1: killed
	stdout, stderr string
}

// recpie runs the program to its end in folder dir.
func recpie(t *testing.T, dir string, env []string, args ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := child(ctx, dir, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("recpie %q did not end:\n%s", args, &stderr)
	}
	return output{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// must is recpie for command lines that succeed.
func must(t *testing.T, dir string, env []string, args ...string) output {
	t.Helper()
	o := recpie(t, dir, env, args...)
	if o.code != exitOK {
		t.Fatalf("recpie %q: exit code %d\n%s%s", args, o.code, o.stdout, o.stderr)
	}
	return o
}

// tiny is a run of seconds that goes through every phase twice. Requests go one by one and tensors use one thread, so that two
// unbroken runs are equal bit for bit.
const tiny = `data: {path: planted, sample_pairs: 24}
lm: {layers: 2, hidden: 64, heads: 2, vocabulary: 512, context: 256, warmup_steps: 160, warmup_batch: 8, warmup_rate: 0.006, warmup_samples: 240, threads: 1}
inference: {concurrency: 1, max_tokens: 60}
prompts: {history: 2, token_budget: 160}
policy: {rounds: 2, steps: 2, pairs: 3, group: 2, minibatch: 6, validation: 32, learning_rate: 0.002, projection_rate: 0.01}
recommender: {epochs: 3, patience: 2, seeds: 1, dim: 16, learning_rate: 0.01}
`

// realCache is where set-up put the sentence encoder.
func realCache(t *testing.T) string {
	t.Helper()
	dir, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "minilm", "model.safetensors")); err != nil {
		t.Skipf("no sentence encoder in %s: run 'make setup'", dir)
	}
	return dir
}

// scene is a folder with a data set, settings and a cache of its own, in which the same relative paths lead to the same run.
type scene struct {
	dir string
	env []string
}

func newScene(t *testing.T, dir string) *scene {
	t.Helper()
	cache := filepath.Join(dir, "cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(realCache(t), "minilm"), filepath.Join(cache, "minilm")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tiny.yaml"), []byte(tiny), 0o644); err != nil {
		t.Fatal(err)
	}
	return &scene{dir: dir, env: []string{"RECPIE_CACHE=" + cache}}
}

// train is the command line of the tiny run.
var train = []string{"train", "-c", "tiny.yaml", "--run", "run"}

func (s *scene) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir}, elem...)...)
}

// whole is the unbroken tiny run that others are compared with, made once.
type whole struct {
	*scene
	took   time.Duration // with everything cached
	stdout string
}

var (
	wholeOnce sync.Once
	wholeRun  *whole
)

func unbroken(t *testing.T) *whole {
	t.Helper()
	realCache(t) // skip before Once
	wholeOnce.Do(func() {
		dir := filepath.Join(shared, "whole")
		s := newScene(t, dir)
		must(t, dir, s.env, "data", "planted", "--out", "planted", "--seed", "3", "--users", "24", "--items", "30", "--per-user", "12")
		must(t, dir, s.env, "lm", "warmup", "-c", "tiny.yaml")
		began := time.Now()
		o := must(t, dir, s.env, train...)
		wholeRun = &whole{s, time.Since(began), o.stdout}
	})
	if wholeRun == nil {
		t.Fatal("the unbroken run failed")
	}
	return wholeRun
}

// again returns a new scene with the data and the warmed-up model of w. Sentence vectors are computed anew.
func (w *whole) again(t *testing.T) *scene {
	t.Helper()
	s := newScene(t, t.TempDir())
	for _, name := range []string{"planted", "cache/lm"} {
		if err := os.Symlink(w.path(name), s.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return s
}
