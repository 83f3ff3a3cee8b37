package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
	"recpie/internal/fault"
	"recpie/internal/store"
	"recpie/prompts"
)

// scripted is a language model whose answer is a function of the request: mostly a sentence, sometimes nothing, sometimes a refusal.
type scripted struct {
	w    *Workspace
	hook func(call int) error // called before the answer; an error is what the server does then

	mu    sync.Mutex
	calls int
	asked map[string]int
}

func (m *scripted) Generate(ctx context.Context, r Request) (*Answer, error) {
	key := fmt.Sprintf("%s %v %d %s", r.Model, r.Soft, r.MaxTokens, r.Text)
	m.mu.Lock()
	m.calls++
	call := m.calls
	if m.asked == nil {
		m.asked = map[string]int{}
	}
	m.asked[key]++
	m.mu.Unlock()
	if m.hook != nil {
		if err := m.hook(call); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	pol := prompts.Positive
	if strings.HasSuffix(r.Text, m.w.Train.Renderer.Wording().Instruction(prompts.Negative)) {
		pol = prompts.Negative
	}
	text := fmt.Sprintf("%s because the user is number %d and the restaurant is fine.", [2]string{"The user visited this restaurant", "The user did not visit this restaurant"}[pol], h.Sum32())
	switch h.Sum32() % 8 {
	case 0:
		text = ""
	case 1:
		return nil, fault.Newf(fault.Item, "server", "the prompt is too long")
	}
	return &Answer{Choices: []Choice{{Text: text, Tokens: make([]int32, len(text)/5)}}}, nil
}

// lab is a store with an explainer over it.
type explaining struct {
	w    *Workspace
	path string
	ds   *dataset.Dataset
}

func newExplaining(t *testing.T) *explaining {
	ds := restaurants(t)
	return &explaining{w: workspace(t, ds), path: filepath.Join(t.TempDir(), "explanations.db"), ds: ds}
}

// explain opens the store as a new process would and writes one batch.
func (e *explaining) explain(t *testing.T, ctx context.Context, m *scripted, name string, who Author) (*Explained, error) {
	t.Helper()
	m.w = e.w
	s, err := store.Open(context.Background(), e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	x := &Explainer{Work: e.w, Store: s, Model: m, Concurrency: 8, MaxTokens: 40}
	return x.Explain(ctx, name, e.w.Pairs(), who)
}

func (e *explaining) rows(t *testing.T, name string) (out []store.Row) {
	t.Helper()
	s, err := store.Open(t.Context(), e.path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	id, err := s.Lookup(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Rows(t.Context(), id, func(r store.Row) error { out = append(out, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

var author = Author{Model: "m", Digest: "d"}

func TestExplainWritesEachRowOnce(t *testing.T) {
	e := newExplaining(t)
	m := &scripted{}
	got, err := e.explain(t, t.Context(), m, "a", author)
	if err != nil {
		t.Fatal(err)
	}
	n := 2 * len(e.w.Pairs())
	if m.calls != n {
		t.Errorf("%d requests for %d rows", m.calls, n)
	}
	for key, times := range m.asked {
		if times != 1 {
			t.Fatalf("asked %d times: %s", times, key)
		}
	}
	rows := e.rows(t, "a")
	if len(rows) != n {
		t.Fatalf("%d rows, want %d", len(rows), n)
	}
	texts, tokens := 0, 0
	for i, r := range rows {
		if int(r.Row) != i || r.Record != got.Recs[i/2] || int(r.Polarity) != i%2 {
			t.Fatalf("row %d is %+v", i, r)
		}
		if r.Text != got.Text[r.Polarity][i/2] || (r.Text == "") == (r.Reason == "") {
			t.Fatalf("row %d: %q, %q, %q", i, r.Text, r.Reason, got.Text[r.Polarity][i/2])
		}
		if r.Text != "" {
			texts++
			if strings.Contains(r.Text, "did not") != (r.Polarity == 1) {
				t.Fatalf("row %d has the other polarity's text: %s", i, r.Text)
			}
		}
		tokens += r.Tokens
	}
	refused, empty := got.Rejected["refused: server: the prompt is too long"], got.Rejected["empty"]
	if refused == 0 || empty == 0 || texts+refused+empty != n || got.Tokens != tokens {
		t.Errorf("%d texts, %d tokens, rejected %v", texts, got.Tokens, got.Rejected)
	}

	again := &scripted{}
	second, err := e.explain(t, t.Context(), again, "a", author)
	if err != nil || again.calls != 0 {
		t.Fatalf("a finished batch asked %d times: %v", again.calls, err)
	}
	if d := cmp.Diff(got, second); d != "" {
		t.Error(d)
	}
}

// However a call ends early, what was finished is stored, and the next call does the rest: the rows are those of an unbroken run.
func TestExplainGoesOnWhereItStopped(t *testing.T) {
	whole := newExplaining(t)
	if _, err := whole.explain(t, t.Context(), &scripted{}, "a", author); err != nil {
		t.Fatal(err)
	}
	want := whole.rows(t, "a")
	stop := errors.New("stopped")
	for name, at := range map[string]func(cancel context.CancelCauseFunc) func(int) error{
		"cancelled": func(cancel context.CancelCauseFunc) func(int) error {
			return func(call int) error {
				if call == 100 {
					cancel(stop)
				}
				return nil
			}
		},
		"server fails": func(context.CancelCauseFunc) func(int) error {
			return func(call int) error {
				if call >= 100 {
					return fault.New(fault.Endpoint, "server", stop)
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newExplaining(t)
			sent, rounds := 0, 0
			for {
				ctx, cancel := context.WithCancelCause(t.Context())
				m := &scripted{hook: at(cancel)}
				_, err := e.explain(t, ctx, m, "a", author)
				cancel(nil)
				sent += m.calls
				if err == nil {
					break
				}
				if !errors.Is(err, stop) {
					t.Fatalf("err = %v", err)
				}
				if rounds++; rounds > 10 {
					t.Fatal("it does not come nearer to the end")
				}
				if have := len(e.rows(t, "a")); have < 90*rounds {
					t.Errorf("%d rows are stored after %d times 100 requests", have, rounds)
				}
			}
			if rounds < 2 {
				t.Errorf("stopped %d times", rounds)
			}
			if over := sent - len(want); over < 0 || over > 8*rounds {
				t.Errorf("%d requests for %d rows, stopped %d times", sent, len(want), rounds)
			}
			if d := cmp.Diff(want, e.rows(t, "a")); d != "" {
				t.Error(d)
			}
		})
	}
}

// The same author writes the same texts, so another batch takes them over; another author, or other soft prompts, do not.
func TestExplainReusesByIdentity(t *testing.T) {
	e := newExplaining(t)
	if _, err := e.explain(t, t.Context(), &scripted{}, "a", author); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, r := range e.rows(t, "a") {
		if strings.HasPrefix(r.Reason, "refused") {
			refused++
		}
	}
	m := &scripted{}
	if _, err := e.explain(t, t.Context(), m, "b", author); err != nil || m.calls != 0 {
		t.Errorf("%d requests for texts that are there: %v", m.calls, err)
	}
	if d := cmp.Diff(e.rows(t, "a"), e.rows(t, "b")); d != "" {
		t.Error(d)
	}
	soft := author
	soft.Soft = func(user int32) ([]float32, int, error) { return []float32{float32(user), 1}, 1, nil }
	for name, who := range map[string]Author{"other weights": {Model: "m", Digest: "other"}, "soft prompts": soft} {
		m := &scripted{}
		if _, err := e.explain(t, t.Context(), m, name, who); err != nil || m.calls != 2*len(e.w.Pairs()) {
			t.Errorf("%s: %d requests: %v", name, m.calls, err)
		}
	}
}

func TestExplainRefusesAnotherBatchUnderTheName(t *testing.T) {
	e := newExplaining(t)
	if _, err := e.explain(t, t.Context(), &scripted{}, "a", author); err != nil {
		t.Fatal(err)
	}
	if _, err := e.explain(t, t.Context(), &scripted{}, "a", Author{Model: "m", Digest: "other"}); err == nil || fault.HintOf(err) == "" {
		t.Errorf("err = %v", err)
	}
}

func TestExplainStopsAtABrokenSoftPrompt(t *testing.T) {
	e := newExplaining(t)
	broken := errors.New("not finite")
	who := author
	who.Soft = func(user int32) ([]float32, int, error) { return nil, 0, broken }
	if _, err := e.explain(t, t.Context(), &scripted{}, "a", who); !errors.Is(err, broken) {
		t.Errorf("err = %v", err)
	}
}

// What a prompt cannot hold is a rejected row, not the end of the run.
func TestExplainRejectsWhatDoesNotFit(t *testing.T) {
	e := newExplaining(t)
	if err := e.w.Limit(5, words{}); err != nil {
		t.Fatal(err)
	}
	m := &scripted{}
	got, err := e.explain(t, t.Context(), m, "a", author)
	if err != nil || m.calls != 0 || len(e.rows(t, "a")) != 2*len(e.w.Pairs()) {
		t.Fatalf("%d requests: %v", m.calls, err)
	}
	for reason := range got.Rejected {
		if !strings.HasPrefix(reason, "prompt: ") {
			t.Error(reason)
		}
	}
}

type words struct{}

func (words) Count(text string) int { return len(strings.Fields(text)) }

func TestIdentityCoversEverything(t *testing.T) {
	base := Request{Text: "a", N: 1, MaxTokens: 40, Soft: []float32{1, 2}, SoftRows: 1}
	seen := map[[32]byte]int{identity("d", base): -1}
	for i, change := range []func(*Request){
		func(r *Request) { r.Text = "b" }, func(r *Request) { r.N = 2 }, func(r *Request) { r.Temperature = .5 }, func(r *Request) { r.Seed = 1 },
		func(r *Request) { r.MaxTokens = 41 }, func(r *Request) { r.Soft = []float32{1, 3} }, func(r *Request) { r.SoftRows = 2 }, func(r *Request) { r.Soft, r.SoftRows = nil, 0 },
	} {
		r := base
		change(&r)
		id := identity("d", r)
		if other, there := seen[id]; there {
			t.Errorf("change %d has the identity of %d", i, other)
		}
		seen[id] = i
	}
	if _, there := seen[identity("e", base)]; there {
		t.Error("the author does not count")
	}
	r := base
	r.Model = "served name"
	if identity("d", r) != identity("d", base) {
		t.Error("the served name counts, though the digest says what it serves")
	}
}
