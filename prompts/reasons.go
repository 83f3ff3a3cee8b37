package prompts

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"recpie/internal/dataset/terms"
)

// Words of an explanation whose prompt shows no taste or no opinions.
const (
	mayCare    = "may care for"
	mayNotCare = "may not care for"
	offers     = "offers"
)

// clauses is how many reasons an explanation of ours gives: three were clearly better than one.
const clauses = 3

func (r *Renderer) setNames(names []string) {
	r.names = make([]string, len(names))
	for i, n := range names {
		// A name that holds the sentence's own joints would make two readings of one sentence.
		n = strings.ToLower(strings.NewReplacer(",", " ", ".", " ", "!", " ", "?", " ", ":", " ", ";", " ").Replace(r.clean(n, maxTerm)))
		n = strings.Join(slices.DeleteFunc(strings.Fields(n), func(w string) bool { return w == "and" || w == "the" }), " ")
		if n == "" || r.reserved(n) || r.redactor != nil && strings.Contains(n, removed) {
			continue
		}
		r.names[i] = n
		if _, taken := r.lookup[n]; !taken {
			r.lookup[n] = int32(i)
		}
		r.longest = max(r.longest, len(strings.Fields(n)))
	}
}

// Term returns a term's name as prompts show it, "" for one that they do not.
func (r *Renderer) Term(t int32) string {
	if t < 0 || int(t) >= len(r.names) {
		return ""
	}
	return r.names[t]
}

// reserved says whether a name holds a word that the sentence itself uses as a joint or a verdict, or one that names a speaker.
func (r *Renderer) reserved(name string) bool {
	joints := []string{"user", "assistant", "system", "human", "because", r.wording.Noun, "loves", "likes", "dislikes", offers}
	return slices.ContainsFunc(strings.Fields(name), func(w string) bool { return slices.Contains(joints, w) })
}

// show writes a term's name as it stands in a sentence: decades take an article.
func show(name string) string {
	if name[0] >= '0' && name[0] <= '9' {
		return "the " + name
	}
	return name
}

// candidates returns the terms of a record's item that the prompt shows, in the order of the profile.
func (r *Renderer) candidates(rec int32) []terms.Candidate {
	if r.terms == nil {
		return nil
	}
	var out []terms.Candidate
	for _, c := range r.terms.For(rec) {
		if len(out) < r.set.Terms && c.Term >= 0 && int(c.Term) < len(r.names) && r.names[c.Term] != "" {
			out = append(out, c)
		}
	}
	return out
}

func (r *Renderer) verdictsHeader() string {
	switch {
	case r.set.Taste && r.set.Opinions:
		return "The user's taste and what others found, per term, best first:\n"
	case r.set.Taste:
		return "The user's taste, per term, best first:\n"
	case r.set.Opinions:
		return "What others found, per term, best first:\n"
	default:
		return "Terms:\n"
	}
}

// verdicts writes one line per term, the strongest reason for the item first, in the very words and order that a sentence would use:
// a small model learns to copy long before it learns to compare.
func (r *Renderer) verdicts(rec int32) []string {
	var lines []string
	cs := r.ranked(rec, Positive)
	common := r.common(cs)
	for _, c := range cs {
		name := show(r.names[c.Term])
		var parts []string
		if r.set.Taste {
			parts = append(parts, "the user "+c.TasteWord+" "+name)
		}
		if r.set.Opinions && common == "" {
			parts = append(parts, "the "+r.wording.Noun+" "+c.OpinionWord+" for "+name)
		}
		if len(parts) == 0 {
			parts = []string{r.names[c.Term]}
		}
		lines = append(lines, strings.Join(parts, " and "))
	}
	if common != "" {
		lines = append(lines, "the "+r.wording.Noun+" "+common)
	}
	return lines
}

// common returns the opinion that all shown terms of an item share, as they do where opinions are about the item as a whole. It is then
// said once, of the item. "" when they differ or are not shown.
func (r *Renderer) common(cs []terms.Candidate) string {
	if !r.set.Opinions || len(cs) == 0 {
		return ""
	}
	for _, c := range cs {
		if c.OpinionWord != cs[0].OpinionWord {
			return ""
		}
	}
	return cs[0].OpinionWord
}

// Heuristic returns the fixed explanation: the three strongest reasons for (Positive) or against (Negative), in the paper's format, as
// "The user watched this movie because the user loves comedy, likes drama and likes the 1990s era and the movie is praised for comedy and
// drama and is found fair for the 1990s era", or "… and the movie is praised" where all terms share the opinion. It uses only what the
// prompt shows.
func (r *Renderer) Heuristic(rec int32, pol Polarity) string {
	cs := r.ranked(rec, pol)
	return r.sentence(cs[:min(clauses, len(cs))], pol, r.common(cs))
}

// SampleHeuristic draws up to three reasons, the stronger the likelier (the k-th by strength has weight e^(−k/1.5)), so that a model
// trained on such sentences knows the best ones and still has a choice that PPO can sharpen. Two of five draws leave one or two reasons out: many
// items have no more than three terms, and without it there would be nothing to choose between for them.
func (r *Renderer) SampleHeuristic(rec int32, pol Polarity, rng *rand.Rand) string {
	cs := r.ranked(rec, pol)
	// The three largest of log-weight plus Gumbel noise are a draw without replacement by these weights.
	keys := make([]float64, len(cs))
	order := make([]int, len(cs))
	for k := range cs {
		keys[k] = -float64(k)/1.5 - math.Log(-math.Log(math.Max(rng.Float64(), 1e-300)))
		order[k] = k
	}
	slices.SortStableFunc(order, func(a, b int) int { return compare(keys[b], keys[a]) })
	take := min(clauses, len(order))
	if u := rng.Float64(); u < .15 {
		take -= 2
	} else if u < .4 {
		take--
	}
	order = order[:min(max(take, 1), len(order))]
	slices.Sort(order)
	picked := make([]terms.Candidate, len(order))
	for i, k := range order {
		picked[i] = cs[k]
	}
	return r.sentence(picked, pol, r.common(cs))
}

// ranked returns the shown terms, the strongest reason for the polarity first. A term's strength is the sum of the shown verdicts; an absent one counts 0.
func (r *Renderer) ranked(rec int32, pol Polarity) []terms.Candidate {
	cs := r.candidates(rec)
	score := func(c terms.Candidate) float64 {
		sum := 0.0
		if r.set.Taste && c.Taste == c.Taste {
			sum += float64(c.Taste)
		}
		if r.set.Opinions && c.Opinion == c.Opinion {
			sum += float64(c.Opinion)
		}
		if pol == Negative {
			return sum
		}
		return -sum
	}
	slices.SortStableFunc(cs, func(a, b terms.Candidate) int { return compare(score(a), score(b)) })
	return cs
}

func compare(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// sentence writes the reasons in the order given; common is the opinion on the item as a whole, "" when each term has its own.
func (r *Renderer) sentence(cs []terms.Candidate, pol Polarity, common string) string {
	head := "The user " + r.wording.did(pol) + " because the user "
	if len(cs) == 0 {
		return head + "has shown no taste for its kind and the " + r.wording.Noun + " has not been described."
	}
	var tastes []string
	groups, byWord := []string{}, map[string][]string{} // opinion words in order of first use
	for _, c := range cs {
		name := show(r.names[c.Term])
		switch {
		case r.set.Taste:
			tastes = append(tastes, c.TasteWord+" "+name)
		default:
			tastes = append(tastes, name)
		}
		word := offers
		if r.set.Opinions {
			word = c.OpinionWord + " for"
		}
		if byWord[word] == nil {
			groups = append(groups, word)
		}
		byWord[word] = append(byWord[word], name)
	}
	care := ""
	if !r.set.Taste {
		care = mayCare + " "
		if pol == Negative {
			care = mayNotCare + " "
		}
	}
	if common != "" {
		return head + care + join(tastes) + " and the " + r.wording.Noun + " " + common + "."
	}
	var opinions []string
	for _, g := range groups {
		opinions = append(opinions, g+" "+join(byWord[g]))
	}
	return head + care + join(tastes) + " and the " + r.wording.Noun + " " + strings.Join(opinions, " and ") + "."
}

// join returns "a", "a and b" or "a, b and c".
func join(parts []string) string {
	if len(parts) < 2 {
		return strings.Join(parts, "")
	}
	return strings.Join(parts[:len(parts)-1], ", ") + " and " + parts[len(parts)-1]
}
