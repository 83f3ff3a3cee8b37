package orchestrator

import (
	"context"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/fault"
	"recpie/prompts"
)

// LMTerms is what a model named: up to three terms of a review or an item.
type LMTerms struct {
	Terms  []string
	Reason string // why there are none
	Tokens int
	New    bool // asked in this call
}

// readTerms keeps the terms of an answer as one text.
func readTerms(answer string) (text, reason string) {
	p, rej := prompts.ParseTerms(answer)
	if rej != nil {
		return "", rej.Reason.String()
	}
	return strings.Join(p.Terms, termsJoint), ""
}

const termsJoint = ", "

// ReviewTerms asks for the terms of the reviews of visible records. They are outcomes of the records, as their reviews are.
func (a *Asker) ReviewTerms(ctx context.Context, view *dataset.View, recs []int32) ([]LMTerms, error) {
	ask, err := prompts.NewQuestions(view.Dataset(), false)
	if err != nil {
		return nil, err
	}
	return a.terms(ctx, len(recs), func(i int) (string, error) {
		review, ok := view.Review(recs[i])
		if !ok {
			return "", fault.Newf(fault.Fatal, "terms", "the review of record %d must not be read", recs[i])
		}
		return ask.ReviewTerms(review)
	}, prompts.TermsVersion+" "+view.Split().Digest)
}

// ItemTerms asks for the terms of items, from their own fields and all visible reviews: they may be shown to records that are not visible, as
// those of the test, and not to the ones whose reviews were read.
func (a *Asker) ItemTerms(ctx context.Context, view *dataset.View, items []int32) ([]LMTerms, error) {
	ask, err := prompts.NewQuestions(view.Dataset(), false)
	if err != nil {
		return nil, err
	}
	return a.terms(ctx, len(items), func(i int) (string, error) {
		var reviews []string
		for _, rec := range view.OfItem(items[i]) {
			if review, _ := view.Review(rec); review != "" {
				reviews = append(reviews, review)
			}
		}
		return ask.ItemTerms(items[i], reviews)
	}, prompts.TermsVersion+" "+view.Digest())
}

// terms asks n questions; one that cannot be asked has the reason why.
func (a *Asker) terms(ctx context.Context, n int, question func(i int) (string, error), kind string) ([]LMTerms, error) {
	out := make([]LMTerms, n)
	var at []int
	var questions []Question
	for i := range out {
		text, err := question(i)
		switch {
		case err == nil:
			at, questions = append(at, i), append(questions, Question{Kind: kind, Text: text, MaxTokens: prompts.TermsTokens})
		case fault.ClassOf(err) == fault.Item:
			out[i].Reason = "prompt: " + err.Error()
		default:
			return nil, err
		}
	}
	replies, err := a.Ask(ctx, questions, readTerms)
	if err != nil {
		return nil, err
	}
	for j, i := range at {
		r := replies[j]
		out[i] = LMTerms{Reason: r.Reason, Tokens: r.Tokens, New: r.New}
		if r.Text != "" {
			out[i].Terms = strings.Split(r.Text, termsJoint)
		}
	}
	return out, nil
}
