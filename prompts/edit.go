package prompts

import (
	"slices"
	"strings"
)

// Aspect is a term as the reason that a sentence makes of it.
type Aspect struct {
	Name string
	Lean float64 // sum of its verdicts, each from −1 (dislikes, is criticised) to 1 (loves, is widely loved); 0 where it has none
}

// Aspects lists the terms that a sentence gives as reasons, in order of first mention, and the sums of all verdicts for the
// item and against it, those on the item as a whole among them. In free text it finds what Mentions finds.
func (r *Renderer) Aspects(sentence string) (aspects []Aspect, pro, con float64) {
	count := func(strength float32) {
		pro, con = pro+max(0, float64(strength)), con+min(0, float64(strength))
	}
	if a, ok := r.dissect(sentence); ok {
		at := map[int32]int{}
		for _, c := range slices.Concat(a.tastes, a.opinions) {
			s := c.strength()
			for _, t := range c.terms {
				k, seen := at[t]
				if !seen {
					k = len(aspects)
					at[t], aspects = k, append(aspects, Aspect{Name: r.names[t]})
				}
				aspects[k].Lean += float64(s)
				count(s)
			}
			if len(c.terms) == 0 {
				count(s)
			}
		}
		return aspects, pro, con
	}
	for _, m := range r.Mentions(sentence) {
		taste, opinion := strength(m.Taste), strength(m.Opinion)
		aspects = append(aspects, Aspect{r.names[m.Term], float64(taste + opinion)})
		count(taste)
		count(opinion)
	}
	return aspects, pro, con
}

// placeholder stands in free text for a term that is taken out, so that the sentence stays one.
const placeholder = "something"

// Without takes terms, by the names that Aspects gives, out of the reasons of a sentence. A sentence of ours loses whole reasons, and with
// the last one the sentence; in free text "something" takes the place of the term.
func (r *Renderer) Without(sentence string, names ...string) string {
	gone := func(t int32) bool { return slices.Contains(names, r.names[t]) }
	if a, ok := r.dissect(sentence); ok {
		if !a.without(gone) {
			return sentence
		}
		return a.shortened()
	}
	words := tokens(sentence)
	from := reasonsAt(words)
	lower := make([]string, len(words))
	for i, w := range words {
		lower[i] = strings.ToLower(w.text)
	}
	var b strings.Builder
	done := 0
	for i := from; i < len(words); {
		t, n := r.matchTerm(lower[i:])
		if n == 0 || !gone(t) {
			i += max(1, n)
			continue
		}
		start := words[i].start
		if i > from && slices.Contains([]string{"a", "an", "the"}, lower[i-1]) && words[i-1].start >= done {
			start = words[i-1].start
		}
		b.WriteString(sentence[done:start] + placeholder)
		done = words[i+n-1].end
		i += n
	}
	return b.String() + sentence[done:]
}

// Negate says the opposite: in a sentence of ours every verdict becomes its opposite, in free text every clause about the user or the item is
// negated ("the user loves jazz" becomes "the user does not love jazz"). What the user did stays as it is. changed is false for a sentence
// of ours without a verdict that has an opposite.
func (r *Renderer) Negate(sentence string) (opposite string, changed bool) {
	if a, ok := r.dissect(sentence); ok {
		changed = a.negate()
		return a.String(), changed
	}
	return negateFree(sentence, r.wording.Noun)
}

// token is a word of a sentence without the punctuation around it.
type token struct {
	text       string
	start, end int // in the sentence
}

// tokens splits a sentence as Mentions does: at white space and , . ! ? ; :, which are no part of a word. A break of the clause gives
// the token ",".
func tokens(sentence string) (out []token) {
	start := -1
	flush := func(end int) {
		if start >= 0 {
			out = append(out, token{sentence[start:end], start, end})
		}
		start = -1
	}
	for i, c := range sentence {
		switch {
		case strings.ContainsRune(",;:", c):
			flush(i)
			out = append(out, token{",", i, i + 1})
		case strings.ContainsRune(".!? \t\n\v\f\r\u0085\u00a0", c):
			flush(i)
		case start < 0:
			start = i
		}
	}
	flush(len(sentence))
	return out
}

// reasonsAt returns the token that the reasons begin with: the one after "because", or the first.
func reasonsAt(words []token) int {
	return slices.IndexFunc(words, func(w token) bool { return strings.EqualFold(w.text, "because") }) + 1
}
