package orchestrator

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"recpie/adapters"
	"recpie/internal/fault"
	"recpie/policy"
)

// With soft prompts alone a version has no adapter, the base model writes, and the run does not go on with adapters, nor the other way round.
func TestSoftPromptsAlone(t *testing.T) {
	w := workspace(t, restaurants(t))
	for _, softOnly := range []bool{true, false} {
		dir := openRun(t, t.TempDir())
		versions, err := adapters.OpenStore(filepath.Join(t.TempDir(), "adapters"))
		if err != nil {
			t.Fatal(err)
		}
		begin := func(softOnly bool) (*Learner, error) {
			publisher, err := adapters.NewPublisher(adapters.PublishSettings{ServerDir: "/adapters"}, []adapters.Replica{replica{}})
			if err != nil {
				t.Fatal(err)
			}
			l := &Learner{Dir: dir, Trainers: &shaky{soft: true}, Versions: versions, Publish: publisher, Rollouts: &Rollouts{Work: w, Base: "base"},
				Set: PolicySettings{PPO: policy.DefaultSettings(), Soft: true, SoftOnly: softOnly}}
			return l, l.Begin(t.Context())
		}
		l, err := begin(softOnly)
		if err != nil {
			t.Fatal(err)
		}
		l.table, l.dim = make([]float32, 2*len(w.Data.Users)), 2
		if err := l.prepare(); err != nil {
			t.Fatal(err)
		}
		if err := l.keep(t.Context(), 1, 0, policy.Metrics{}); err != nil {
			t.Fatal(err)
		}
		asked := 0
		l.Serve = func(_ context.Context, v *adapters.Version) error {
			if asked++; v != l.version {
				t.Errorf("asked for %s", v.Name)
			}
			return nil
		}
		a, want := l.Author(), l.version.Name
		if softOnly {
			want = "base"
		}
		if l.version.HasAdapter() == softOnly || a.Model != want || a.Soft == nil || a.Ready == nil || a.Ready(t.Context()) != nil || asked != 1 {
			t.Errorf("soft alone %v: adapter %v, written by %s, asked %d times", softOnly, l.version.HasAdapter(), a.Model, asked)
		}
		if strings.Contains(l.Frozen(), "soft_prompt") != softOnly {
			t.Errorf("the report says %q", l.Frozen())
		}
		if _, err := begin(softOnly); err != nil {
			t.Errorf("it does not go on: %v", err)
		}
		if _, err := begin(!softOnly); err == nil || fault.ClassOf(err) != fault.Fatal || !strings.Contains(fault.HintOf(err), "policy.path") {
			t.Errorf("it goes on otherwise: %v", err)
		}
	}
}
