package servertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"recpie/internal/fault"
	"recpie/orchestrator"
)

// cancel gives a call up in its midst. How long the call would have taken is measured first, so that there is a midst.
func (s *Server) cancel(t *testing.T) {
	r := orchestrator.Request{Model: s.Base, Text: prompt, N: 8, Temperature: 1, Seed: 1, MaxTokens: s.MaxLen / 2}
	began := time.Now()
	s.ask(t, r)
	full := time.Since(began)

	gone, stop := context.WithCancel(t.Context())
	stop()
	if _, err := s.Model.Generate(gone, r); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before it began: %v", err)
	}
	// on a busy machine this process may stand still while the server answers: then the call is over before it can be given up
	for try := int64(1); ; try++ {
		r.Seed++
		took, err := s.giveUp(t, r, full/8)
		t.Logf("whole %v, cancelled after %v, back after %v: %v", full, full/8, took, err)
		if err == nil && try < 5 {
			continue
		}
		switch {
		case !errors.Is(err, context.DeadlineExceeded):
			t.Errorf("cancelled after an eighth of its time: %v", err)
		case fault.ClassOf(err) == fault.Item:
			t.Errorf("the item is blamed: %v", err)
		case took > full/8+max(full/4, time.Second) && try < 5:
			continue
		case took > full/8+max(full/4, time.Second):
			t.Errorf("it came back after %v of %v", took, full)
		}
		break
	}
	s.ask(t, orchestrator.Request{N: 1, MaxTokens: 2})
}

// giveUp makes a call that ends after limit, and returns how long it took.
func (s *Server) giveUp(t *testing.T, r orchestrator.Request, limit time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	_, err := s.Model.Generate(ctx, r)
	return time.Since(began), err
}

// concurrent asks many things at a time that were asked one by one before.
func (s *Server) concurrent(t *testing.T) {
	const calls = 16
	requests := make([]orchestrator.Request, calls)
	want := make([]*orchestrator.Answer, calls)
	for i := range requests {
		requests[i] = orchestrator.Request{Model: s.Base, Text: fmt.Sprintf("%s This is user %d.", prompt, i*i), N: 1 + i%3, Temperature: float64(min(1, i%3)), Seed: int64(i), MaxTokens: 8}
		want[i] = s.ask(t, requests[i])
	}
	var wg sync.WaitGroup
	for i, r := range requests {
		wg.Go(func() {
			got, err := s.Model.Generate(t.Context(), r)
			switch {
			case err != nil:
				t.Errorf("call %d: %v", i, err)
			case !slices.Equal(got.Prompt, want[i].Prompt):
				t.Errorf("call %d: prompt %v, alone %v", i, got.Prompt, want[i].Prompt)
			case !same(got, want[i]):
				t.Errorf("call %d: %+v, alone %+v", i, got.Choices, want[i].Choices)
			}
		})
	}
	wg.Wait()
}

// soft checks that soft rows stand in the prompt under marker ids, and that it matters which they are.
func (s *Server) soft(t *testing.T) {
	const rows = 2
	r := orchestrator.Request{N: 2, Temperature: 1, Seed: 4, MaxTokens: 12, SoftRows: rows}
	with := func(scale float32) *orchestrator.Answer {
		r.Soft = make([]float32, rows*s.Hidden)
		for i := range r.Soft {
			r.Soft[i] = scale * float32(i%7-3)
		}
		return s.ask(t, r)
	}
	a, b := with(.3), with(-.4)
	if same(a, b) && slices.Equal(a.Choices[0].Logprobs, b.Choices[0].Logprobs) {
		t.Error("two soft prompts give the same answers")
	}
	if !same(a, with(.3)) {
		t.Error("an answer with a soft prompt cannot be repeated")
	}
	var words []int32
	for _, id := range a.Prompt {
		if id < s.Vocabulary {
			words = append(words, id)
		}
	}
	plain := s.ask(t, orchestrator.Request{N: 1, MaxTokens: 1})
	if len(a.Prompt)-len(words) != rows || !slices.Equal(words, plain.Prompt) {
		t.Errorf("prompt %v, without soft rows %v", a.Prompt, plain.Prompt)
	}
	r.SoftRows, r.Soft = 1, make([]float32, s.Hidden+1)
	r.Text = prompt
	_, err := s.Model.Generate(t.Context(), r)
	itemFault(t, err)
}

// profile checks that the words for a soft prompt are sent, and that none can be left out without a word.
func (s *Server) profile(t *testing.T) {
	r := orchestrator.Request{N: 1, MaxTokens: 8, Soft: []float32{1, 2}, SoftRows: 1, Profile: "About the user: likes slow films."}
	plain := s.ask(t, orchestrator.Request{N: 1, MaxTokens: 8})
	a := s.ask(t, r)
	if len(a.Prompt) <= len(plain.Prompt) {
		t.Errorf("%d tokens with the profile, %d without", len(a.Prompt), len(plain.Prompt))
	}
	spoken := s.ask(t, orchestrator.Request{N: 1, MaxTokens: 8, Text: r.Profile + "\n" + prompt})
	if !slices.Equal(a.Prompt, spoken.Prompt) || !same(a, spoken) {
		t.Errorf("%+v, want what the text alone gives: %+v", a, spoken)
	}
	r.Profile, r.Text, r.Model = "", prompt, s.Base
	_, err := s.Model.Generate(t.Context(), r)
	itemFault(t, err)
}
