package batchfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// lineScanner yields the physical lines of a stream with bounded memory: beyond maxLine bytes a line is passed over, not kept.
type lineScanner struct {
	br  *bufio.Reader
	buf []byte
	no  int64 // lines yielded so far
}

// next returns a line without its end (LF or CRLF), valid until the next call, and whether it was cut at the bound. It returns io.EOF
// after the last line; any other error is the stream's, and a line it cut short is not returned.
func (s *lineScanner) next() (text []byte, long bool, err error) {
	if cap(s.buf) > 1<<20 {
		s.buf = nil // a giant line is the exception: its memory is not held for the rest of the file
	}
	s.buf = s.buf[:0]
	for {
		part, err := s.br.ReadSlice('\n')
		switch {
		case err == nil || errors.Is(err, io.EOF):
		case errors.Is(err, bufio.ErrBufferFull):
		default:
			return nil, false, err
		}
		whole := len(s.buf) == 0 && !errors.Is(err, bufio.ErrBufferFull)
		switch room := maxLine + 2 - len(s.buf); {
		case whole:
			text = part // no copy: the reader's own buffer
		case long:
		case len(part) > room:
			s.buf, long = append(s.buf, part[:room]...), true
		default:
			s.buf = append(s.buf, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !whole {
			text = s.buf
		}
		if len(text) == 0 { // only at the end: every other line has its LF
			return nil, false, io.EOF
		}
		s.no++
		if text = chomp(text); len(text) > maxLine {
			text, long = text[:maxLine], true
		}
		return text, long, nil
	}
}

func chomp(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte{'\n'}), []byte{'\r'})
}

// tooLong is the flaw of a line beyond the bound.
func tooLong() *flaw {
	return &flaw{reason: fmt.Sprintf("the line is longer than %d bytes", maxLine), remedy: "shorten it, or look for a missing line end"}
}

// notUTF8 returns the flaw of text that is not valid UTF-8, nil when it is.
func notUTF8(text []byte) *flaw {
	if utf8.Valid(text) {
		return nil
	}
	at := 0
	for at < len(text) {
		if r, n := utf8.DecodeRune(text[at:]); r != utf8.RuneError || n > 1 {
			at += n
			continue
		}
		break
	}
	return &flaw{column: at + 1, reason: "not valid UTF-8", remedy: "convert the file to UTF-8"}
}
