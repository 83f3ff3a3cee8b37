package orchestrator

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/policy"
)

// Checkpoint is the state after one whole PPO step. Its folder holds manifest.json and projection.safetensors and appears whole or
// not at all; what it names elsewhere (the trainer's state, the adapter version) was durable before it appeared.
type Checkpoint struct {
	Step    int            `json:"step"`    // steps done, over all rounds, from 1
	Round   int            `json:"round"`   // from 1
	Trainer string         `json:"trainer"` // path of weights and optimizer moments at the training server
	Version string         `json:"version"` // adapter version that samples the next step
	Policy  policy.State   `json:"policy"`  // KL coefficient, critic, counters
	Metrics policy.Metrics `json:"metrics"` // of the step

	Tensors []policy.Named `json:"-"` // projection and its moments
}

func checkpointName(step int) string { return fmt.Sprintf("step-%06d", step) }

// SaveCheckpoint writes c below dir.
func SaveCheckpoint(dir string, c *Checkpoint) error {
	return durable.ReplaceDir(filepath.Join(dir, checkpointName(c.Step)), func(tmp string) error {
		var ts []safetensors.Tensor
		for _, t := range c.Tensors {
			ts = append(ts, safetensors.F32(t.Name, t.Shape, t.Data))
		}
		if err := safetensors.WriteFile(filepath.Join(tmp, "projection.safetensors"), nil, ts); err != nil {
			return err
		}
		b, err := json.MarshalIndent(c, "", "  ")
		if err != nil {
			return fault.New(fault.Fatal, "checkpoint", err)
		}
		return os.WriteFile(filepath.Join(tmp, "manifest.json"), b, 0o644)
	})
}

// sweepCheckpoints removes folders that were never finished.
func sweepCheckpoints(dir string) error {
	partial, err := filepath.Glob(filepath.Join(dir, ".step-*"))
	if err != nil {
		return fault.New(fault.Fatal, "checkpoint", err)
	}
	for _, p := range partial {
		if err := os.RemoveAll(p); err != nil {
			return fault.New(fault.Fatal, "checkpoint", err)
		}
	}
	return nil
}

// checkpoints lists the folders of whole checkpoints below dir, the oldest first.
func checkpoints(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir) // by name, which holds the step
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Fatal, "checkpoint", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "step-") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// LatestCheckpoint returns the last whole checkpoint below dir, nil when there is none.
func LatestCheckpoint(dir string) (*Checkpoint, error) {
	names, err := checkpoints(dir)
	if err != nil || len(names) == 0 {
		return nil, err
	}
	return loadCheckpoint(filepath.Join(dir, names[len(names)-1]))
}

// readCheckpoint reads a checkpoint without its tensors.
func readCheckpoint(dir string) (*Checkpoint, error) {
	b, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return nil, fault.New(fault.Fatal, "checkpoint", err)
	}
	c := &Checkpoint{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fault.Newf(fault.Fatal, "checkpoint", "%s: %w", dir, err)
	}
	return c, nil
}

func loadCheckpoint(dir string) (*Checkpoint, error) {
	c, err := readCheckpoint(dir)
	if err != nil {
		return nil, err
	}
	f, err := safetensors.Open(filepath.Join(dir, "projection.safetensors"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, name := range f.Names() {
		data, shape, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		c.Tensors = append(c.Tensors, policy.Named{Name: name, Shape: shape, Data: data})
	}
	return c, nil
}
