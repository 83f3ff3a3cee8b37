package prompts

import (
	"slices"
	"strings"

	"recpie/internal/dataset/terms"
)

// None stands for a verdict that a sentence does not give.
const None = -1

// Mention is one term that a sentence names. Taste and Opinion are indexes into terms.TasteWords and terms.OpinionWords, or None.
type Mention struct {
	Term    int32
	Taste   int
	Opinion int
}

// numbersPerTerm: mentioned, taste, opinion.
const numbersPerTerm = 3

// verdict is a phrase that governs the terms after it.
type verdict struct {
	words []string
	taste bool
	value int
}

// phrases lists the verdicts, longer ones first so that "is not keen on" is not read as another.
var phrases = func() []verdict {
	var ps []verdict
	for i, w := range terms.TasteWords {
		ps = append(ps, verdict{strings.Fields(w), true, i})
	}
	for i, w := range terms.OpinionWords {
		ps = append(ps, verdict{strings.Fields(w), false, i})
	}
	ps = append(ps, verdict{strings.Fields(terms.NewTaste), true, None}, verdict{strings.Fields(terms.NewOpinion), false, None},
		verdict{strings.Fields(mayCare), true, None}, verdict{strings.Fields(mayNotCare), true, None}, verdict{strings.Fields(offers), false, None})
	slices.SortStableFunc(ps, func(a, b verdict) int { return len(b.words) - len(a.words) })
	return ps
}()

// Mentions reads the terms and verdicts out of a sentence, in order of first mention. For sentences of Heuristic it recovers exactly what they say; in free
// text it finds what it can: a verdict governs the terms that follow it until the next verdict or until the sentence turns from user to item; an opinion
// that nothing follows is on the item as a whole, and so on every term.
func (r *Renderer) Mentions(sentence string) []Mention {
	words := strings.Fields(strings.ToLower(strings.NewReplacer(",", " , ", ".", " ", "!", " ", "?", " ", ";", " , ", ":", " , ").Replace(sentence)))
	if i := slices.Index(words, "because"); i >= 0 {
		words = words[i+1:]
	}
	var out []Mention
	at := map[int32]int{}
	var current, bare *verdict // bare: an opinion that has governed nothing so far
	for i := 0; i < len(words); {
		if v, n := matchVerdict(words[i:]); v != nil {
			if current, i = v, i+n; !v.taste {
				bare = v
			}
			continue
		}
		term, n := r.matchTerm(words[i:])
		if n == 0 {
			// "the user" and "the movie" open a part of the sentence: a verdict of the part before does not reach over.
			if words[i] == "user" || words[i] == r.wording.Noun {
				current = nil
			}
			i++
			continue
		}
		k, seen := at[term]
		if !seen {
			k = len(out)
			at[term] = k
			out = append(out, Mention{term, None, None})
		}
		switch {
		case current == nil:
		case current.taste && out[k].Taste == None:
			out[k].Taste = current.value
		case !current.taste && out[k].Opinion == None:
			out[k].Opinion = current.value
		}
		if current == bare {
			bare = nil
		}
		i += n
	}
	for k := range out {
		if bare != nil && out[k].Opinion == None {
			out[k].Opinion = bare.value
		}
	}
	return out
}

func matchVerdict(words []string) (*verdict, int) {
	for i := range phrases {
		p := &phrases[i]
		if len(words) >= len(p.words) && slices.Equal(words[:len(p.words)], p.words) {
			return p, len(p.words)
		}
	}
	return nil, 0
}

func (r *Renderer) matchTerm(words []string) (int32, int) {
	for n := min(r.longest, len(words)); n > 0; n-- {
		if t, ok := r.lookup[strings.Join(words[:n], " ")]; ok {
			return t, n
		}
	}
	return 0, 0
}

// NumbersDim is the length of what Numbers returns.
func (r *Renderer) NumbersDim() int { return numbersPerTerm * len(r.names) }

// Numbers returns the content of a sentence as numbers, three per term of the vocabulary: 1 when it is mentioned, its taste and its opinion from −1 (the
// weakest word) over 0 (the middle one, or none) to 1. It is what the control "the same content as numbers" feeds to the recommender.
func (r *Renderer) Numbers(sentence string) []float32 {
	out := make([]float32, r.NumbersDim())
	for _, m := range r.Mentions(sentence) {
		row := out[numbersPerTerm*m.Term:]
		row[0], row[1], row[2] = 1, strength(m.Taste), strength(m.Opinion)
	}
	return out
}

func strength(word int) float32 {
	if word == None {
		return 0
	}
	return float32(word-2) / 2
}

// Truthful counts the verdicts that a sentence gives and how many of them are those of the record's prompt. A verdict on a term that the item does not have is wrong.
func (r *Renderer) Truthful(rec int32, sentence string) (right, given int) {
	taste, opinion := map[int32]string{}, map[int32]string{}
	for _, c := range r.candidates(rec) {
		taste[c.Term], opinion[c.Term] = c.TasteWord, c.OpinionWord
	}
	for _, m := range r.Mentions(sentence) {
		if m.Taste != None {
			given++
			if taste[m.Term] == terms.TasteWords[m.Taste] {
				right++
			}
		}
		if m.Opinion != None {
			given++
			if opinion[m.Term] == terms.OpinionWords[m.Opinion] {
				right++
			}
		}
	}
	return right, given
}
