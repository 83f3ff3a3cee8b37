package prompts

import (
	"strings"
	"testing"
)

// The instruction for products is the paper's sentence, with its two alternatives resolved.
func TestInstructionIsThePapersWordForWord(t *testing.T) {
	const paper = "Provide a reason for why this user purchased (or did not purchase) this product, based on the provided profile of the past products the user purchased, and the profile of the current product. " +
		"Answer with exactly one sentence in the following format: 'The user purchased (or did not purchase) this product because the user ... and the product ...'."
	w, err := NewWording("purchased this product")
	if err != nil {
		t.Fatal(err)
	}
	for pol, want := range map[Polarity]string{
		Positive: strings.ReplaceAll(paper, "purchased (or did not purchase)", "purchased"),
		Negative: strings.ReplaceAll(paper, "purchased (or did not purchase)", "did not purchase"),
	} {
		if got := w.Instruction(pol); got != want {
			t.Errorf("%v:\n%s\nwant\n%s", pol, got, want)
		}
	}
}

func TestWordings(t *testing.T) {
	for verb, want := range map[string]Wording{
		"watched this movie": {"watched", "watch", "movie"}, "stayed at this hotel": {"stayed at", "stay at", "hotel"},
		"visited this restaurant": {"visited", "visit", "restaurant"}, "chose this place": {"chose", "choose", "place"},
	} {
		if got, err := NewWording(verb); err != nil || got != want {
			t.Errorf("%q: %v, %v", verb, got, err)
		}
	}
	for _, verb := range []string{"", "watched", "watched a movie", "frobnicated this movie", " this movie"} {
		if _, err := NewWording(verb); err == nil {
			t.Errorf("%q was taken", verb)
		}
	}
	if got := (Wording{Noun: "city"}).plural() + " " + (Wording{Noun: "toy"}).plural(); got != "cities toys" {
		t.Errorf("plurals %q", got)
	}
}
