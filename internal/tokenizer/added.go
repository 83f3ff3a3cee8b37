package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of the file's added_tokens.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	Normalized bool   `json:"normalized"`
	Special    bool   `json:"special"`
}

// matcher cuts added tokens out of a text: leftmost, longest first, without overlap. A nil matcher finds none.
type matcher struct {
	first  [256]bool
	byText map[string]addedToken
	maxLen int
	prefix map[string]bool // proper prefixes, so that a scan ends early
}

func newMatcher(toks []addedToken) *matcher {
	if len(toks) == 0 {
		return nil
	}
	m := &matcher{byText: map[string]addedToken{}, prefix: map[string]bool{}}
	for _, t := range toks {
		m.first[t.Content[0]] = true
		m.byText[t.Content] = t
		m.maxLen = max(m.maxLen, len(t.Content))
		for i := 1; i < len(t.Content); i++ {
			m.prefix[t.Content[:i]] = true
		}
	}
	return m
}

// longest returns the longest added token that s begins with.
func (m *matcher) longest(s string) (tok addedToken, ok bool) {
	for n := 1; n <= min(len(s), m.maxLen); n++ {
		if t, hit := m.byText[s[:n]]; hit {
			tok, ok = t, true
		}
		if !m.prefix[s[:n]] {
			break
		}
	}
	return tok, ok
}

// split calls fn for every stretch of text in order: id −1 for text between tokens, else the added token's id.
func (m *matcher) split(text string, fn func(piece string, id int32)) {
	if m == nil {
		fn(text, -1)
		return
	}
	done := 0
	for i := 0; i < len(text); {
		if !m.first[text[i]] {
			i++
			continue
		}
		tok, ok := m.longest(text[i:])
		if !ok {
			i++
			continue
		}
		start, end := i, i+len(tok.Content)
		i = end
		if tok.SingleWord && (endsWithWord(text[:start]) || startsWithWord(text[end:])) {
			continue
		}
		if tok.LStrip {
			start = max(len(strings.TrimRightFunc(text[:start], unicode.IsSpace)), done)
		}
		if tok.RStrip {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		if done < start {
			fn(text[done:start], -1)
		}
		fn(text[start:end], tok.ID)
		done, i = end, end
	}
	if done < len(text) {
		fn(text[done:], -1)
	}
}

func endsWithWord(s string) bool {
	r, n := utf8.DecodeLastRuneInString(s)
	return n > 0 && isWord(r)
}

func startsWithWord(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n > 0 && isWord(r)
}

// isWord is \w of Unicode TR 18.
func isWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.In(r, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic, unicode.Join_Control)
}
