package formats

import (
	"bytes"
	"fmt"
	"slices"

	"recpie/internal/dataset"
)

const (
	maxDepth   = 64 // of nested arrays and objects
	maxGuesses = 64 // keys of the row before that are remembered
)

// scanner reads one object of a line: JSON, or with python a literal as Python prints a dict (single quotes, True, None), which is what
// old releases of the Amazon metadata hold. Nothing is evaluated. Rows of a file mostly have the same keys in the same order, so each key
// is first compared with what stood at its place in the row before.
type scanner struct {
	data   []byte
	pos    int
	python bool
	keys   []string
	twin   []int   // the next of the keys with the same name, or -1: one key may serve for two
	last   []guess // of the row before
}

// guess is a key as it stood, with its quotes and colon, and its place among the keys, -1 when it is not wanted.
type guess struct {
	raw []byte
	at  int
}

// newScanner makes a scanner that looks for keys, 64 at most.
func newScanner(keys []string, python bool) *scanner {
	s := &scanner{keys: keys, python: python, twin: make([]int, len(keys))}
	for k := range keys {
		if s.twin[k] = slices.Index(keys[k+1:], keys[k]); s.twin[k] >= 0 {
			s.twin[k] += k + 1
		}
	}
	return s
}

// value is one value of the object, raw; nil when its key is absent or null.
type value []byte

type syntaxError struct {
	at     int
	reason string
}

// object fills values, one a key, with what stands under the keys. A wanted key that occurs twice is an error.
func (s *scanner) object(data []byte, values []value) *dataset.RowError {
	s.data, s.pos = data, 0
	clear(values)
	if err := s.fields(values); err != nil {
		what := "JSON"
		if s.python {
			what = "JSON or a Python dictionary"
		}
		return &dataset.RowError{Column: err.at + 1, Reason: err.reason, Remedy: "one object of valid " + what + " per line is expected"}
	}
	return nil
}

func (s *scanner) fields(values []value) *syntaxError {
	s.space()
	if !s.take('{') {
		return s.fail("the row is not an object")
	}
	s.space()
	seen := uint64(0)
	for n := 0; ; n++ {
		if s.take('}') {
			break
		}
		if n > 0 {
			if !s.take(',') {
				return s.fail("a comma or } is expected")
			}
			s.space()
		}
		start := s.pos
		at, err := s.key(n)
		if err != nil {
			return err
		}
		s.space()
		from := s.pos
		if err := s.skip(0); err != nil {
			return err
		}
		if at >= 0 {
			if seen&(1<<at) != 0 {
				return &syntaxError{start, fmt.Sprintf("the key %q occurs twice", s.keys[at])}
			}
			seen |= 1 << at
			if raw := s.data[from:s.pos]; raw[0] != 'n' && raw[0] != 'N' { // null, None
				for k := at; k >= 0; k = s.twin[k] {
					values[k] = raw
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

// key steps over the n-th key of the object and its colon.
func (s *scanner) key(n int) (at int, err *syntaxError) {
	if n < len(s.last) && bytes.HasPrefix(s.data[s.pos:], s.last[n].raw) {
		s.pos += len(s.last[n].raw)
		return s.last[n].at, nil
	}
	start := s.pos
	if err := s.text(); err != nil {
		return 0, err
	}
	at = slices.Index(s.keys, string(s.data[start+1:s.pos-1]))
	s.space()
	if !s.take(':') {
		return 0, s.fail("a colon is expected")
	}
	if n == len(s.last) && n < maxGuesses {
		s.last = append(s.last, guess{})
	}
	if n < len(s.last) {
		s.last[n] = guess{append(s.last[n].raw[:0], s.data[start:s.pos]...), at}
	}
	return at, nil
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
	word := s.data[s.pos:]
	for k, c := range word {
		if endsWord[c] {
			word = word[:k]
			break
		}
	}
	if !s.word(word) {
		return &syntaxError{s.pos, "a value is expected"}
	}
	s.pos += len(word)
	return nil
}

// endsWord tells what may follow a number or a word.
var endsWord = [256]bool{',': true, ']': true, '}': true, ' ': true, '\t': true, '\r': true, '\n': true, ':': true, '"': true}

func (s *scanner) word(w []byte) bool {
	if digits(w) == len(w) {
		return len(w) > 0
	}
	switch string(w) {
	case "true", "false", "null":
		return true
	case "True", "False", "None":
		return s.python
	}
	return number(w)
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
func number(w []byte) bool {
	w, _ = bytes.CutPrefix(w, []byte{'-'})
	whole := digits(w)
	if w = w[whole:]; whole == 0 {
		return false
	}
	if len(w) > 0 && w[0] == '.' {
		part := digits(w[1:])
		if w = w[1+part:]; part == 0 {
			return false
		}
	}
	if len(w) > 0 && w[0]|0x20 == 'e' {
		if w = w[1:]; len(w) > 0 && (w[0] == '+' || w[0] == '-') {
			w = w[1:]
		}
		return len(w) > 0 && digits(w) == len(w)
	}
	return len(w) == 0
}

// digits counts those that w begins with.
func digits(w []byte) int {
	n := 0
	for n < len(w) && '0' <= w[n] && w[n] <= '9' {
		n++
	}
	return n
}
