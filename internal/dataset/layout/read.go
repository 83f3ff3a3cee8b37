package layout

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// batchRows is how many rows are read at a time.
const batchRows = 4096

// Batch is a run of rows of a file of interactions, by column. Users and Items are only good until the function that gets them returns.
type Batch struct {
	Users, Items [][]byte
	Ratings      []float64
	Times        []int64
	HasTime      []bool
	Rows         []int64
	Outcomes     [][]string // per asked column, per row; "" none
}

// column is a cursor over one leaf of the open row group.
type column struct {
	name  string
	index int
	kind  parquet.Kind

	pages  parquet.Pages
	page   parquet.Page
	values parquet.ValueReader
	buf    []parquet.Value
}

// open finds a column that must be there, of the kind it must have.
func open(f *parquet.File, name string, kind parquet.Kind, repeated bool) (*column, error) {
	node := f.Root().Column(name)
	if node == nil || !node.Leaf() || node.Repeated() != repeated || node.Type().Kind() != kind {
		return nil, fmt.Errorf("there is no column %s of the right type", quote(name))
	}
	return &column{name: name, index: node.Index(), kind: kind, buf: make([]parquet.Value, 512)}, nil
}

func (c *column) begin(g parquet.RowGroup) { c.pages = g.ColumnChunks()[c.index].Pages() }

func (c *column) end() {
	if c.page != nil {
		parquet.Release(c.page)
	}
	if c.pages != nil {
		_ = c.pages.Close()
	}
	c.page, c.pages = nil, nil
}

// read hands n values to each; they are only good during the call.
func (c *column) read(n int, each func(i int, v parquet.Value) error) error {
	for i := 0; i < n; {
		if c.page == nil {
			page, err := c.pages.ReadPage()
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("%s: fewer values than rows: %w", c.name, io.ErrUnexpectedEOF)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.page, c.values = page, page.Values()
		}
		got, err := c.values.ReadValues(c.buf[:min(len(c.buf), n-i)])
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		for _, v := range c.buf[:got] {
			if err := each(i, v); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			i++
		}
		if got == 0 {
			parquet.Release(c.page)
			c.page = nil
		}
	}
	return nil
}

// texts reads n strings into one allocation; a null is "".
func (c *column) texts(n int, into []string, scratch *[]byte, ends []int) error {
	text := (*scratch)[:0]
	err := c.read(n, func(i int, v parquet.Value) error {
		if !v.IsNull() {
			text = append(text, v.ByteArray()...)
		}
		ends[i] = len(text)
		return nil
	})
	*scratch = text
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("%s: not valid UTF-8", c.name)
	}
	all, from := string(text), 0
	for i := range n {
		into[i], from = all[from:ends[i]], ends[i]
	}
	return nil
}

// bytes reads n byte strings; they are good until scratch is used again.
func (c *column) bytes(n int, into [][]byte, scratch *[]byte, ends []int) error {
	text := (*scratch)[:0]
	err := c.read(n, func(i int, v parquet.Value) error {
		if v.IsNull() || len(v.ByteArray()) == 0 {
			return errors.New("an id is missing")
		}
		text = append(text, v.ByteArray()...)
		ends[i] = len(text)
		return nil
	})
	*scratch = text
	if err != nil {
		return err
	}
	if !utf8.Valid(text) {
		return fmt.Errorf("%s: not valid UTF-8", c.name)
	}
	from := 0
	for i := range n {
		into[i], from = text[from:ends[i]], ends[i]
	}
	return nil
}

// guarded opens a Parquet file for read and makes an error of what goes wrong, panics too: the library trusts the numbers in a file, and a damaged
// file must not end the process.
func guarded(path string, rows int64, read func(*parquet.File) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = damaged("%s: the file is damaged: %v", path, r)
		}
	}()
	file, err := os.Open(path)
	if err != nil {
		return damaged("%w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return damaged("%w", err)
	}
	f, err := OpenParquet(file, info.Size())
	if err != nil {
		return damaged("%s: %w", path, err)
	}
	var have int64
	for _, g := range f.RowGroups() {
		if g.NumRows() < 0 || g.NumRows() > math.MaxInt32 {
			return damaged("%s: a row group of %d rows", path, g.NumRows())
		}
		have += g.NumRows()
	}
	if have != rows {
		return damaged("%s: %d rows, the manifest says %d", path, have, rows)
	}
	return read(f)
}

// OpenParquet opens a Parquet file that may be damaged. Reading it may still panic.
func OpenParquet(file io.ReaderAt, size int64) (*parquet.File, error) {
	if err := checkFooter(file, size); err != nil {
		return nil, err
	}
	return parquet.OpenFile(file, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
}

// checkFooter compares the stated length of the footer with the file's: the library makes room for it before it looks.
func checkFooter(file io.ReaderAt, size int64) error {
	var tail [8]byte
	if size < int64(len(tail))+4 {
		return fmt.Errorf("%d bytes are no Parquet file", size)
	}
	if _, err := file.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return err
	}
	if string(tail[4:]) != "PAR1" || int64(binary.LittleEndian.Uint32(tail[:])) > size-int64(len(tail))-4 {
		return errors.New("the end of the Parquet file is damaged or missing")
	}
	return nil
}

// ReadInteractions hands the rows of a file of interactions to yield, with the outcomes asked for. rows is how many the manifest says there are.
func ReadInteractions(ctx context.Context, path string, rows int64, outcomes []string, yield func(*Batch) error) error {
	return guarded(path, rows, func(f *parquet.File) error {
		r, err := newBatchReader(f, outcomes)
		if err != nil {
			return damaged("%s: %w", path, err)
		}
		for _, g := range f.RowGroups() {
			for _, c := range r.columns {
				c.begin(g)
			}
			for left := int(g.NumRows()); left > 0 && err == nil; left -= min(left, batchRows) {
				if err = ctx.Err(); err != nil {
					break
				}
				var b *Batch
				if b, err = r.next(min(left, batchRows)); err != nil {
					err = damaged("%s: %w", path, err)
					break
				}
				err = yield(b)
			}
			for _, c := range r.columns {
				c.end()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// batchReader reads the columns of interactions side by side.
type batchReader struct {
	columns  []*column // interactionColumns, then the outcomes
	scratch  [3][]byte // of users, items, an outcome
	ends     []int
	all      Batch
	outcomes [][]string
}

func newBatchReader(f *parquet.File, outcomes []string) (*batchReader, error) {
	r := &batchReader{ends: make([]int, batchRows), all: Batch{Users: make([][]byte, batchRows), Items: make([][]byte, batchRows), Ratings: make([]float64, batchRows),
		Times: make([]int64, batchRows), HasTime: make([]bool, batchRows), Rows: make([]int64, batchRows)}}
	kinds := []parquet.Kind{parquet.ByteArray, parquet.ByteArray, parquet.Double, parquet.Int64, parquet.Int64}
	for i, name := range interactionColumns {
		c, err := open(f, name, kinds[i], false)
		if err != nil {
			return nil, err
		}
		r.columns = append(r.columns, c)
	}
	for _, name := range outcomes {
		c, err := open(f, name, parquet.ByteArray, false)
		if err != nil {
			return nil, err
		}
		r.columns = append(r.columns, c)
		r.outcomes = append(r.outcomes, make([]string, batchRows))
	}
	return r, nil
}

func (r *batchReader) next(n int) (*Batch, error) {
	b := &Batch{Users: r.all.Users[:n], Items: r.all.Items[:n], Ratings: r.all.Ratings[:n], Times: r.all.Times[:n], HasTime: r.all.HasTime[:n], Rows: r.all.Rows[:n]}
	if err := r.columns[0].bytes(n, b.Users, &r.scratch[0], r.ends); err != nil {
		return nil, err
	}
	if err := r.columns[1].bytes(n, b.Items, &r.scratch[1], r.ends); err != nil {
		return nil, err
	}
	err := r.columns[2].read(n, func(i int, v parquet.Value) error {
		if b.Ratings[i] = v.Double(); v.IsNull() || math.IsNaN(b.Ratings[i]) || math.IsInf(b.Ratings[i], 0) {
			return errors.New("not a finite number")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = r.columns[3].read(n, func(i int, v parquet.Value) error {
		if b.Times[i], b.HasTime[i] = 0, !v.IsNull(); b.HasTime[i] {
			b.Times[i] = v.Int64()
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = r.columns[4].read(n, func(i int, v parquet.Value) error {
		if b.Rows[i] = v.Int64(); v.IsNull() || b.Rows[i] < 0 {
			return errors.New("not a row number")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for k, c := range r.columns[len(interactionColumns):] {
		if err := c.texts(n, r.outcomes[k][:n], &r.scratch[2], r.ends); err != nil {
			return nil, err
		}
		b.Outcomes = append(b.Outcomes, r.outcomes[k][:n])
	}
	return b, nil
}
