package orchestrator

import (
	"math"
	"path/filepath"
	"testing"

	"recpie/internal/evaluate"
	"recpie/policy"
)

// Two steps of a round become one line, out of what is in the file: a run that is taken up again writes the same one.
func TestRoundOfThePolicyIsSummedUp(t *testing.T) {
	dir, err := OpenRunDir(filepath.Join(t.TempDir(), "run"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	m, err := dir.OpenMetrics()
	if err != nil {
		t.Fatal(err)
	}
	log := func(key string, v any) {
		t.Helper()
		if err := m.Log(key, v); err != nil {
			t.Fatal(err)
		}
	}
	// rewards of the first step: 0, 1 and a rejected text; of the second: .5, .5, .5, 1.5
	log("step/1", stepLine{1, "v1", policy.Metrics{Step: 1, Texts: 3, Tokens: 6, Reward: .5, RewardSD: math.Sqrt(.5), KL: policy.KL{K1: 1, K2: 2, K3: 3}, Rejected: 1. / 3, Valid: 2. / 3,
		Distinct1: .2, Distinct2: .4, Unique: 1, Longest: 3, Entropy: 1, Samples: []policy.Sample{{Text: "old"}}}})
	log("step/2", stepLine{1, "v2", policy.Metrics{Step: 2, Texts: 4, Tokens: 18, Reward: .75, RewardSD: .5, KL: policy.KL{K1: 8, K2: 9, K3: 10}, Valid: 1,
		Distinct1: .4, Distinct2: .6, Unique: .5, Longest: 9, Entropy: 2, Samples: []policy.Sample{{Text: "new", Valid: true, Reward: .5, Tokens: 4}}, Alarms: []policy.Alarm{{Name: "entropy"}}}})
	log("step/3", stepLine{2, "v3", policy.Metrics{Step: 3, Texts: 100, Tokens: 100, Reward: 9}})
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err = dir.OpenMetrics(); err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range 2 {
		if err := m.logPolicy(1); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.logPolicy(7); err != nil { // a round without steps
		t.Fatal(err)
	}
	l := &Loop{Metrics: m, report: &evaluate.Report{}}
	if err := l.steps(); err != nil {
		t.Fatal(err)
	}
	if len(l.report.Policy) != 1 || len(l.report.Steps) != 3 || len(l.report.Notes) != 1 {
		t.Fatalf("%d rounds, %d steps, notes %v", len(l.report.Policy), len(l.report.Steps), l.report.Notes)
	}
	p := l.report.Policy[0]
	// six rewards 0, 1, .5, .5, .5, 1.5: mean 4/6, squares 4
	for _, c := range []struct {
		what      string
		got, want float64
	}{
		{"steps", float64(p.Steps), 2}, {"texts", float64(p.Texts), 7}, {"reward", p.Reward, 4. / 6}, {"sd", p.RewardSD, math.Sqrt((4 - 16./6) / 5)},
		{"k1", p.KL1, 5}, {"k2", p.KL2, 6}, {"k3", p.KL3, 7}, {"valid", p.Valid, 6. / 7}, {"distinct-1", p.Distinct1, .3}, {"distinct-2", p.Distinct2, .5},
		{"unique", p.Unique, .75}, {"length", p.Length, 24. / 7}, {"longest", float64(p.Longest), 9}, {"entropy", p.Entropy, (6. + 36) / 24},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s is %v, want %v", c.what, c.got, c.want)
		}
	}
	if len(p.Samples) != 1 || p.Samples[0] != (evaluate.PolicyText{Text: "new", Valid: true, Reward: .5, Tokens: 4}) {
		t.Errorf("samples %+v", p.Samples)
	}
}
