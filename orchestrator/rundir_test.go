package orchestrator

import (
	"bytes"
	"math"
	"os"
	"strings"
	"testing"

	"recpie/internal/fault"
)

func openRun(t *testing.T, path string) *RunDir {
	t.Helper()
	d, err := OpenRunDir(path)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestRunDirIsHeldByOne(t *testing.T) {
	path := t.TempDir()
	a := openRun(t, path)
	if _, err := OpenRunDir(path); err == nil || !strings.Contains(err.Error(), "in use") || fault.HintOf(err) == "" {
		t.Errorf("a second process came in: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	b := openRun(t, path)
	defer b.Close()
}

func TestPinHoldsARunToItsSettings(t *testing.T) {
	d := openRun(t, t.TempDir())
	defer d.Close()
	first := []byte("seed: 1\nsteps: 2\n")
	for range 2 {
		if err := d.Pin("config.yaml", first); err != nil {
			t.Fatal(err)
		}
	}
	err := d.Pin("config.yaml", []byte("seed: 1\nsteps: 3\n"))
	if err == nil {
		t.Fatal("other settings were taken")
	}
	for _, part := range []string{"config.yaml", "line 2", "steps: 2", "steps: 3"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
	if err := d.Pin("config.yaml", first[:8]); err == nil {
		t.Error("a shorter file was taken")
	}
	if b, _ := os.ReadFile(d.Path("config.yaml")); !bytes.Equal(b, first) {
		t.Error("the pinned file was changed")
	}
}

func metrics(t *testing.T, d *RunDir) *Metrics {
	t.Helper()
	m, err := d.OpenMetrics()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Cut at every byte, the file keeps its whole lines, and what is logged again completes it.
func TestMetricsSurviveATornLine(t *testing.T) {
	d := openRun(t, t.TempDir())
	defer d.Close()
	log := func(m *Metrics) {
		for _, key := range []string{"step/1", "step/2", "round/1"} {
			if err := m.Log(key, map[string]any{"reward": .75, "name": key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := metrics(t, d)
	log(m)
	_ = m.Close()
	whole, err := os.ReadFile(d.Path("metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(d.Path("metrics.jsonl"), whole[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		m := metrics(t, d)
		if have, lines := len(m.Rows("")), bytes.Count(whole[:cut], []byte("\n")); have != lines {
			t.Fatalf("cut at %d: %d of %d lines", cut, have, lines)
		}
		log(m)
		_ = m.Close()
		if b, _ := os.ReadFile(d.Path("metrics.jsonl")); !bytes.Equal(b, whole) {
			t.Fatalf("cut at %d:\n%s", cut, b)
		}
	}
}

func TestMetricsKeys(t *testing.T) {
	d := openRun(t, t.TempDir())
	defer d.Close()
	m := metrics(t, d)
	defer m.Close()
	for _, reward := range []float64{1, 2} {
		if err := m.Log("step/1", map[string]any{"reward": reward}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Log("round/1", map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if rows := m.Rows("step/"); len(rows) != 1 || rows[0]["reward"] != 1. {
		t.Errorf("rows %v", rows)
	}
	if len(m.Rows("")) != 2 || len(m.Rows("x")) != 0 {
		t.Error("prefixes")
	}
}

func TestMetricsRefuseWhatIsNoNumber(t *testing.T) {
	d := openRun(t, t.TempDir())
	defer d.Close()
	m := metrics(t, d)
	if err := m.Log("round/0", map[string]any{"gain": math.NaN()}); err == nil {
		t.Error("NaN was logged")
	}
	if err := m.Log("round/0", map[string]any{"gain": 1}); err != nil {
		t.Error(err)
	}
	_ = m.Close()
	m = metrics(t, d)
	defer m.Close()
	if rows := m.Rows(""); len(rows) != 1 || rows[0]["gain"] != 1. {
		t.Errorf("rows %v", rows)
	}
}

func TestDamagedMetricsAreNamed(t *testing.T) {
	d := openRun(t, t.TempDir())
	defer d.Close()
	if err := os.WriteFile(d.Path("metrics.jsonl"), []byte("{\"key\":\"a\"}\n{\"key\":\x00}\n{\"key\":\"b\"}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.OpenMetrics(); err == nil || !strings.Contains(err.Error(), "byte 12") || fault.HintOf(err) == "" {
		t.Errorf("err = %v", err)
	}
}
