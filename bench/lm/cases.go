package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"recpie/internal/lm"
)

// benchCase is one load: how to run it here, and what to ask the peers.
type benchCase struct {
	name    string
	run     func() (answer, error)
	request any
}

const (
	promptTokens = 160
	newTokens    = 32
)

type generation struct {
	Prompts [][]int32 `json:"prompts"`
	New     int       `json:"new"`
}

type updating struct {
	Prompts    [][]int32   `json:"prompts"` // prompt and completion
	First      int         `json:"first"`   // the completion's first token
	Advantages []float32   `json:"advantages"`
	Logprobs   [][]float32 `json:"logprobs"`
	Minibatch  int         `json:"minibatch"`
}

func cases(b *lm.Bundle, kind string, threads int) []benchCase {
	rng := rand.New(rand.NewPCG(7, 7))
	if kind == "update" {
		return updates(b, rng, threads)
	}
	var out []benchCase
	for _, c := range []struct {
		name    string
		prompts func() [][]int32
	}{
		{"batch 1", func() [][]int32 { return apart(rng, b, 1) }},
		{"batch 16", func() [][]int32 { return apart(rng, b, 16) }},
		{"batch 64", func() [][]int32 { return apart(rng, b, 64) }},
		{"explanations", func() [][]int32 { return explanations(rng, b, 16, 8) }},
	} {
		g := generation{Prompts: c.prompts(), New: newTokens}
		out = append(out, benchCase{name: c.name, request: g, run: func() (answer, error) { return generate(b, g, threads) }})
	}
	return out
}

// apart are prompts with nothing in common.
func apart(rng *rand.Rand, b *lm.Bundle, n int) [][]int32 {
	out := make([][]int32, n)
	for i := range out {
		out[i] = ids(rng, b, promptTokens)
	}
	return out
}

// explanations is the load of batch explanation: every user's history once per candidate and polarity, the polarity last.
func explanations(rng *rand.Rand, b *lm.Bundle, users, candidates int) (out [][]int32) {
	instruction := ids(rng, b, 16)
	polarity := [2][]int32{ids(rng, b, 4), ids(rng, b, 4)}
	for range users {
		history := ids(rng, b, 110)
		for range candidates {
			candidate := ids(rng, b, promptTokens-16-110-4)
			for _, p := range polarity {
				out = append(out, join(instruction, history, candidate, p))
			}
		}
	}
	return out
}

func ids(rng *rand.Rand, b *lm.Bundle, n int) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = 3 + rng.Int32N(int32(b.Model.Cfg.VocabSize)-3)
	}
	return out
}

func join(parts ...[]int32) (out []int32) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// generate asks a fresh engine for all prompts at once: nothing is left from an earlier turn.
func generate(b *lm.Bundle, g generation, threads int) (answer, error) {
	e := lm.NewEngine(b, lm.EngineOptions{Workers: threads})
	defer e.Close()
	errs := make([]error, len(g.Prompts))
	tokens := make([]int, len(g.Prompts))
	start := time.Now()
	var wg sync.WaitGroup
	for i, p := range g.Prompts {
		wg.Go(func() {
			var res *lm.GenResult
			res, errs[i] = e.Generate(context.Background(), &lm.GenRequest{Prompt: p, MaxTokens: g.New, Temperature: 1, IgnoreEOS: true, Logprobs: -1, PromptLogprobs: -1})
			if errs[i] == nil {
				tokens[i] = len(res.Choices[0].Tokens)
			}
		})
	}
	wg.Wait()
	a := answer{Seconds: time.Since(start).Seconds()}
	for _, n := range tokens {
		a.Tokens += n
	}
	return a, errors.Join(errs...)
}

// updates are PPO steps on texts of their own prompts, and on four texts of each prompt, as a step of training has them.
func updates(b *lm.Bundle, rng *rand.Rand, threads int) (out []benchCase) {
	for _, c := range []struct {
		name   string
		prompt int // texts per prompt
	}{{"PPO, 64 prompts", 1}, {"PPO, 16 prompts × 4 texts", 4}} {
		u := updating{First: promptTokens, Minibatch: 16}
		for range 64 / c.prompt {
			p := ids(rng, b, promptTokens)
			for range c.prompt {
				u.Prompts = append(u.Prompts, join(p, ids(rng, b, newTokens)))
				u.Advantages = append(u.Advantages, float32(rng.NormFloat64()))
				old := make([]float32, newTokens)
				for i := range old {
					old[i] = -9
				}
				u.Logprobs = append(u.Logprobs, old)
			}
		}
		out = append(out, benchCase{name: c.name, request: u, run: func() (answer, error) { return update(b, u, threads) }})
	}
	return out
}

// update is one optimizer step over all texts, as the training API makes it.
func update(b *lm.Bundle, u updating, threads int) (a answer, err error) {
	tr, err := lm.NewTrainer(b, lm.LoRAConfig{Rank: 16, Attn: true}, lm.TrainerOptions{Workers: threads})
	if err != nil {
		return a, err
	}
	defer tr.Close()
	data := make([]lm.Datum, len(u.Prompts))
	for i, seq := range u.Prompts {
		n := len(seq) - 1
		d := lm.Datum{Tokens: seq[:n], Targets: make([]int64, n), Logprobs: make([]float32, n), Advantages: make([]float32, n)}
		for k := range n {
			d.Targets[k] = int64(seq[k+1])
			if k >= u.First-1 {
				d.Logprobs[k], d.Advantages[k] = u.Logprobs[i][k-u.First+1], u.Advantages[i]
			}
		}
		data[i] = d
		a.Tokens += len(seq)
	}
	start := time.Now()
	if _, err := tr.ForwardBackward(context.Background(), data, "ppo", map[string]float64{"logprobs_only_weighted": 1}, false); err != nil {
		return a, err
	}
	if _, err := tr.OptimStep(lm.AdamParams{LearningRate: 1e-5, Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}); err != nil {
		return a, err
	}
	a.Seconds = time.Since(start).Seconds()
	return a, nil
}
