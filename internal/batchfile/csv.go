package batchfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// maxRecordLines bounds how far a quoted field may reach: an opening quote without its partner costs one line, not the file.
const maxRecordLines = 1000

// csvSource reads pairs from a CSV file (RFC 4180) by the names of its header. A record that cannot be split loses its first physical
// line only: reading goes on with the next one.
type csvSource struct {
	file  string
	scan  *lineScanner
	ahead []physical // read already, not yet taken
	taken int64      // physical lines taken
	err   error      // met while reading ahead

	width                    int // columns of the header
	user, item, id, polarity int // -1: not there
}

type physical struct {
	text []byte
	long bool
}

func newCSV(file string, br *bufio.Reader) (*csvSource, error) {
	c := &csvSource{file: file, scan: &lineScanner{br: br}}
	rec, err := c.record()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fatal("the first line names the columns: user_id,item_id and, if wanted, custom_id,polarity", "%s has no header", file)
	case err != nil:
		return nil, fatal("the first line names the columns: user_id,item_id and, if wanted, custom_id,polarity", "the header cannot be read: %w", err)
	}
	names := make([]string, len(rec.fields))
	for i, f := range rec.fields {
		names[i] = strings.TrimSpace(f)
	}
	c.width = len(names)
	c.user, c.item = slices.Index(names, fieldUser), slices.Index(names, fieldItem)
	c.id, c.polarity = slices.Index(names, fieldID), slices.Index(names, fieldPolarity)
	for _, must := range []string{fieldUser, fieldItem} {
		if !slices.Contains(names, must) {
			hint := "name the columns user_id and item_id in the first line"
			if len(names) == 1 && strings.ContainsAny(names[0], ";\t") {
				hint = "separate the columns by commas"
			}
			return nil, fatal(hint, "%s: no column %s among %s", file, must, clip(strings.Join(names, ", ")))
		}
	}
	for _, name := range []string{fieldUser, fieldItem, fieldID, fieldPolarity} {
		if i := slices.Index(names, name); i >= 0 && slices.Contains(names[i+1:], name) {
			return nil, fatal("keep one of them", "%s: the column %s is there twice", file, name)
		}
	}
	return c, nil
}

func (c *csvSource) next() (Line, error) {
	rec, err := c.record()
	if err != nil {
		return Line{}, err
	}
	line := Line{No: rec.line, Polarity: Both}
	fail := func(i int, bad *flaw) (Line, error) {
		bad.line, bad.column = rec.at[i].line-rec.line, rec.at[i].column
		return Line{}, bad.at(c.file, rec.line, line.ID)
	}
	if len(rec.fields) != c.width {
		return fail(0, &flaw{reason: fmt.Sprintf("%d fields, the header has %d", len(rec.fields), c.width), remedy: "quote fields that contain a comma"})
	}
	if c.id >= 0 && rec.fields[c.id] != "" {
		if bad := checkID(rec.fields[c.id]); bad != nil {
			bad.field = fieldID
			return fail(c.id, bad)
		}
		line.ID = rec.fields[c.id]
	}
	for _, f := range [...]struct {
		name string
		i    int
		to   *string
	}{{fieldUser, c.user, &line.User}, {fieldItem, c.item, &line.Item}} {
		if bad := checkID(rec.fields[f.i]); bad != nil {
			bad.field = f.name
			return fail(f.i, bad)
		}
		*f.to = rec.fields[f.i]
	}
	if c.polarity >= 0 {
		var bad *flaw
		if line.Polarity, bad = polarityOf(rec.fields[c.polarity]); bad != nil {
			bad.field = fieldPolarity
			return fail(c.polarity, bad)
		}
	}
	return line, nil
}

// record returns the next record that is not a blank line.
func (c *csvSource) record() (csvRecord, error) {
	for {
		first, err := c.peek(0)
		if err != nil {
			return csvRecord{}, err
		}
		if len(first.text) > 0 {
			break
		}
		c.take(1)
	}
	at := c.taken + 1
	lose := func(bad *flaw) (csvRecord, error) {
		c.take(1)
		return csvRecord{}, bad.at(c.file, at, "")
	}
	if c.ahead[0].long {
		return lose(tooLong())
	}
	text, n := c.ahead[0].text, 1
	for quotes := bytes.Count(text, []byte{'"'}); quotes%2 == 1; n++ { // a balanced record has an even number: inside a field a mark is doubled
		more, err := c.peek(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return csvRecord{}, err
		}
		if err != nil || n == maxRecordLines || more.long || len(text)+len(more.text) >= maxLine {
			return lose(&flaw{column: bytes.LastIndexByte(c.ahead[0].text, '"') + 1, reason: "a quotation mark is never closed", remedy: `write a " inside a field as ""`})
		}
		if n == 1 {
			text = bytes.Clone(c.ahead[0].text) // the line itself is kept, in case the record fails
		}
		text = append(append(text, '\n'), more.text...)
		quotes += bytes.Count(more.text, []byte{'"'})
	}
	if bad := notUTF8(c.ahead[0].text); bad != nil {
		return lose(bad)
	}
	rec, bad := splitCSV(text, at)
	if bad == nil && n > 1 {
		bad = notUTF8(text)
	}
	if bad != nil {
		return lose(bad)
	}
	c.take(n)
	return rec, nil
}

// peek returns the n-th physical line ahead. The line at 0 is valid until more is peeked, which copies it, or taken.
func (c *csvSource) peek(n int) (physical, error) {
	for len(c.ahead) <= n {
		if c.err != nil {
			return physical{}, c.err
		}
		if len(c.ahead) == 1 {
			c.ahead[0].text = bytes.Clone(c.ahead[0].text)
		}
		text, long, err := c.scan.next()
		if err != nil {
			c.err = err
			continue
		}
		if len(c.ahead) > 0 {
			text = bytes.Clone(text)
		}
		c.ahead = append(c.ahead, physical{text, long})
	}
	return c.ahead[n], nil
}

func (c *csvSource) take(n int) {
	c.taken += int64(n)
	c.ahead = slices.Delete(c.ahead, 0, n)
}
