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

// split cuts a row into fields. The error's column is set where the quotes are wrong.
func (s *splitter) split(row []byte) ([][]byte, *dataset.RowError) {
	if !utf8.Valid(row) {
		return nil, &dataset.RowError{Reason: "not valid UTF-8", Remedy: "convert the file to UTF-8"}
	}
	if bytes.IndexByte(row, 0) >= 0 {
		return nil, &dataset.RowError{Reason: "the row holds a zero byte", Remedy: "the file is damaged, or not text"}
	}
	s.fields, s.undone = s.fields[:0], s.undone[:0]
	if len(row) > cap(s.undone) {
		s.undone = make([]byte, 0, 2*len(row)) // never grown while fields refer to it
	}
	for rest := row; ; {
		var field []byte
		var bad *dataset.RowError
		if s.quotes && len(rest) > 0 && rest[0] == '"' {
			field, rest, bad = s.quoted(row, rest)
		} else {
			field, rest, bad = s.plain(row, rest)
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
func (s *splitter) plain(row, rest []byte) (field, left []byte, bad *dataset.RowError) {
	var at int
	if len(s.sep) == 1 {
		at = bytes.IndexByte(rest, s.sep[0])
	} else {
		at = bytes.Index(rest, s.sep)
	}
	if field = rest; at >= 0 {
		field, left = rest[:at], rest[at+len(s.sep):]
	}
	if s.quotes && bytes.IndexByte(field, '"') >= 0 {
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
