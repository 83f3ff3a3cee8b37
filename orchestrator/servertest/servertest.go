// Package servertest checks that an inference server keeps what the rest of the house relies on, whichever program it is and whichever
// client speaks to it: that answers can be repeated, that token ids and log-probabilities belong together, that a score is the
// probability that was sampled with, and that failures have the right class.
package servertest

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"recpie/internal/fault"
	"recpie/orchestrator"
)

// Server is what the suite is run on. The fields after Scorer say what it can do: the checks of an ability that is not named do not run.
type Server struct {
	Model  orchestrator.Generator
	Scorer orchestrator.Scorer
	Base   string // served name of the base model
	MaxLen int    // tokens of prompt and answer together; at least 128

	// Adapter is the served name of an adapter that changes what the model says, "" without.
	Adapter string
	// Hidden is the width of soft rows, 0 for a server that takes none. They stand in Answer.Prompt as ids from Vocabulary on.
	Hidden     int
	Vocabulary int32
	// SoftAsText marks a server that is sent a Profile in the place of soft rows.
	SoftAsText bool
	// Tolerance is how far a score may lie from the log-probability that the same token was sampled with, in nats; 0 means 1e-4.
	// Servers that compute a token alone and in a batch by different kernels need it.
	Tolerance float64
}

const prompt = "Say in one sentence why this user would like this film."

// Run runs the suite on the server that open gives, which is asked for once.
func Run(t *testing.T, open func(t *testing.T) Server) {
	s := open(t)
	if s.Tolerance == 0 {
		s.Tolerance = 1e-4
	}
	t.Run("GreedyIsDeterministic", s.greedy)
	t.Run("AnswersAreWhole", s.whole)
	t.Run("SeedsDecide", s.seeds)
	t.Run("LengthEndsAnAnswer", s.length)
	t.Run("ScoreIsTheSampledProbability", s.score)
	t.Run("UnknownModelIsTheItemsFault", s.unknown)
	t.Run("TooLongIsTheItemsFault", s.tooLong)
	t.Run("CancellationIsPrompt", s.cancel)
	t.Run("CallsDoNotMix", s.concurrent)
	if s.Adapter != "" {
		t.Run("AdapterIsAnotherModel", s.adapter)
	}
	if s.Hidden > 0 {
		t.Run("SoftRowsAreRead", s.soft)
	}
	if s.SoftAsText {
		t.Run("ProfileStandsInForSoftRows", s.profile)
	}
}

// ask generates, and holds the answer to what every answer must be.
func (s *Server) ask(t testing.TB, r orchestrator.Request) *orchestrator.Answer {
	t.Helper()
	if r.Model == "" {
		r.Model = s.Base
	}
	if r.Text == "" {
		r.Text = prompt
	}
	a, err := s.Model.Generate(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Choices) != max(1, r.N) {
		t.Fatalf("%d answers, %d were asked for", len(a.Choices), r.N)
	}
	if len(a.Prompt) == 0 || slices.ContainsFunc(a.Prompt, func(id int32) bool { return id < 0 || (s.Vocabulary > 0 && id >= s.Vocabulary && r.SoftRows == 0) }) {
		t.Errorf("prompt %v", a.Prompt)
	}
	for i, c := range a.Choices {
		switch {
		case len(c.Tokens) == 0 || len(c.Tokens) > r.MaxTokens:
			t.Errorf("answer %d has %d tokens, %d were allowed", i, len(c.Tokens), r.MaxTokens)
		case slices.ContainsFunc(c.Tokens, func(id int32) bool { return id < 0 || (s.Vocabulary > 0 && id >= s.Vocabulary) }):
			t.Errorf("answer %d has tokens %v", i, c.Tokens)
		case r.Temperature > 0 && len(c.Logprobs) != len(c.Tokens):
			t.Errorf("answer %d has %d log-probabilities for %d tokens", i, len(c.Logprobs), len(c.Tokens))
		case slices.ContainsFunc(c.Logprobs, func(lp float32) bool { return !(lp <= 1e-3) || math.IsInf(float64(lp), -1) }):
			t.Errorf("answer %d has log-probabilities %v", i, c.Logprobs)
		case c.Finish != "stop" && c.Finish != "length":
			t.Errorf("answer %d finished with %q", i, c.Finish)
		case c.Finish == "length" && len(c.Tokens) != r.MaxTokens:
			t.Errorf("answer %d ended for its length after %d of %d tokens", i, len(c.Tokens), r.MaxTokens)
		}
	}
	return a
}

func same(a, b *orchestrator.Answer) bool {
	return slices.EqualFunc(a.Choices, b.Choices, func(x, y orchestrator.Choice) bool {
		return x.Text == y.Text && x.Finish == y.Finish && slices.Equal(x.Tokens, y.Tokens)
	})
}

func (s *Server) greedy(t *testing.T) {
	r := orchestrator.Request{N: 1, MaxTokens: 16}
	first := s.ask(t, r)
	for _, seed := range []int64{0, 1} { // greedy answers know no seed
		r.Seed = seed
		if again := s.ask(t, r); !same(first, again) || !slices.Equal(first.Prompt, again.Prompt) {
			t.Errorf("%+v, then %+v", first, again)
		}
	}
}

func (s *Server) whole(t *testing.T) {
	a := s.ask(t, orchestrator.Request{N: 6, Temperature: 1, Seed: 5, MaxTokens: 12})
	distinct := map[string]bool{}
	for _, c := range a.Choices {
		distinct[c.Text] = true
	}
	if len(distinct) < 2 {
		t.Errorf("six answers are all %q: they share a seed", a.Choices[0].Text)
	}
}

func (s *Server) seeds(t *testing.T) {
	r := orchestrator.Request{N: 3, Temperature: 1, Seed: 11, MaxTokens: 12}
	first, again := s.ask(t, r), s.ask(t, r)
	if !same(first, again) {
		t.Errorf("one seed gives %+v, then %+v", first.Choices, again.Choices)
	}
	r.Seed = 12
	if same(first, s.ask(t, r)) {
		t.Error("two seeds give the same answers")
	}
}

func (s *Server) length(t *testing.T) {
	for _, n := range []int{1, 3} {
		a := s.ask(t, orchestrator.Request{N: 6, Temperature: 1, Seed: 2, MaxTokens: n})
		if !slices.ContainsFunc(a.Choices, func(c orchestrator.Choice) bool { return c.Finish == "length" }) {
			t.Errorf("none of six answers ended for its length of %d: %+v", n, a.Choices)
		}
	}
}

// rescore compares the log-probabilities of an answer with scores under the model.
func (s *Server) rescore(t *testing.T, model string, a *orchestrator.Answer) (worst float64) {
	t.Helper()
	for i, c := range a.Choices {
		got, err := s.Scorer.Score(t.Context(), model, a.Prompt, c.Tokens)
		if err != nil {
			t.Fatalf("answer %d, %q: %v", i, c.Text, err)
		}
		if len(got) != len(c.Tokens) {
			t.Fatalf("%d scores for %d tokens", len(got), len(c.Tokens))
		}
		for j := range got {
			worst = max(worst, math.Abs(float64(got[j]-c.Logprobs[j])))
		}
	}
	return worst
}

// The log-probabilities are those of temperature 1, whatever was sampled at.
func (s *Server) score(t *testing.T) {
	for _, temperature := range []float64{1, .7} {
		a := s.ask(t, orchestrator.Request{N: 4, Temperature: temperature, Seed: 3, MaxTokens: 16})
		if worst := s.rescore(t, s.Base, a); !(worst <= s.Tolerance) {
			t.Errorf("at temperature %g scores are off by %.2g nats", temperature, worst)
		} else {
			t.Logf("at temperature %g scores are off by %.2g nats", temperature, worst)
		}
	}
}

func (s *Server) adapter(t *testing.T) {
	r := orchestrator.Request{Model: s.Adapter, N: 4, Temperature: 1, Seed: 3, MaxTokens: 16}
	a := s.ask(t, r)
	if !same(a, s.ask(t, r)) {
		t.Error("the adapter's answers cannot be repeated")
	}
	if worst := s.rescore(t, s.Adapter, a); !(worst <= s.Tolerance) {
		t.Errorf("scores under the adapter are off by %.2g nats", worst)
	}
	if off := s.rescore(t, s.Base, a); off < 1e-2 {
		t.Errorf("the base model finds the adapter's answers as likely, within %.2g nats", off)
	}
}

func (s *Server) unknown(t *testing.T) {
	_, err := s.Model.Generate(t.Context(), orchestrator.Request{Model: "no-such-model", Text: prompt, N: 1, MaxTokens: 4})
	itemFault(t, err)
	ids := s.ask(t, orchestrator.Request{N: 1, MaxTokens: 2}).Prompt // the server still answers
	_, err = s.Scorer.Score(t.Context(), "no-such-model", ids[:len(ids)-1], ids[len(ids)-1:])
	itemFault(t, err)
}

func (s *Server) tooLong(t *testing.T) {
	long := strings.Repeat("Why would this user like this film? ", s.MaxLen/2) // no tokenizer makes one token of eight words
	_, err := s.Model.Generate(t.Context(), orchestrator.Request{Model: s.Base, Text: long, N: 1, MaxTokens: 4})
	itemFault(t, err)
	s.ask(t, orchestrator.Request{N: 1, MaxTokens: 2})
}

func itemFault(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) || f.Class != fault.Item {
		t.Errorf("class %v, want item: %v", fault.ClassOf(err), err)
	}
}
