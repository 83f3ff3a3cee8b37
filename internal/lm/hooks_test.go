package lm

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"recpie/internal/torch"

	"github.com/google/go-cmp/cmp"
)

// What OnToken sees grows by one token a call, and what it sees last is the answer.
func TestOnTokenSeesEveryToken(t *testing.T) {
	b := tiny(t, 3)
	e := engine(t, b, EngineOptions{})
	var mu sync.Mutex
	type key struct{ request, choice int }
	calls, finished := map[key]int{}, map[key]Choice{}
	rs := requests(b, 9, func(i int, r *GenRequest) {
		r.OnToken = func(c *Choice) {
			mu.Lock()
			defer mu.Unlock()
			k := key{i, c.Index}
			calls[k]++
			if len(c.Tokens) != calls[k] || len(c.Logprobs) != calls[k] || len(c.Top) != calls[k] {
				t.Errorf("call %d of %v: %d tokens, %d log probabilities", calls[k], k, len(c.Tokens), len(c.Logprobs))
			}
			if c.FinishReason != "" {
				finished[k] = *c
			}
			if s := e.Stats(); s.Running < 1 || !(s.KVShare > 0 && s.KVShare <= 1) {
				t.Errorf("while computing: %+v", s)
			}
		}
	})
	for i, res := range together(t, e, rs) {
		for _, c := range res.Choices {
			if diff := cmp.Diff(c, finished[key{i, c.Index}]); diff != "" {
				t.Errorf("request %d, choice %d (-answer +last call):\n%s", i, c.Index, diff)
			}
		}
	}
	if s := e.Stats(); s.Running != 0 || s.Waiting != 0 || s.KVShare != 0 {
		t.Errorf("at rest: %+v", s)
	}
}

// Pooled states do not depend on the batch, and are the mean of what the plain forward pass computes.
func TestPooled(t *testing.T) {
	b := tiny(t, 4)
	rng := rand.New(rand.NewPCG(1, 9))
	shared := randomIDs(rng, 60, b.Model.Cfg.VocabSize)
	var rs []*GenRequest
	for i := range 6 {
		r := &GenRequest{Prompt: slices.Concat(shared, randomIDs(rng, 1+i, b.Model.Cfg.VocabSize)), PromptLogprobs: -1, Logprobs: -1, Pool: true}
		if i == 3 {
			r.MaxTokens = 4
		}
		rs = append(rs, r)
	}
	rs = append(rs, rs[0])
	e := engine(t, b, EngineOptions{})
	net := b.Model.network()
	for i, res := range together(t, e, rs) {
		if len(res.Choices) != min(1, rs[i].MaxTokens) {
			t.Errorf("request %d: %d choices", i, len(res.Choices))
		}
		keys := promptKeys(rs[i], newSoftTable(b.Model.Cfg.HiddenSize))
		p := newPlan([][]int64{keys}, false)
		w := newWanted(p)
		for pos := range keys {
			w.add(0, pos)
		}
		d := b.Model.Cfg.HiddenSize
		var hidden []float32
		if err := torch.NoGrad(func(s *torch.Scope) error {
			h := net.forward(s, p, nil, w)
			hidden = s.Float32s(h)
			return s.Err()
		}); err != nil {
			t.Fatal(err)
		}
		if len(res.Pooled) != d {
			t.Fatalf("request %d: %d numbers, want %d", i, len(res.Pooled), d)
		}
		for k, got := range res.Pooled {
			sum := 0.0
			for pos := range keys {
				sum += float64(hidden[pos*d+k])
			}
			near(t, "state", float64(got), sum/float64(len(keys)), 1e-5)
		}
	}
	if s := e.Stats(); s.PromptTokensComputed != s.PromptTokensSent { // states are not kept
		t.Errorf("something was left out: %+v", s)
	}
}
