package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/config"
	"recpie/policy"
)

// Every number of the policy that is a setting arrives there.
func TestPolicySettingsArrive(t *testing.T) {
	c := config.Default()
	if d := cmp.Diff(policy.DefaultLimits(), ppo(&c).Limits); d != "" {
		t.Errorf("the default limits of the alarms differ: %s", d)
	}
	c.Policy = config.Policy{
		Epochs: 2, Minibatch: 3, Clip: .4, KL: .5, KLTarget: 6, FormatPenalty: 7, LearningRate: 8, ProjectionRate: 9,
		MaxRejected: .1, MaxKL: .2, MaxSamplerGap: .3, MinEntropy: .4, MinUnique: .5,
	}
	want := policy.DefaultSettings()
	want.Epochs, want.Minibatch, want.ClipLow, want.ClipHigh, want.Beta, want.TargetKL = 2, 3, .4, .4, .5, 6
	want.RejectedPenalty, want.LoosePenalty, want.Adapter.LR, want.Projection.LR = 7, 3.5, 8, 9
	want.Limits = policy.Limits{MaxRejected: .1, MaxKL: .2, MaxSamplerGap: .3, MinEntropy: .4, MinUnique: .5}
	if d := cmp.Diff(want, ppo(&c)); d != "" {
		t.Error(d)
	}
}
