package prompts

import (
	"fmt"
	"strings"

	"recpie/internal/fault"
)

// Polarity says which of the two explanations is meant: why the user chose the item, or why not.
type Polarity int

// The two explanations of every pair, made whatever the true outcome was.
const (
	Positive Polarity = iota
	Negative
)

// Polarities lists both, for loops.
var Polarities = [2]Polarity{Positive, Negative}

// String returns "positive" or "negative".
func (p Polarity) String() string {
	if p == Negative {
		return "negative"
	}
	return "positive"
}

// Wording holds the words of a domain, as {"stayed at", "stay at", "hotel"}.
type Wording struct{ Past, Base, Noun string }

// base gives the base form of the verbs that data sets use. English has no rule that would do for "rated" and "visited" alike.
var base = map[string]string{
	"purchased": "purchase", "bought": "buy", "ordered": "order", "chose": "choose", "picked": "pick", "rented": "rent", "used": "use",
	"watched": "watch", "read": "read", "played": "play", "listened to": "listen to", "heard": "hear", "rated": "rate", "clicked": "click",
	"stayed at": "stay at", "stayed in": "stay in", "booked": "book", "visited": "visit", "went to": "go to", "dined at": "dine at", "ate at": "eat at",
}

// NewWording reads a data set's verb, as "watched this movie". A verb that is not known is an error that lists the known ones.
func NewWording(verb string) (Wording, error) {
	const op = "prompts: verb"
	past, noun, ok := strings.Cut(clean(verb, maxTitle), " this ")
	if !ok || past == "" || noun == "" {
		return Wording{}, fault.WithHint(fault.Newf(fault.Fatal, op, "%q is not of the form \"watched this movie\"", verb),
			"set verb in dataset.yaml")
	}
	b, ok := base[past]
	if !ok {
		return Wording{}, fault.WithHint(fault.New(fault.Fatal, op, fmt.Errorf("the base form of %q is not known", past)),
			"use one of: "+strings.Join(sortedKeys(base), ", "))
	}
	return Wording{past, b, noun}, nil
}

// did returns "watched this movie" or "did not watch this movie".
func (w Wording) did(pol Polarity) string {
	if pol == Negative {
		return "did not " + w.Base + " this " + w.Noun
	}
	return w.Past + " this " + w.Noun
}

// plural returns the noun in the plural.
func (w Wording) plural() string {
	if stem, ok := strings.CutSuffix(w.Noun, "y"); ok && !strings.HasSuffix(stem, "a") && !strings.HasSuffix(stem, "e") && !strings.HasSuffix(stem, "o") {
		return stem + "ies"
	}
	return w.Noun + "s"
}

// Instruction returns the paper's prompt in the words of the domain; for products it is the paper's letter for letter.
func (w Wording) Instruction(pol Polarity) string {
	did := w.did(pol)
	return "Provide a reason for why this user " + did + ", based on the provided profile of the past " + w.plural() + " the user " + w.Past +
		", and the profile of the current " + w.Noun + ". Answer with exactly one sentence in the following format: 'The user " + did +
		" because the user ... and the " + w.Noun + " ...'."
}
