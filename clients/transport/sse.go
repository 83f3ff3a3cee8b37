package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxEvent bounds one server-sent event, in bytes. The largest that a server has reason to send carries the ids of a long prompt.
const maxEvent = 8 << 20

var errEventTooLarge = errors.New("an event of the stream is larger than the limit")

// events reads server-sent events by the WHATWG rules: lines end with LF, CRLF or CR, a blank line ends an event, its data lines are
// joined by LF, comments and events without data are dropped, and so is what follows the last blank line. Fields other than data do
// not matter to the APIs spoken here.
type events struct {
	r      *bufio.Reader
	max    int
	data   []byte // of the event being read
	line   []byte
	begun  bool // the byte order mark is behind us
	skipLF bool // the last line ended with CR: an LF that follows belongs to it
}

func newEvents(r io.Reader, most int) *events {
	return &events{r: bufio.NewReader(r), max: most}
}

// next returns the data of the next event, valid until the following call, or io.EOF.
func (e *events) next() ([]byte, error) {
	e.data = e.data[:0]
	lines := 0
	for {
		line, err := e.readLine()
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			if lines > 0 {
				return e.data[:len(e.data)-1], nil
			}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		if string(field) != "data" {
			continue
		}
		lines++
		e.data = append(append(e.data, bytes.TrimPrefix(value, []byte(" "))...), '\n')
		if len(e.data) > e.max {
			return nil, errEventTooLarge
		}
	}
}

// readLine returns the next line without its end. A last line that was not ended is dropped: its event is not whole.
func (e *events) readLine() ([]byte, error) {
	e.line = e.line[:0]
	for {
		if _, err := e.r.Peek(1); err != nil {
			return nil, err
		}
		buf, _ := e.r.Peek(e.r.Buffered())
		if e.skipLF {
			e.skipLF = false
			if buf[0] == '\n' {
				_, _ = e.r.Discard(1) // it is buffered
				continue
			}
		}
		end := bytes.IndexAny(buf, "\r\n")
		if end < 0 {
			e.line = append(e.line, buf...)
			_, _ = e.r.Discard(len(buf))
		} else {
			e.line = append(e.line, buf[:end]...)
			e.skipLF = buf[end] == '\r'
			_, _ = e.r.Discard(end + 1)
		}
		if len(e.line) > e.max {
			return nil, errEventTooLarge
		}
		if end < 0 {
			continue
		}
		if !e.begun {
			e.begun = true
			return bytes.TrimPrefix(e.line, []byte("\ufeff")), nil
		}
		return e.line, nil
	}
}
