package orchestrator

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"recpie/adapters"
	"recpie/clients/training"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/policy"
)

// shaky makes trainers whose next saves fail. A made trainer is noted as "new", a restored one by the path it came from.
type shaky struct {
	soft  bool // soft rows are trained
	made  []string
	fails []error
	saves int
}

func (s *shaky) Create(context.Context) (Trainer, error) { return s.trainer("new") }

func (s *shaky) Restore(_ context.Context, path string) (Trainer, error) { return s.trainer(path) }

func (s *shaky) trainer(from string) (Trainer, error) {
	s.made = append(s.made, from)
	return &shakyTrainer{shaky: s}, nil
}

type shakyTrainer struct {
	policy.Trainer // passes and steps are not made here
	shaky          *shaky
}

func (t *shakyTrainer) Info(context.Context) (ModelInfo, error) {
	return ModelInfo{Hidden: 4, Vocabulary: 100, Norm: 1, PromptEmbeds: t.shaky.soft}, nil
}

func (t *shakyTrainer) SaveState(_ context.Context, name string) (string, error) {
	if len(t.shaky.fails) > 0 {
		err := t.shaky.fails[0]
		t.shaky.fails = t.shaky.fails[1:]
		return "", err
	}
	t.shaky.saves++
	return "saved " + name, nil
}

func (t *shakyTrainer) Export(_ context.Context, _, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, adapters.ConfigFile), []byte(`{"peft_type":"LORA","r":1}`), 0o644); err != nil {
		return err
	}
	b := float32(t.shaky.saves) // other weights in every version
	return safetensors.WriteFile(filepath.Join(dir, adapters.WeightsFile), nil, []safetensors.Tensor{
		safetensors.F32("base_model.model.q_proj.lora_A.weight", []int64{1, 2}, []float32{1, 2}), safetensors.F32("base_model.model.q_proj.lora_B.weight", []int64{2, 1}, []float32{b, 1})})
}

// replica answers another canary for every version.
type replica struct{}

func (replica) Load(context.Context, string, string) error { return nil }
func (replica) Unload(context.Context, string) error       { return nil }
func (replica) Canary(_ context.Context, name string) ([]float64, error) {
	sum := 0.
	for i, c := range name {
		sum -= float64(i+1) * float64(c) / 1000
	}
	return []float64{sum}, nil
}

// A request of unknown fate takes the learner back to the checkpoint before the step, to a new adapter where there is none; other
// errors do not, and a server that loses answers for ever ends the run.
func TestAmbiguousRequestGoesBackToTheCheckpoint(t *testing.T) {
	lost := fault.New(fault.Endpoint, "save", training.ErrAmbiguous)
	dir := openRun(t, t.TempDir())
	versions, err := adapters.OpenStore(filepath.Join(t.TempDir(), "adapters"))
	if err != nil {
		t.Fatal(err)
	}
	publisher, err := adapters.NewPublisher(adapters.PublishSettings{ServerDir: "/adapters"}, []adapters.Replica{replica{}})
	if err != nil {
		t.Fatal(err)
	}
	s := &shaky{}
	l := &Learner{Dir: dir, Trainers: s, Versions: versions, Publish: publisher, Rollouts: &Rollouts{Work: workspace(t, restaurants(t))},
		Set: PolicySettings{PPO: policy.DefaultSettings()}}
	if err := l.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.prepare(); err != nil {
		t.Fatal(err)
	}
	other := errors.New("disk full")
	for _, tc := range []struct {
		fails []error
		made  []string
		want  error
	}{
		{[]error{lost}, []string{"new", "new"}, nil}, // before the first checkpoint
		{[]error{lost, lost}, []string{"saved step-000000", "saved step-000000"}, nil},
		{[]error{other}, nil, other},
		{[]error{lost, lost, lost, lost, lost}, []string{"saved step-000001", "saved step-000001", "saved step-000001"}, training.ErrAmbiguous},
	} {
		s.fails = tc.fails
		before := l.trainer
		_, err := l.advance(t.Context(), l.at.Round+1, 0, nil)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%v: %v", tc.fails, err)
		}
		if !slices.Equal(s.made, tc.made) {
			t.Errorf("%v: trainers from %q, want %q", tc.fails, s.made, tc.made)
		}
		if (l.trainer == before) != (tc.want == other) || l.optimizer == nil {
			t.Errorf("%v: the trainer that goes on is not the restored one", tc.fails)
		}
		s.made = nil
	}
}

func TestVocabularyThatIsNotTold(t *testing.T) {
	l := &Learner{Rollouts: &Rollouts{}, Set: PolicySettings{Soft: true}}
	if err := l.know(ModelInfo{}); fault.ClassOf(err) != fault.Fatal || err == nil || fault.HintOf(err) == "" {
		t.Errorf("soft prompts without a vocabulary: %v", err)
	}
	only := &Learner{Rollouts: &Rollouts{}, Set: PolicySettings{Soft: true, SoftOnly: true}}
	if err := only.know(ModelInfo{Vocabulary: 50}); err == nil || fault.HintOf(err) == "" {
		t.Errorf("soft prompts alone at a server that takes none: %v", err)
	}
	if err := only.know(ModelInfo{Vocabulary: 50, PromptEmbeds: true}); err != nil || !only.Set.Soft || only.Frozen() == "" {
		t.Errorf("%v, %q", err, only.Frozen())
	}
	if err := l.know(ModelInfo{Vocabulary: 50}); err != nil || l.Rollouts.Vocabulary != 50 || l.Set.Soft || l.Frozen() == "" {
		t.Errorf("%v, %d, %t, %q", err, l.Rollouts.Vocabulary, l.Set.Soft, l.Frozen())
	}
	l = &Learner{Rollouts: &Rollouts{}}
	if err := l.know(ModelInfo{}); err != nil || l.Rollouts.Vocabulary != math.MaxInt32 || l.Frozen() != "" {
		t.Errorf("%v, %d, %q", err, l.Rollouts.Vocabulary, l.Frozen())
	}
}
