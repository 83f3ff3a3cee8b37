package prompts

import (
	"slices"
	"strings"

	"recpie/internal/dataset/terms"
)

// anatomy is a sentence in the words of Heuristic, taken apart. Put together again it is the same sentence, byte for byte.
type anatomy struct {
	head     string // up to and with "because the user "
	noun     string
	care     string // mayCare or mayNotCare where no taste is given, else ""
	tastes   []clause
	opinions []clause
}

// clause is a verdict with the terms that it governs: one for a taste, any number for an opinion, none for an opinion on the item as a whole.
type clause struct {
	phrase string // "loves", "is praised", offers; "" under care
	terms  []int32
	names  []string // as they stand in the sentence
}

// Words of a sentence that gives no reason.
const (
	noTastes   = "has shown no taste for its kind"
	noOpinions = "has not been described"
)

// opposites maps a verdict to its opposite. The middle words and the words for no verdict have none.
var opposites = func() map[string]string {
	m := map[string]string{mayCare: mayNotCare, mayNotCare: mayCare}
	for _, words := range [][5]string{terms.TasteWords, terms.OpinionWords} {
		for i, w := range words {
			if j := len(words) - 1 - i; j != i {
				m[w] = words[j]
			}
		}
	}
	return m
}()

// dissect takes a sentence apart. ok is false for one that is not in the words of Heuristic, or names a term that the prompts do not show.
func (r *Renderer) dissect(sentence string) (a anatomy, ok bool) {
	for _, pol := range Polarities {
		head := "The user " + r.wording.did(pol) + " because the user "
		rest, found := strings.CutPrefix(sentence, head)
		if !found {
			continue
		}
		a = anatomy{head: head, noun: r.wording.Noun}
		user, item, found := strings.Cut(strings.TrimSuffix(rest, "."), " and the "+r.wording.Noun+" ")
		ok = found && r.dissectTastes(&a, user) && r.dissectOpinions(&a, item) && a.String() == sentence
		return a, ok
	}
	return a, false
}

func (r *Renderer) dissectTastes(a *anatomy, text string) bool {
	if text == noTastes {
		return true
	}
	for _, care := range []string{mayNotCare, mayCare} {
		if rest, ok := strings.CutPrefix(text, care+" "); ok {
			a.care, text = care, rest
			break
		}
	}
	for _, part := range splitList(text) {
		c := clause{}
		if a.care == "" {
			if c.phrase = leading(part, tastePhrases); c.phrase == "" {
				return false
			}
			part = strings.TrimPrefix(part, c.phrase+" ")
		}
		if !r.name(&c, part) {
			return false
		}
		a.tastes = append(a.tastes, c)
	}
	return true
}

func (r *Renderer) dissectOpinions(a *anatomy, text string) bool {
	if text == noOpinions {
		return true
	}
	for text != "" {
		c := clause{phrase: leading(text, opinionPhrases)}
		if c.phrase == "" {
			return false
		}
		list, rest := strings.TrimPrefix(text, c.phrase), ""
		// The list ends where " and " opens another verdict.
		for at := 0; ; {
			k := strings.Index(list[at:], " and ")
			if k < 0 {
				break
			}
			at += k + len(" and ")
			if leading(list[at:], opinionPhrases) != "" {
				list, rest = list[:at-len(" and ")], list[at:]
				break
			}
		}
		if list != "" {
			list = strings.TrimPrefix(strings.TrimPrefix(list, " "), "for ")
			for _, part := range splitList(list) {
				if !r.name(&c, part) {
					return false
				}
			}
		}
		a.opinions = append(a.opinions, c)
		text = rest
	}
	return true
}

// name adds a term to a clause, as it stands in the sentence.
func (r *Renderer) name(c *clause, shown string) bool {
	t, ok := r.lookup[strings.TrimPrefix(shown, "the ")]
	c.terms, c.names = append(c.terms, t), append(c.names, shown)
	return ok
}

var (
	tastePhrases   = append(slices.Clone(terms.TasteWords[:]), terms.NewTaste)
	opinionPhrases = append(slices.Clone(terms.OpinionWords[:]), terms.NewOpinion, offers)
)

// leading returns the phrase that text begins with, as whole words, "" for none.
func leading(text string, phrases []string) string {
	for _, p := range phrases {
		if rest, ok := strings.CutPrefix(text, p); ok && (rest == "" || rest[0] == ' ') {
			return p
		}
	}
	return ""
}

// splitList undoes join.
func splitList(text string) []string {
	parts := strings.Split(text, ", ")
	last := len(parts) - 1
	if a, b, ok := strings.Cut(parts[last], " and "); ok {
		parts = append(parts[:last], a, b)
	}
	return parts
}

// String puts the sentence together.
func (a anatomy) String() string { return a.sentence(noTastes, noOpinions) }

// shortened puts together what is left of a sentence: the part on the user or the item is left out with its last reason, and without any
// part there is no sentence. The words of a sentence that never had a reason would say something new.
func (a anatomy) shortened() string {
	switch {
	case len(a.tastes) == 0 && len(a.opinions) == 0:
		return ""
	case len(a.tastes) == 0:
		return strings.TrimSuffix(a.head, "the user ") + strings.TrimPrefix(a.sentence("", ""), a.head+" and ")
	case len(a.opinions) == 0:
		return strings.TrimSuffix(a.sentence("", ""), " and the "+a.noun+" .") + "."
	}
	return a.String()
}

// sentence puts the parts together; user and item stand for parts without a reason.
func (a anatomy) sentence(user, item string) string {
	var tastes, opinions []string
	for _, c := range a.tastes {
		tastes = append(tastes, strings.TrimSpace(c.phrase+" "+c.names[0]))
	}
	for _, c := range a.opinions {
		text := c.phrase
		if len(c.names) > 0 && c.phrase != offers {
			text += " for"
		}
		opinions = append(opinions, strings.TrimSpace(text+" "+join(c.names)))
	}
	if len(tastes) > 0 {
		user = strings.TrimSpace(a.care + " " + join(tastes))
	}
	if len(opinions) > 0 {
		item = strings.Join(opinions, " and ")
	}
	return a.head + user + " and the " + a.noun + " " + item + "."
}

// negate turns every verdict into its opposite; changed is false when none has one.
func (a *anatomy) negate() (changed bool) {
	if to, ok := opposites[a.care]; ok {
		a.care, changed = to, true
	}
	for _, cs := range [][]clause{a.tastes, a.opinions} {
		for i := range cs {
			if to, ok := opposites[cs[i].phrase]; ok {
				cs[i].phrase, changed = to, true
			}
		}
	}
	return changed
}

// without takes terms out. A verdict that governs nothing any more goes with them; one on the item as a whole stays. changed is false when
// none of the terms was there.
func (a *anatomy) without(gone func(term int32) bool) (changed bool) {
	keep := func(cs []clause) (out []clause) {
		for _, c := range cs {
			kept := clause{phrase: c.phrase}
			for k, t := range c.terms {
				if gone(t) {
					changed = true
				} else {
					kept.terms, kept.names = append(kept.terms, t), append(kept.names, c.names[k])
				}
			}
			if len(kept.terms) > 0 || len(c.terms) == 0 {
				out = append(out, kept)
			}
		}
		return out
	}
	a.tastes, a.opinions = keep(a.tastes), keep(a.opinions)
	return changed
}

// strength is what a clause says of each of its terms, or of the item as a whole, from −1 to 1; 0 where its phrase is no verdict.
func (c clause) strength() float32 {
	for _, words := range [][5]string{terms.TasteWords, terms.OpinionWords} {
		if i := slices.Index(words[:], c.phrase); i >= 0 {
			return strength(i)
		}
	}
	return 0
}
