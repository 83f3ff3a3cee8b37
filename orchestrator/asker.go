package orchestrator

import (
	"context"
	"crypto/sha256"
	"fmt"

	"golang.org/x/sync/errgroup"

	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/internal/store"
)

// Question is asked of a model once: its answer is kept for whoever asks the same again.
type Question struct {
	Kind      string // what the answer depends on beside the text: version of wording and reading, digest of the view that was read
	Text      string // of the user's message
	MaxTokens int
}

// Reply is the answer to a question. Exactly one of Text and Reason is set, as of explanations.
type Reply struct {
	Text   string // what read made of the answer
	Reason string // why nothing is usable
	Tokens int
	New    bool // asked in this call
}

// Asker puts questions, greedily. Each is asked once, whatever dies in between, and by whichever command over the same store: answers are
// kept by the digest of model, kind, text and length.
type Asker struct {
	Store       *store.Store
	Model       Generator
	Author      Author // only Model and Digest count
	Concurrency int
	Progress    func(total, done int) func(n int) // optional: told the distinct questions, returns what counts them
}

func (a *Asker) identity(q Question) store.Identity {
	return sha256.Sum256(fmt.Appendf(nil, "recpie question 1\n%q %q %d %q", a.Author.Digest, q.Kind, q.MaxTokens, q.Text))
}

// Ask returns a reply per question. read makes of an answer what is kept of it, or says why it is of no use. A question that a server
// refuses for its content gets the refusal as its reason; a failing server ends the call with all that was answered stored.
func (a *Asker) Ask(ctx context.Context, qs []Question, read func(answer string) (text, reason string)) ([]Reply, error) {
	ids := make([]store.Identity, len(qs))
	first := make(map[store.Identity]int, len(qs))
	var distinct []store.Identity
	for i, q := range qs {
		ids[i] = a.identity(q)
		if _, ok := first[ids[i]]; !ok {
			first[ids[i]] = i
			distinct = append(distinct, ids[i])
		}
	}
	have, err := a.Store.Answers(ctx, distinct)
	if err != nil {
		return nil, err
	}
	var missing []store.Identity
	for _, id := range distinct {
		if _, ok := have[id]; !ok {
			missing = append(missing, id)
		}
	}
	count := func(int) {}
	if a.Progress != nil && len(missing) > 0 {
		count = a.Progress(len(distinct), len(distinct)-len(missing))
	}
	fresh := make(map[store.Identity]store.Answer, len(missing))
	answers := make(chan store.Answer, 2*commitRows)
	var writer errgroup.Group
	wctx := context.WithoutCancel(ctx) // what was paid for is stored even while stopping
	writer.Go(func() error {
		return inBatches(answers, func(some []store.Answer) error {
			failpoint.Hit("ask-before-commit")
			if _, err := a.Store.PutAnswers(wctx, some); err != nil {
				return err
			}
			failpoint.Hit("ask-after-commit")
			for _, x := range some {
				fresh[x.Identity] = x
			}
			count(len(some))
			return nil
		})
	})
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(1, a.Concurrency))
	for _, id := range missing {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			if gctx.Err() != nil { // while it waited for its turn
				return context.Cause(gctx)
			}
			x, err := a.answer(gctx, qs[first[id]], read)
			if err == nil {
				x.Identity = id
				answers <- x
			}
			return err
		})
	}
	err = g.Wait()
	close(answers)
	if werr := writer.Wait(); werr != nil {
		return nil, werr
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	out := make([]Reply, len(qs))
	for i, id := range ids {
		x, old := have[id]
		if !old {
			x = fresh[id]
		}
		out[i] = Reply{x.Text, x.Reason, x.Tokens, !old && first[id] == i}
	}
	return out, nil
}

func (a *Asker) answer(ctx context.Context, q Question, read func(string) (text, reason string)) (store.Answer, error) {
	ans, err := a.Model.Generate(ctx, Request{Model: a.Author.Model, Text: q.Text, N: 1, MaxTokens: q.MaxTokens})
	if err != nil && fault.ClassOf(err) == fault.Item {
		return store.Answer{Reason: "refused: " + err.Error()}, nil
	}
	if err != nil {
		return store.Answer{}, err
	}
	c := ans.Choices[0]
	x := store.Answer{Raw: c.Text, Tokens: len(c.Tokens)}
	x.Text, x.Reason = read(c.Text)
	return x, nil
}
