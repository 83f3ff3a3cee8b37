package batchfile

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// parquetSource reads pairs from a Parquet file by the names of its columns, page by page: one page of each column is in memory.
type parquetSource struct {
	file   string
	groups []parquet.RowGroup
	cols   []*parquetColumn // of the fields below, those that are there
	no     int64            // rows read
	left   int64            // rows of the open row group
}

// parquetColumn is a cursor over one column of the open row group.
type parquetColumn struct {
	name     string
	index    int // among the leaves of the schema
	text     bool
	unsigned bool

	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    [256]parquet.Value
	n, i   int // buf[i:n] is to be read
}

const parquetHint = "write it anew: user_id and item_id as plain columns of strings or integers, custom_id and polarity as strings"

func newParquet(file string, r io.ReaderAt, size int64) (_ *parquetSource, err error) {
	defer recovered(file, &err)
	f, err := parquet.OpenFile(r, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, fatal(parquetHint, "%s: %w", file, err)
	}
	p := &parquetSource{file: file, groups: f.RowGroups()}
	for _, name := range []string{fieldUser, fieldItem, fieldID, fieldPolarity} {
		node := f.Root().Column(name)
		if node == nil {
			if name == fieldUser || name == fieldItem {
				return nil, fatal("name the columns user_id and item_id", "%s: no column %s", file, name)
			}
			continue
		}
		if !node.Leaf() || node.Repeated() {
			return nil, fatal(parquetHint, "%s: the column %s is a list or a group", file, name)
		}
		c := &parquetColumn{name: name, index: node.Index()}
		var logical format.LogicalTypeValue
		if lt := node.Type().LogicalType(); lt != nil {
			logical = lt.Value
		}
		integer, isInteger := logical.(*format.IntType)
		_, isString := logical.(*format.StringType)
		_, isEnum := logical.(*format.EnumType)
		switch kind := node.Type().Kind(); {
		case kind == parquet.ByteArray && (logical == nil || isString || isEnum):
			c.text = true
		case name != fieldPolarity && (kind == parquet.Int32 || kind == parquet.Int64) && (logical == nil || isInteger):
			c.unsigned = isInteger && !integer.IsSigned
		default:
			return nil, fatal(parquetHint, "%s: the column %s is of type %s", file, name, node.Type())
		}
		p.cols = append(p.cols, c)
	}
	return p, nil
}

// recovered makes an error of a panic: the library trusts the numbers in a file, and a damaged file must not end the process.
func recovered(file string, err *error) {
	if r := recover(); r != nil {
		*err = fatal("the file is damaged: "+parquetHint, "%s: %v", file, r)
	}
}

func (p *parquetSource) next() (_ Line, err error) {
	defer recovered(p.file, &err)
	for p.left == 0 {
		if err := p.closeGroup(); err != nil {
			return Line{}, err
		}
		if len(p.groups) == 0 {
			return Line{}, io.EOF
		}
		group := p.groups[0]
		p.groups, p.left = p.groups[1:], group.NumRows()
		for _, c := range p.cols {
			c.pages, c.n, c.i = group.ColumnChunks()[c.index].Pages(), 0, 0
		}
	}
	p.left--
	p.no++
	line := Line{No: p.no, Polarity: Both}
	var bad *flaw
	for _, c := range p.cols {
		v, err := c.next()
		if err != nil {
			return Line{}, fatal("the file is damaged: "+parquetHint, "%s: row %d: %s: %w", p.file, p.no, c.name, err)
		}
		if why := line.set(c.name, v, c); why != nil && bad == nil { // the other columns go on: they must stay on one row
			why.field = c.name
			bad = why
		}
	}
	if bad != nil {
		return Line{}, bad.at(p.file, p.no, line.ID)
	}
	return line, nil
}

// set takes a column's value over.
func (l *Line) set(name string, v parquet.Value, c *parquetColumn) (bad *flaw) {
	if v.IsNull() {
		if name == fieldUser || name == fieldItem {
			return &flaw{reason: "is null", remedy: "give it a value or leave the row out"}
		}
		return nil
	}
	var s string
	switch {
	case c.text:
		if s = string(v.ByteArray()); !utf8.ValidString(s) { // a copy: the value lies in the page
			return &flaw{reason: "not valid UTF-8", remedy: "write the column as strings"}
		}
	case c.unsigned:
		s = strconv.FormatUint(v.Uint64(), 10)
		if v.Kind() == parquet.Int32 {
			s = strconv.FormatUint(uint64(v.Uint32()), 10)
		}
	case v.Kind() == parquet.Int32:
		s = strconv.FormatInt(int64(v.Int32()), 10)
	default:
		s = strconv.FormatInt(v.Int64(), 10)
	}
	if name == fieldPolarity {
		l.Polarity, bad = polarityOf(s)
		return bad
	}
	if bad := checkID(s); bad != nil {
		return bad
	}
	switch name {
	case fieldUser:
		l.User = s
	case fieldItem:
		l.Item = s
	case fieldID:
		l.ID = s
	}
	return nil
}

// next returns the column's next value.
func (c *parquetColumn) next() (parquet.Value, error) {
	for c.i == c.n {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return parquet.Value{}, fmt.Errorf("%w: the column has fewer values than the row group has rows", io.ErrUnexpectedEOF)
			}
			if err != nil {
				return parquet.Value{}, err
			}
			c.page, c.values = page, page.Values()
		}
		n, err := c.values.ReadValues(c.buf[:])
		if err != nil && !errors.Is(err, io.EOF) {
			return parquet.Value{}, err
		}
		c.i, c.n = 0, n
		if n == 0 {
			parquet.Release(c.page)
			c.page = nil
		}
	}
	c.i++
	return c.buf[c.i-1], nil
}

// closeGroup lets go of the open row group.
func (p *parquetSource) closeGroup() error {
	var first error
	for _, c := range p.cols {
		if c.page != nil {
			parquet.Release(c.page)
			c.page = nil
		}
		if c.pages != nil {
			if err := c.pages.Close(); first == nil {
				first = err
			}
			c.pages = nil
		}
	}
	return first
}
