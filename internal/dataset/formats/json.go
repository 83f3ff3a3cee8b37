package formats

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"recpie/internal/dataset"
)

const maxDepth = 64 // of nested arrays and objects

// scanner reads one object of a line: JSON, or with python a literal as Python prints a dict (single quotes, True, None), which is what
// old releases of the Amazon metadata hold. Nothing is evaluated.
type scanner struct {
	data   []byte
	pos    int
	python bool
}

// value is one value of the object, raw; nil when its key is absent or null.
type value []byte

type syntaxError struct {
	at     int
	reason string
}

// object fills values with what stands under keys. A key that occurs twice is an error.
func (s *scanner) object(data []byte, keys []string, values []value) *dataset.RowError {
	s.data, s.pos = data, 0
	clear(values)
	if err := s.fields(keys, values); err != nil {
		what := "JSON"
		if s.python {
			what = "JSON or a Python dictionary"
		}
		return &dataset.RowError{Column: err.at + 1, Reason: err.reason, Remedy: "one object of valid " + what + " per line is expected"}
	}
	return nil
}

func (s *scanner) fields(keys []string, values []value) *syntaxError {
	s.space()
	if !s.take('{') {
		return s.fail("the row is not an object")
	}
	s.space()
	for first := true; ; first = false {
		if s.take('}') {
			break
		}
		if !first {
			if !s.take(',') {
				return s.fail("a comma or } is expected")
			}
			s.space()
		}
		start := s.pos
		if err := s.text(); err != nil {
			return err
		}
		key := s.data[start+1 : s.pos-1]
		at := slices.Index(keys, string(key))
		s.space()
		if !s.take(':') {
			return s.fail("a colon is expected")
		}
		s.space()
		from := s.pos
		if err := s.skip(0); err != nil {
			return err
		}
		if at >= 0 {
			if values[at] != nil {
				return &syntaxError{start, fmt.Sprintf("the key %q occurs twice", keys[at])}
			}
			if raw := s.data[from:s.pos]; string(raw) != "null" && string(raw) != "None" {
				for k := at; k < len(keys); k++ { // one key may serve for two
					if keys[k] == keys[at] {
						values[k] = raw
					}
				}
			}
		}
		s.space()
	}
	s.space()
	if s.pos < len(s.data) {
		return s.fail("there is text after the object")
	}
	return nil
}

func (s *scanner) fail(reason string) *syntaxError {
	if s.pos >= len(s.data) {
		reason = "the row ends inside the object"
	}
	return &syntaxError{s.pos, reason}
}

func (s *scanner) space() {
	for s.pos < len(s.data) && (s.data[s.pos] == ' ' || s.data[s.pos] == '\t' || s.data[s.pos] == '\n' || s.data[s.pos] == '\r') {
		s.pos++
	}
}

func (s *scanner) take(c byte) bool {
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// text steps over a string.
func (s *scanner) text() *syntaxError {
	if s.pos >= len(s.data) {
		return s.fail("")
	}
	q := s.data[s.pos]
	if q != '"' && (q != '\'' || !s.python) {
		return s.fail("a string in quotes is expected")
	}
	for p := s.pos + 1; ; {
		n := bytes.IndexByte(s.data[p:], q)
		if n < 0 {
			s.pos = len(s.data)
			return s.fail("")
		}
		end := p + n
		slashes := 0
		for end-1-slashes > s.pos && s.data[end-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			s.pos = end + 1
			return nil
		}
		p = end + 1
	}
}

// skip steps over a value.
func (s *scanner) skip(depth int) *syntaxError {
	if depth > maxDepth {
		return s.fail(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	if s.pos >= len(s.data) {
		return s.fail("")
	}
	switch c := s.data[s.pos]; {
	case c == '"' || c == '\'':
		return s.text()
	case c == '[' || c == '{':
		return s.nested(c, depth)
	}
	start := s.pos
	for s.pos < len(s.data) && !strings.ContainsRune(",]} \t\r\n:\"", rune(s.data[s.pos])) {
		s.pos++
	}
	word := string(s.data[start:s.pos])
	switch word {
	case "true", "false", "null":
		return nil
	case "True", "False", "None":
		if s.python {
			return nil
		}
	}
	if !number(word) {
		return &syntaxError{start, "a value is expected"}
	}
	return nil
}

func (s *scanner) nested(open byte, depth int) *syntaxError {
	s.pos++
	end := byte(']')
	if open == '{' {
		end = '}'
	}
	s.space()
	for first := true; ; first = false {
		if s.take(end) {
			return nil
		}
		if !first {
			if !s.take(',') {
				return s.fail("a comma or the end of the list is expected")
			}
			s.space()
		}
		if open == '{' {
			if err := s.text(); err != nil {
				return err
			}
			s.space()
			if !s.take(':') {
				return s.fail("a colon is expected")
			}
			s.space()
		}
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		s.space()
	}
}

// number says whether a word is a JSON number, leading zeros borne.
func number(word string) bool {
	w := strings.TrimPrefix(word, "-")
	if w == "" || w[0] < '0' || w[0] > '9' || len(w) > 400 {
		return false
	}
	for _, c := range w {
		if (c < '0' || c > '9') && !strings.ContainsRune("+-.eE", c) {
			return false
		}
	}
	_, err := strconv.ParseFloat(w, 64)
	return err == nil || strings.Contains(err.Error(), "range")
}

// isText says whether the value is a string.
func (v value) isText() bool { return len(v) > 0 && (v[0] == '"' || v[0] == '\'') }

// string decodes a string; ok is false for a broken escape, half a surrogate pair or invalid UTF-8. A number or word is its own text.
func (v value) string() (text string, ok bool) {
	if !v.isText() {
		return string(v), true
	}
	in := v[1 : len(v)-1]
	if bytes.IndexByte(in, '\\') < 0 {
		return string(in), utf8.Valid(in)
	}
	out := make([]byte, 0, len(in))
	for k := 0; k < len(in); k++ {
		if in[k] != '\\' {
			out = append(out, in[k])
			continue
		}
		k++
		switch in[k] {
		case 'n':
			out = append(out, '\n')
		case 't':
			out = append(out, '\t')
		case 'r':
			out = append(out, '\r')
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case '"', '\\', '/', '\'':
			out = append(out, in[k])
		case 'x':
			r, ok := hex(in, k+1, 2)
			if !ok {
				return "", false
			}
			out, k = utf8.AppendRune(out, r), k+2
		case 'u':
			r, ok := hex(in, k+1, 4)
			if !ok {
				return "", false
			}
			k += 4
			if utf16.IsSurrogate(r) {
				low, ok := rune(0), false
				if k+2 < len(in) && in[k+1] == '\\' && in[k+2] == 'u' {
					low, ok = hex(in, k+3, 4)
				}
				if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
					return "", false
				}
				k += 6
			}
			out = utf8.AppendRune(out, r)
		default:
			return "", false
		}
	}
	return string(out), utf8.Valid(out)
}

func hex(in []byte, at, n int) (rune, bool) {
	if at+n > len(in) {
		return 0, false
	}
	x, err := strconv.ParseUint(string(in[at:at+n]), 16, 32)
	return rune(x), err == nil
}

// strings decodes a list of strings, lists in it included, one after the other; a single string is a list of one. Other values in it are
// left out.
func (v value) strings(python bool) (out []string, ok bool) {
	if v.isText() {
		text, ok := v.string()
		return []string{text}, ok
	}
	s := scanner{data: v, python: python}
	for s.pos < len(s.data) {
		if c := s.data[s.pos]; c != '"' && (c != '\'' || !python) {
			s.pos++
			continue
		}
		start := s.pos
		if s.text() != nil {
			return nil, false
		}
		text, ok := value(s.data[start:s.pos]).string()
		if !ok {
			return nil, false
		}
		if s.pos < len(s.data) && s.data[s.pos] == ':' {
			continue // a key
		}
		out = append(out, text)
	}
	return out, true
}

// float reads a number, also one in quotes.
func (v value) float() (float64, bool) {
	text, ok := v.string()
	if !ok {
		return 0, false
	}
	x, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return x, err == nil && !math.IsNaN(x) && !math.IsInf(x, 0)
}
