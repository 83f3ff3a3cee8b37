package orchestrator

import (
	"context"
	"errors"
	"fmt"
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

// talker is a language model that answers by a function of the text.
type talker struct {
	say  func(text string) (string, error)
	hook func(call int) error

	mu    sync.Mutex
	asked map[string]int
	calls int
}

func (m *talker) Generate(ctx context.Context, r Request) (*Answer, error) {
	m.mu.Lock()
	m.calls++
	call := m.calls
	if m.asked == nil {
		m.asked = map[string]int{}
	}
	m.asked[r.Text]++
	m.mu.Unlock()
	if m.hook != nil {
		if err := m.hook(call); err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.Temperature != 0 || r.N != 1 || r.Soft != nil || r.Model != author.Model {
		return nil, fmt.Errorf("asked %+v", r)
	}
	text, err := m.say(r.Text)
	if err != nil {
		return nil, err
	}
	return &Answer{Choices: []Choice{{Text: text, Tokens: make([]int32, 3)}}}, nil
}

// asking opens the store as a new process would.
func asking(t *testing.T, path string, m Generator) *Asker {
	t.Helper()
	s, err := store.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &Asker{Store: s, Model: m, Author: author, Concurrency: 4}
}

func upper(answer string) (text, reason string) {
	if answer == "" {
		return "", "empty"
	}
	return strings.ToUpper(answer), ""
}

func someQuestions(n int) (qs []Question) {
	for i := range n {
		qs = append(qs, Question{Kind: "k", Text: fmt.Sprint("question ", i%(n*9/10)), MaxTokens: 8}) // some of them twice
	}
	return qs
}

func answerTo(text string) (string, error) {
	switch text {
	case "question 3":
		return "", nil
	case "question 4":
		return "", fault.Newf(fault.Item, "server", "too long")
	}
	return "re " + text, nil
}

func TestAskingTwicePaysOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	m := &talker{say: answerTo}
	first, err := asking(t, path, m).Ask(t.Context(), someQuestions(200), upper)
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range m.asked {
		if n != 1 {
			t.Errorf("%s was asked %d times", text, n)
		}
	}
	fresh := 0
	for i, r := range first {
		want := Reply{Text: strings.ToUpper(fmt.Sprint("re question ", i%180)), Tokens: 3, New: i < 180}
		switch i % 180 {
		case 3:
			want.Text, want.Reason = "", "empty"
		case 4:
			want.Text, want.Reason, want.Tokens = "", "refused: server: too long", 0
		}
		if d := cmp.Diff(want, r); d != "" {
			t.Errorf("question %d: %s", i, d)
		}
		if r.New {
			fresh++
		}
	}
	if m.calls != 180 || fresh != 180 {
		t.Errorf("%d calls, %d new answers", m.calls, fresh)
	}
	silent := &talker{say: func(string) (string, error) { return "", errors.New("asked") }}
	again, err := asking(t, path, silent).Ask(t.Context(), someQuestions(200), upper)
	if err != nil || silent.calls != 0 {
		t.Fatalf("%d calls for answers that are there: %v", silent.calls, err)
	}
	for i := range first {
		first[i].New = false
	}
	if d := cmp.Diff(first, again); d != "" {
		t.Error(d)
	}
	for name, change := range map[string]func(*Asker, *Question){
		"another model":       func(a *Asker, _ *Question) { a.Author.Digest = "other" },
		"another kind":        func(_ *Asker, q *Question) { q.Kind = "l" },
		"another text":        func(_ *Asker, q *Question) { q.Text += "?" },
		"longer answers":      func(_ *Asker, q *Question) { q.MaxTokens++ },
		"the same under name": nil,
	} {
		m := &talker{say: answerTo}
		a, q := asking(t, path, m), someQuestions(200)[:1]
		want := 0
		if change != nil {
			change(a, &q[0])
			want = 1
		}
		if _, err := a.Ask(t.Context(), q, upper); err != nil || m.calls != want {
			t.Errorf("%s: %d calls, %v", name, m.calls, err)
		}
	}
}

// However a call ends early, what was answered is kept and the next call asks for the rest alone.
func TestAskingGoesOnWhereItStopped(t *testing.T) {
	stop := errors.New("stopped")
	for name, at := range map[string]func(cancel context.CancelCauseFunc) func(int) error{
		"cancelled": func(cancel context.CancelCauseFunc) func(int) error {
			return func(call int) error {
				if call == 50 {
					cancel(stop)
				}
				return nil
			}
		},
		"server fails": func(context.CancelCauseFunc) func(int) error {
			return func(call int) error {
				if call >= 50 {
					return fault.New(fault.Endpoint, "server", stop)
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.db")
			sent, rounds := 0, 0
			for {
				ctx, cancel := context.WithCancelCause(t.Context())
				m := &talker{say: answerTo, hook: at(cancel)}
				_, err := asking(t, path, m).Ask(ctx, someQuestions(200), upper)
				cancel(nil)
				sent += m.calls
				if err == nil {
					break
				}
				if !errors.Is(err, stop) {
					t.Fatal(err)
				}
				if rounds++; rounds > 10 {
					t.Fatal("it does not come nearer to the end")
				}
			}
			if over := sent - 180; rounds < 2 || over < 0 || over > 5*rounds {
				t.Errorf("%d requests for 180 questions, stopped %d times", sent, rounds)
			}
		})
	}
}

func TestTermsByModel(t *testing.T) {
	ds := reviewed(t)
	w := workspace(t, ds)
	view := w.Train.View
	m := &talker{say: func(text string) (string, error) {
		switch {
		case strings.Contains(text, "garden"):
			return "Here are three terms:\n1. The Garden\n2. Staff.", nil
		case strings.Contains(text, "bathroom"):
			return "none", nil
		}
		return "service, breakfast", nil
	}}
	a := asking(t, filepath.Join(t.TempDir(), "x.db"), m)
	recs := view.Records()
	got, err := a.ReviewTerms(t.Context(), view, recs)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for i, rec := range recs {
		review, _ := view.Review(rec)
		want := []string{"service", "breakfast"}
		switch {
		case strings.Contains(review, "garden"):
			want = []string{"garden", "staff"}
		case strings.Contains(review, "bathroom"):
			want = nil
		}
		if d := cmp.Diff(want, got[i].Terms); d != "" || (want == nil) != (got[i].Reason == prompts.NoTerms.String()) {
			t.Fatalf("%s: %+v %s", review, got[i], d)
		}
		seen[strings.Join(want, " ")]++
	}
	if len(seen) != 3 {
		t.Errorf("the reviews are all alike: %v", seen)
	}
	if _, err := a.ReviewTerms(t.Context(), view, w.Split.Test[:1]); err == nil {
		t.Error("the review of a test record was sent")
	}
	items := make([]int32, len(ds.Items))
	for i := range items {
		items[i] = int32(i)
	}
	before := m.calls
	of, err := a.ItemTerms(t.Context(), view, items)
	if err != nil || len(of) != len(items) || m.calls == before {
		t.Fatalf("%d items, %d calls: %v", len(of), m.calls-before, err)
	}
	// outcomes of the test move no question
	permuted := ds.PermuteOutcomes(w.Split.Test, 3)
	other := &talker{say: m.say}
	b := asking(t, filepath.Join(t.TempDir(), "y.db"), other)
	pv := w.Split.TrainView(permuted)
	if _, err := b.ReviewTerms(t.Context(), pv, recs); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ItemTerms(t.Context(), pv, items); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m.asked, other.asked); d != "" {
		t.Error(d)
	}
	bare, err := dataset.New("bare", dataset.Spec{Domain: "hotel", Verb: "stayed at this hotel", Min: 1, Max: 5}, nil, []dataset.Event{{User: "u", Item: "i", Rating: 3}, {User: "u", Item: "j", Rating: 3},
		{User: "u", Item: "k", Rating: 3}, {User: "u", Item: "l", Rating: 3}, {User: "u", Item: "m", Rating: 3}})
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(bare, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	none, err := a.ReviewTerms(t.Context(), split.TrainView(bare), split.TrainView(bare).Records())
	if err != nil || !strings.HasPrefix(none[0].Reason, "prompt: ") {
		t.Errorf("a record without a review: %+v, %v", none, err)
	}
}
