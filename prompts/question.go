package prompts

import (
	"slices"
	"strconv"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// Versions name wording and reading of the questions of this file. They are part of the key of every kept answer: change one whenever a
// byte of its question or its reading changes.
const (
	TermsVersion   = "terms-1"
	ProfileVersion = "profile-1"
)

// Lengths of what the questions show, in runes, and of their answers, in tokens.
const (
	maxReview  = 1500
	maxExcerpt = 300
	excerpts   = 8 // reviews that a question about an item shows

	// TermsTokens and ProfileTokens bound the answers.
	TermsTokens   = 32
	ProfileTokens = 120
)

// Questions writes what is asked about reviews and items, apart from explanations: aspect terms and profiles. It is safe for concurrent use.
type Questions struct {
	items   []dataset.Item
	wording Wording
	text    func(s string, limit int) string // cleans
}

// NewQuestions returns the questions of a data set. With redact nothing that reaches a person is left in the texts of items, and questions
// that show reviews are refused.
func NewQuestions(ds *dataset.Dataset, redact bool) (*Questions, error) {
	w, err := NewWording(ds.Spec.Verb)
	if err != nil {
		return nil, err
	}
	q := &Questions{items: ds.Items, wording: w, text: clean}
	if redact {
		r := newRedactor(ds.Users)
		q.text = func(s string, limit int) string { return cut(r.redact(tidy(s, limit)), limit) }
	}
	return q, nil
}

// asked is the end of both questions for terms. What all questions share comes last here, since what comes first is the review.
func (w Wording) asked(of string) string {
	return "Name up to three aspects of the " + w.Noun + " that " + of + " most, as terms of one or two words in lower case, separated by commas. " +
		"Answer with the terms alone, in the following format: 'first, second, third'."
}

// ReviewTerms asks for the terms of one review, which is an outcome: of a record that may be seen.
func (q *Questions) ReviewTerms(review string) (string, error) {
	review = q.text(review, maxReview)
	if review == "" {
		return "", fault.Newf(fault.Item, "prompts: terms", "no review")
	}
	return "Review of a " + q.wording.Noun + ":\n" + review + "\n" + q.wording.asked("this review speaks of"), nil
}

// ItemTerms asks for the terms of an item, from its own fields and reviews that may be seen; the first few are shown.
func (q *Questions) ItemTerms(item int32, reviews []string) (string, error) {
	var b strings.Builder
	for _, f := range q.known(item) {
		b.WriteString("- " + f + "\n")
	}
	shown := 0
	for _, r := range reviews {
		if r = q.text(r, maxExcerpt); r != "" && shown < excerpts {
			b.WriteString("- a review: " + r + "\n")
			shown++
		}
	}
	if b.Len() == 0 {
		return "", fault.Newf(fault.Item, "prompts: terms", "nothing is known of the %s", q.wording.Noun)
	}
	return "About a " + q.wording.Noun + ":\n" + b.String() + q.wording.asked("people care about"), nil
}

// known lists what the data say of an item, but its title where it has one and profile.
func (q *Questions) known(item int32) (out []string) {
	it := q.items[item]
	add := func(name, value string, limit int) {
		if v := q.text(value, limit); v != "" {
			out = append(out, name+": "+v)
		}
	}
	add("title", it.Title, maxTitle)
	if it.Year > 0 {
		add("year", strconv.Itoa(it.Year), maxTitle)
	}
	add("categories", strings.Join(it.Categories, ", "), maxCategories)
	add("price", it.Price, maxShort)
	for _, f := range it.Extra {
		add(q.text(f.Name, maxTerm), f.Value, maxShort)
	}
	add("profile", it.Profile, maxProfile)
	return out
}

// Profile asks for an item's profile: what it is, from its own fields and the aspect terms of reviews that may be seen. The order of the
// terms does not matter. An item of which nothing is known is an Item error: a model would make its profile up.
func (q *Questions) Profile(item int32, terms []string) (string, error) {
	title := q.text(q.items[item].Title, maxTitle)
	var known []string
	for _, f := range q.known(item) {
		if !strings.HasPrefix(f, "title: ") {
			known = append(known, f)
		}
	}
	var named []string
	for _, t := range terms {
		if t = q.text(t, maxTerm); t != "" {
			named = append(named, t)
		}
	}
	slices.Sort(named)
	if len(named) > 0 {
		known = append(known, "reviewers speak of: "+strings.Join(slices.Compact(named), ", "))
	}
	if title == "" && len(known) == 0 {
		return "", fault.Newf(fault.Item, "prompts: profile", "nothing is known of the %s", q.wording.Noun)
	}
	what := "this " + q.wording.Noun
	if title != "" {
		what = "the " + q.wording.Noun + ` "` + title + `"`
	}
	ask := "Write a profile of " + what + " in at most five sentences: what it is, what it is known for, its main features, and whom it suits."
	if len(known) > 0 {
		ask += " Known attributes: " + strings.TrimRight(strings.Join(known, "; "), " .") + "."
	}
	return ask + " Do not invent ratings.", nil
}
