package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// jsonRows reads a file with one JSON object on each line. Its columns are all keys that occur, in ascending order.
type jsonRows struct {
	lines   *rowReader
	columns []string
}

// openJSONRows reads the file once for its keys and begins anew for its rows.
func openJSONRows(path string, f *os.File, maxRecord int) (rows, *table, error) {
	first, err := newRowReader(path, f, false, maxRecord)
	if err != nil {
		return nil, nil, err
	}
	keys := make(map[string]bool)
	for {
		r, err := first.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		if object, ok := objectOf(r); ok {
			for k := range object {
				keys[k] = true
			}
		}
	}
	if len(keys) == 0 {
		return nil, nil, fmt.Errorf("%s: no line holds a JSON object with keys", path)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, nil, err
	}
	r := &jsonRows{columns: slices.Sorted(maps.Keys(keys))}
	if r.lines, err = newRowReader(path, f, false, maxRecord); err != nil {
		return nil, nil, err
	}
	return r, newTable(r.columns), nil
}

// newTable is a header without types.
func newTable(names []string) *table {
	t := &table{names: names, types: make([]string, len(names)), index: make(map[string]int)}
	for i, name := range names {
		t.index[name] = i
	}
	return t
}

func objectOf(r row) (object map[string]json.RawMessage, ok bool) {
	return object, r.bad == nil && json.Unmarshal(r.raw, &object) == nil && object != nil
}

func (j *jsonRows) next() (row, error) {
	r, err := j.lines.next()
	if err != nil || r.bad != nil {
		return r, err
	}
	object, ok := objectOf(r)
	if !ok {
		r.bad = &RowError{File: j.lines.file, Line: r.line, Reason: "not a JSON object", Remedy: "write one object on each line"}
		return r, nil
	}
	r.fields, r.at = make([]string, len(j.columns)), make([]position, len(j.columns))
	for i, name := range j.columns {
		r.fields[i], r.at[i].line = textOf(object[name]), r.line
	}
	return r, nil
}

// textOf writes a JSON value as a field of CSV holds it: null as nothing, the values of a list divided by bars, an object as it is.
func textOf(raw json.RawMessage) string {
	raw = bytes.TrimSpace(raw)
	switch {
	case len(raw) == 0 || string(raw) == "null":
		return ""
	case raw[0] == '"':
		var s string
		if json.Unmarshal(raw, &s) == nil {
			return s
		}
	case raw[0] == '[':
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) == nil {
			parts := make([]string, len(list))
			for i := range list {
				parts[i] = textOf(list[i])
			}
			return strings.Join(parts, "|")
		}
	}
	return string(raw)
}
