package strictjson

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// number returns a number's characters; nil after an error.
func (r *Reader) number() []byte {
	begin := r.at
	if r.data[r.at] == '-' {
		r.at++
	}
	switch {
	case r.at < len(r.data) && r.data[r.at] == '0':
		r.at++
	case !r.digits():
		return nil
	}
	if r.at < len(r.data) && r.data[r.at] == '.' {
		r.at++
		if !r.digits() {
			return nil
		}
	}
	if r.at < len(r.data) && r.data[r.at]|0x20 == 'e' {
		r.at++
		if r.at < len(r.data) && (r.data[r.at] == '+' || r.data[r.at] == '-') {
			r.at++
		}
		if !r.digits() {
			return nil
		}
	}
	return r.data[begin:r.at]
}

// digits skips digits, of which there must be one.
func (r *Reader) digits() bool {
	begin := r.at
	for r.at < len(r.data) && r.data[r.at]-'0' <= 9 {
		r.at++
	}
	if r.at == begin {
		r.unexpected("in numeric literal")
	}
	return r.at > begin
}

// text returns the content of a string, whose quote is at hand, without its escapes; nil after an error.
func (r *Reader) text() []byte {
	r.at++
	begin, ascii := r.at, true
	for i := begin; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			r.at = i + 1
			return r.valid(r.data[begin:i], ascii)
		case c == '\\':
			return r.escaped(begin, i)
		case c < ' ':
			r.at = i
			r.unexpected("in string literal")
			return nil
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	r.at = len(r.data)
	r.unexpected("in string literal")
	return nil
}

func (r *Reader) valid(text []byte, ascii bool) []byte {
	if !ascii && !utf8.Valid(text) {
		r.Fail(errUTF8)
		return nil
	}
	return text
}

// escaped is text for a string that has its first backslash at i.
func (r *Reader) escaped(begin, i int) []byte {
	out := append(make([]byte, 0, i-begin+64), r.data[begin:i]...)
	for r.at = i; r.at < len(r.data); {
		switch c := r.data[r.at]; {
		case c == '"':
			r.at++
			return r.valid(out, false)
		case c == '\\':
			if out = r.escape(out); r.err != nil {
				return nil
			}
		case c < ' ':
			r.unexpected("in string literal")
			return nil
		default:
			out = append(out, c)
			r.at++
		}
	}
	r.unexpected("in string literal")
	return nil
}

const escapes, meant = `"\/bfnrt`, "\"\\/\b\f\n\r\t"

// escape reads one escape and appends what it stands for. Half of a surrogate pair stands for U+FFFD.
func (r *Reader) escape(out []byte) []byte {
	r.at++
	if r.at >= len(r.data) {
		r.unexpected("in string escape code")
		return out
	}
	if i := strings.IndexByte(escapes, r.data[r.at]); i >= 0 {
		r.at++
		return append(out, meant[i])
	}
	if r.data[r.at] != 'u' {
		r.unexpected("in string escape code")
		return out
	}
	r.at++
	c, ok := hex4(r.data[r.at:])
	if !ok {
		r.at = min(r.at, len(r.data))
		r.fail("invalid character in \\u hexadecimal character escape, or the text ends")
		return out
	}
	r.at += 4
	if utf16.IsSurrogate(c) {
		second, ok := rune(-1), false
		if rest := r.data[r.at:]; len(rest) >= 2 && rest[0] == '\\' && rest[1] == 'u' {
			second, ok = hex4(rest[2:])
		}
		if c = utf16.DecodeRune(c, second); ok && c != utf8.RuneError {
			r.at += 6
		}
	}
	return utf8.AppendRune(out, c)
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var v rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

// few keys are compared one with another, more are sorted first.
const few = 16

// repeated returns a key that stands twice, or nil. It may reorder the keys.
func repeated(keys [][]byte) []byte {
	if len(keys) > few {
		slices.SortFunc(keys, func(a, b []byte) int {
			if len(a) != len(b) {
				return len(a) - len(b)
			}
			return bytes.Compare(a, b)
		})
		for i := 1; i < len(keys); i++ {
			if bytes.Equal(keys[i-1], keys[i]) {
				return keys[i]
			}
		}
		return nil
	}
	for i, key := range keys {
		for _, other := range keys[:i] {
			if len(other) == len(key) && string(other) == string(key) {
				return key
			}
		}
	}
	return nil
}
