package prompts

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// denial denies a whole sentence in which no clause is found.
const denial = "it is not true that "

// Words that rules of English grammar go by. They are few: what they miss is denied as a whole.
var (
	people     = words("user consumer customer viewer reader listener guest player visitor person item product")
	pronouns   = words("he she it they i we you who which")
	plural     = words("they i we you")
	adverbs    = words("also always often usually really just still even truly very much sometimes perhaps probably generally simply")
	attitudes  = words("loves likes enjoys dislikes hates prefers wants values appreciates favors favours adores seeks avoids needs finds offers features lacks has cares")
	auxiliary  = words("is are was were can could will would should may might must does do did")
	notVerbs   = words("as this his its us less plus always perhaps sometimes yes thus series")
	participle = words("been shown had given made seen done known found grown become got gotten written taken gone kept left met read said told thought felt")
	expanded   = map[string]string{"isn't": "is", "aren't": "are", "wasn't": "was", "weren't": "were", "doesn't": "does", "don't": "do", "didn't": "did",
		"can't": "can", "cannot": "can", "couldn't": "could", "won't": "will", "wouldn't": "would", "shouldn't": "should", "hasn't": "has", "haven't": "have", "hadn't": "had"}
)

func words(list string) map[string]bool {
	m := map[string]bool{}
	for w := range strings.FieldsSeq(list) {
		m[w] = true
	}
	return m
}

// change replaces sentence[start:end] by text.
type change struct {
	start, end int
	text       string
}

// negateFree negates the clauses of free text: the verb after a subject, and verbs that "and", "but", "or" or a comma add to it.
func negateFree(sentence, noun string) (string, bool) {
	ws := tokens(sentence)
	if len(ws) == 0 {
		return sentence, false
	}
	from := reasonsAt(ws)
	if from == len(ws) {
		from = 0
	}
	rest := sentence[ws[from].start:]
	if len(rest) > len(denial) && strings.EqualFold(rest[:len(denial)], denial) {
		return sentence[:ws[from].start] + rest[len(denial):], true
	}
	lower := make([]string, len(ws))
	for i, w := range ws {
		lower[i] = strings.ReplaceAll(strings.ToLower(w.text), "’", "'")
	}
	var changes []change
	many, inside := false, false // of the subject; whether a clause was negated that others may join
	for i := from; i < len(ws); {
		n := subject(lower[i:], noun)
		joined := inside && n == 0 && i+1 < len(ws) && slices.Contains([]string{"and", "but", "or", ","}, lower[i])
		if n == 0 && !joined {
			i++
			continue
		}
		at := i + max(n, 1)
		if n > 0 {
			many, inside = plural[lower[i]], false
		}
		for at < len(ws) && (adverbs[lower[at]] || strings.HasSuffix(lower[at], "ly")) {
			at++
		}
		if at >= len(ws) {
			break
		}
		if joined && !attitudes[lower[at]] && !auxiliary[lower[at]] && expanded[lower[at]] == "" {
			i++
			continue
		}
		if c, taken := negateVerb(ws[at:], lower[at:], many); taken > 0 {
			changes = append(changes, c)
			inside, i = true, at+taken
			continue
		}
		i++
	}
	if len(changes) == 0 {
		return sentence[:ws[from].start] + denied(rest, from == 0), true
	}
	var b strings.Builder
	done := 0
	for _, c := range changes {
		b.WriteString(sentence[done:c.start] + c.text)
		done = c.end
	}
	return b.String() + sentence[done:], true
}

// denied puts the denial before a text; at the beginning of a sentence it takes the capital letter.
func denied(text string, first bool) string {
	if !first {
		return denial + text
	}
	c, n := utf8.DecodeRuneInString(text)
	return "It" + denial[2:] + string(unicode.ToLower(c)) + text[n:]
}

// subject returns how many words at the beginning are the subject of a clause, 0 for none.
func subject(lower []string, noun string) int {
	if pronouns[lower[0]] {
		return 1
	}
	if lower[0] != "the" && lower[0] != "this" {
		return 0
	}
	if len(lower) > 1 && people[lower[1]] {
		return 2
	}
	if n := strings.Fields(strings.ToLower(noun)); len(n) > 0 && len(lower) > len(n) && slices.Equal(lower[1:1+len(n)], n) {
		return 1 + len(n)
	}
	return 0
}

// negateVerb negates the verb that ws begins with, or takes its negation away. taken is the number of words it covers, 0 when it is no verb
// that the rules know.
func negateVerb(ws []token, lower []string, many bool) (c change, taken int) {
	verb, next := lower[0], ""
	if len(lower) > 1 {
		next = lower[1]
	}
	replace := func(n int, text string) (change, int) { return change{ws[0].start, ws[n-1].end, text}, n }
	if short := expanded[verb]; short != "" {
		return positive(short, next, 1, replace)
	}
	perfect := (verb == "has" || verb == "have" || verb == "had") && (participle[next] || strings.HasSuffix(next, "ed") || next == "not" || next == "never")
	switch {
	case (auxiliary[verb] || perfect) && (next == "not" || next == "never"):
		third := ""
		if len(lower) > 2 {
			third = lower[2]
		}
		return positive(verb, third, 2, replace)
	case auxiliary[verb] || perfect:
		return replace(1, ws[0].text+" not")
	case verb == "had":
		return replace(1, "did not have")
	case strings.HasSuffix(verb, "ed") && len(verb) > 3:
		return replace(1, "never "+ws[0].text)
	case verb == "never" && next != "":
		return replace(2, ws[1].text)
	case many && verb != "and" && verb != ",":
		return replace(1, "do not "+ws[0].text)
	case len(verb) > 2 && strings.HasSuffix(verb, "s") && !strings.HasSuffix(verb, "ss") && !notVerbs[verb]:
		return replace(1, "does not "+bare(verb))
	}
	return change{}, 0
}

// positive undoes a negation: n words are it, verb is its auxiliary and main the word after it.
func positive(verb, main string, n int, replace func(int, string) (change, int)) (change, int) {
	switch {
	case verb == "does" && main != "" && main != ",":
		return replace(n+1, third(main))
	case verb == "do" && main != "" && main != ",":
		return replace(n+1, main)
	}
	return replace(n, verb)
}

// bare returns the base form of a verb in the third person.
func bare(verb string) string {
	switch {
	case verb == "has":
		return "have"
	case len(verb) > 4 && strings.HasSuffix(verb, "ies"):
		return verb[:len(verb)-3] + "y"
	}
	for _, end := range []string{"sses", "ches", "shes", "xes", "zzes", "oes"} {
		if strings.HasSuffix(verb, end) {
			return verb[:len(verb)-2]
		}
	}
	return verb[:len(verb)-1]
}

// third returns the third person of a verb in its base form.
func third(verb string) string {
	if verb == "have" {
		return "has"
	}
	for _, end := range []string{"s", "x", "zz", "ch", "sh", "o"} {
		if strings.HasSuffix(verb, end) {
			return verb + "es"
		}
	}
	if stem, ok := strings.CutSuffix(verb, "y"); ok && stem != "" && !strings.ContainsRune("aeiou", rune(stem[len(stem)-1])) {
		return stem + "ies"
	}
	return verb + "s"
}
