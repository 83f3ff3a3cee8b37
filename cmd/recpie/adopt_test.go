package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"recpie/internal/evaluate"
	"recpie/internal/store"
	"recpie/orchestrator"
)

// trained returns a scene with the whole tiny run in its folder run, and the name of the version that each round ended with.
func trained(t *testing.T) (s *scene, versions [3]string) {
	t.Helper()
	w := unbroken(t)
	s = w.again(t)
	if err := os.CopyFS(s.path("run"), os.DirFS(w.path("run"))); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 2; round++ {
		var err error
		if versions[round], err = orchestrator.VersionAfter(s.path("run"), round); err != nil {
			t.Fatal(err)
		}
	}
	return s, versions
}

// written returns the texts that the run itself wrote in a round, in the order of an export with --rows.
func written(t *testing.T, s *scene, round int) (texts []string) {
	t.Helper()
	db, err := store.Open(t.Context(), s.path("run", "explanations.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	id, err := db.Lookup(t.Context(), fmt.Sprintf("round-%d", round))
	if err == nil {
		err = db.Rows(t.Context(), id, func(r store.Row) error { texts = append(texts, r.Text+"|"+r.Reason); return nil })
	}
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func exported(t *testing.T, path string) (texts []string) {
	t.Helper()
	for _, l := range lines(t, path) {
		text, _ := l["text"].(string)
		reason, _ := l["reason"].(string)
		texts = append(texts, text+"|"+reason)
	}
	return texts
}

// A batch with a version of a run's policy gives the texts that the run wrote with it; its rows are reused for the same version, and
// for no other author.
func TestExplainWithAVersion(t *testing.T) {
	s, versions := trained(t)
	explain := func(name string, args ...string) map[string]any {
		t.Helper()
		o := must(t, s.dir, s.env, append([]string{"explain", "--rows", "--run", name, "--db", "all.db", "--name", name, "-o", "json"}, args...)...)
		return counts(t, o)
	}
	base := explain("base", "-c", "tiny.yaml")
	if want := written(t, s, 0); !slices.Equal(exported(t, s.path("base", "explanations.jsonl")), want) {
		t.Error("the base model's batch differs from the run's untrained texts")
	}
	for round := 1; round <= 2; round++ {
		args := []string{"--from", "run", "--version", versions[round]}
		if round == 2 {
			args[3] = "last"
		}
		c := explain(fmt.Sprintf("round-%d", round), args...)
		if c["reused"] != 0.0 || c["rows"] != base["rows"] || c["model"] != versions[round] || c["soft_prompts"] != "as rows" {
			t.Errorf("round %d: %v", round, c)
		}
		got, want := exported(t, s.path(fmt.Sprintf("round-%d", round), "explanations.jsonl")), written(t, s, round)
		if !slices.Equal(got, want) {
			n := 0
			for i := range min(len(got), len(want)) {
				if got[i] != want[i] {
					n++
				}
			}
			t.Errorf("round %d: %d of %d texts differ from those that the run wrote with this version", round, n, len(want))
		}
	}
	if again := explain("again", "--from", "run", "--version", "last"); again["tokens"] != 0.0 || again["reused"] != again["done"] || again["done"].(float64) == 0 {
		t.Errorf("the same version once more: %v", again)
	}
	if plain := explain("plain", "--from", "run", "--version", "last", "--set", "inference.soft_prompts=false"); plain["reused"] != 0.0 || plain["soft_prompts"] != "none" {
		t.Errorf("the adapter without soft prompts: %v", plain)
	}
	if slices.Equal(written(t, s, 0), written(t, s, 2)) {
		t.Error("the run's version writes what the base model writes: the test shows nothing")
	}
}

// Without --version the version of the round that validation selected writes: none, when that was the base model's.
func TestExplainWithTheSelectedVersion(t *testing.T) {
	s, versions := trained(t)
	report, err := evaluate.ReadReport(s.path("run"))
	if err != nil {
		t.Fatal(err)
	}
	for round, want := range []string{"recpie-embedded", versions[1], versions[2]} {
		report.SelectedRound = round
		if err := report.Write(s.path("run")); err != nil {
			t.Fatal(err)
		}
		o := must(t, s.dir, s.env, "explain", "--from", "run", "--run", "selected", "--db", "all.db", "--name", want, "-o", "json")
		if c := counts(t, o); c["model"] != want {
			t.Errorf("round %d: %v, want %s", round, c["model"], want)
		}
		if said := strings.Contains(o.stderr, "the base model writes"); said != (round == 0) {
			t.Errorf("round %d: %s", round, o.stderr)
		}
	}
	if err := os.Remove(s.path("run", "report.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(model(t, s), s.path("other")); err != nil { // another base model, as far as its name tells
		t.Fatal(err)
	}
	for i, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--from", "run"}, "--version"},
		{[]string{"--from", "run", "--version", "policy-v000001-00000000"}, "its versions are the folders"},
		{[]string{"--from", "elsewhere"}, "--from"},
		{[]string{"--version", "last"}, "--from"},
		{[]string{"--from", "run/adapters/" + versions[2], "--version", "last"}, "is a version already"},
		{[]string{"--from", "run", "--version", "last", "--set", "lm.dir=other"}, "was trained on"},
	} {
		if o := recpie(t, s.dir, s.env, append([]string{"explain", "--run", fmt.Sprint("wrong-", i)}, c.args...)...); o.code == exitOK || !strings.Contains(o.stderr, c.says) {
			t.Errorf("%v: %d %s", c.args, o.code, o.stderr)
		}
	}
}

// model is the folder of a scene's language model.
func model(t *testing.T, s *scene) string {
	t.Helper()
	models, err := filepath.Glob(s.path("cache", "lm", "lm-*"))
	if err != nil || len(models) != 1 {
		t.Fatalf("%v, %v", models, err)
	}
	return models[0]
}

// machine serves a model at an address with a folder of versions, until stop.
func machine(t *testing.T, s *scene, addr, model, root string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := child(ctx, s.dir, s.env, "lm", "serve", "--listen", addr, "--model", model, "--adapter-root", root)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { cancel(); _ = cmd.Wait() }
	t.Cleanup(stop)
	for range 400 {
		if r, err := http.Get("http://" + addr + "/health"); err == nil {
			_ = r.Body.Close()
			return stop
		}
		time.Sleep(50 * time.Millisecond) // a child process: there is no clock to fake
	}
	t.Fatalf("the server did not come up: %s", &log)
	return nil
}

// A batch with a version is planned on one machine and worked on by a worker that knows the database alone, against a server that has
// forgotten the version meanwhile and whose folder of versions has lost it.
func TestWorkerWithAVersion(t *testing.T) {
	s, versions := trained(t)
	served := model(t, s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	stop := machine(t, s, addr, served, s.path("shared"))
	settings := strings.Replace(tiny, "inference: {", fmt.Sprintf("training: {frozen: true}\npublish: {local_dir: shared, server_dir: %q}\ninference: {model: %s, endpoints: [{url: \"http://%s\"}], ", s.path("shared"), filepath.Base(served), addr), 1)
	if err := os.WriteFile(s.path("served.yaml"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	with := []string{"explain", "-c", "served.yaml", "--from", "run", "--version", "last", "--rows", "-o", "json"}
	must(t, s.dir, s.env, append(slices.Clone(with), "--run", "here")...)
	must(t, s.dir, s.env, "explain", "-c", "served.yaml", "--rows", "--run", "base")
	o := must(t, s.dir, s.env, append(slices.Clone(with), "--run", "there", "--db", "there.db", "--plan-only")...)
	if c := counts(t, o); c["state"] != "running" || c["done"] != 0.0 {
		t.Fatalf("planned: %v", c)
	}
	stop()
	if err := os.RemoveAll(s.path("shared")); err != nil {
		t.Fatal(err)
	}
	machine(t, s, addr, served, s.path("shared"))

	other := newScene(t, t.TempDir())
	if err := os.Rename(s.path("there.db"), other.path("there.db")); err != nil {
		t.Fatal(err)
	}
	log := work(t, other, []string{"RECPIE_PUBLISH_LOCAL_DIR=" + s.path("shared")}, "there.db", "there")
	if !strings.Contains(log, versions[2]) {
		t.Errorf("the worker does not say who writes: %s", log)
	}
	if err := os.Rename(other.path("there.db"), s.path("there.db")); err != nil {
		t.Fatal(err)
	}
	must(t, s.dir, s.env, append(slices.Clone(with), "--run", "there", "--db", "there.db")...)
	here := exported(t, s.path("here", "explanations.jsonl"))
	if !slices.Equal(exported(t, s.path("there", "explanations.jsonl")), here) {
		t.Error("the worker's texts differ from those of the machine that planned")
	}
	if slices.Equal(exported(t, s.path("base", "explanations.jsonl")), here) {
		t.Error("the version writes what the base model writes: the test shows nothing")
	}
}

// work runs a worker on a database until the batch has ended and returns what it logged.
func work(t *testing.T, s *scene, env []string, db, batch string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := child(ctx, s.dir, append(slices.Clone(s.env), env...), "worker", "--db", db)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	for ctx.Err() == nil {
		if c = counts(t, must(t, s.dir, s.env, "explain", "status", "--db", db, "--name", batch, "-o", "json")); c["state"] != "running" {
			break
		}
		time.Sleep(100 * time.Millisecond) // a child process: there is no clock to fake
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("a stopped worker ends with %v\n%s", err, &log)
	}
	if c["state"] != "done" || c["done"].(float64)+c["dead"].(float64) != c["rows"] {
		t.Fatalf("%v\n%s", c, &log)
	}
	return log.String()
}
