package prompts

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	mostTerms     = 3
	wordsOfTerm   = 3
	mostSentences = 5
)

// ParsedTerms is an accepted answer to a question for terms.
type ParsedTerms struct {
	Terms  []string // one to three, distinct, in lower case, of at most three words
	Strict bool     // the answer was these terms in the format that was asked for, and nothing else
}

var (
	// listed separates terms: marks, lines, bars, and the words that stand before the last.
	listed = regexp.MustCompile(`[,;\n|/•]+|\s+(?:and|&)\s+|\s[-–—]\s`)
	// introduction is what stands before a list: "Terms:", "Here are three terms:", "The review speaks most of:".
	introduction = regexp.MustCompile(`(?i)^[^:\n]{0,80}\b(?:terms?|aspects?|are|is|of|first|answer|output|response)[^:\n]{0,40}:\s*`)
	numbered     = regexp.MustCompile(`^(?:[-*•>#]+\s*|\(?\d{1,2}[.):]\s*)+`)
	withinTerm   = regexp.MustCompile(`[.!?:"(){}\[\]=\\]`)
	invented     = regexp.MustCompile(`(?i)\b\d+(?:\.\d+)?\s*(?:/\s*\d+|stars?\b|out of\b|of 5\b|of five\b)|\b(?:one|two|three|four|five)[- ]stars?\b|\brat(?:ed|ing of)\s+\d|\baverage rating\b`)
)

// heading is what stands before a profile.
var heading = regexp.MustCompile(`(?i)^(?:[a-z]+ )?profile(?: of [^:.\n]{0,80})?:\s*`)

// notTerms say that there is none, or stand for one.
var notTerms = []string{"none", "no aspects", "no terms", "n/a", "na", "nothing", "null", "first", "second", "third", "etc", "and", "or", "the", "other"}

// ParseTerms reads up to three terms out of an answer. It is lenient about what models add (an introduction, bullets, numbers, quotes, JSON's
// brackets, further terms) and strict about each term, which is dropped when it is a sentence, markup or no word. An answer of which no term is left is rejected.
func ParseTerms(answer string) (ParsedTerms, *Rejection) {
	if len(answer) > maxAnswer {
		answer = strings.ToValidUTF8(answer[:maxAnswer], "")
	}
	if !utf8.ValidString(answer) {
		return ParsedTerms{}, &Rejection{ControlText}
	}
	raw := strings.TrimSpace(answer)
	if html.MatchString(raw) {
		return ParsedTerms{}, &Rejection{Markup}
	}
	text := emphasis.Replace(raw)
	text = introduction.ReplaceAllString(strings.TrimSpace(text), "")
	var out ParsedTerms
	if slices.Contains(notTerms, strings.ToLower(strings.Trim(text, " ."+quotes))) {
		text = ""
	}
	for _, part := range listed.Split(text, -1) {
		if t := term(part); t != "" && !slices.Contains(out.Terms, t) {
			if out.Terms = append(out.Terms, t); len(out.Terms) == mostTerms {
				break
			}
		}
	}
	if len(out.Terms) == 0 {
		if strings.Trim(raw, " .!?,"+quotes) == "" {
			return out, &Rejection{Empty}
		}
		return out, &Rejection{NoTerms}
	}
	out.Strict = strings.Join(out.Terms, ", ") == raw
	return out, nil
}

// term makes a term of one part of a list, "" when it is none. What it returns, it returns again.
func term(s string) string {
	for {
		next := strippedTerm(s)
		if next == s || next == "" {
			return next
		}
		s = next
	}
}

func strippedTerm(s string) string {
	if link.MatchString(s) {
		return ""
	}
	s = numbered.ReplaceAllString(strings.TrimSpace(s), "")
	s = strings.Trim(strings.TrimSpace(s), quotes+".*_[](){} \t")
	if withinTerm.MatchString(s) || utf8.RuneCountInString(s) > maxTerm {
		return ""
	}
	s = clean(strings.ToLower(s), maxTerm)
	s = strings.Trim(strings.TrimPrefix(s, "the "), quotes+" -.,;:")
	words := strings.Fields(s)
	first, _ := utf8.DecodeRuneInString(s)
	if utf8.RuneCountInString(s) < 2 || len(words) > wordsOfTerm || slices.Contains(notTerms, s) || !unicode.IsLetter(first) && !unicode.IsDigit(first) ||
		!strings.ContainsFunc(s, unicode.IsLetter) || withinTerm.MatchString(s) || listed.MatchString(s) || s != strings.ToLower(s) {
		return ""
	}
	return s
}

// ParseProfile makes a profile of an answer: its first five whole sentences, without those that state a rating, which nobody told the model. What
// is broken off at the end is dropped. The profile is clean: one line, no markup, no address.
func ParseProfile(answer string) (string, *Rejection) {
	if len(answer) > maxAnswer {
		answer = strings.ToValidUTF8(answer[:maxAnswer], "")
	}
	if !utf8.ValidString(answer) {
		return "", &Rejection{ControlText}
	}
	rest := strings.Join(strings.Fields(heading.ReplaceAllString(strip(answer), "")), " ")
	var kept []string
	why := Empty
	for n := 0; n < mostSentences && rest != ""; n++ {
		sentence, ended := firstSentence(rest)
		rest = strings.TrimSpace(strings.TrimPrefix(rest, sentence))
		sentence = strings.TrimRight(unquote(strings.TrimLeft(sentence, quotes+" ")), "*_ ")
		switch reason := inspect(sentence); {
		case reason == Markup || reason == Link || reason == ControlText:
			return "", &Rejection{reason}
		case reason == TooShort && ended || reason == 0 && ended:
			if invented.MatchString(sentence) {
				why = InventedRating
				continue
			}
			kept = append(kept, sentence)
		case reason != 0:
			why = reason
		default:
			why = Unfinished
		}
	}
	profile := clean(strings.Join(kept, " "), maxWritten)
	if len(strings.Fields(profile)) < 4 {
		return "", &Rejection{why}
	}
	return profile, nil
}

// maxWritten is how many runes of a written profile are kept.
const maxWritten = 800
