package aspects

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a word or a mark of a sentence.
type token struct {
	word string // lower case; "," for any mark that ends a clause
	raw  span   // of the text
}

// span is text[from:to] of a review, in bytes.
type span struct{ from, to int32 }

// maxSentence bounds the words of one sentence: a text without any full stop is cut.
const maxSentence = 120

// sentences calls fn with each sentence of a text, in order. The tokens are valid until fn returns.
func sentences(text string, fn func(at span, tokens []token)) {
	var tokens []token
	start := -1
	words := 0
	flush := func(end int) {
		if words > 0 {
			fn(span{int32(start), int32(end)}, tokens)
		}
		tokens, start, words = tokens[:0], -1, 0
	}
	for i := 0; i < len(text); {
		c, n := rune(text[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(text[i:])
		}
		switch {
		case letter(c):
			end := wordEnd(text, i)
			if start < 0 {
				start = i
			}
			if w := normal(text[i:end]); w != "" {
				tokens = append(tokens, token{w, span{int32(i), int32(end)}})
				words++
			}
			i = end
			if words >= maxSentence {
				flush(i)
			}
			continue
		case c == '.' && inside(text, i):
		case c == '.' || c == '!' || c == '?' || c == '\n':
			for i+n < len(text) && strings.IndexByte(".!?", text[i+n]) >= 0 {
				n++
			}
			if start >= 0 {
				flush(i + n)
			}
		case c == ',' || c == ';' || c == ':' || c == '(' || c == ')' || c == '-' && i+1 < len(text) && !letterAt(text, i+1) || c == '—' || c == '–':
			if k := len(tokens); k > 0 && tokens[k-1].word != "," {
				tokens = append(tokens, token{",", span{int32(i), int32(i + n)}})
			}
		}
		i += n
	}
	flush(len(text))
}

func letter(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= utf8.RuneSelf && unicode.IsLetter(c)
}

func letterAt(text string, i int) bool {
	c, _ := utf8.DecodeRuneInString(text[i:])
	return letter(c)
}

// inside says whether a full stop stands within a number or an abbreviation: "4.5", "e.g.", "U.S."
func inside(text string, i int) bool {
	if i+1 < len(text) && text[i+1] >= '0' && text[i+1] <= '9' {
		return true
	}
	return i >= 1 && letter(rune(text[i-1])) && (i == 1 || text[i-2] == ' ' || text[i-2] == '.' || text[i-2] == '(') && i+1 < len(text) && (text[i+1] != ' ' || text[i-1] != 'I')
}

// wordEnd returns where the word that begins at i ends. Apostrophes between letters belong to it, hyphens do not.
func wordEnd(text string, i int) int {
	for i < len(text) {
		c, n := rune(text[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(text[i:])
		}
		if (c == '\'' || c == '’') && i+n < len(text) && letterAt(text, i+n) || letter(c) {
			i += n
			continue
		}
		break
	}
	return i
}

// normal lower-cases a word and takes a genitive off, "" for what is no word.
func normal(w string) string {
	w = strings.ToLower(w)
	if strings.Contains(w, "’") {
		w = strings.ReplaceAll(w, "’", "'")
	}
	if stem, ok := strings.CutSuffix(w, "'s"); ok && !copulas[w] {
		w = stem
	}
	if len(w) > 30 {
		return ""
	}
	return w
}

// ieWords end in -ie in the singular.
var ieWords = set(`movie cookie zombie calorie indie rookie selfie tie pie lie die brownie smoothie veggie foodie`)

// Singular puts a plain plural into the singular: rooms, batteries, dishes.
func Singular(w string) string {
	switch {
	case len(w) < 4 || !strings.HasSuffix(w, "s") || strings.HasSuffix(w, "ss") || strings.HasSuffix(w, "us") || strings.HasSuffix(w, "is") || w == "series" || w == "species":
		return w
	case ieWords[w[:len(w)-1]]:
		return w[:len(w)-1]
	case strings.HasSuffix(w, "ies"):
		return w[:len(w)-3] + "y"
	case strings.HasSuffix(w, "ches") || strings.HasSuffix(w, "shes") || strings.HasSuffix(w, "xes") || strings.HasSuffix(w, "sses"):
		return w[:len(w)-2]
	}
	return w[:len(w)-1]
}
