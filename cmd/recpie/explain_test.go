package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lines reads JSON lines.
func lines(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var m map[string]any
		if err := d.Decode(&m); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, m)
	}
}

func counts(t *testing.T, o output) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), &m); err != nil {
		t.Fatalf("%v: %s", err, o.stdout)
	}
	return m
}

// A batch of the split's pairs, one of given pairs, candidates among them, its repetition, and what can be done with a batch.
func TestExplain(t *testing.T) {
	s := unbroken(t).again(t)
	run := func(args ...string) output {
		return recpie(t, s.dir, s.env, append([]string{"explain", "-c", "tiny.yaml", "--run", "run", "-o", "json"}, args...)...)
	}
	first := run()
	if first.code != exitOK {
		t.Fatal(first.stderr)
	}
	c := counts(t, first)
	rows := lines(t, s.path("run", "explanations.jsonl"))
	if float64(2*len(rows)) != c["rows"] || c["done"].(float64)+c["dead"].(float64) != c["rows"] || c["state"] != "done" {
		t.Fatalf("%d lines, %v", len(rows), c)
	}
	before, err := os.ReadFile(s.path("run", "explanations.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if again := run(); again.code != exitOK || counts(t, again)["tokens"] != c["tokens"] {
		t.Errorf("the finished batch again: %d %s", again.code, again.stderr)
	}
	if after, _ := os.ReadFile(s.path("run", "explanations.jsonl")); !bytes.Equal(before, after) {
		t.Error("the export of a finished batch changed")
	}

	// given pairs: the first was in the split, the others may be candidates nobody rated
	user, item := rows[0]["user_id"].(string), rows[0]["item_id"].(string)
	var in strings.Builder
	fmt.Fprintf(&in, `{"custom_id":"known","user_id":%q,"item_id":%q}`+"\n", user, item)
	for k := range 8 {
		fmt.Fprintf(&in, `{"custom_id":"c%d","user_id":%q,"item_id":"i%05d"}`+"\n", k, user, k)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in0 := strings.Split(in.String(), "\n")
	for i, l := range in0[1:] { // the known pair must not stand there twice
		if strings.Contains(l, item) {
			in0[i+1] = ""
		}
	}
	write("pairs.jsonl", strings.Join(in0, "\n"))
	given := run("--name", "given", "--input", "pairs.jsonl", "--out", "given.jsonl")
	if given.code != exitOK {
		t.Fatal(given.stderr)
	}
	out := lines(t, s.path("given.jsonl"))
	if out[0]["custom_id"] != "known" || out[0]["positive"] != rows[0]["positive"] || out[0]["negative"] != rows[0]["negative"] {
		t.Errorf("the known pair came back as %v, the split's batch has %v", out[0], rows[0])
	}
	if g := counts(t, given); g["rows"] != float64(2*len(out)) || rows[0]["positive"] != nil && g["reused"].(float64) < 1 {
		t.Errorf("%d lines, %v", len(out), g)
	}

	// what is wrong with lines is said before anything is sent, with its place
	write("bad.jsonl", `{"user_id":"nobody","item_id":"i00001"}`+"\n"+`{"user_id":`+"\n"+in0[0]+"\n"+in0[0]+"\n")
	if bad := run("--name", "bad", "--input", "bad.jsonl"); bad.code != exitUsage || !strings.Contains(bad.stderr, "bad.jsonl:2") || !strings.Contains(bad.stderr, "bad.jsonl:4") {
		t.Errorf("bad lines: %d %s", bad.code, bad.stderr)
	}
	write("nobody.jsonl", `{"user_id":"nobody","item_id":"i00001"}`+"\n")
	if bad := run("--name", "bad", "--input", "nobody.jsonl"); bad.code != exitUsage || !strings.Contains(bad.stderr, `nobody.jsonl:1: user "nobody"`) {
		t.Errorf("unknown user: %d %s", bad.code, bad.stderr)
	}
	if dry := run("--input", "pairs.jsonl", "--dry-run"); dry.code != exitOK || counts(t, dry)["rows"] != float64(2*len(out)) || counts(t, dry)["prompt_tokens"].(float64) < 100 {
		t.Errorf("dry run: %d %s%s", dry.code, dry.stdout, dry.stderr)
	}

	// the embedded server answers requests as well
	write("requests.jsonl", `{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"Why?"}],"max_tokens":8,"temperature":0}}`+"\n")
	if o := run("--name", "requests", "--input", "requests.jsonl", "--out", "answers.jsonl"); o.code != exitOK || counts(t, o)["done"] != 1.0 || len(lines(t, s.path("answers.jsonl"))) != 1 {
		t.Errorf("a request: %d %s%s", o.code, o.stdout, o.stderr)
	}
	// an export from the database alone, on a machine without data, model and settings
	other := newScene(t, t.TempDir())
	exported := must(t, other.dir, other.env, "explain", "export", "--db", s.path("run", "batches.db"), "--name", "run")
	if exported.stdout != string(before) {
		t.Errorf("%d bytes were exported elsewhere, want %d", len(exported.stdout), len(before))
	}

	status := must(t, s.dir, s.env, "explain", "status", "--run", "run", "--name", "given", "-o", "json")
	if counts(t, status)["state"] != "done" {
		t.Error(status.stdout)
	}
	if o := recpie(t, s.dir, s.env, "explain", "status", "--run", "elsewhere"); o.code == exitOK || !strings.Contains(o.stderr, "RECPIE_DATABASE_URL") {
		t.Errorf("status of nothing: %d %s", o.code, o.stderr)
	}
	purged := counts(t, must(t, s.dir, s.env, "purge", "--user", user, "--run", "run", "-o", "json"))["rows"].(float64)
	if purged < float64(2*len(out)) {
		t.Errorf("%v rows of %s were purged, %d pairs are about no one else", purged, user, len(out))
	}
	if left := counts(t, must(t, s.dir, s.env, "explain", "status", "--run", "run", "--name", "given", "-o", "json")); left["rows"] != 0.0 {
		t.Errorf("after the purge: %v", left)
	}
}

// serve starts the embedded server of a scene's model as a program of its own and returns its address.
func serve(t *testing.T, s *scene, flags ...string) string {
	t.Helper()
	models, err := filepath.Glob(s.path("cache", "lm", "lm-*"))
	if err != nil || len(models) == 0 {
		t.Fatalf("no model in the cache: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := child(ctx, s.dir, s.env, append([]string{"lm", "serve", "--listen", addr, "--model", models[0], "--name", "recpie-embedded"}, flags...)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for range 200 {
		if r, err := http.Get("http://" + addr + "/health"); err == nil {
			_ = r.Body.Close()
			return "http://" + addr
		}
		time.Sleep(50 * time.Millisecond) // a child process: there is no clock to fake
	}
	t.Fatalf("the server did not come up: %s", &log)
	return ""
}

// A batch is planned on one machine and worked on by a worker that knows the database alone.
func TestWorker(t *testing.T) {
	s := unbroken(t).again(t)
	url := serve(t, s)
	settings := fmt.Sprintf("data: {path: planted, sample_pairs: 24}\nprompts: {history: 2, token_budget: 160}\ntraining: {frozen: true}\ninference: {max_tokens: 60, endpoints: [{url: %q, key_env: MY_KEY}]}\n", url)
	if err := os.WriteFile(s.path("served.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	env := append(s.env, "MY_KEY=5ecret-of-the-servers")
	here := must(t, s.dir, env, "explain", "-c", "served.yaml", "--run", "here", "-o", "json")
	planned := must(t, s.dir, env, "explain", "-c", "served.yaml", "--run", "there", "--db", "there.db", "--plan-only", "-o", "json")
	if c := counts(t, planned); c["state"] != "running" || c["done"] != 0.0 || c["rows"] != counts(t, here)["rows"] {
		t.Fatalf("planned: %v", c)
	}
	b, err := os.ReadFile(s.path("there.db"))
	if err != nil || bytes.Contains(b, []byte("5ecret")) {
		t.Fatalf("the database holds the key (%v)", err)
	}
	// on another machine: another cache, no data, no settings
	other := newScene(t, t.TempDir())
	if err := os.Rename(s.path("there.db"), other.path("there.db")); err != nil {
		t.Fatal(err)
	}
	log := work(t, other, []string{"MY_KEY=5ecret-of-the-servers"}, "there.db", "there")
	if strings.Contains(log, "5ecret") {
		t.Error("the log holds the key")
	}
	// back where it was planned: nothing is left to do, and the rows are those of the batch that was worked on here
	if err := os.Rename(other.path("there.db"), s.path("there.db")); err != nil {
		t.Fatal(err)
	}
	must(t, s.dir, env, "explain", "-c", "served.yaml", "--run", "there", "--db", "there.db")
	want, err := os.ReadFile(s.path("here", "explanations.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(s.path("there", "explanations.jsonl")); !bytes.Equal(got, want) {
		t.Error("the worker's rows differ from those of the machine that planned")
	}
}
