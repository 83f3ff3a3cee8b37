package lm

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"recpie/internal/fault"

	"github.com/google/go-cmp/cmp"
)

// requests makes prompts of several lengths, half of them with common beginnings, some with soft rows.
func requests(b *Bundle, n int, change func(i int, r *GenRequest)) []*GenRequest {
	rng := rand.New(rand.NewPCG(11, 12))
	cfg := b.Model.Cfg
	shared := randomIDs(rng, 70, cfg.VocabSize)
	rows := randomRows(rng, 2*cfg.HiddenSize)
	var out []*GenRequest
	for i := range n {
		r := &GenRequest{MaxTokens: 6 + i%7, Temperature: 1, Logprobs: 2, PromptLogprobs: -1, N: 1 + i%2, Seed: new(int64)}
		*r.Seed = int64(i)
		if i%2 == 0 {
			r.Prompt = append(r.Prompt, shared[:60+i%10]...)
		}
		r.Prompt = append(r.Prompt, randomIDs(rng, 3+i, cfg.VocabSize)...)
		if i%3 == 0 {
			r.Prompt[1], r.Prompt[2] = int32(cfg.VocabSize), int32(cfg.VocabSize)
			r.Soft = []SoftRows{{1, 2, rows}}
		}
		change(i, r)
		out = append(out, r)
	}
	return out
}

// together sends all requests at once.
func together(t *testing.T, e *Engine, rs []*GenRequest) []*GenResult {
	t.Helper()
	out := make([]*GenResult, len(rs))
	var wg sync.WaitGroup
	for i, r := range rs {
		wg.Go(func() {
			res, err := e.Generate(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			out[i] = res
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return out
}

func sameChoices(t *testing.T, what string, got, want []*GenResult) {
	t.Helper()
	for i := range want {
		for n := range want[i].Choices {
			g, w := got[i].Choices[n], want[i].Choices[n]
			if d := cmp.Diff(w.Tokens, g.Tokens); d != "" {
				t.Fatalf("%s: request %d choice %d differs:\n%s", what, i, n, d)
			}
			for k := range w.Logprobs {
				near(t, what, float64(g.Logprobs[k]), float64(w.Logprobs[k]), 2e-5)
			}
		}
	}
}

// Sampled and greedy answers must not depend on batch mates, on prefix sharing or on compaction.
func TestAnswersDoNotDependOnTheBatch(t *testing.T) {
	every(t, 1, func(t *testing.T, b *Bundle) {
		for name, change := range map[string]func(int, *GenRequest){
			"sampled": func(int, *GenRequest) {},
			"greedy":  func(_ int, r *GenRequest) { r.Temperature, r.N = 0, 1 },
			"nucleus": func(_ int, r *GenRequest) { r.TopP, r.TopK, r.Temperature = .8, 9, .7 },
			"ends":    func(i int, r *GenRequest) { r.StopIDs = []int32{1, 2, 3, int32(i)} },
		} {
			t.Run(name, func(t *testing.T) {
				rs := requests(b, 14, change)
				alone := engine(t, b, EngineOptions{MaxBatch: 1, NoSharing: true})
				var want []*GenResult
				for _, r := range rs {
					want = append(want, generate(t, alone, r))
				}
				shared := engine(t, b, EngineOptions{})
				sameChoices(t, "shared", together(t, shared, rs), want)
				plain := engine(t, b, EngineOptions{NoSharing: true, MaxBatch: 5})
				sameChoices(t, "not shared", together(t, plain, rs), want)
				cached := int64(0)
				again := engine(t, b, EngineOptions{})
				for _, res := range together(t, again, rs) {
					cached += int64(res.CachedTokens)
				}
				if s := again.Stats(); cached != s.PromptTokensSent-s.PromptTokensComputed {
					t.Errorf("%d positions reported as cached, %d sent, %d computed", cached, s.PromptTokensSent, s.PromptTokensComputed)
				}
				if s, p := shared.Stats(), plain.Stats(); s.PromptTokensComputed >= p.PromptTokensComputed || s.PromptTokensSent != p.PromptTokensSent {
					t.Errorf("sharing computed %d of %d positions, without it %d", s.PromptTokensComputed, s.PromptTokensSent, p.PromptTokensComputed)
				}
			})
		}
	})
}

// Log probabilities along a sampled continuation must be those of one full forward pass over prompt and continuation.
func TestCachedDecodingEqualsFullForward(t *testing.T) {
	every(t, 2, func(t *testing.T, b *Bundle) {
		e := engine(t, b, EngineOptions{})
		rs := requests(b, 9, func(_ int, r *GenRequest) {})
		for i, res := range together(t, e, rs) {
			for _, c := range res.Choices {
				table := newSoftTable(b.Model.Cfg.HiddenSize)
				keys := promptKeys(rs[i], table)
				for _, id := range c.Tokens {
					keys = append(keys, int64(id))
				}
				ref := reference(t, b, nil, keys, table.data)
				for k, id := range c.Tokens {
					near(t, "cached log probability", float64(c.Logprobs[k]), float64(ref[len(rs[i].Prompt)+k-1][id]), 2e-5)
				}
			}
		}
	})
}

func TestSeeds(t *testing.T) {
	b := tiny(t, 3)
	e := engine(t, b, EngineOptions{})
	seed := func(n int64) *GenRequest {
		return &GenRequest{Prompt: []int32{1, 2, 3}, N: 3, MaxTokens: 20, Temperature: 1, Seed: &n, Logprobs: -1, PromptLogprobs: -1}
	}
	a, a2, c := generate(t, e, seed(5)), generate(t, e, seed(5)), generate(t, e, seed(6))
	if d := cmp.Diff(a.Choices, a2.Choices); d != "" {
		t.Errorf("the same seed gave another answer:\n%s", d)
	}
	if cmp.Equal(a.Choices[0].Tokens, c.Choices[0].Tokens) || cmp.Equal(a.Choices[0].Tokens, a.Choices[1].Tokens) {
		t.Error("seeds or choices repeat each other")
	}
}

func TestPromptScores(t *testing.T) {
	every(t, 4, func(t *testing.T, b *Bundle) {
		e := engine(t, b, EngineOptions{})
		prompt := []int32{3, 1, 4, 1, 5, 9, 2, 6}
		ref := reference(t, b, nil, promptKeys(&GenRequest{Prompt: prompt}, newSoftTable(16)), nil)
		res := generate(t, e, &GenRequest{Prompt: prompt, PromptLogprobs: 3, Logprobs: -1})
		if len(res.Choices) != 0 || len(res.PromptLogprobs) != len(prompt) {
			t.Fatalf("%d choices, %d scores", len(res.Choices), len(res.PromptLogprobs))
		}
		if p := res.PromptLogprobs[0]; p.Rank != 0 || !math.IsNaN(float64(p.Logprob)) {
			t.Errorf("the first entry should be undefined: %+v", p)
		}
		for i := 1; i < len(prompt); i++ {
			p := res.PromptLogprobs[i]
			near(t, "prompt score", float64(p.Logprob), float64(ref[i-1][prompt[i]]), 1e-5)
			if p.Rank != rankOf(ref[i-1], prompt[i]) || res.PromptTop[i][0] != p || len(res.PromptTop[i]) < 3 {
				t.Errorf("position %d: %+v, alternatives %+v", i, p, res.PromptTop[i])
			}
		}
		late := generate(t, e, &GenRequest{Prompt: prompt, PromptLogprobs: 0, PromptFrom: 6, MaxTokens: 2, Logprobs: -1})
		if late.PromptLogprobs[5].Rank != 0 || late.PromptLogprobs[6].Rank != res.PromptLogprobs[6].Rank || len(late.Choices[0].Tokens) != 2 {
			t.Errorf("scores from 6 on: %+v", late.PromptLogprobs)
		}
	})
}

func TestLimitsAndRefusals(t *testing.T) {
	b := tiny(t, 5)
	b.EOS = 0
	e := engine(t, b, EngineOptions{})
	v := int32(b.Model.Cfg.VocabSize)
	long := make([]int32, b.MaxLen+1)
	for name, r := range map[string]*GenRequest{
		"empty":           {MaxTokens: 1},
		"outside":         {Prompt: []int32{v + 1}, MaxTokens: 1},
		"bare marker":     {Prompt: []int32{v}, MaxTokens: 1},
		"rows, no marker": {Prompt: []int32{1}, Soft: []SoftRows{{0, 1, make([]float32, 16)}}, MaxTokens: 1},
		"narrow rows":     {Prompt: []int32{v}, Soft: []SoftRows{{0, 1, make([]float32, 15)}}, MaxTokens: 1},
		"far rows":        {Prompt: []int32{v}, Soft: []SoftRows{{math.MaxInt, 1, make([]float32, 16)}}, MaxTokens: 1},
		"NaN rows":        {Prompt: []int32{v}, Soft: []SoftRows{{0, 1, append(make([]float32, 15), float32(math.NaN()))}}, MaxTokens: 1},
		"temperature":     {Prompt: []int32{1}, Temperature: math.NaN(), MaxTokens: 1},
		"top-p":           {Prompt: []int32{1}, TopP: 1.5, MaxTokens: 1},
		"nothing asked":   {Prompt: []int32{1}, PromptLogprobs: -1},
		"stop id":         {Prompt: []int32{1}, MaxTokens: 1, StopIDs: []int32{v}},
		"no tokenizer":    {Prompt: []int32{1}, MaxTokens: 1, Stop: []string{"x"}},
		"adapter":         {Prompt: []int32{1}, MaxTokens: 1, Adapter: "nobody"},
		"too long":        {Prompt: long, MaxTokens: 1},
		"full":            {Prompt: long[:b.MaxLen], MaxTokens: 1},
	} {
		if _, err := e.Generate(t.Context(), r); err == nil || fault.ClassOf(err) != fault.Item {
			t.Errorf("%s: error %v of class %v, want item", name, err, fault.ClassOf(err))
		}
	}
	if _, err := e.Generate(t.Context(), &GenRequest{Prompt: long, MaxTokens: 1}); !errors.Is(err, ErrTooLong) {
		t.Errorf("a long prompt gives %v", err)
	}
	cut := generate(t, e, &GenRequest{Prompt: long[:b.MaxLen-3], MaxTokens: 50, IgnoreEOS: true, Logprobs: -1, PromptLogprobs: -1})
	if c := cut.Choices[0]; len(c.Tokens) != 3 || c.FinishReason != "length" {
		t.Errorf("near the limit: %d tokens, %s", len(c.Tokens), c.FinishReason)
	}
	all := make([]int32, 0, v)
	for id := int32(1); id < v; id++ {
		all = append(all, id)
	}
	held := generate(t, e, &GenRequest{Prompt: []int32{1}, MaxTokens: 9, MinTokens: 4, StopIDs: all, IgnoreEOS: true, Temperature: 1, Logprobs: -1, PromptLogprobs: -1})
	if c := held.Choices[0]; len(c.Tokens) < 5 || c.FinishReason != "stop" {
		t.Errorf("min_tokens 4 with every id but one an end: %d tokens, %s", len(c.Tokens), c.FinishReason)
	}
}

func TestCancelledAndClosed(t *testing.T) {
	b := tiny(t, 6)
	e := NewEngine(b, EngineOptions{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := &GenRequest{Prompt: []int32{1}, MaxTokens: 100, Logprobs: -1, PromptLogprobs: -1}
	if _, err := e.Generate(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	// Cancelled while decoding: the caller is answered at once, its neighbour is not disturbed.
	busy, drop := context.WithCancel(t.Context())
	long := &GenRequest{Prompt: []int32{1}, MaxTokens: 150, N: 40, Temperature: 1, Logprobs: -1, PromptLogprobs: -1}
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := e.Generate(busy, long); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled while decoding: %v", err)
		}
	})
	wg.Go(func() {
		res, err := e.Generate(t.Context(), r)
		if err != nil || len(res.Choices[0].Tokens) != 100 {
			t.Errorf("the neighbour: %v", err)
		}
	})
	for e.Stats().Batches < 1 {
		runtime.Gosched()
	}
	drop()
	wg.Wait()
	generate(t, e, r) // the engine goes on
	e.Close()
	e.Close()
	if _, err := e.Generate(t.Context(), r); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// When every prompt begins alike, the common level has no position of its own to answer.
func TestOneHistoryForAll(t *testing.T) {
	every(t, 2, func(t *testing.T, b *Bundle) {
		rng := rand.New(rand.NewPCG(1, 1))
		history := randomIDs(rng, 80, b.Model.Cfg.VocabSize)
		var rs []*GenRequest
		for range 6 {
			rs = append(rs, &GenRequest{Prompt: append(slices.Clone(history), randomIDs(rng, 4, b.Model.Cfg.VocabSize)...), MaxTokens: 5, Logprobs: 0, PromptLogprobs: -1})
		}
		alone, shared := engine(t, b, EngineOptions{MaxBatch: 1, NoSharing: true}), engine(t, b, EngineOptions{Gather: 50 * time.Millisecond})
		var want []*GenResult
		for _, r := range rs {
			want = append(want, generate(t, alone, r))
		}
		sameChoices(t, "shared", together(t, shared, rs), want)
		if n := shared.Stats().PromptTokensComputed; n > 80+6*4 {
			t.Errorf("%d positions computed", n)
		}
		tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
		var data []Datum
		for _, r := range rs {
			d := Datum{Tokens: r.Prompt, Targets: make([]int64, len(r.Prompt)), Weights: make([]float32, len(r.Prompt))}
			d.Weights[len(r.Prompt)-1] = 1
			data = append(data, d)
		}
		cfg := map[string]float64{cfgOnlyWeighted: 1}
		pass1(t, tr, data, "cross_entropy", cfg, false)
		kept := tr.grads
		again := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
		again.opt.Checkpointing = true
		pass1(t, again, data, "cross_entropy", cfg, false)
		for i := range kept {
			for j, v := range kept[i] {
				near(t, "gradient", float64(again.grads[i][j]), float64(v), 1e-4)
			}
		}
	})
}
