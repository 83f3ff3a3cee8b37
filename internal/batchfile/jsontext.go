package batchfile

import (
	"fmt"
	"unicode/utf8"
)

// text scans a string and returns what it says.
func (s *jsonScanner) text() ([]byte, *flaw) {
	open, escaped := s.pos, false
	s.pos++
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			if escaped {
				return []byte(unquote(s.data[open:s.pos])), nil
			}
			return s.data[open+1 : s.pos-1], nil
		case c == '\\':
			escaped = true
			if bad := s.escape(); bad != nil {
				return nil, bad
			}
		case c < 0x20:
			return nil, s.flaw(fmt.Sprintf("the control character %q inside a string", c), `write it as \n, \t or \u00XX`)
		case c < utf8.RuneSelf:
			s.pos++
		default:
			r, n := utf8.DecodeRune(s.data[s.pos:])
			if r == utf8.RuneError && n <= 1 {
				return nil, s.flaw("not valid UTF-8", "convert the file to UTF-8")
			}
			s.pos += n
		}
	}
	return nil, &flaw{column: open + 1, reason: "a string is never closed", remedy: `close it with " and write a " inside it as \"`}
}

// escape steps over a backslash and what it stands for. Two escapes that make a surrogate pair are taken together.
func (s *jsonScanner) escape() *flaw {
	if s.pos+1 >= len(s.data) {
		s.pos++
		return s.unexpected("an escape")
	}
	switch s.data[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
	default:
		return s.flaw(fmt.Sprintf(`\%c is no escape`, s.data[s.pos+1]), `write a backslash as \\`)
	}
	high, ok := s.hex(s.pos)
	if !ok {
		return s.flaw(`\u is not followed by four hexadecimal digits`, `write a backslash as \\`)
	}
	if high < 0xd800 || high > 0xdfff {
		s.pos += 6
		return nil
	}
	if low, ok := s.hex(s.pos + 6); ok && high < 0xdc00 && low >= 0xdc00 && low <= 0xdfff {
		s.pos += 12
		return nil
	}
	return s.flaw("half of a surrogate pair", "write the character itself, or both halves of it")
}

// hex reads the number of a \uXXXX at pos.
func (s *jsonScanner) hex(pos int) (n uint32, ok bool) {
	if pos+6 > len(s.data) || s.data[pos] != '\\' || s.data[pos+1] != 'u' {
		return 0, false
	}
	for _, c := range s.data[pos+2 : pos+6] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint32(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | uint32(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}
