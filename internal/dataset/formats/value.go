package formats

import (
	"math"
	"strconv"
	"strings"
)

// isText says whether the value is a string.
func (v value) isText() bool { return len(v) > 0 && (v[0] == '"' || v[0] == '\'') }

// bytes is string without a copy where nothing is to be decoded.
func (v value) bytes() (text []byte, ok bool) {
	if !v.isText() {
		return v, true
	}
	if in := v[1 : len(v)-1]; special(in) == len(in) {
		return in, true
	}
	s, ok := v.string()
	return []byte(s), ok
}

// string decodes a string; ok is false for a broken escape, half a surrogate pair or invalid UTF-8. A number or word is its own text.
func (v value) string() (text string, ok bool) {
	if !v.isText() {
		return string(v), true
	}
	in := v[1 : len(v)-1]
	if special(in) == len(in) {
		return string(in), true
	}
	var b strings.Builder
	b.Grow(len(in))
	if !decode(&b, in, true, false) {
		return "", false
	}
	return b.String(), true
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
		if s.space(); s.pos < len(s.data) && s.data[s.pos] == ':' {
			continue // a key
		}
		out = append(out, text)
	}
	return out, true
}

// float reads a number, also one in quotes.
func (v value) float() (float64, bool) {
	if v.isText() {
		text, ok := v.string()
		if !ok {
			return 0, false
		}
		return parseFloat([]byte(strings.TrimSpace(text)))
	}
	return parseFloat(v)
}

// parseFloat reads a finite number.
func parseFloat(b []byte) (float64, bool) {
	if x, ok := short(b); ok {
		return x, true
	}
	x, err := strconv.ParseFloat(string(b), 64)
	return x, err == nil && !math.IsNaN(x) && !math.IsInf(x, 0)
}

var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// short reads a number of at most fifteen digits without sign and exponent, exactly: both parts of the fraction are exact, and so their
// quotient is rounded once.
func short(b []byte) (float64, bool) {
	if len(b) == 0 || len(b) > 15 {
		return 0, false
	}
	n, point := uint64(0), -1
	for k, c := range b {
		switch {
		case '0' <= c && c <= '9':
			n = n*10 + uint64(c-'0')
		case c == '.' && point < 0 && k > 0:
			point = k
		default:
			return 0, false
		}
	}
	if point < 0 {
		return float64(n), true
	}
	if point == len(b)-1 {
		return 0, false
	}
	return float64(n) / tens[len(b)-1-point], true
}
