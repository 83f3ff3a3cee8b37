package aspects

import "strings"

// flag says what a word can do in a sentence; words of the lists have several.
type flag uint32

const (
	isDeterminer flag = 1 << iota
	isSubject
	isObject
	isPreposition
	isConjunction
	isCopula
	isAuxiliary
	isNegator
	isDegree
	isAdverb
	isVerb
	isPlain
	isGood
	isBad
	isGeneral
	isSense
	isGovernor
	isNeutral
	notAdjective
	notAdverb
)

const isClosed = isDeterminer | isSubject | isObject | isPreposition | isConjunction | isCopula | isAuxiliary

// flags is one look-up for all lists.
var flags = func() map[string]flag {
	m := make(map[string]flag)
	for f, words := range map[flag]map[string]bool{
		isDeterminer: determiners, isSubject: subjects, isObject: objects, isPreposition: prepositions, isConjunction: conjunctions, isCopula: copulas,
		isAuxiliary: auxiliaries, isNegator: negators, isDegree: degrees, isAdverb: adverbs, isVerb: verbs, isPlain: plain, isGood: seedGood, isBad: seedBad,
		isGeneral: general, isGovernor: governors, isNeutral: neutral, notAdjective: notAdjectives, notAdverb: notAdverbs,
	} {
		for w := range words {
			m[w] |= f
		}
	}
	for w := range senses {
		m[w] |= isSense
	}
	return m
}()

// class is the part of speech that a token is taken for.
type class uint8

const (
	mark class = iota
	function
	determiner
	verb
	adjective
	adverb
	noun
)

// tagged is a token with its class.
type tagged struct {
	token
	flags flag
	class class
}

// tag guesses the parts of speech of a sentence, left to right: by the lists, then by endings, then by place. A word of which nothing is
// known is a noun.
func tag(tokens []token, out []tagged) []tagged {
	out = out[:0]
	for _, t := range tokens {
		out = append(out, tagged{token: t, flags: flags[t.word]})
	}
	for i := range out {
		out[i].class = classOf(out, i)
	}
	return out
}

func classOf(s []tagged, i int) class {
	w, f := s[i].word, s[i].flags
	var before class
	var beforeFlags flag
	if i > 0 {
		before, beforeFlags = s[i-1].class, s[i-1].flags
	}
	// "the sound", "great fit": where only a noun can stand
	nounPlace := before == adjective || before == determiner && !pointing[s[i-1].word]
	open := i+1 == len(s) || s[i+1].word == "," || s[i+1].flags&(isClosed|isNegator) != 0 // no noun follows
	switch {
	case w == ",":
		return mark
	case f&isDeterminer != 0:
		return determiner
	case f&(isVerb|isSense) != 0 && f&(isGood|isBad) == 0:
		if nounPlace && (open || f&isSense != 0) {
			return noun
		}
		return verb
	case f&(isClosed&^isDeterminer) != 0 && f&isVerb == 0:
		return function
	case f&(isGood|isBad) != 0:
		switch {
		case f&isGeneral != 0 || f&isGovernor != 0:
			return verb // problems, lack, love: judged by what they govern
		case strings.HasSuffix(w, "ly") && f&notAdverb == 0 || w == "well":
			return adverb
		}
		return adjective
	case f&(isAdverb|isDegree|isNegator) != 0:
		return adverb
	case f&isPlain != 0:
		if before == determiner && open {
			return noun // "the plastic is"
		}
		return adjective
	case f&isGeneral != 0:
		return noun
	}
	predicate := beforeFlags&isCopula != 0 || beforeFlags&isDegree != 0 && before == adverb
	switch {
	case strings.HasSuffix(w, "ly") && len(w) > 4 && f&notAdverb == 0:
		return adverb
	case adjectival(w, f):
		if before == determiner && open {
			return noun
		}
		return adjective
	case (predicate || afterCopula(s, i)) && open && !strings.HasSuffix(w, "s") && !nounEnding(w):
		return adjective
	case strings.HasSuffix(w, "ed") && len(w) > 4:
		if before == determiner && !open {
			return adjective
		}
		return verb
	case strings.HasSuffix(w, "ing") && len(w) > 5 && !nounPlace && before != noun && beforeFlags&isPreposition == 0:
		return verb
	case w == "to" || beforeFlags&(isAuxiliary|isSubject) != 0 && beforeFlags&isCopula == 0:
		return verb
	}
	return noun
}

// pointing words stand for a noun as often as before one: "this works".
var pointing = set(`this that these those all both each either neither another`)

// afterCopula says whether only adverbs stand between a copula and the word at i.
func afterCopula(s []tagged, i int) bool {
	for j := i - 1; j >= 0 && j >= i-3; j-- {
		switch {
		case s[j].flags&isCopula != 0 && s[j].class != noun:
			return true
		case s[j].class != adverb:
			return false
		}
	}
	return false
}

func adjectival(w string, f flag) bool {
	if f&notAdjective != 0 || len(w) < 6 {
		return false
	}
	for _, e := range adjectiveEndings {
		if strings.HasSuffix(w, e) {
			return true
		}
	}
	return false
}

func nounEnding(w string) bool {
	for _, e := range []string{"tion", "sion", "ment", "ness", "ity", "ance", "ence", "ship"} {
		if strings.HasSuffix(w, e) {
			return true
		}
	}
	return false
}
