package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// Byte-level vocabularies spell each byte as one printable character: itself where it is printable in Latin-1, else one of the
// characters from U+0100 on, in byte order (GPT-2's encoder.py).
var (
	byteChar [256]rune
	charByte = map[rune]byte{}
)

func init() {
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae && r <= 0xff) {
			r = next
			next++
		}
		byteChar[b], charByte[r] = r, byte(b)
	}
}

// unspell turns the spelling of a byte-level token into its bytes; false when a character stands for no byte.
func unspell(token string) ([]byte, bool) {
	b := make([]byte, 0, len(token))
	for _, r := range token {
		c, ok := charByte[r]
		if !ok {
			return nil, false
		}
		b = append(b, c)
	}
	return b, true
}

// Text returns bytes as Decode would write them: each maximal broken piece of UTF-8 becomes one U+FFFD.
func Text(b []byte) string { return lossy(string(b)) }

// lossy replaces each maximal broken piece of UTF-8 by one U+FFFD (Unicode 3.9, as Rust and Python do; a Go range loop would put
// one per byte).
func lossy(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var sb strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			n = broken(s[i:])
		}
		sb.WriteRune(r)
		i += n
	}
	return sb.String()
}

// broken returns the length of the maximal piece at the start of s that begins a character and does not end one.
func broken(s string) int {
	lo, hi, want := byte(0x80), byte(0xbf), 0
	switch c := s[0]; {
	case c >= 0xc2 && c <= 0xdf:
		want = 1
	case c >= 0xe0 && c <= 0xef:
		want = 2
		switch c {
		case 0xe0:
			lo = 0xa0
		case 0xed:
			hi = 0x9f
		}
	case c >= 0xf0 && c <= 0xf4:
		want = 3
		switch c {
		case 0xf0:
			lo = 0x90
		case 0xf4:
			hi = 0x8f
		}
	}
	n := 1
	for ; n <= want && n < len(s) && s[n] >= lo && s[n] <= hi; n++ {
		lo, hi = 0x80, 0xbf
	}
	return n
}
