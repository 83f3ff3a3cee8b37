package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"recpie/internal/safetensors"
	"recpie/orchestrator"
)

// A run that was killed, at whatever place, and continued by the same command ends as an unbroken one: no explanation lost or stored
// twice, the same figures, whole checkpoints.

// tolerance by which figures of a continued run may differ.
const tolerance = 1e-6

// failpoints are all named places on the way of a training run, with the passage to die at.
var failpoints = []string{
	"explain-before-commit:1", "explain-before-commit:3", "explain-after-commit:2", "explain-after-commit:5",
	"step-sampled:1", "step-sampled:3", "step-updated:1", "step-updated:2", "step-updated:4", "step-saved:1", "step-saved:3", "step-versioned:1", "step-versioned:5",
	"step-published:1", "step-published:4", "step-kept:1", "step-kept:3", "step-kept:6",
	"adapters.write.before-manifest:1", "adapters.write.before-manifest:3", "adapters.publish.before-switch:1", "adapters.publish.before-switch:5",
	"lmserver.save.data:1", "lmserver.save.data:4", "lmserver.save.manifest:1", "lmserver.save.manifest:6",
}

func full(t *testing.T) {
	t.Helper()
	if os.Getenv("RECPIE_CRASH") == "" {
		t.Skip("takes minutes: set RECPIE_CRASH=1")
	}
}

func killAt(t *testing.T, w *whole, failpoint string) {
	s := w.again(t)
	o := recpie(t, s.dir, append(s.env, "RECPIE_FAILPOINT="+failpoint), train...)
	if o.code != -1 {
		t.Fatalf("was not killed at %s: exit code %d\n%s", failpoint, o.code, o.stderr)
	}
	must(t, s.dir, s.env, train...)
	same(t, w.scene, s)
}

func TestKilledRunContinues(t *testing.T) {
	w := unbroken(t)
	for _, f := range []string{"explain-after-commit:2", "step-updated:3"} {
		t.Run(f, func(t *testing.T) {
			t.Parallel()
			killAt(t, w, f)
		})
	}
}

func TestKilledAtEveryFailpoint(t *testing.T) {
	full(t)
	w := unbroken(t)
	for _, f := range failpoints {
		t.Run(f, func(t *testing.T) {
			t.Parallel()
			killAt(t, w, f)
		})
	}
}

// Random moments, up to three kills in a row. Every fourth case has no warmed-up model yet, so that the warm-up is hit too.
func TestKilledAtRandomMoments(t *testing.T) {
	full(t)
	w := unbroken(t)
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 0xdead))
			s := w.again(t)
			span := 3 * w.took / 2
			if seed%4 == 0 {
				if err := os.Remove(s.path("cache", "lm")); err != nil {
					t.Fatal(err)
				}
				span *= 2
			}
			for range 1 + rng.IntN(3) {
				after := time.Duration(rng.Float64() * float64(span))
				ctx, cancel := context.WithTimeout(context.Background(), after)
				cmd := child(ctx, s.dir, s.env, train...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				_ = cmd.Run()
				cancel()
				if code := cmd.ProcessState.ExitCode(); code > 0 {
					t.Fatalf("exit code %d before the kill after %v\n%s", code, after, &stderr)
				}
				t.Logf("killed after %v", after.Round(time.Millisecond))
			}
			must(t, s.dir, s.env, train...)
			same(t, w.scene, s)
		})
	}
}

// A signal lets what is in flight be stored, says how to go on, and the same command does.
func TestInterruptedRunContinues(t *testing.T) {
	w := unbroken(t)
	for name, begun := range map[string]func(*scene) bool{
		"while explaining": func(s *scene) bool { return count(s.path("run", "explanations.db")) > 0 },
		"between steps":    func(s *scene) bool { return exists(s.path("run", "checkpoints", "step-000001")) },
	} {
		for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
			t.Run(fmt.Sprint(name, " ", sig), func(t *testing.T) {
				if sig == syscall.SIGTERM {
					full(t)
				}
				t.Parallel()
				s := w.again(t)
				cmd := child(t.Context(), s.dir, s.env, train...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				ended := make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				tick := time.NewTicker(20 * time.Millisecond)
				defer tick.Stop()
				for sent := false; ; {
					select {
					case <-tick.C:
						if !sent && begun(s) {
							sent = true
							if err := cmd.Process.Signal(sig); err != nil {
								t.Fatal(err)
							}
						}
						continue
					case <-ended:
					case <-time.After(2 * time.Minute):
						_ = cmd.Process.Kill()
						t.Fatal("does not end")
					}
					break
				}
				if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
					t.Fatalf("exit code %d\n%s", code, &stderr)
				}
				if !strings.Contains(stderr.String(), "the same command continues") {
					t.Errorf("it does not say how to go on:\n%s", &stderr)
				}
				must(t, s.dir, s.env, train...)
				same(t, w.scene, s)
			})
		}
	}
}

// With many requests in flight chance decides what is computed together, and with it the last digits of every number: after a kill
// the weights differ from an unbroken run's by rounding, and versions have other names. Nothing is lost or twice for all that.
func TestKilledRunWithManyRequestsInFlightContinues(t *testing.T) {
	full(t)
	w := unbroken(t)
	many := append(slices.Clone(train), "--set", "inference.concurrency=8")
	for _, f := range []string{"explain-before-commit:2", "step-updated:2", "step-versioned:4", "step-published:5", "step-kept:4", "lmserver.save.manifest:5"} {
		t.Run(f, func(t *testing.T) {
			t.Parallel()
			s := w.again(t)
			if o := recpie(t, s.dir, append(s.env, "RECPIE_FAILPOINT="+f), many...); o.code != -1 {
				t.Fatalf("was not killed: exit code %d\n%s", o.code, o.stderr)
			}
			must(t, s.dir, s.env, many...)
			if want, got := len(stored(t, w.scene)), len(stored(t, s)); got != want {
				t.Errorf("%d explanations, want %d", got, want)
			}
			var keys [2][]any
			for i, s := range []*scene{w.scene, s} {
				for _, row := range metricsOf(t, s) {
					keys[i] = append(keys[i], row["key"])
				}
			}
			if !slices.Equal(keys[0], keys[1]) {
				t.Errorf("metrics of %v, want %v", keys[1], keys[0])
			}
			if want, got := folders(t, w.path("run", "checkpoints")), folders(t, s.path("run", "checkpoints")); !slices.Equal(got, want) {
				t.Errorf("checkpoints %q, want %q", got, want)
			}
			if _, err := orchestrator.LatestCheckpoint(s.path("run", "checkpoints")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A finished run that is asked for again does not change.
func TestFinishedRunStaysAsItIs(t *testing.T) {
	w := unbroken(t)
	s := w.again(t)
	if err := os.CopyFS(s.path("run"), os.DirFS(w.path("run"))); err != nil {
		t.Fatal(err)
	}
	o := must(t, s.dir, s.env, train...)
	if strings.Contains(o.stderr, "step 1:") || strings.Contains(o.stderr, "explanations, round 0") {
		t.Errorf("it worked again:\n%s", o.stderr)
	}
	same(t, w.scene, s)
}

// same checks that two runs ended alike.
func same(t *testing.T, want, got *scene) {
	t.Helper()
	compareReports(t, want, got)
	compareMetrics(t, want, got)
	compareExplanations(t, want, got)
	compareCheckpoints(t, want, got)
}

func compareReports(t *testing.T, want, got *scene) {
	t.Helper()
	var reports [2]map[string]any
	for i, s := range []*scene{want, got} {
		b, err := os.ReadFile(s.path("run", "report.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &reports[i]); err != nil {
			t.Fatal(err)
		}
		delete(reports[i], "timings")
	}
	near(t, "report", reports[0], reports[1])
}

// near compares decoded JSON, numbers within the tolerance.
func near(t *testing.T, at string, want, got any) {
	t.Helper()
	switch w := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok || !slices.Equal(slices.Sorted(maps.Keys(w)), slices.Sorted(maps.Keys(g))) {
			t.Errorf("%s: %v, want %v", at, got, want)
			return
		}
		for k := range w {
			near(t, at+"."+k, w[k], g[k])
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			t.Errorf("%s: %v, want %v", at, got, want)
			return
		}
		for i := range w {
			near(t, fmt.Sprintf("%s[%d]", at, i), w[i], g[i])
		}
	case float64:
		if g, ok := got.(float64); !ok || math.Abs(g-w) > tolerance {
			t.Errorf("%s = %v, want %v", at, got, want)
		}
	default:
		if got != want {
			t.Errorf("%s = %v, want %v", at, got, want)
		}
	}
}

func compareMetrics(t *testing.T, want, got *scene) {
	t.Helper()
	var all [2][]map[string]any
	for i, s := range []*scene{want, got} {
		all[i] = metricsOf(t, s)
	}
	if len(all[0]) != len(all[1]) {
		t.Fatalf("%d lines of metrics, want %d", len(all[1]), len(all[0]))
	}
	for i := range all[0] {
		near(t, fmt.Sprint("metrics ", all[0][i]["key"]), all[0][i], all[1][i])
	}
}

// metricsOf reads metrics.jsonl, whose lines are whole and have keys of their own.
func metricsOf(t *testing.T, s *scene) (rows []map[string]any) {
	t.Helper()
	b, err := os.ReadFile(s.path("run", "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	for line := range strings.Lines(string(b)) {
		var row map[string]any
		if err := json.Unmarshal([]byte(line), &row); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("line %q: %v", line, err)
		}
		if seen[row["key"]] {
			t.Errorf("%v is there twice", row["key"])
		}
		seen[row["key"]] = true
		rows = append(rows, row)
	}
	return rows
}

// stored reads all explanations as texts, in order.
func stored(t *testing.T, s *scene) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+s.path("run", "explanations.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var ok string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&ok); err != nil || ok != "ok" {
		t.Fatalf("explanations.db: %s, %v", ok, err)
	}
	rows, err := db.Query(`SELECT b.name, b.digest, row, record, polarity, hex(identity), text, raw, reason, tokens FROM explanations e JOIN batches b ON b.id = e.batch ORDER BY b.name, row`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	seen := map[string]bool{}
	for rows.Next() {
		var batch, digest, identity, text, raw, reason string
		var row, record, polarity, tokens int
		if err := rows.Scan(&batch, &digest, &row, &record, &polarity, &identity, &text, &raw, &reason, &tokens); err != nil {
			t.Fatal(err)
		}
		key := fmt.Sprintf("%s %d %d", batch, record, polarity)
		if seen[key] {
			t.Errorf("the explanation of %s is stored twice", key)
		}
		seen[key] = true
		out = append(out, fmt.Sprint(batch, digest, row, " ", record, polarity, identity, text, raw, reason, tokens))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func compareExplanations(t *testing.T, want, got *scene) {
	t.Helper()
	w, g := stored(t, want), stored(t, got)
	if len(w) == 0 || len(w) != len(g) {
		t.Fatalf("%d explanations, want %d", len(g), len(w))
	}
	for i := range w {
		if w[i] != g[i] {
			t.Fatalf("explanation %d:\n got %s\nwant %s", i, g[i], w[i])
		}
	}
}

// count is the number of stored explanations, 0 while there is no store.
func count(path string) (n int) {
	if !exists(path) {
		return 0
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		return 0
	}
	defer db.Close()
	_ = db.QueryRow("SELECT count(*) FROM explanations").Scan(&n)
	return n
}

// compareCheckpoints checks that every checkpoint and every adapter version is whole and holds the same weights.
func compareCheckpoints(t *testing.T, want, got *scene) {
	t.Helper()
	for _, sub := range []string{"checkpoints", "adapters"} {
		names := folders(t, want.path("run", sub))
		if have := folders(t, got.path("run", sub)); !slices.Equal(names, have) {
			t.Errorf("%s: %q, want %q", sub, have, names)
			continue
		}
		for _, name := range names {
			files, err := filepath.Glob(want.path("run", sub, name, "*.safetensors"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s/%s holds no tensors: %v", sub, name, err)
			}
			for _, file := range files {
				compareTensors(t, file, got.path("run", sub, name, filepath.Base(file)))
			}
		}
	}
	last, err := orchestrator.LatestCheckpoint(got.path("run", "checkpoints"))
	if err != nil || last == nil {
		t.Fatalf("last checkpoint: %v, %v", last, err)
	}
}

// folders lists what is not hidden: a kill may leave a temporary folder behind.
func folders(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names
}

func compareTensors(t *testing.T, want, got string) {
	t.Helper()
	w, err := safetensors.Open(want)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	g, err := safetensors.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if !slices.Equal(w.Names(), g.Names()) {
		t.Fatalf("%s holds %q, want %q", got, g.Names(), w.Names())
	}
	for _, name := range w.Names() {
		if info, _ := w.Info(name); info.DType == safetensors.Int64 {
			a, _, err := w.Int64s(name)
			if err != nil {
				t.Fatal(err)
			}
			if b, _, err := g.Int64s(name); err != nil || !slices.Equal(a, b) {
				t.Fatalf("%s: %s differs: %v", got, name, err)
			}
			continue
		}
		a, _, err := w.Float32(name)
		if err != nil {
			t.Fatal(err)
		}
		b, _, err := g.Float32(name)
		if err != nil || len(a) != len(b) {
			t.Fatalf("%s: %d numbers, want %d: %v", name, len(b), len(a), err)
		}
		for i := range a {
			if d := math.Abs(float64(a[i] - b[i])); !(d <= tolerance) {
				t.Fatalf("%s: %s[%d] = %g, want %g", got, name, i, b[i], a[i])
			}
		}
	}
}
