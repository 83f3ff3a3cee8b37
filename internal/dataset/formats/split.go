package formats

import (
	"bytes"
	"unicode/utf8"

	"recpie/internal/dataset"
)

// splitter cuts rows of separated fields. The fields it returns hold until the next row.
type splitter struct {
	sep    []byte
	quotes bool // RFC 4180
	fields [][]byte
	undone []byte // fields whose doubled quotes are made single
}

// text checks that a field is text.
func text(field []byte) *dataset.RowError {
	odd := field[special(field):] // what comes before is ASCII
	if !utf8.Valid(odd) {
		return &dataset.RowError{Reason: "not valid UTF-8", Remedy: "convert the file to UTF-8"}
	}
	if bytes.IndexByte(odd, 0) >= 0 {
		return &dataset.RowError{Reason: "the row holds a zero byte", Remedy: "the file is damaged, or not text"}
	}
	return nil
}

// split cuts a row into fields, whose bytes it does not look at. The error's column is set where the quotes are wrong.
func (s *splitter) split(row []byte) ([][]byte, *dataset.RowError) {
	s.fields, s.undone = s.fields[:0], s.undone[:0]
	quotes := s.quotes && bytes.IndexByte(row, '"') >= 0
	if quotes && len(row) > cap(s.undone) {
		s.undone = make([]byte, 0, 2*len(row)) // never grown while fields refer to it
	}
	for rest := row; ; {
		var field []byte
		var bad *dataset.RowError
		if quotes && len(rest) > 0 && rest[0] == '"' {
			field, rest, bad = s.quoted(row, rest)
		} else {
			field, rest, bad = s.plain(row, rest, quotes)
		}
		if bad != nil {
			return nil, bad
		}
		if s.fields = append(s.fields, field); rest == nil {
			return s.fields, nil
		}
	}
}

// plain takes a field without quotes off rest; what is left is nil after the last field.
func (s *splitter) plain(row, rest []byte, quotes bool) (field, left []byte, bad *dataset.RowError) {
	var at int
	if len(s.sep) == 1 {
		at = bytes.IndexByte(rest, s.sep[0])
	} else {
		at = bytes.Index(rest, s.sep)
	}
	if field = rest; at >= 0 {
		field, left = rest[:at], rest[at+len(s.sep):]
	}
	if quotes && bytes.IndexByte(field, '"') >= 0 {
		return nil, nil, &dataset.RowError{Column: len(row) - len(rest) + 1, Reason: "a quote inside a field that does not begin with one", Remedy: "quote the whole field and double the quotes in it"}
	}
	return field, left, nil
}

// quoted takes a field in quotes off rest.
func (s *splitter) quoted(row, rest []byte) (field, left []byte, bad *dataset.RowError) {
	from, in := len(s.undone), rest[1:]
	for {
		at := bytes.IndexByte(in, '"')
		if at < 0 {
			return nil, nil, &dataset.RowError{Column: len(row) - len(rest) + 1, Reason: "a quoted field does not end", Remedy: "close the quote"}
		}
		if field, in = in[:at], in[at+1:]; len(in) == 0 || in[0] != '"' {
			break
		}
		s.undone = append(append(s.undone, field...), '"')
		in = in[1:]
	}
	if len(s.undone) > from { // quotes were doubled
		s.undone = append(s.undone, field...)
		field = s.undone[from:]
	}
	if len(in) == 0 {
		return field, nil, nil
	}
	if !bytes.HasPrefix(in, s.sep) {
		return nil, nil, &dataset.RowError{Column: len(row) - len(in) + 1, Reason: "text after the closing quote", Remedy: "double the quotes inside a quoted field"}
	}
	return field, in[len(s.sep):], nil
}
