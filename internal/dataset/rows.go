package dataset

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxLines bounds how far a quoted field may reach: an opening quote without its partner costs one row, not the file.
const maxLines = 1000

// row is one record of a file. bad is set when it could not be split into fields.
type row struct {
	line    int // of its first physical line, from 1
	ordinal int // among the rows after the header, from 0
	raw     []byte
	fields  []string
	at      []position // where each field begins
	bad     *RowError
}

type position struct{ line, column int }

// rowReader splits a text file into records. A record that cannot be split loses its first physical line only: reading goes on
// with the next one.
type rowReader struct {
	file   string // for messages
	br     *bufio.Reader
	max    int  // bytes of one record
	quoted bool // RFC 4180, fields separated by commas; else by tabs without quoting, as RecBole writes them
	line   int  // physical lines taken so far
	queue  []physical
	err    error // met while looking ahead
}

type physical struct {
	text []byte
	long bool // cut off at max
}

func newRowReader(file string, r io.Reader, quoted bool, maxRecord int) (*rowReader, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		br = bufio.NewReaderSize(z, 1<<16)
	}
	if bom, _ := br.Peek(3); bytes.Equal(bom, []byte("\ufeff")) {
		_, _ = br.Discard(3)
	}
	return &rowReader{file: file, br: br, max: maxRecord, quoted: quoted}, nil
}

// next returns the next record that is not a blank line, io.EOF after the last one, another error when reading fails.
func (r *rowReader) next() (row, error) {
	for {
		first, err := r.peek(0)
		if err != nil {
			return row{}, err
		}
		if len(first.text) > 0 {
			break
		}
		r.drop(1)
	}
	n := 1
	text := r.queue[0].text
	if r.quoted && !r.queue[0].long {
		quotes := bytes.Count(text, []byte{'"'})
		for quotes%2 == 1 { // a balanced record has an even number, since a mark inside a field is doubled
			more, err := r.peek(n)
			if err != nil && !errors.Is(err, io.EOF) {
				return row{}, err
			}
			if err != nil || n == maxLines || more.long || len(text)+len(more.text) >= r.max {
				return r.take(1, &RowError{Reason: "a quotation mark is never closed", Remedy: `write a " inside a field as ""`}), nil
			}
			if n == 1 {
				text = slices.Clone(text) // the queue keeps the line as it is
			}
			text = append(append(text, '\n'), more.text...)
			quotes += bytes.Count(more.text, []byte{'"'})
			n++
		}
	}
	switch {
	case r.queue[0].long:
		return r.take(1, &RowError{Reason: fmt.Sprintf("the row is longer than %d bytes", r.max), Remedy: "shorten the text, or look for a missing line end"}), nil
	case !utf8.Valid(text):
		return r.take(1, &RowError{Column: invalidAt(r.queue[0].text), Reason: "not valid UTF-8", Remedy: "convert the file to UTF-8"}), nil
	}
	out := row{line: r.line + 1, raw: text}
	if r.quoted {
		out.fields, out.at, out.bad = splitCSV(text, out.line)
		if out.bad != nil {
			return r.take(1, out.bad), nil
		}
	} else {
		out.fields, out.at = splitTabs(text, out.line)
	}
	r.drop(n)
	return out, nil
}

// take returns the first n physical lines as a broken row.
func (r *rowReader) take(n int, why *RowError) row {
	why.File = r.file
	if why.Line == 0 {
		why.Line = r.line + 1
	}
	out := row{line: r.line + 1, raw: r.queue[0].text, bad: why}
	r.drop(n)
	return out
}

func (r *rowReader) drop(n int) {
	r.line += n
	r.queue = r.queue[n:]
}

// peek returns the n-th physical line ahead.
func (r *rowReader) peek(n int) (physical, error) {
	for len(r.queue) <= n {
		if r.err != nil {
			return physical{}, r.err
		}
		p, err := r.readLine()
		if err != nil {
			r.err = err
			continue
		}
		r.queue = append(r.queue, p)
	}
	return r.queue[n], nil
}

// readLine reads to the next line end and keeps at most max bytes.
func (r *rowReader) readLine() (physical, error) {
	var p physical
	for {
		part, err := r.br.ReadSlice('\n')
		if room := r.max - len(p.text); len(part) <= room {
			p.text = append(p.text, part...)
		} else {
			p.text, p.long = append(p.text, part[:room]...), true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF):
			if len(p.text) == 0 {
				return p, io.EOF
			}
		case err != nil:
			return p, fmt.Errorf("%s:%d: %w", r.file, r.line+len(r.queue)+1, err)
		}
		p.text = bytes.TrimSuffix(bytes.TrimSuffix(p.text, []byte{'\n'}), []byte{'\r'})
		return p, nil
	}
}

// splitCSV splits one record, whose quotation marks are even in number, as RFC 4180 says. first is the line it begins on.
func splitCSV(text []byte, first int) (fields []string, at []position, bad *RowError) {
	line, lineStart := first, 0
	var b strings.Builder
	for i := 0; ; {
		at = append(at, position{line, i - lineStart + 1})
		if i < len(text) && text[i] == '"' {
			b.Reset()
			i++
			for {
				q := bytes.IndexByte(text[i:], '"') // there is one: the number of marks is even and every other char is plain
				if q < 0 {
					return nil, nil, &RowError{Line: line, Column: i - lineStart + 1, Reason: "a quotation mark is never closed", Remedy: `write a " inside a field as ""`}
				}
				b.Write(text[i : i+q])
				if nl := bytes.Count(text[i:i+q], []byte{'\n'}); nl > 0 {
					line += nl
					lineStart = i + bytes.LastIndexByte(text[i:i+q], '\n') + 1
				}
				i += q + 1
				if i == len(text) || text[i] != '"' {
					break
				}
				b.WriteByte('"')
				i++
			}
			fields = append(fields, b.String())
			if i < len(text) && text[i] != ',' {
				return nil, nil, &RowError{Line: line, Column: i - lineStart + 1, Reason: "text after a closing quotation mark", Remedy: `write a " inside a field as ""`}
			}
		} else {
			end := bytes.IndexByte(text[i:], ',')
			if end < 0 {
				end = len(text) - i
			}
			if q := bytes.IndexByte(text[i:i+end], '"'); q >= 0 {
				return nil, nil, &RowError{Line: line, Column: i + q - lineStart + 1, Reason: "a quotation mark inside a field without quotes", Remedy: `quote the field and write the mark as ""`}
			}
			fields = append(fields, string(text[i:i+end]))
			i += end
		}
		if i == len(text) {
			return fields, at, nil
		}
		i++ // the comma
	}
}

func splitTabs(text []byte, line int) (fields []string, at []position) {
	column := 1
	for f := range strings.SplitSeq(string(text), "\t") {
		fields = append(fields, f)
		at = append(at, position{line, column})
		column += len(f) + 1
	}
	return fields, at
}

// invalidAt returns the column of the first byte that is not UTF-8, 0 when the line itself is sound.
func invalidAt(text []byte) int {
	for i := 0; i < len(text); {
		c, n := utf8.DecodeRune(text[i:])
		if c == utf8.RuneError && n <= 1 {
			return i + 1
		}
		i += n
	}
	return 0
}
