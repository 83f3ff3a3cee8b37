package batchfile

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// member is one key of a JSON object and where its value stands.
type member struct {
	key        string
	at         int // of the key's opening quote
	start, end int // of the value
}

// jsonScanner checks a JSON text more strictly than encoding/json does and says where it fails: no key occurs twice in an object (readers
// differ in which one counts), strings are valid UTF-8 without halves of surrogate pairs (encoding/json replaces both), and nesting is
// bounded.
type jsonScanner struct {
	data []byte
	pos  int
	keys [][]byte // of the open objects, innermost last
}

const oneObject = "write one JSON object per line"

// object checks that data is one JSON object and returns its members, and those of its member "body" when that is an object.
func object(data []byte) (outer, body []member, bad *flaw) {
	s := jsonScanner{data: data}
	s.space()
	if s.pos == len(data) || data[s.pos] != '{' {
		return nil, nil, &flaw{column: s.pos + 1, reason: "not a JSON object", remedy: oneObject}
	}
	if bad := s.object(1, &outer, &body); bad != nil {
		return outer, body, bad
	}
	s.space()
	if s.pos < len(data) {
		return outer, body, s.flaw("text after the object", oneObject)
	}
	return outer, body, nil
}

func (s *jsonScanner) flaw(reason, remedy string) *flaw {
	return &flaw{column: s.pos + 1, reason: reason, remedy: remedy}
}

// unexpected is the flaw of what stands here instead of what is wanted.
func (s *jsonScanner) unexpected(want string) *flaw {
	if s.pos >= len(s.data) {
		return s.flaw("the line ends where "+want+" should stand", "close every string, array and object, and "+oneObject)
	}
	r, n := utf8.DecodeRune(s.data[s.pos:])
	if r == utf8.RuneError && n <= 1 {
		return s.flaw("not valid UTF-8", "convert the file to UTF-8")
	}
	return s.flaw(fmt.Sprintf("%q where %s should stand", r, want), "write valid JSON")
}

func (s *jsonScanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\r', '\n':
			s.pos++
		default:
			return
		}
	}
}

// is steps over c when it comes next.
func (s *jsonScanner) is(c byte) bool {
	s.space()
	if s.pos < len(s.data) && s.data[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// object scans an object. It adds the members to into, when that is wanted, and those of the member "body" to inner.
func (s *jsonScanner) object(depth int, into, inner *[]member) *flaw {
	if depth > maxDepth {
		return s.flaw(fmt.Sprintf("nested deeper than %d", maxDepth), "send flatter JSON")
	}
	s.pos++
	first := len(s.keys)
	defer func() { s.keys = s.keys[:first] }()
	var many map[string]struct{} // of the keys, once looking through the slice would take long
	if s.is('}') {
		return nil
	}
	for {
		s.space()
		at := s.pos
		if at >= len(s.data) || s.data[at] != '"' {
			return s.unexpected("a key in quotes")
		}
		key, bad := s.text()
		if bad != nil {
			return bad
		}
		twice := false
		if many == nil {
			for _, k := range s.keys[first:] {
				twice = twice || string(k) == string(key)
			}
		} else {
			_, twice = many[string(key)]
		}
		if twice {
			return &flaw{column: at + 1, field: clip(string(key)), reason: "the key occurs twice in its object", remedy: "keep one of them"}
		}
		if s.keys = append(s.keys, key); many != nil {
			many[string(key)] = struct{}{}
		} else if len(s.keys)-first == 32 {
			many = make(map[string]struct{})
			for _, k := range s.keys[first:] {
				many[string(k)] = struct{}{}
			}
		}
		if !s.is(':') {
			return s.unexpected("a colon")
		}
		s.space()
		start := s.pos
		next := (*[]member)(nil)
		if inner != nil && string(key) == "body" {
			next = inner
		}
		if bad := s.value(depth, next); bad != nil {
			return bad
		}
		if into != nil {
			*into = append(*into, member{key: string(key), at: at, start: start, end: s.pos})
		}
		switch {
		case s.is('}'):
			return nil
		case !s.is(','):
			return s.unexpected("a comma or }")
		}
	}
}

func (s *jsonScanner) array(depth int) *flaw {
	if depth > maxDepth {
		return s.flaw(fmt.Sprintf("nested deeper than %d", maxDepth), "send flatter JSON")
	}
	s.pos++
	if s.is(']') {
		return nil
	}
	for {
		s.space()
		if bad := s.value(depth, nil); bad != nil {
			return bad
		}
		switch {
		case s.is(']'):
			return nil
		case !s.is(','):
			return s.unexpected("a comma or ]")
		}
	}
}

// value scans the value that begins here, inside depth objects and arrays.
func (s *jsonScanner) value(depth int, into *[]member) *flaw {
	if s.pos >= len(s.data) {
		return s.unexpected("a value")
	}
	switch c := s.data[s.pos]; {
	case c == '{':
		return s.object(depth+1, into, nil)
	case c == '[':
		return s.array(depth + 1)
	case c == '"':
		_, bad := s.text()
		return bad
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if rest := s.data[s.pos:]; len(rest) >= len(word) && string(rest[:len(word)]) == word {
			s.pos += len(word)
			return nil
		}
	}
	return s.unexpected("a value")
}

func (s *jsonScanner) number() *flaw {
	if s.data[s.pos] == '-' {
		s.pos++
	}
	switch {
	case s.pos < len(s.data) && s.data[s.pos] == '0':
		s.pos++
	case s.digits() == 0:
		return s.unexpected("a digit")
	}
	if s.pos < len(s.data) && s.data[s.pos] == '.' {
		if s.pos++; s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	if s.pos < len(s.data) && s.data[s.pos]|0x20 == 'e' {
		if s.pos++; s.pos < len(s.data) && (s.data[s.pos] == '+' || s.data[s.pos] == '-') {
			s.pos++
		}
		if s.digits() == 0 {
			return s.unexpected("a digit")
		}
	}
	return nil
}

func (s *jsonScanner) digits() int {
	from := s.pos
	for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
		s.pos++
	}
	return s.pos - from
}

// unquote returns the text of a string that was scanned without a flaw, quotes included.
func unquote(quoted []byte) string {
	var text string
	_ = json.Unmarshal(quoted, &text) // it was scanned: it cannot fail
	return text
}
