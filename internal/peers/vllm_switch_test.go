//go:build peers

package peers

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/adapters"
	"recpie/clients/pool"
	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/orchestrator"
)

// served is one answer of the traffic: asked for under a version's name, and what the base model made of the first alternative.
type served struct {
	version, prompt int
	answer          *orchestrator.Answer
	base            []float32
}

// traffic asks a fleet for answers from many goroutines, always under the version in service.
type traffic struct {
	fleet    orchestrator.Fleet
	texts    []string
	versions map[string]int // by name

	mu       sync.Mutex
	moved    sync.Cond // something below has changed
	pub      *adapters.Publisher
	inFlight map[string]int
	answered []int // by version
	all      []served
	err      error
}

// drain waits until no request under a name is in flight.
func (w *traffic) drain(ctx context.Context, name string) error {
	defer context.AfterFunc(ctx, w.moved.Broadcast)()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.inFlight[name] > 0 && ctx.Err() == nil {
		w.moved.Wait()
	}
	return ctx.Err()
}

// wait returns when a version has given so many answers, or something failed.
func (w *traffic) wait(version, answers int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.answered[version] < answers && w.err == nil {
		w.moved.Wait()
	}
	return w.err
}

// one asks once, as a step of training does: two alternatives of one prompt, the first scored under the base model as well.
func (w *traffic) one(ctx context.Context, prompt int) error {
	w.mu.Lock()
	name := w.pub.Current().Name // under the lock: whoever drains the name afterwards sees this request
	w.inFlight[name]++
	w.mu.Unlock()
	s := served{version: w.versions[name], prompt: prompt}
	var err error
	s.answer, err = w.fleet.Generate(ctx, orchestrator.Request{Model: name, Text: w.texts[prompt], N: 2, Temperature: 1, MaxTokens: 8, Seed: int64(prompt)})
	w.mu.Lock()
	w.inFlight[name]--
	w.moved.Broadcast()
	w.mu.Unlock()
	if err == nil {
		s.base, err = w.fleet.Score(ctx, "llama", s.answer.Prompt, s.answer.Choices[0].Tokens)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.moved.Broadcast()
	switch {
	case err == nil:
		w.all = append(w.all, s)
		w.answered[s.version]++
	case ctx.Err() != nil:
		return nil
	default:
		w.err = fmt.Errorf("under %s: %w", name, err)
	}
	return err
}

// longTexts share their beginning, longer than a block of the prefix cache, and differ at the end.
func longTexts(n int) (all []string) {
	rng := rand.New(rand.NewPCG(8, 8))
	var shared strings.Builder
	for range 40 {
		shared.WriteString(" " + syllables(rng, 3))
	}
	for i := range n {
		all = append(all, fmt.Sprintf("Past films:%s. What does the user like about %s %d?", shared.String(), syllables(rng, 3), i))
	}
	return all
}

// The adapter changes again and again while requests run, published as training publishes it, and no answer comes from another version
// than the one it was asked of. Every version's weights are random, so that log-probabilities tell who answered: what each
// answer came with is compared, afterwards, with what its version gives for the same tokens under another name and path, and that of the version
// before differs from it.
func TestVLLMLlamaSwitch(t *testing.T) {
	switches := setting(t, "RECPIE_VLLM_SWITCHES", 8)
	const workers, each = 8, 12
	c, _, _ := llama(t)
	sources, dir := t.TempDir(), t.TempDir()
	store, err := adapters.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	w := &traffic{texts: longTexts(8), versions: map[string]int{}, inFlight: map[string]int{}, answered: make([]int, switches+1)}
	w.moved.L = &w.mu
	source := func(v int) string { return filepath.Join(sources, fmt.Sprint(v)) }
	versions := make([]*adapters.Version, switches+1)
	for v := range versions {
		writeLoRA(t, source(v), uint64(1000+v), 0.2)
		if versions[v], err = store.Write(v+1, adapters.Lineage{Run: "peers", Step: v}, source(v), nil); err != nil {
			t.Fatal(err)
		}
		w.versions[versions[v].Name] = v
	}
	w.pub, err = adapters.NewPublisher(adapters.PublishSettings{ServerDir: dir, Drain: w.drain},
		[]adapters.Replica{orchestrator.Replica{ID: "one", Client: c, Prompt: tokenize(t, c, text)}})
	if err != nil {
		t.Fatal(err)
	}
	once, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: need(t, "RECPIE_VLLM_URL"), Attempts: 1}, Model: "llama"})
	if err != nil {
		t.Fatal(err)
	}
	defer once.Close()
	p, err := pool.New(pool.Settings{MaxInFlight: 4 * workers}, []pool.Endpoint[orchestrator.Server]{{Name: "one", Client: orchestrator.VLLM{Client: once}, Probe: once.Health}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	w.fleet.Pool = p

	if err := w.pub.Publish(t.Context(), versions[0]); err != nil {
		t.Fatal(err)
	}
	_, before := counted(t, c)
	ctx, stop := context.WithCancel(t.Context())
	g, gctx := errgroup.WithContext(ctx)
	for k := range workers {
		g.Go(func() error {
			for n := k; gctx.Err() == nil; n++ {
				if err := w.one(gctx, n%len(w.texts)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	began, publishing, during := time.Now(), time.Duration(0), 0
	err = w.wait(0, each)
	for _, v := range versions[1:] {
		if err != nil {
			break
		}
		asked, start := w.count(), time.Now()
		if err = w.pub.Publish(ctx, v); err == nil {
			publishing += time.Since(start)
			during += w.count() - asked
			err = w.wait(w.versions[v.Name], each)
		}
	}
	took := time.Since(began)
	stop()
	if failed := g.Wait(); err == nil {
		err = failed
	}
	if err != nil {
		t.Fatal(err)
	}
	if stale := w.pub.Stale(); len(stale) > 0 {
		t.Errorf("still loaded: %v", stale)
	}
	_, after := counted(t, c)
	if after == before {
		t.Error("the prefix cache was not used: it is where old weights would hide")
	}
	if err := c.UnloadAdapter(context.Background(), w.pub.Current().Name); err != nil {
		t.Error(err)
	}
	t.Logf("%d switches in %s, %s each with drain and unload; %d answers, %d of them while a version was being published; %.0f prompt tokens from the prefix cache",
		switches, took.Round(100*time.Millisecond), (publishing / time.Duration(switches)).Round(time.Millisecond), len(w.all), during, after-before)
	if during == 0 {
		t.Error("no traffic while versions were published")
	}
	w.check(t, c, source)
}

func (w *traffic) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.all)
}

// check holds every answer against its version, loaded again under a name and path that the traffic never saw.
func (w *traffic) check(t *testing.T, c *vllm.Client, source func(int) string) {
	t.Helper()
	truth := func(v int) string { return fmt.Sprintf("peers-truth-%d", v) }
	byVersion := make([][]served, len(w.answered))
	for _, s := range w.all {
		byVersion[s.version] = append(byVersion[s.version], s)
	}
	known := map[string][]float32{} // by model, prompt and tokens: the same answers come again and again
	score := func(model string, prompt, tokens []int32) []float32 {
		key := fmt.Sprint(model, prompt, tokens)
		if known[key] == nil {
			lps, err := orchestrator.VLLM{Client: c}.Score(t.Context(), model, prompt, tokens)
			if err != nil {
				t.Fatal(err)
			}
			known[key] = lps
		}
		return known[key]
	}
	const close, apart = 1e-3, 0.05
	checked, stale, base := 0, 0, 0
	worst, least := 0.0, 1e9
	for v, all := range byVersion {
		if err := c.LoadAdapter(t.Context(), truth(v), source(v)); err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			for i, choice := range s.answer.Choices {
				want := wide(score(truth(v), s.answer.Prompt, choice.Tokens))
				if len(choice.Logprobs) != len(want) || len(want) == 0 {
					t.Fatalf("%d log-probabilities came with %d tokens", len(choice.Logprobs), len(want))
				}
				d := distance(wide(choice.Logprobs), want)
				worst = max(worst, d)
				checked++
				if d > close {
					if stale++; stale < 5 {
						t.Errorf("an answer asked of version %d is %.3g off it", v, d)
					}
				}
				if v > 0 {
					least = min(least, distance(wide(score(truth(v-1), s.answer.Prompt, choice.Tokens)), want))
				}
				if i == 0 {
					if d := distance(wide(s.base), wide(score("", s.answer.Prompt, choice.Tokens))); d > close {
						base++
					}
				}
			}
		}
		if v > 0 {
			if err := c.UnloadAdapter(t.Context(), truth(v-1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = c.UnloadAdapter(t.Context(), truth(len(byVersion)-1))
	t.Logf("%d answers checked: %d of another version, at most %.2g off their own; the version before is at least %.2g off; %d scores of the base model wrong", checked, stale, worst, least, base)
	if stale > 0 || base > 0 {
		t.Errorf("%d of %d answers come from another version, %d scores are not the base model's", stale, checked, base)
	}
	if least < apart {
		t.Errorf("two versions differ by %.2g only: they could not be told apart", least)
	}
}
