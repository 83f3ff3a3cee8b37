package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/config"
)

// Sentences are embedded by an endpoint: the embedded server's route, over HTTP. What it answered is not asked for again.
func TestEncoderEndpoint(t *testing.T) {
	dir := tuneScene(t)
	cache := filepath.Join(dir, "cache")
	if err := os.Mkdir(cache, 0o755); err != nil { // without the cached encoder
		t.Fatal(err)
	}
	env := []string{"RECPIE_CACHE=" + cache}
	settings := fmt.Sprintf("data: {path: p, sample_pairs: 0}\nrecommender: {epochs: 1, dim: 8}\nencoder: {endpoint: %q, model: tiny, batch: 5}\n", embeddedServer(t))
	if err := os.WriteFile(filepath.Join(dir, "c.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"tune", "-c", "c.yaml", "--trials", "2", "--space", "recommender.dropout=0..0.5"}
	o := must(t, dir, env, append(args, "--run", "a")...)
	if !strings.Contains(o.stdout, "heuristic sentences") {
		t.Errorf("%s", o.stdout)
	}
	files, err := filepath.Glob(filepath.Join(cache, "vectors", "*.bin"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	before, err := os.ReadFile(files[0])
	if err != nil || len(before) < 20*100 {
		t.Fatal(len(before), err)
	}
	must(t, dir, env, append(args, "--run", "b")...)
	if after, err := os.ReadFile(files[0]); err != nil || string(after) != string(before) {
		t.Errorf("sentences were embedded again: %v", err)
	}
	if o := recpie(t, dir, env, append(args, "--run", "c", "--set", "encoder.model=none")...); o.code != exitFailed || !strings.Contains(o.stderr, "embeddings endpoint") {
		t.Errorf("a model that is not served: exit code %d: %s", o.code, o.stderr)
	}
	if o := recpie(t, dir, env, append(args, "--run", "d", "--set", "encoder.key_env=NO_SUCH_KEY")...); o.code != exitUsage || !strings.Contains(o.stderr, "NO_SUCH_KEY") {
		t.Errorf("a key that is not set: exit code %d: %s", o.code, o.stderr)
	}
}

// Sentences that would go to a host that is not private are told of before anything is sent.
func TestEncoderLeaving(t *testing.T) {
	c := config.Default()
	for address, want := range map[string]string{"http://10.0.0.1:8000": "", "http://localhost:1": "", "https://api.example.com/v1": "warning: api.example.com is"} {
		c.Encoder.Endpoint = address
		got := encoderLeaving(t.Context(), &c, nowhere{})
		if (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q", address, got)
		}
	}
	dir := tuneScene(t)
	o := recpie(t, dir, []string{"http_proxy=http://127.0.0.1:1", "RECPIE_CACHE=" + dir}, "tune", "--data", "p", "--run", "r", "--set", "encoder.endpoint=http://192.0.2.1:9", "--set", "encoder.model=m")
	warned, failed := strings.Index(o.stderr, "warning: 192.0.2.1 is not in a private network"), strings.Index(o.stderr, "embeddings endpoint")
	if o.code != exitFailed || warned < 0 || failed < warned {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
}
