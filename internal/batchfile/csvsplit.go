package batchfile

import (
	"bytes"
	"strings"
)

// csvRecord is one record of a CSV file, split into its fields.
type csvRecord struct {
	line   int64 // of its first physical line
	fields []string
	at     []csvPosition // where each field begins
}

type csvPosition struct {
	line   int64
	column int
}

// splitCSV splits one record, whose quotation marks are even in number, as RFC 4180 says. first is the line it begins on.
func splitCSV(text []byte, first int64) (csvRecord, *flaw) {
	rec := csvRecord{line: first}
	line, lineStart := first, 0
	flawAt := func(i int, reason, remedy string) (csvRecord, *flaw) {
		return rec, &flaw{line: line - first, column: i - lineStart + 1, reason: reason, remedy: remedy}
	}
	for i := 0; ; i++ { // i steps over the comma
		rec.at = append(rec.at, csvPosition{line, i - lineStart + 1})
		if i == len(text) || text[i] != '"' {
			end := bytes.IndexByte(text[i:], ',')
			if end < 0 {
				end = len(text) - i
			}
			if q := bytes.IndexByte(text[i:i+end], '"'); q >= 0 {
				return flawAt(i+q, "a quotation mark inside a field without quotes", `quote the field and write the mark as ""`)
			}
			rec.fields = append(rec.fields, string(text[i:i+end]))
			i += end
		} else {
			var b strings.Builder
			for i++; ; i++ {
				q := bytes.IndexByte(text[i:], '"')
				if q < 0 {
					return flawAt(i, "a quotation mark is never closed", `write a " inside a field as ""`)
				}
				b.Write(text[i : i+q])
				if nl := bytes.LastIndexByte(text[i:i+q], '\n'); nl >= 0 {
					line += int64(bytes.Count(text[i:i+q], []byte{'\n'}))
					lineStart = i + nl + 1
				}
				if i += q + 1; i == len(text) || text[i] != '"' {
					break
				}
				b.WriteByte('"')
			}
			rec.fields = append(rec.fields, b.String())
			if i < len(text) && text[i] != ',' {
				return flawAt(i, "text after a closing quotation mark", `write a " inside a field as ""`)
			}
		}
		if i == len(text) {
			return rec, nil
		}
	}
}
