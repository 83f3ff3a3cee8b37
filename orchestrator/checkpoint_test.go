package orchestrator

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/policy"
)

func sample(step int) *Checkpoint {
	return &Checkpoint{
		Step: step, Round: 1, Trainer: "recpie://runs/x/weights/step", Version: "policy-v000007-0a1b2c3d",
		Policy:  policy.State{Step: step, Beta: .1 + 1e-17, AdamSteps: 5, Critic: &policy.CriticState{Count: 3, Gram: []float64{1, math.Pi, 1e-300, 4}, Moment: []float64{.1, -0.2}}},
		Metrics: policy.Metrics{Step: step, Texts: 4, Reward: 2. / 3, Quarantined: map[policy.Reason]int{policy.BadLength: 1}},
		Tensors: []policy.Named{{Name: "w", Shape: []int64{2, 2}, Data: []float32{1, -2, 3e-40, math.MaxFloat32}}, {Name: "w.m", Shape: []int64{1}, Data: []float32{.1}}},
	}
}

func TestCheckpointComesBackBitForBit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "checkpoints")
	if c, err := LatestCheckpoint(dir); c != nil || err != nil {
		t.Fatalf("a checkpoint out of nothing: %v, %v", c, err)
	}
	for _, step := range []int{0, 9, 10, 2} {
		if err := SaveCheckpoint(dir, sample(step)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := LatestCheckpoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(sample(10), c); d != "" {
		t.Error(d)
	}
	if err := SaveCheckpoint(dir, sample(9)); err == nil {
		t.Error("a checkpoint was written over")
	}
}

func TestCheckpointIsWholeOrAbsent(t *testing.T) {
	dir := t.TempDir()
	if err := SaveCheckpoint(dir, sample(1)); err != nil {
		t.Fatal(err)
	}
	bad := sample(2)
	bad.Metrics.Reward = math.NaN() // cannot be written
	if err := SaveCheckpoint(dir, bad); err == nil {
		t.Fatal("a number that is none was written")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("a failed save left %v", entries)
	}
	// what a killed process leaves: a folder under its temporary name
	if err := os.CopyFS(filepath.Join(dir, ".step-000003.123"), os.DirFS(filepath.Join(dir, "step-000001"))); err != nil {
		t.Fatal(err)
	}
	if c, err := LatestCheckpoint(dir); err != nil || c.Step != 1 {
		t.Errorf("%v, %v", c, err)
	}
}

func TestDamagedCheckpointIsAnError(t *testing.T) {
	for _, file := range []string{"manifest.json", "projection.safetensors"} {
		for name, damage := range map[string]func(string) error{
			"cut":  func(p string) error { return os.Truncate(p, 20) },
			"gone": os.Remove,
		} {
			dir := t.TempDir()
			for step := range 2 {
				if err := SaveCheckpoint(dir, sample(step)); err != nil {
					t.Fatal(err)
				}
			}
			if err := damage(filepath.Join(dir, checkpointName(1), file)); err != nil {
				t.Fatal(err)
			}
			if c, err := LatestCheckpoint(dir); err == nil {
				t.Errorf("%s %s: taken for step %d", file, name, c.Step)
			}
		}
	}
}

// A run that an alarm ended stays ended: starting it again does not step over the alarm.
func TestStopAlarmHoldsOnResume(t *testing.T) {
	d := openRun(t, t.TempDir())
	c := sample(3)
	c.Metrics.Alarms = []policy.Alarm{{Name: "kl", Value: 90, Limit: 20, Stop: true}}
	if err := SaveCheckpoint(d.Path("checkpoints"), c); err != nil {
		t.Fatal(err)
	}
	l := &Learner{Dir: d}
	if err := l.Begin(t.Context()); err == nil || !strings.Contains(err.Error(), "alarm: kl") {
		t.Errorf("begin after a stop alarm: %v", err)
	}
}
