package orchestrator

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/clients/tgi"
	"recpie/internal/fault"
	"recpie/internal/tokenizer"
)

// TGI is a text-generation-inference server.
//
// It takes no soft prompts: a request that holds soft rows is sent with its Profile before the text instead, so that the consumer is
// described in words. Runs must say so (SoftAsText).
//
// Log-probabilities are those of temperature 1, as everywhere here. The server gives those of the distribution that it sampled from,
// so that texts sampled at another temperature are scored once more.
type TGI struct {
	Client *tgi.Client
	// Tokenizer is the served model's, from its tokenizer.json. The server scores texts only; this one turns ids into the text that
	// has them. nil: nothing can be scored.
	Tokenizer *tokenizer.Tokenizer
}

// SoftAsText tells that requests need a Profile where they have soft rows.
func (t TGI) SoftAsText() bool { return true }

// Generate implements Generator.
func (t TGI) Generate(ctx context.Context, r Request) (*Answer, error) {
	text := r.Text
	if len(r.Soft) > 0 {
		if r.Profile == "" {
			return nil, fault.Newf(fault.Item, "tgi: generate", "the server takes no soft prompt, and the request has no profile to send instead")
		}
		text = r.Profile + "\n" + text
	}
	p, err := t.Client.Prompt(ctx, text)
	if err != nil {
		return nil, err
	}
	seed := r.Seed
	choices, err := t.Client.Generate(ctx, tgi.Request{Text: p.Text, Model: r.Model, N: r.N, MaxTokens: r.MaxTokens, Temperature: r.Temperature, Seed: &seed})
	if err != nil {
		return nil, err
	}
	a := &Answer{Prompt: p.IDs, Choices: make([]Choice, len(choices))}
	g, gctx := errgroup.WithContext(ctx)
	for i, c := range choices {
		a.Choices[i] = Choice{Text: c.Text, Tokens: c.TokenIDs, Logprobs: single(c.Logprobs), Finish: c.FinishReason}
		if r.Temperature == 0 || r.Temperature == 1 { // greedy answers are not warped
			continue
		}
		g.Go(func() (err error) {
			a.Choices[i].Logprobs, err = t.Score(gctx, r.Model, p.IDs, c.TokenIDs)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("log-probabilities at temperature 1: %w", err)
	}
	return a, nil
}

// Score implements Scorer. Only ids that are the tokenizer's spelling of their text can be scored: sampled texts need not be, and are
// refused then (class item).
func (t TGI) Score(ctx context.Context, model string, prompt, continuation []int32) ([]float32, error) {
	const op = "tgi: score"
	if t.Tokenizer == nil {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, op, "the server scores texts, and there is no tokenizer to make them of token ids"), "name the tokenizer.json of the served model")
	}
	ids := slices.Concat(prompt, continuation)
	text, ok := t.spell(ids)
	if !ok {
		return nil, fault.Newf(fault.Item, op, "%d tokens are not what the tokenizer makes of their text", len(ids))
	}
	lps, err := t.Client.Score(ctx, model, text, ids, len(continuation))
	if err != nil {
		return nil, err
	}
	return single(lps), nil
}

// spell returns the text of which the server makes the ids, special tokens that it adds itself included.
func (t TGI) spell(ids []int32) (string, bool) {
	for added := range min(3, len(ids)) {
		text := t.Tokenizer.Decode(ids[added:], false)
		if slices.Equal(t.Tokenizer.Encode(text, true), ids) {
			return text, true
		}
	}
	return "", false
}

func single(xs []float64) []float32 {
	out := make([]float32, len(xs))
	for i, x := range xs {
		out[i] = float32(x)
	}
	return out
}

// softAsText tells whether a model wants the consumer described in words.
func softAsText(g Generator) bool {
	s, ok := g.(interface{ SoftAsText() bool })
	return ok && s.SoftAsText()
}

const (
	profileTerms   = 3  // terms that a profile names
	profileHistory = 20 // records, the most recent, whose terms are counted
)

// Profile describes the user of a record in one line, as the history before the record shows them: the terms that most of their
// items share, and the mean of their ratings. It stands in for the soft prompt where a server takes none. The record's own outcome is
// in neither, nor are the terms of its item.
func (s *Side) Profile(rec int32) string {
	records := s.View.Dataset().Records
	past := s.View.History(rec)
	if len(past) == 0 {
		return "About the user: nothing is known."
	}
	type use struct {
		name string
		n    int
	}
	var uses []use // in the order of their first mention, the most recent item first
	for _, h := range slices.Backward(past[max(0, len(past)-profileHistory):]) {
		if records[h].Item == records[rec].Item {
			continue
		}
		for _, c := range s.Terms.For(h) {
			name := s.Renderer.Term(c.Term)
			if i := slices.IndexFunc(uses, func(u use) bool { return u.name == name }); i >= 0 {
				uses[i].n++
			} else if name != "" {
				uses = append(uses, use{name, 1})
			}
		}
	}
	slices.SortStableFunc(uses, func(a, b use) int { return cmp.Compare(b.n, a.n) })
	sum, n := 0.0, 0
	for _, h := range past {
		if rating, ok := s.View.Rating(h); ok {
			sum, n = sum+rating, n+1
		}
	}
	line := "About the user: mean rating " + strconv.FormatFloat(sum/float64(n), 'f', 1, 64) + " of " + strconv.FormatFloat(s.View.Dataset().Spec.Max, 'f', -1, 64)
	if len(uses) > 0 {
		names := make([]string, min(profileTerms, len(uses)))
		for i := range names {
			names[i] = uses[i].name
		}
		line += "; most often " + strings.Join(names, ", ")
	}
	return line + "."
}

// TGIReplica is a text-generation-inference server as batches with a version of the policy see it: the version is there from the start
// of the server, under its name, or not at all.
type TGIReplica struct {
	Server TGI
	Text   string // canary: this text is scored under the adapter
}

// Load checks that the server was started with the version.
func (r TGIReplica) Load(_ context.Context, name, path string) error {
	if r.Server.Client.Serves(name) {
		return nil
	}
	return fault.WithHint(fault.Newf(fault.Fatal, "tgi", "the server was not started with %s", name),
		fmt.Sprintf("start it with --lora-adapters %s=%s and name %s among the endpoint's adapters", name, path, name))
}

// Unload does nothing: adapters stay as long as the server runs.
func (r TGIReplica) Unload(context.Context, string) error { return nil }

// Canary scores the fixed text under a version.
func (r TGIReplica) Canary(ctx context.Context, name string) ([]float64, error) {
	p, err := r.Server.Client.Prompt(ctx, r.Text)
	if err != nil {
		return nil, err
	}
	return r.Server.Client.Score(ctx, name, p.Text, p.IDs, len(p.IDs)-1)
}
