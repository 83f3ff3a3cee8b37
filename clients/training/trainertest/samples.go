package trainertest

import (
	"math"
	"slices"
	"testing"

	"recpie/clients/training"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// samples: the sampler agrees with the trainer, and whatever is sampled, the weights in training stay what they are.
func (s Server) samples(t *testing.T) {
	session := s.dial(t, nil)
	m := s.model(t, session)
	data := sampled(texts(), forward(t, m, texts()))
	snapshot := func(name string) string {
		t.Helper()
		p, err := m.SaveWeightsForSampler(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		saved, err := p.Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return saved.Path
	}
	first := snapshot("first")
	train(t, m, data)
	now := forward(t, m, texts())
	second := snapshot("second")

	text := texts()[0]
	prompt := append(slices.Clone(text.Tokens), int32(text.Targets[len(text.Targets)-1]))
	seed := int64(5)
	set := training.Sampling{Samples: 2, MaxTokens: 4, Temperature: 1, Seed: &seed, PromptLogprobs: true}
	fresh, err := session.Sampler(t.Context(), second)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fresh.Sample(t.Context(), prompt, set)
	if err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(float64(got.PromptLogprobs[0])) {
		t.Errorf("the first token has log-probability %v", got.PromptLogprobs[0])
	}
	near(t, "the sampler's log-probabilities", got.PromptLogprobs[1:], now[0], 1e-3)
	for i, q := range got.Sequences {
		full := slices.Concat(prompt, q.Tokens)
		d := training.Datum{Tokens: full[:len(full)-1]}
		for _, id := range full[1:] {
			d.Targets = append(d.Targets, int64(id))
		}
		lp := forward(t, m, []training.Datum{d})[0]
		near(t, "log-probabilities of what was sampled", q.Logprobs, lp[len(prompt)-1:], 1e-3)
		if q.Cut != (len(q.Tokens) == set.MaxTokens) {
			t.Errorf("sequence %d: cut is %v after %d tokens", i, q.Cut, len(q.Tokens))
		}
	}

	old, err := session.Sampler(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	before, err := old.Sample(t.Context(), prompt, set)
	switch {
	case session.Traits().SharedSlot:
		if err == nil || fault.ClassOf(err) != fault.Item || fault.HintOf(err) == "" {
			t.Errorf("an old snapshot on a server where it replaces the weights in training: %v", err)
		}
	case err != nil:
		t.Fatal(err)
	default:
		if slices.Equal(before.PromptLogprobs[1:], got.PromptLogprobs[1:]) {
			t.Error("the old snapshot has followed the training")
		}
	}
	near(t, "the weights in training after samples", slices.Concat(forward(t, m, texts())...), slices.Concat(now...), 1e-6)

	base, err := session.BaseSampler(t.Context(), s.Base)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := base.Sample(t.Context(), prompt, training.Sampling{Samples: 1, MaxTokens: 2, Seed: &seed, PromptLogprobs: true})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(plain.PromptLogprobs[1:], got.PromptLogprobs[1:]) {
		t.Error("the base model samples as the trained one")
	}
	if _, err := session.Sampler(t.Context(), "tinker://"+m.ID()+"/"+tinker.KindWeights+"/x"); fault.ClassOf(err) != fault.Item || err == nil {
		t.Errorf("a sampler of a training state: %v", err)
	}
}
