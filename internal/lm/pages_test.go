package lm

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"

	"pgregory.net/rapid"
)

// However prompts come and go, a page has one content, nobody loses a page that he holds, and all pages come back.
func TestPoolKeepsWhatIsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPool(rapid.IntRange(1, 40).Draw(t, "pages"))
		root := p.root()
		content := map[int32][]int64{} // of known pages: all keys up to their end
		type holder struct {
			pages []int32
			keys  []int64
		}
		var held []holder
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			if len(held) > 0 && rapid.Bool().Draw(t, "drop") {
				i := rapid.IntRange(0, len(held)-1).Draw(t, "which")
				p.drop(held[i].pages...)
				held = slices.Delete(held, i, i+1)
				continue
			}
			keys := make([]int64, pageSize*rapid.IntRange(1, 4).Draw(t, "length"))
			for i := range keys {
				keys[i] = rapid.Int64Range(0, 1).Draw(t, "key") * int64(i/pageSize+1)
				if i%pageSize > 0 {
					keys[i] = keys[i-1]
				}
			}
			pages, serial := p.match(root, keys)
			for i, page := range pages {
				if !slices.Equal(content[page], keys[:(i+1)*pageSize]) {
					t.Fatalf("page %d holds %v, found for %v", page, content[page], keys[:(i+1)*pageSize])
				}
			}
			need := len(keys)/pageSize - len(pages)
			if p.free() < need {
				p.drop(pages...)
				continue
			}
			for len(pages) < len(keys)/pageSize {
				i := p.take()
				for _, h := range held {
					if slices.Contains(h.pages, i) {
						t.Fatalf("page %d was handed out while it is held", i)
					}
				}
				n := len(pages)
				serial = p.know(i, serial, keys[n*pageSize:(n+1)*pageSize])
				content[i] = slices.Clone(keys[:(n+1)*pageSize])
				pages = append(pages, i)
			}
			held = append(held, holder{pages, keys})
		}
		for _, h := range held {
			p.drop(h.pages...)
		}
		if p.free() != len(p.pages) || p.share() != 0 {
			t.Fatalf("%d of %d pages are free at the end", p.free(), len(p.pages))
		}
	})
}

// With memory for a few sequences only, requests wait for it, old prompts are forgotten, and the answers stay the same.
func TestLittleMemory(t *testing.T) {
	every(t, 21, func(t *testing.T, b *Bundle) {
		rs := requests(b, 14, func(int, *GenRequest) {})
		alone := engine(t, b, EngineOptions{MaxBatch: 1, NoSharing: true})
		var want []*GenResult
		for _, r := range rs {
			want = append(want, generate(t, alone, r))
		}
		small := engine(t, b, EngineOptions{KVBytes: 42 * pageSize * b.Model.Cfg.kvBytes(), Workers: 2, MaxTokens: 40})
		for range 3 {
			sameChoices(t, "little memory", together(t, small, rs), want)
		}
		_, err := small.Generate(t.Context(), &GenRequest{Prompt: randomIDs(rand.New(rand.NewPCG(1, 1)), 90, 37), MaxTokens: 60, N: 9, PromptLogprobs: -1, IgnoreEOS: true})
		if err == nil || fault.ClassOf(err) != fault.Item || fault.HintOf(err) == "" || !strings.Contains(err.Error(), "do not fit") {
			t.Errorf("more than the memory holds: %v", err)
		}
		if s := small.Stats(); s.KVShare != 0 || s.Running != 0 {
			t.Errorf("at rest: %+v", s)
		}
	})
}

// The operations of libtorch that stand in for our loops on other devices give the same answers.
func TestTensorsInPlaceOfLoops(t *testing.T) {
	every(t, 22, func(t *testing.T, b *Bundle) {
		rs := requests(b, 14, func(i int, r *GenRequest) {
			if i%4 == 3 {
				r.PromptLogprobs = 1
			}
		})
		loops, tensors := engine(t, b, EngineOptions{}), engine(t, b, EngineOptions{Workers: 2})
		const pages = 2000
		kv, err := newTensorKV(b.Model, pages)
		if err != nil {
			t.Fatal(err)
		}
		tensors.kv, tensors.pool = kv, newPool(pages)
		want, got := together(t, loops, rs), together(t, tensors, rs)
		sameChoices(t, "tensors", got, want)
		for i := range want {
			for p := range want[i].PromptLogprobs {
				if w := want[i].PromptLogprobs[p]; w.Rank > 0 {
					near(t, "prompt score", float64(got[i].PromptLogprobs[p].Logprob), float64(w.Logprob), 2e-5)
				}
			}
		}
	})
}

// A history that was there is not computed again, also for a later request, by adapter.
func TestHistoriesAreKept(t *testing.T) {
	b := tiny(t, 23)
	e := engine(t, b, EngineOptions{})
	history := randomIDs(rand.New(rand.NewPCG(2, 2)), 8*pageSize+3, 37)
	ask := func(tail ...int32) *GenResult {
		return generate(t, e, &GenRequest{Prompt: slices.Concat(history, tail), MaxTokens: 3, Logprobs: -1, PromptLogprobs: -1})
	}
	if n := ask(1, 2).CachedTokens; n != 0 {
		t.Errorf("%d positions were there at first", n)
	}
	if n := ask(3, 4).CachedTokens; n != 8*pageSize {
		t.Errorf("%d positions were there for the second, want %d", n, 8*pageSize)
	}
	if s := e.Stats(); s.PromptTokensComputed != int64(2*len(history)+4-8*pageSize) {
		t.Errorf("%d positions computed", s.PromptTokensComputed)
	}
	tr := trained(t, b, LoRAConfig{Rank: 2, Attn: true})
	dir := t.TempDir() + "/a"
	if err := tr.Save(dir, false); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} { // another load is another network
		if err := e.LoadAdapter(name, dir); err != nil {
			t.Fatal(err)
		}
		res := generate(t, e, &GenRequest{Prompt: slices.Concat(history, []int32{1, 2}), Adapter: name, MaxTokens: 3, Logprobs: -1, PromptLogprobs: -1})
		if res.CachedTokens != 0 {
			t.Errorf("%s began with %d positions of another network", name, res.CachedTokens)
		}
	}
}

// Requests join while others are under way, and a cancelled one leaves at the next token.
func TestRequestsJoinAndLeave(t *testing.T) {
	b := tiny(t, 24)
	e := engine(t, b, EngineOptions{})
	begun := make(chan struct{})
	long := make(chan *GenResult, 1)
	tokens := 0
	go func() {
		res, _ := e.Generate(t.Context(), &GenRequest{Prompt: []int32{1, 2, 3}, MaxTokens: 150, IgnoreEOS: true, Temperature: 1, Logprobs: -1, PromptLogprobs: -1, OnToken: func(*Choice) {
			if tokens++; tokens == 1 {
				close(begun)
			}
			time.Sleep(time.Millisecond) // long enough for the other to join
		}})
		long <- res
	}()
	<-begun
	if res := generate(t, e, &GenRequest{Prompt: []int32{4, 5}, MaxTokens: 4, IgnoreEOS: true, Logprobs: -1, PromptLogprobs: -1}); len(res.Choices[0].Tokens) != 4 {
		t.Errorf("the short answer has %d tokens", len(res.Choices[0].Tokens))
	}
	select {
	case <-long:
		t.Error("the long answer was there before the short one")
	default:
	}
	if res := <-long; res == nil || len(res.Choices[0].Tokens) != 150 {
		t.Errorf("the long answer: %+v", res)
	}
}
