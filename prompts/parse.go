package prompts

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Reason says why an answer was rejected. Its String is the word used in metrics, in the store and in the documentation.
type Reason int

// The reasons of rejection.
const (
	Empty          Reason = iota + 1 // nothing but white space, quotes or a prefix
	TooShort                         // fewer than four words
	TooLong                          // more than maxWords words or maxBytes bytes in the first sentence
	Markup                           // HTML, or a control token of a chat template
	Link                             // a web address
	ControlText                      // control, direction or other invisible characters, or bytes that are not UTF-8
	NotASentence                     // no words to speak of, or no letter at its beginning
	Unfinished                       // breaks off before the end of the sentence
	WrongPolarity                    // explains the opposite of what was asked
	NoTerms                          // an answer to a question for terms that holds none
	InventedRating                   // a profile that says little else than a rating
)

var reasonNames = [...]string{
	Empty: "empty", TooShort: "too_short", TooLong: "too_long", Markup: "markup", Link: "link", ControlText: "control_text",
	NotASentence: "not_a_sentence", Unfinished: "unfinished", WrongPolarity: "wrong_polarity", NoTerms: "no_terms", InventedRating: "invented_rating",
}

// String returns the reason as one lower-case word with underscores.
func (r Reason) String() string {
	if r < Empty || int(r) >= len(reasonNames) {
		return "unknown"
	}
	return reasonNames[r]
}

// Rejection is an answer that is no explanation. It is an error, so that it can be passed on as one.
type Rejection struct{ Reason Reason }

// Error returns the reason.
func (r *Rejection) Error() string { return "prompts: answer rejected: " + r.Reason.String() }

// Parsed is an accepted explanation.
type Parsed struct {
	Sentence string // exactly one sentence on one line, ending in . ! or ?
	Strict   bool   // the answer was this sentence and nothing else, in the format that was asked for
}

const (
	maxWords = 80
	maxBytes = 800
	// maxAnswer bounds the work on an answer; what comes later cannot belong to a first sentence of maxBytes.
	maxAnswer = 8 << 10
)

var (
	// preface matches what models put before the answer.
	preface  = regexp.MustCompile(`(?i)^(?:(?:the )?(?:answer|response|output|explanation|reason|assistant)\s*(?:is)?\s*[:\-]+|(?:sure|certainly|of course)\s*[,!.:]+|here(?: is|'s|’s)[^:.!?]{0,80}:)\s*`)
	bullet   = regexp.MustCompile(`^(?:#{1,6}\s+|[-*•>]\s+|\d{1,2}[.)]\s+)`)
	html     = regexp.MustCompile(`<[a-zA-Z/!|?][^<>]*>|&(?:[a-z]{2,8}|#\d{1,6});|\[/?INST\]`)
	link     = regexp.MustCompile(`(?i)\b[a-z][a-z0-9+.-]{1,10}://|\bwww\.|\b[a-z0-9-]+\.(?:com|net|org|io|info|ru|cn|co)\b(?:/|\b)|\bjavascript:|\bmailto:`)
	emphasis = strings.NewReplacer("**", "", "__", "", "```", "", "`", "")
)

// Parse makes exactly one sentence of a model's answer. It is lenient about what models add — quotes, "Answer:", Markdown, further sentences — and about the
// style (the paper's own examples say "The consumer is looking for …"), and strict about what must never reach a store or a page.
// Whether the asked format was met is reported apart, in Parsed.Strict.
func Parse(answer string, w Wording, pol Polarity) (Parsed, *Rejection) {
	if len(answer) > maxAnswer {
		answer = strings.ToValidUTF8(answer[:maxAnswer], "")
	}
	if !utf8.ValidString(answer) {
		return Parsed{}, &Rejection{ControlText}
	}
	raw := strings.TrimSpace(answer)
	text := strings.Join(strings.Fields(strip(raw)), " ")
	sentence, ended := firstSentence(text)
	sentence = strings.TrimRight(unquote(sentence), "*_ ")
	reason := inspect(sentence)
	if reason == 0 && !ended {
		if dangling(sentence) {
			return Parsed{}, &Rejection{Unfinished}
		}
		sentence = strings.TrimRight(sentence, " ,;:-–—") + "."
		reason = inspect(sentence)
	}
	if reason != 0 {
		return Parsed{}, &Rejection{reason}
	}
	if strings.HasPrefix(sentence, "The user "+w.did(1-pol)+" ") {
		return Parsed{}, &Rejection{WrongPolarity}
	}
	return Parsed{sentence, raw == sentence && w.formatted(sentence, pol)}, nil
}

// formatted says whether a sentence is 'The user watched this movie because the user … and the movie ….'
func (w Wording) formatted(s string, pol Polarity) bool {
	rest, ok := strings.CutPrefix(s, "The user "+w.did(pol)+" because the user ")
	if !ok {
		return false
	}
	user, item, ok := strings.Cut(rest, " and the "+w.Noun+" ")
	return ok && strings.TrimSpace(user) != "" && strings.Trim(item, " .") != "" && strings.HasSuffix(item, ".")
}

// strip takes off prefaces, bullets, emphasis and quotes, in whatever order they were put on.
func strip(s string) string {
	s = emphasis.Replace(s)
	for {
		before := s
		s = strings.TrimSpace(s)
		s = bullet.ReplaceAllString(s, "")
		s = preface.ReplaceAllString(s, "")
		s = strings.TrimLeft(s, quotes)
		if s == before {
			return s
		}
	}
}

const quotes = "\"'“”‘’«»"

// unquote takes off quotes that end a sentence without having begun in it.
func unquote(s string) string {
	for {
		last, size := utf8.DecodeLastRuneInString(s)
		if size == 0 || !strings.ContainsRune(quotes, last) || strings.Count(s, string(last))%2 == 0 && strings.ContainsRune("\"'", last) {
			return s
		}
		s = strings.TrimRight(s[:len(s)-size], " ")
	}
}

// firstSentence cuts text after its first sentence. ended is false when the text stops before one does.
func firstSentence(text string) (sentence string, ended bool) {
	for i, c := range text {
		if c != '.' && c != '!' && c != '?' {
			continue
		}
		end := i + 1
		for end < len(text) && strings.ContainsRune(".!?", rune(text[end])) {
			end++
		}
		after := strings.TrimLeft(text[end:], quotes+")*_")
		if after == "" {
			return text[:end], true
		}
		if after[0] != ' ' || c == '.' && abbreviation(text[:i]) {
			continue
		}
		if next, _ := utf8.DecodeRuneInString(strings.TrimLeft(after, " "+quotes)); unicode.IsLower(next) && c == '.' {
			continue
		}
		return text[:end], true
	}
	return text, false
}

// abbreviation says whether the full stop after text belongs to its last word: a title, a single capital letter, or "vs." and the like.
func abbreviation(text string) bool {
	word := text[strings.LastIndexByte(text, ' ')+1:]
	word = strings.TrimLeft(word, quotes+"(")
	switch strings.ToLower(word) {
	case "mr", "mrs", "ms", "dr", "st", "jr", "sr", "vs", "no", "vol", "prof", "e.g", "i.e", "etc", "approx", "u.s", "u.k":
		return true
	}
	r, size := utf8.DecodeRuneInString(word)
	return size > 0 && size == len(word) && unicode.IsUpper(r) && r != 'I'
}

// inspect returns the first thing that is wrong with a sentence, 0 when nothing is.
func inspect(s string) Reason {
	bare := strings.Trim(s, " .!?,"+quotes)
	if bare == "" {
		return Empty
	}
	letters, runes := 0, 0
	for _, r := range s {
		if !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S) && r != ' ' || r >= 0xFE00 && r <= 0xFE0F {
			return ControlText
		}
		runes++
		if unicode.IsLetter(r) {
			letters++
		}
	}
	words := strings.Fields(s)
	first, _ := utf8.DecodeRuneInString(s)
	switch {
	// The characters that every match holds are looked for first: the expressions cost more than all the rest.
	case strings.ContainsAny(s, "<>&[") && (html.MatchString(s) || strings.Contains(s, "<|") || strings.Contains(s, "|>")):
		return Markup
	case strings.ContainsAny(bare, ".:") && link.MatchString(s):
		return Link
	case len(words) > maxWords || len(s) > maxBytes:
		return TooLong
	case len(words) < 4:
		return TooShort
	case letters*2 < runes || !unicode.IsLetter(first) && !unicode.IsDigit(first):
		return NotASentence
	}
	return 0
}

// dangling says whether a text without an end mark breaks off in the middle: its last word demands another.
func dangling(s string) bool {
	words := strings.Fields(strings.TrimRight(s, " ,;:-"))
	switch strings.ToLower(words[len(words)-1]) {
	case "a", "an", "the", "and", "or", "but", "because", "of", "for", "to", "in", "on", "at", "with", "by", "from", "as", "that", "which", "this", "their",
		"user", "is", "are", "was", "not", "loves", "likes", "dislikes", "offers", "while", "who", "than", "its", "his", "her", "very", "new", "keen":
		return true
	}
	return strings.HasSuffix(s, ",")
}
