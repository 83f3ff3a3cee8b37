package policy

import (
	"fmt"

	"recpie/internal/fault"
)

// Settings are the numbers of PPO. The paper prints none; these are our choices.
type Settings struct {
	Epochs    int     // passes over the batch per step
	Minibatch int     // texts per optimiser step
	ClipLow   float64 // the ratio π/π_old is cut below 1−ClipLow …
	ClipHigh  float64 // … and above 1+ClipHigh

	MaxAdvantage    float64 // clip of scaled advantages
	RejectedPenalty float64 // for texts without a usable sentence, in scaled units
	LoosePenalty    float64 // for usable sentences outside the asked format

	Beta     float64 // first KL coefficient
	BetaMin  float64
	BetaMax  float64
	BetaRate float64 // how fast β follows the KL, 0: constant
	TargetKL float64 // nats per sequence; an update stops early above twice this; 0: neither

	Adapter    AdamStep // the adapter, on the server
	Projection AdamStep // the soft-prompt projection, here

	VocabSize   int32 // prompt ids from here on are markers of soft rows
	Placeholder int32 // any valid id, stands for a marker in training data
	Seed        uint64

	Limits Limits
}

// DefaultSettings returns 4 epochs over minibatches of 16, ε = .2, β = .05 steered to 6 nats per sequence, Adam at 1e-5 for the adapter and 1e-3 for the projection.
// VocabSize must be set by the caller.
func DefaultSettings() Settings {
	adam := AdamStep{LR: 1e-5, Beta1: .9, Beta2: .999, Eps: 1e-8, ClipNorm: 1}
	soft := adam
	soft.LR = 1e-3
	return Settings{
		Epochs: 4, Minibatch: 16, ClipLow: .2, ClipHigh: .2,
		MaxAdvantage: 5, RejectedPenalty: .5, LoosePenalty: .25,
		Beta: .05, BetaMin: .01, BetaMax: 10, BetaRate: .2, TargetKL: 6,
		Adapter: adam, Projection: soft,
		Limits: DefaultLimits(),
	}
}

// Validate names the first setting that makes no sense.
func (s Settings) Validate() error {
	for _, c := range []struct {
		ok   bool
		what string
	}{
		{s.Epochs >= 1, "epochs must be at least 1"},
		{s.Minibatch >= 1, "minibatch must be at least 1"},
		{s.ClipLow > 0 && s.ClipLow < 1 && s.ClipHigh > 0, "clip_low must lie in (0,1) and clip_high be positive"},
		{s.MaxAdvantage > 0, "max_advantage must be positive"},
		{s.RejectedPenalty >= 0 && s.LoosePenalty >= 0, "penalties must not be negative"},
		{s.Beta >= 0 && finite(s.Beta), "beta must be finite and not negative"},
		{s.TargetKL <= 0 || s.BetaMin >= 0 && s.BetaMin <= s.BetaMax, "beta_min must not exceed beta_max"},
		{s.Adapter.LR >= 0 && s.Projection.LR >= 0, "learning rates must not be negative"},
		{s.VocabSize > 0, "vocabulary size must be known"},
		{s.Placeholder >= 0 && s.Placeholder < s.VocabSize, "the placeholder must be an id of the vocabulary"},
	} {
		if !c.ok {
			return fault.New(fault.Fatal, "policy: settings", fmt.Errorf("%s", c.what))
		}
	}
	return nil
}
