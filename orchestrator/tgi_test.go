package orchestrator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/clients/tgi"
	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/store"
	"recpie/prompts"
)

func imitation(t *testing.T, opt tgitest.Options) (TGI, *tgitest.Server) {
	t.Helper()
	s := tgitest.New(t, opt)
	c, err := tgi.New(tgi.Config{Settings: transport.Settings{BaseURL: s.URL, Attempts: 1}, Model: "base"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return TGI{Client: c, Tokenizer: s.Tokenizer}, s
}

func sentTexts(t *testing.T, s *tgitest.Server) []string {
	t.Helper()
	var out []string
	for _, body := range s.Bodies("/generate") {
		var r struct{ Inputs string }
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Inputs)
	}
	return out
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "explanations.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// The whole way of the fallback: an author with soft prompts, a server that takes none, a line of words in the prompt.
func TestSoftPromptsTravelAsText(t *testing.T) {
	w := workspace(t, restaurants(t))
	g, s := imitation(t, tgitest.Options{MaxInput: 8000, MaxTotal: 9000})
	rec := w.Split.Train[len(w.Split.Train)-1]
	want := w.Train.Profile(rec)
	if !strings.HasPrefix(want, "About the user: mean rating ") || strings.Contains(want, "\n") {
		t.Fatalf("profile %q", want)
	}
	who := Author{Model: "base", Digest: "d", Soft: func(int32) ([]float32, int, error) { return []float32{1, 2, 3, 4}, 2, nil }}
	x := &Explainer{Work: w, Store: openStore(t), Model: g, Concurrency: 2, MaxTokens: 4}
	if _, err := x.Explain(t.Context(), "batch", []int32{rec}, who); err != nil {
		t.Fatal(err)
	}
	r := &Rollouts{Work: w, Model: g, Scorer: g, Base: "base", Group: 2, Temperature: 1, MaxTokens: 4, Concurrency: 2, Vocabulary: int32(g.Tokenizer.VocabSize())}
	groups, err := r.Sample(t.Context(), []int32{rec}, who, func(int32) []float32 { return nil }, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, grp := range groups {
		for _, text := range grp.Texts {
			for i := range text.Ref { // the reference reads the same line: without an adapter it is the same model
				if math.Abs(float64(text.Ref[i]-text.Logprobs[i])) > 1e-5 {
					t.Errorf("reference %v, sampled %v", text.Ref, text.Logprobs)
				}
			}
		}
	}
	texts := sentTexts(t, s)
	for _, pol := range prompts.Polarities {
		p, err := w.Train.Renderer.Render(rec, pol)
		if err != nil {
			t.Fatal(err)
		}
		with := want + "\n" + p.Text
		if n := len(slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return text != with })); n != 3 {
			t.Errorf("%v: %d requests carry the profile and the prompt, want 1 explanation and 2 samples", pol, n)
		}
	}
}

// A server that takes soft rows is not told in words.
func TestProfileOnlyWhereItIsNeeded(t *testing.T) {
	if softAsText(VLLM{}) || !softAsText(TGI{}) {
		t.Error("which servers take soft rows is mixed up")
	}
	var seen Request
	w := workspace(t, restaurants(t))
	model := generatorFunc(func(r Request) (*Answer, error) {
		seen = r
		return &Answer{Choices: []Choice{{Text: "x", Tokens: []int32{1}, Finish: "stop"}}}, nil
	})
	x := &Explainer{Work: w, Store: openStore(t), Model: model, Concurrency: 1, MaxTokens: 4}
	who := Author{Model: "base", Digest: "d", Soft: func(int32) ([]float32, int, error) { return []float32{1}, 1, nil }}
	if _, err := x.Explain(t.Context(), "b", w.Split.Train[:1], who); err != nil || len(seen.Soft) != 1 || seen.Profile != "" {
		t.Errorf("%+v, %v", seen, err)
	}
	with := seen
	with.Profile = "About the user."
	if identity("d", seen) == identity("d", with) {
		t.Error("texts with and without a profile have one identity")
	}
}

type generatorFunc func(Request) (*Answer, error)

func (f generatorFunc) Generate(_ context.Context, r Request) (*Answer, error) { return f(r) }

// The profile of a record shows the history before it, and nothing of its outcome.
func TestProfileKnowsTheHistoryAlone(t *testing.T) {
	ds := reviewed(t)
	w := workspace(t, ds)
	changed := 0
	for _, rec := range w.Split.Train {
		rating, _ := w.Train.View.Rating(rec)
		other, err := ds.WithRatings([]int32{rec}, []float64{6 - rating})
		if err != nil {
			t.Fatal(err)
		}
		past := w.Train.View.History(rec)
		sum := 0.0
		for _, h := range past {
			r, _ := w.Train.View.Rating(h)
			sum += r
		}
		line := w.Train.Profile(rec)
		if len(past) == 0 {
			if line != "About the user: nothing is known." {
				t.Errorf("record %d: %q", rec, line)
			}
			continue
		}
		if changed++; changed > 6 { // a workspace is costly
			break
		}
		if again := workspace(t, other).Train.Profile(rec); again != line {
			t.Errorf("record %d: %q with its outcome %v, else %q", rec, line, rating, again)
		}
		if mean := sum / float64(len(past)); !strings.Contains(line, fmt.Sprintf("mean rating %.1f of 5", mean)) || !strings.Contains(line, "most often ") {
			t.Errorf("record %d, mean %g: %q", rec, mean, line)
		}
	}
	if changed == 0 {
		t.Error("no record has a history")
	}
}

func TestTGIScoresOnlyWhatCanBeSpelt(t *testing.T) {
	g, s := imitation(t, tgitest.Options{})
	prompt := s.Tokenizer.Encode("The film", true)
	if lps, err := g.Score(t.Context(), "base", prompt, s.Tokenizer.Encode(" is good.", false)); err != nil || len(lps) != 9 {
		t.Errorf("%v, %v", lps, err)
	}
	half := s.Tokenizer.Encode("é", false)[:1] // half a character: its text is another one's
	for name, err := range map[string]error{
		"half a character": second(g.Score(t.Context(), "base", prompt, half)),
		"no start":         second(g.Score(t.Context(), "base", prompt[1:], half)),
		"unknown":          second(g.Score(t.Context(), "other", prompt, prompt[1:])),
		"soft alone":       second(g.Generate(t.Context(), Request{Model: "base", Text: "a", N: 1, MaxTokens: 1, Soft: []float32{1}, SoftRows: 1})),
	} {
		if err == nil || fault.ClassOf(err) != fault.Item {
			t.Errorf("%s: %v", name, err)
		}
	}
	g.Tokenizer = nil
	if _, err := g.Score(t.Context(), "base", prompt, prompt[1:]); fault.ClassOf(err) != fault.Fatal || fault.HintOf(err) == "" {
		t.Errorf("without a tokenizer: %v", err)
	}
	if _, err := g.Generate(t.Context(), Request{Model: "base", Text: "a", N: 2, MaxTokens: 3, Temperature: 1}); err != nil {
		t.Errorf("generating needs no tokenizer: %v", err)
	}
	if _, err := g.Generate(t.Context(), Request{Model: "base", Text: "a", N: 2, MaxTokens: 3, Temperature: .5}); fault.ClassOf(err) != fault.Fatal {
		t.Errorf("log-probabilities of temperature 1 without a tokenizer: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Generate(ctx, Request{Model: "base", Text: "a", N: 1, MaxTokens: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }
