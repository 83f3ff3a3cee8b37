package formats

import (
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"recpie/internal/dataset"
)

// texts makes the long texts of a worker's rows: one piece of memory holds many of them, so that a text costs no allocation of its own.
// Whoever keeps one text keeps its piece.
type texts struct{ piece strings.Builder }

const pieceSize = 32 << 10 // bytes

// line decodes a value, or with raw takes its bytes as they are, and gives it as one line: line breaks and other control characters are
// spaces, and none begin or end it. ok is false for a broken escape, half a surrogate pair, a zero byte or
// invalid UTF-8.
func (t *texts) line(v []byte, raw bool) (text string, ok bool) {
	if !raw && value(v).isText() {
		v = v[1 : len(v)-1]
	}
	if t.piece.Cap()-t.piece.Len() < len(v) { // what is decoded is never longer
		t.piece = strings.Builder{}
		t.piece.Grow(max(pieceSize, len(v)))
	}
	from := t.piece.Len()
	ok = decode(&t.piece, v, !raw, true)
	return strings.TrimSpace(t.piece.String()[from:]), ok
}

// ids makes the two ids of a record, which share their memory.
func ids(user, item []byte) (string, string) {
	var b strings.Builder
	b.Grow(len(user) + len(item))
	b.Write(user)
	b.Write(item)
	both := b.String()
	return both[:len(user)], both[len(user):]
}

// oneLine replaces line breaks and other control characters by spaces and takes off those at the ends.
func oneLine(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if breaks(r) {
			return ' '
		}
		return r
	}, s))
}

// breaks says whether a character has no place in a line.
func breaks(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 }

// decode writes text to b, its escapes resolved and, with line, its control characters replaced by spaces. It stops at what is invalid, a zero byte too.
func decode(b *strings.Builder, in []byte, escapes, line bool) (ok bool) {
	for {
		n := special(in)
		b.Write(in[:n])
		if in = in[n:]; len(in) == 0 {
			return true
		}
		r, size := rune(in[0]), 1
		switch {
		case r == 0:
			return false
		case r == '\\' && escapes:
			if r, size = escape(in); size == 0 {
				return false
			}
		case r >= utf8.RuneSelf:
			if r, size = utf8.DecodeRune(in); r == utf8.RuneError && size <= 1 {
				return false
			}
		}
		if line && breaks(r) {
			r = ' '
		}
		b.WriteRune(r)
		in = in[size:]
	}
}

// special returns how many bytes come before the first that is a control character, a backslash or outside ASCII; eight at a time.
func special(b []byte) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(b); n += 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		slash := x ^ '\\'*ones
		// A borrow or carry reaches only bytes above one that counts, and the lowest is what is asked.
		if hit := (x | (x + ones) | (x-' '*ones)&^x | (slash-ones)&^slash) & high; hit != 0 {
			return n + bits.TrailingZeros64(hit)/8
		}
	}
	for n < len(b) && b[n] >= ' ' && b[n] < 0x7f && b[n] != '\\' {
		n++
	}
	return n
}

// escape reads the escape that in begins with, both halves of a surrogate pair; size is 0 when it is broken.
func escape(in []byte) (r rune, size int) {
	if len(in) < 2 {
		return 0, 0
	}
	switch c := in[1]; c {
	case 'n':
		return '\n', 2
	case 't':
		return '\t', 2
	case 'r':
		return '\r', 2
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case '"', '\\', '/', '\'':
		return rune(c), 2
	case 'x':
		if r = hex(in, 2, 2); r < 0 {
			return 0, 0
		}
		return r, 4
	case 'u':
		if r = hex(in, 2, 4); r < 0 {
			return 0, 0
		}
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(in) < 12 || in[6] != '\\' || in[7] != 'u' {
			return 0, 0
		}
		if r = utf16.DecodeRune(r, hex(in, 8, 4)); r == utf8.RuneError {
			return 0, 0
		}
		return r, 12
	}
	return 0, 0
}

// hex reads n hexadecimal digits at a place; -1 when there are fewer.
func hex(in []byte, at, n int) rune {
	if at+n > len(in) {
		return -1
	}
	var r rune
	for _, c := range in[at : at+n] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}

// outcomes gathers the outcome columns of a worker's rows; many rows share one allocation.
type outcomes struct {
	all  []dataset.Field
	from int // of the row at work
}

// begin drops what a broken row left.
func (o *outcomes) begin() { o.all = o.all[:o.from] }

func (o *outcomes) add(name, text string) {
	if len(o.all) == cap(o.all) { // a row's columns stay together
		row := o.all[o.from:]
		o.all = append(make([]dataset.Field, 0, max(512, 2*len(row)+1)), row...)
		o.from = 0
	}
	o.all = append(o.all, dataset.Field{Name: name, Value: text})
}

// take returns what was added since it was last called, nil when nothing was.
func (o *outcomes) take() []dataset.Field {
	row := o.all[o.from:len(o.all):len(o.all)]
	if o.from = len(o.all); len(row) == 0 {
		return nil
	}
	return row
}
