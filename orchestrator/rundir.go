package orchestrator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"syscall"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// RunDir is a run's folder: the product of a run, and all that is needed to go on with it.
//
//	config.yaml        what the run was told, resolved
//	split.json         which records are training, validation and test
//	metrics.jsonl      one line per finished step or phase
//	run.log            what was told to the person, with times
//	explanations.db    every explanation, once
//	checkpoints/       one folder per PPO step, whole or absent
//	adapters/          published versions of the policy
//	networks/          recommenders of each round
//	lm/                state of the embedded training server
//	report.json, report.html
//	audit/             what recpie audit found
//
// At most one process works in it at a time.
type RunDir struct {
	path string
	lock *os.File
}

// OpenRunDir creates or takes over the folder. It fails at once when another process holds it.
func OpenRunDir(path string) (*RunDir, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "run directory", err)
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "run directory", err), "choose a writable folder with --run")
	}
	f, err := os.OpenFile(filepath.Join(abs, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fault.New(fault.Fatal, "run directory", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "run directory", "%s is in use by another process", path), "wait for it, or choose another folder with --run")
	}
	return &RunDir{path: abs, lock: f}, nil
}

// Path returns the absolute path of elem inside the folder.
func (d *RunDir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// OpenLog opens run.log to write behind what is there.
func (d *RunDir) OpenLog() (*os.File, error) {
	f, err := os.OpenFile(d.Path("run.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return f, fault.New(fault.Fatal, "run directory", err)
}

// Close lets other processes in.
func (d *RunDir) Close() error { return d.lock.Close() }

// Pin stores content under name, or checks that what is there already is the same. It holds a run to the settings it was begun with.
func (d *RunDir) Pin(name string, content []byte) error {
	have, err := os.ReadFile(d.Path(name))
	switch {
	case errors.Is(err, os.ErrNotExist):
		return durable.WriteFile(d.Path(name), content, 0o644)
	case err != nil:
		return fault.New(fault.Fatal, "run directory", err)
	case !bytes.Equal(have, content):
		return fault.WithHint(fault.Newf(fault.Fatal, "run directory", "%s was begun with another %s: %s", d.path, name, firstDifference(have, content)),
			"choose another folder with --run, or use the settings of the first run")
	}
	return nil
}

func firstDifference(a, b []byte) string {
	la, lb := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(la), len(lb)) {
		if !bytes.Equal(la[i], lb[i]) {
			return fmt.Sprintf("line %d was %.80q and is now %.80q", i+1, bytes.TrimSpace(la[i]), bytes.TrimSpace(lb[i]))
		}
	}
	return "one is longer"
}

// Metrics is the run's metrics.jsonl: append-only, each line synced. A line cut short by a crash is dropped when it is opened again,
// and lines are keyed, so that a step repeated after a crash does not appear twice.
type Metrics struct {
	f    *os.File
	seen map[string]bool
	rows []map[string]any
}

// OpenMetrics reads the lines that are there and goes on behind them.
func (d *RunDir) OpenMetrics() (*Metrics, error) {
	path := d.Path("metrics.jsonl")
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Fatal, "metrics", err)
	}
	m := &Metrics{seen: map[string]bool{}}
	good := 0
	for good < len(b) {
		end := bytes.IndexByte(b[good:], '\n')
		if end < 0 {
			break
		}
		var row map[string]any
		if err := json.Unmarshal(b[good:good+end], &row); err != nil {
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "metrics", "%s is damaged at byte %d: %w", path, good, err), "restore it from a copy, or begin anew with another --run")
		}
		if key, ok := row["key"].(string); ok {
			m.seen[key] = true
		}
		m.rows = append(m.rows, row)
		good += end + 1
	}
	if m.f, err = os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, fault.New(fault.Fatal, "metrics", err)
	}
	if err := m.f.Truncate(int64(good)); err != nil {
		return nil, fault.New(fault.Fatal, "metrics", err)
	}
	if _, err := m.f.Seek(int64(good), 0); err != nil {
		return nil, fault.New(fault.Fatal, "metrics", err)
	}
	return m, nil
}

// Log appends a line unless one with the same key is there. NaN and infinities, which JSON has not, are an error and nothing is
// written: they are kept out of updates, and so of metrics, long before.
func (m *Metrics) Log(key string, values any) error {
	if m.seen[key] {
		return nil
	}
	b, err := json.Marshal(values)
	if err != nil {
		return fault.New(fault.Fatal, "metrics", err)
	}
	row := map[string]any{}
	if err := json.Unmarshal(b, &row); err != nil {
		return fault.New(fault.Fatal, "metrics", err)
	}
	row["key"] = key
	if b, err = json.Marshal(row); err != nil {
		return fault.New(fault.Fatal, "metrics", err)
	}
	if _, err := m.f.Write(append(b, '\n')); err != nil {
		return fault.WithHint(fault.New(fault.Fatal, "metrics", err), "check the free space of the disk")
	}
	if err := m.f.Sync(); err != nil {
		return fault.New(fault.Fatal, "metrics", err)
	}
	m.seen[key] = true
	m.rows = append(m.rows, row)
	return nil
}

// Rows returns the lines whose key begins with prefix, in order.
func (m *Metrics) Rows(prefix string) []map[string]any {
	var out []map[string]any
	for _, r := range m.rows {
		if key, _ := r["key"].(string); len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			out = append(out, r)
		}
	}
	return out
}

// Close closes the file.
func (m *Metrics) Close() error { return m.f.Close() }

// finite makes a number fit for JSON: what is not finite becomes 0 and is counted elsewhere.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}
