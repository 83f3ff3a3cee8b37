// Package screen keeps what others wrote (titles in data, answers of servers) from reaching a terminal as anything but text: control characters
// move its cursor and more, format characters turn the direction of writing.
package screen

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
)

// hidden are the characters that a person does not see and a terminal may obey. Line feeds and tabs are not among them.
func hidden(r rune) bool {
	return r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029')
}

// Text returns s without hidden characters; bytes that are no UTF-8 become U+FFFD.
func Text(s string) string {
	return strings.Map(func(r rune) rune {
		if hidden(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// Line is Text on one line.
func Line(s string) string {
	return strings.TrimSpace(strings.NewReplacer("\n", " ", "\t", " ").Replace(Text(s)))
}

// JSON escapes the hidden characters that the encoder of the standard library leaves as they are inside strings. The document means the same.
func JSON(doc string) string {
	if strings.IndexFunc(doc, hidden) < 0 {
		return doc
	}
	var b strings.Builder
	for _, r := range doc {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
