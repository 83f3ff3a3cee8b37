// Package strictjson reads JSON in one pass, without reflection, and refuses by the way what encoding/json lets pass although it says
// that a text is not what its writer meant: bytes that are no UTF-8, and an object with one key twice. Keys are compared as they are,
// upper and lower case apart.
//
// A Reader holds the first error; after it everything reads as empty and every loop ends, so that only Close need be asked.
package strictjson

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// maxDepth bounds objects and arrays inside one another: readers are called inside one another as often.
const maxDepth = 1000

// Reader reads one JSON text. What it returns as bytes is valid as long as the text is.
type Reader struct {
	data  []byte
	at    int
	depth int
	keys  [][]byte // of the open objects, the innermost last
	err   error
}

// New begins to read a text.
func New(data []byte) *Reader { return &Reader{data: data} }

// Reset begins to read another text. Nothing of the last one is kept.
func (r *Reader) Reset(data []byte) {
	keys := r.keys[:cap(r.keys)]
	clear(keys)
	*r = Reader{data: data}
	if len(keys) <= 1024 {
		r.keys = keys[:0]
	}
}

// Close tells what was wrong, after the caller has read a value: also when something follows it.
func (r *Reader) Close() error {
	r.space()
	if r.err == nil && r.at < len(r.data) {
		r.fail("invalid character %s after top-level value", r.here())
	}
	return r.err
}

// Fail ends the reading with the caller's error.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.at = len(r.data)
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("byte %d: "+format, append([]any{r.at}, args...)...)
	}
	r.at = len(r.data)
}

// unexpected is the error of a byte, or the end, that cannot stand here.
func (r *Reader) unexpected(where string) {
	if r.at >= len(r.data) {
		r.fail("unexpected end of JSON input")
		return
	}
	r.fail("invalid character %s %s", r.here(), where)
}

// here is the character at the place of reading, for messages.
func (r *Reader) here() string {
	c, _ := utf8.DecodeRune(r.data[r.at:])
	return strconv.QuoteRune(c)
}

// space skips white space and returns the byte after it, 0 at the end.
func (r *Reader) space() byte {
	for ; r.at < len(r.data); r.at++ {
		switch c := r.data[r.at]; c {
		case ' ', '\n', '\t', '\r':
		default:
			return c
		}
	}
	return 0
}

// enter opens an object or array, whose first byte is at hand.
func (r *Reader) enter() bool {
	r.at++
	if r.depth++; r.depth > maxDepth {
		r.fail("exceeded the depth of %d", maxDepth)
		return false
	}
	return true
}

// Object reads an object and calls field for each key, which must read the value. Null reads as an object without keys.
func (r *Reader) Object(field func(key []byte)) {
	if r.space() != '{' {
		r.orNull("where an object should begin")
		return
	}
	if !r.enter() {
		return
	}
	first := len(r.keys)
	for c := r.space(); c != '}'; {
		if c != '"' {
			r.unexpected("where a key should begin")
			return
		}
		key := r.text()
		r.keys = append(r.keys, key)
		if r.space() != ':' {
			r.unexpected("after object key")
			return
		}
		r.at++
		field(key)
		if c = r.space(); c == ',' {
			r.at++
			if c = r.space(); c == '}' {
				r.unexpected("where a key should begin")
				return
			}
		} else if c != '}' {
			r.unexpected("after object key:value pair")
			return
		}
	}
	r.at++
	r.depth--
	if twice := repeated(r.keys[first:]); twice != nil {
		r.fail("the key %.100q stands twice in one object", twice)
		return
	}
	r.keys = r.keys[:first]
}

// Array reads an array and calls element for each of its values, which must read it. Null reads as an empty array.
func (r *Reader) Array(element func()) {
	if r.space() != '[' {
		r.orNull("where an array should begin")
		return
	}
	if !r.enter() {
		return
	}
	for c := r.space(); c != ']'; {
		element()
		if c = r.space(); c == ',' {
			r.at++
			if c = r.space(); c == ']' {
				r.unexpected("where a value should begin")
				return
			}
		} else if c != ']' {
			r.unexpected("after array element")
			return
		}
	}
	r.at++
	r.depth--
}

// Null reads a null, and tells whether there was one.
func (r *Reader) Null() bool { return r.space() == 'n' && r.word("null") }

func (r *Reader) orNull(where string) {
	if !r.Null() && r.err == nil {
		r.unexpected(where)
	}
}

func (r *Reader) word(w string) bool {
	if !bytes.HasPrefix(r.data[r.at:], []byte(w)) {
		r.unexpected("in literal " + w)
		return false
	}
	r.at += len(w)
	return true
}

// Skip reads a value of any kind.
func (r *Reader) Skip() {
	switch c := r.space(); c {
	case '{':
		r.Object(r.skipField)
	case '[':
		r.Array(r.Skip)
	case '"':
		r.text()
	case 't':
		r.word("true")
	case 'f':
		r.word("false")
	case 'n':
		r.word("null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			r.unexpected("looking for beginning of value")
			return
		}
		r.number()
	}
}

func (r *Reader) skipField([]byte) { r.Skip() }

// Text reads a string as bytes, null as nil.
func (r *Reader) Text() []byte {
	if r.space() != '"' {
		r.orNull("where a string should begin")
		return nil
	}
	return r.text()
}

// Float reads a number, null as 0.
func (r *Reader) Float() float64 {
	text := r.numberOrNull()
	if text == nil {
		return 0
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		r.fail("%.40s is no number of 64 bits", text)
		return 0
	}
	return v
}

// Int reads a whole number, null as 0.
func (r *Reader) Int() int {
	text := r.numberOrNull()
	if text == nil {
		return 0
	}
	v, err := strconv.Atoi(string(text))
	if err != nil {
		r.fail("%.40s is no whole number", text)
		return 0
	}
	return v
}

func (r *Reader) numberOrNull() []byte {
	if c := r.space(); c == '-' || c >= '0' && c <= '9' {
		return r.number()
	}
	r.orNull("where a number should begin")
	return nil
}

var errUTF8 = errors.New("not UTF-8")
