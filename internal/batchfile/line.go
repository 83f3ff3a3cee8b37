package batchfile

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"recpie/internal/fault"
)

// Bounds of what is read.
const (
	maxLine  = 8 << 20 // bytes of a line, or of a CSV record
	maxID    = 1024    // bytes of an id: database indexes take no key beyond 2 to 3 KiB
	maxDepth = 128     // nesting of a JSON text
)

// What Line.Polarity and Row.Polarity say.
const (
	Both     int8 = -1 // a line asks for both sentences
	Positive int8 = 0  // why the user chose the item
	Negative int8 = 1  // why not
)

// The names of the fields, in every format.
const (
	fieldID       = "custom_id"
	fieldUser     = "user_id"
	fieldItem     = "item_id"
	fieldPolarity = "polarity"
)

// Line is one pair (User and Item are set) or one request (URL and Body are set) of an input.
type Line struct {
	No       int64  // line of the file, of a CSV record its first, from 1; in Parquet the row
	ID       string // custom_id, "" when a pair has none
	User     string // of a pair; of a request, once it is settled, the user that its body names
	Item     string
	Polarity int8            // Both, Positive or Negative; Both for requests
	URL      string          // path of the endpoint, as /v1/chat/completions
	Body     json.RawMessage // what to send, a valid JSON object: as it stood in the file, until Settle

	bodyAt int // where the body stands in its line, in bytes
}

// LineError says what is wrong with one line and what would mend it. It comes wrapped with the class fault.Item.
type LineError struct {
	File   string `json:"file"`
	Line   int64  `json:"line"`             // as Line.No
	Column int    `json:"column,omitempty"` // byte in the line, from 1; 0 when the whole line is meant
	Field  string `json:"field,omitempty"`
	ID     string `json:"custom_id,omitempty"` // of the line, where it could be read
	Reason string `json:"reason"`
	Remedy string `json:"remedy"`
}

// Error returns "file:line:column: field: reason; remedy".
func (e *LineError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d", e.File, e.Line)
	if e.Column > 0 {
		fmt.Fprintf(&b, ":%d", e.Column)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	return b.String() + e.Reason + "; " + e.Remedy
}

// flaw is what is wrong with a line, before it is known where the line stands.
type flaw struct {
	line           int64 // beyond the first line of a record
	column         int   // from 1, 0: the whole line
	field          string
	reason, remedy string
}

// at places the flaw.
func (f *flaw) at(file string, line int64, id string) error {
	return fault.New(fault.Item, "", &LineError{File: file, Line: line + f.line, Column: f.column, Field: f.field, ID: id, Reason: f.reason, Remedy: f.remedy})
}

// checkID says what is wrong with an id, nil when nothing is. The text is valid UTF-8.
func checkID(id string) *flaw {
	switch {
	case id == "":
		return &flaw{reason: "is empty", remedy: "give it a value or leave the line out"}
	case len(id) > maxID:
		return &flaw{reason: fmt.Sprintf("is longer than %d bytes", maxID), remedy: "use a shorter id"}
	case strings.IndexByte(id, 0) >= 0:
		return &flaw{reason: "contains a NUL character", remedy: "databases cannot store it: use another id"}
	}
	return nil
}

// polarityOf reads the name of a polarity.
func polarityOf(name string) (int8, *flaw) {
	switch name {
	case "positive":
		return Positive, nil
	case "negative":
		return Negative, nil
	case "both", "":
		return Both, nil
	}
	return Both, &flaw{reason: fmt.Sprintf("%q is no polarity", clip(name)), remedy: "write positive, negative or both"}
}

// clip shortens what a message quotes.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
