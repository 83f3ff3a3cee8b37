package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/adapters"
	"recpie/internal/lm"
	"recpie/internal/lmserver"
)

// loader serves the model of the unbroken run, with adapters from a folder.
func loader(t *testing.T, model, root string) *lmserver.Server {
	t.Helper()
	b, err := lm.LoadDir(model)
	if err != nil {
		t.Fatal(err)
	}
	b.Name = "recpie-embedded"
	s, err := lmserver.New(lmserver.Options{Model: b, AdapterRoot: root})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		b.Model.Close()
	})
	return s
}

// loaded lists the adapters that a server serves.
func loaded(t *testing.T, s *lmserver.Server) (names []string) {
	t.Helper()
	r, err := http.Get(s.URL() + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var list struct{ Data []struct{ ID, Parent string } }
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	for _, m := range list.Data {
		if m.Parent != "" {
			names = append(names, m.ID)
		}
	}
	return names
}

// Versions are listed, compared, put into service on two servers or on none, rolled back and collected.
func TestAdaptersCommands(t *testing.T) {
	w := unbroken(t)
	dir := t.TempDir()
	run := filepath.Join(dir, "run")
	if err := os.CopyFS(run, os.DirFS(w.path("run"))); err != nil {
		t.Fatal(err)
	}
	versions := filepath.Join(run, "adapters")
	model := strings.TrimSpace(must(t, w.dir, w.env, "lm", "warmup", "-c", "tiny.yaml").stdout)
	one, two, blind := loader(t, model, versions), loader(t, model, versions), loader(t, model, t.TempDir())
	settings := func(name string, servers ...*lmserver.Server) string {
		text := "inference:\n  model: recpie-embedded\n  endpoints:\n"
		for _, s := range servers {
			text += fmt.Sprintf("    - {url: %q}\n", s.URL())
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, bad := settings("good.yaml", one, two), settings("bad.yaml", one, blind)
	do := func(args ...string) output {
		t.Helper()
		return recpie(t, dir, w.env, append([]string{"adapters"}, append(args, "--run", run)...)...)
	}
	var all []versionView
	list := func() []versionView {
		t.Helper()
		all = nil
		o := do("list", "-o", "json")
		if err := json.Unmarshal([]byte(o.stdout), &all); err != nil || len(all) < 3 {
			t.Fatalf("%v: %s %s", err, o.stdout, o.stderr)
		}
		return all
	}
	active := func() (name string) {
		for _, v := range list() {
			if v.Active {
				name += v.Name
			}
		}
		return name
	}
	if active() != "" {
		t.Fatalf("%s is in service before anything was published", active())
	}
	first, second := all[1].Name, all[2].Name
	for _, name := range []string{first, second} {
		if o := do("publish", "-c", good, name); o.code != exitOK || active() != name {
			t.Fatalf("publish %s: %d %s; active is %s", name, o.code, o.stderr, active())
		}
		for _, s := range []*lmserver.Server{one, two} {
			if got := loaded(t, s); len(got) != 1 || got[0] != name {
				t.Errorf("a server serves %v, want %s", got, name)
			}
		}
	}
	if o := do("rollback", "-c", good); o.code != exitOK || active() != first || loaded(t, two)[0] != first {
		t.Errorf("rollback: %d %s; active is %s", o.code, o.stderr, active())
	}
	// one server of two cannot see the folder
	if o := do("publish", "-c", bad, second); o.code == exitOK || !strings.Contains(o.stderr, "publish.server_dir") || active() != first {
		t.Errorf("publish to a blind server: %d %s; active is %s", o.code, o.stderr, active())
	}
	if got := loaded(t, one); len(got) != 1 || got[0] != first {
		t.Errorf("after the failure a server serves %v, want %s", got, first)
	}
	if o := do("diff", first, second); o.code != exitOK || !strings.Contains(o.stdout, "cosine") || !strings.Contains(o.stdout, "soft prompts") {
		t.Errorf("diff: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := do("show", "active"); o.code != exitOK || !strings.Contains(o.stdout, first) || !strings.Contains(o.stdout, "in service since") {
		t.Errorf("show: %d\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := do("publish", "-c", good, "--from", filepath.Join(versions, second)); o.code != exitOK || len(list()) != len(all) || !strings.Contains(active(), fmt.Sprintf("v%06d", all[len(all)-1].Number)) {
		t.Errorf("publish of a folder: %d %s; active is %s", o.code, o.stderr, active())
	}
	for say, args := range map[string][]string{
		"names 0 of":                 {"show", "nowhere"},
		"no inference server":        {"publish", first},
		"at least one version":       {"gc", "--keep", "0"},
		"accepts at most 1 arg":      {"publish", first, second},
		"one too many":               {"publish", "--from", versions, first},
		"no versions in":             {"list", "--run", dir},
		"text or json":               {"list", "-o", "xml"},
		"accepts 2 arg(s)":           {"diff", first},
		"unknown command \"remove\"": {"remove"},
	} {
		args = append([]string{"adapters"}, args...)
		if !strings.Contains(strings.Join(args, " "), "--run") {
			args = append(args, "--run", run)
		}
		if o := recpie(t, dir, w.env, args...); o.code == exitOK || !strings.Contains(o.stderr, say) {
			t.Errorf("%v: %d %q, want an error that says %q", args, o.code, o.stderr, say)
		}
	}
	before := len(list())
	must(t, dir, w.env, "adapters", "pin", "--run", run, all[0].Name)
	dry := do("gc", "--keep", "1", "--dry-run", "-o", "json")
	if len(list()) != before {
		t.Error("a dry run deleted something")
	}
	var gone struct{ Versions []string }
	if err := json.Unmarshal([]byte(dry.stdout), &gone); err != nil {
		t.Fatal(err)
	}
	if o := do("gc", "--keep", "1"); o.code != exitOK || len(list()) != before-len(gone.Versions) {
		t.Errorf("gc: %d %s: %d versions of %d, %d were to go", o.code, o.stderr, len(all), before, len(gone.Versions))
	}
	for _, name := range []string{all[0].Name, first} { // pinned; in service before
		if _, err := os.Stat(filepath.Join(versions, name, adapters.ManifestFile)); err != nil {
			t.Errorf("%s is gone", name)
		}
	}
}
