package dataset

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"recpie/internal/dataset/layout"
)

// parquetRows reads a Parquet file of strings, numbers and lists of them. Rows count as lines, from 1.
type parquetRows struct {
	file    string
	groups  []parquet.RowGroup
	rows    parquet.Rows // of the open row group, nil none
	buf     []parquet.Row
	n, i    int // buf[i:n] is to be read
	line    int
	names   []string
	seconds []int64 // units of a second of a column of times, 0 for other columns
	taken   []bool  // columns of the row at hand that have a value: a list's further ones follow a bar
}

func openParquetRows(path string, f *os.File) (_ rows, _ *table, err error) {
	defer parquetPanic(path, &err)
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	file, err := layout.OpenParquet(f, info.Size())
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	p := &parquetRows{file: path, groups: file.RowGroups(), buf: make([]parquet.Row, 256)}
	seen := make(map[string]bool)
	for _, leaf := range file.Schema().Columns() {
		if seen[leaf[0]] {
			return nil, nil, fmt.Errorf("%s: the column %q is a group of several: write it as columns of its own", path, leaf[0])
		}
		seen[leaf[0]] = true
		column, _ := file.Schema().Lookup(leaf...)
		p.names, p.seconds = append(p.names, leaf[0]), append(p.seconds, perSecond(column.Node.Type()))
	}
	p.taken = make([]bool, len(p.names))
	return p, newTable(p.names), nil
}

// perSecond returns how many units of a column of times make a second, 0 for other types.
func perSecond(t parquet.Type) int64 {
	logical := t.LogicalType()
	if logical == nil {
		return 0
	}
	stamp, ok := logical.Value.(*format.TimestampType)
	if !ok {
		return 0
	}
	switch stamp.Unit.Value.(type) {
	case *format.MilliSeconds:
		return 1e3
	case *format.MicroSeconds:
		return 1e6
	}
	return 1e9
}

// parquetPanic makes an error of a panic: the library trusts the numbers in a file.
func parquetPanic(path string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: the file is damaged: %v", path, r)
	}
}

func (p *parquetRows) next() (_ row, err error) {
	defer parquetPanic(p.file, &err)
	for p.i == p.n {
		if p.rows == nil {
			if len(p.groups) == 0 {
				return row{}, io.EOF
			}
			p.rows, p.groups = p.groups[0].Rows(), p.groups[1:]
		}
		n, err := p.rows.ReadRows(p.buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return row{}, fmt.Errorf("%s:%d: %w", p.file, p.line+1, err)
		}
		if p.i, p.n = 0, n; n == 0 {
			err := p.rows.Close()
			if p.rows = nil; err != nil {
				return row{}, fmt.Errorf("%s: %w", p.file, err)
			}
		}
	}
	p.line++
	p.i++
	return p.row(p.buf[p.i-1]), nil
}

func (p *parquetRows) row(values parquet.Row) row {
	r := row{line: p.line, fields: make([]string, len(p.names)), at: make([]position, len(p.names))}
	clear(p.taken)
	for i := range r.at {
		r.at[i].line = p.line
	}
	for _, v := range values {
		c := v.Column()
		if v.IsNull() {
			continue
		}
		text := p.text(v, c)
		if !utf8.ValidString(text) {
			r.bad = &RowError{File: p.file, Line: p.line, Field: p.names[c], Reason: "not valid UTF-8", Remedy: "write the column as strings"}
			continue
		}
		if p.taken[c] {
			text = r.fields[c] + "|" + text
		}
		r.fields[c], p.taken[c] = text, true
	}
	return r
}

// text writes a value as a field of CSV holds it; times become Unix seconds.
func (p *parquetRows) text(v parquet.Value, column int) string {
	switch v.Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray:
		return string(v.ByteArray())
	case parquet.Double:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64)
	case parquet.Float:
		return strconv.FormatFloat(float64(v.Float()), 'g', -1, 32)
	case parquet.Int64:
		if per := p.seconds[column]; per > 0 {
			return strconv.FormatInt(floorDiv(v.Int64(), per), 10)
		}
	}
	return v.String()
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
