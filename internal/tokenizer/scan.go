package tokenizer

import (
	"unicode"
	"unicode/utf8"
)

// The regular expressions of the common byte-level tokenizers. Go's regexp lacks their lookahead, so they have scanners of their own;
// others go through a backtracking engine, which is several times slower.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

type class uint8

const (
	other class = iota
	letter
	number
	space
)

var asciiClass = func() (t [128]class) {
	for c := range rune(128) {
		t[c] = slowClass(c)
	}
	return t
}()

func slowClass(r rune) class {
	switch {
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	default:
		return other
	}
}

// classAt returns the class and length of the character at s[i:]; a byte that is no UTF-8 is a character of class other.
func classAt(s string, i int) (class, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return asciiClass[c], 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	return slowClass(r), n
}

// run returns the end of the longest run of class c that starts at i, at most limit characters (0: no limit).
func run(s string, i int, c class, limit int) int {
	for n := 0; i < len(s) && (limit == 0 || n < limit); n++ {
		got, w := classAt(s, i)
		if got != c {
			break
		}
		i += w
	}
	return i
}

// scanGPT2 cuts s as gpt2Pattern does.
func scanGPT2(s string, emit func(string)) {
	for i := 0; i < len(s); {
		end := i
		if s[i] == '\'' {
			end = i + contraction(s[i:], false)
		}
		if end == i {
			at := i
			if s[i] == ' ' && i+1 < len(s) {
				at = i + 1
			}
			if c, _ := classAt(s, at); c != space {
				end = run(s, at, c, 0)
			} else {
				end = spaces(s, i)
			}
		}
		emit(s[i:end])
		i = end
	}
}

// spaces matches \s+(?!\S)|\s+ at i: all the white space, less its last character when something follows and it is not alone.
func spaces(s string, i int) int {
	end := run(s, i, space, 0)
	if end == len(s) {
		return end
	}
	_, n := utf8.DecodeLastRuneInString(s[i:end])
	if end-n > i {
		return end - n
	}
	return end
}

// contraction returns the length of 's 't 're 've 'm 'll 'd at the start of s, 0 when none is there. Without regard to case, as the
// later patterns want it, the long s (U+017F) counts as an s.
func contraction(s string, fold bool) int {
	if len(s) < 2 {
		return 0
	}
	if fold && len(s) >= 3 && s[1:3] == "ſ" {
		return 3
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	a := lower(s[1])
	switch a {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) < 3 {
		return 0
	}
	b := lower(s[2])
	if a == 'r' && b == 'e' || a == 'v' && b == 'e' || a == 'l' && b == 'l' {
		return 3
	}
	return 0
}

// scanLlama3 cuts s as llama3Pattern does, or as qwen2Pattern with digits = 1.
func scanLlama3(digits int) func(string, func(string)) {
	return func(s string, emit func(string)) {
		for i := 0; i < len(s); {
			end := llama3Word(s, i, digits)
			emit(s[i:end])
			i = end
		}
	}
}

func llama3Word(s string, i, digits int) int {
	if s[i] == '\'' {
		if n := contraction(s[i:], true); n > 0 {
			return i + n
		}
	}
	c, n := classAt(s, i)
	if c == letter {
		return run(s, i, letter, 0)
	}
	newline := s[i] == '\r' || s[i] == '\n'
	if c != number && !newline && i+n < len(s) { // [^\r\n\p{L}\p{N}]?\p{L}+
		if next, _ := classAt(s, i+n); next == letter {
			return run(s, i+n, letter, 0)
		}
	}
	if c == number {
		return run(s, i, number, digits)
	}
	at := i
	if s[i] == ' ' && i+1 < len(s) {
		at = i + 1
	}
	if c, _ := classAt(s, at); c == other { //  ?[^\s\p{L}\p{N}]+[\r\n]*
		end := run(s, at, other, 0)
		for end < len(s) && (s[end] == '\r' || s[end] == '\n') {
			end++
		}
		return end
	}
	// White space from here: \s*[\r\n]+ takes it up to its last line end, if it has one.
	end := run(s, i, space, 0)
	for j := end; j > i; j-- {
		if s[j-1] == '\r' || s[j-1] == '\n' {
			return j
		}
	}
	return spaces(s, i)
}
