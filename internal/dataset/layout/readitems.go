package layout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"
)

// ReadItems hands the items of a file to yield, with values for the further columns extra. rows is how many the manifest says there are.
func ReadItems(ctx context.Context, path string, rows int64, extra []string, yield func(Item) error) error {
	return guarded(path, rows, func(f *parquet.File) error {
		fields, err := itemFields(f, extra)
		if err != nil {
			return damaged("%s: %w", path, err)
		}
		buf := make([]parquet.Row, 256)
		for _, g := range f.RowGroups() {
			in := g.Rows()
			for seen := int64(0); seen < g.NumRows(); {
				if err := ctx.Err(); err != nil {
					return errors.Join(err, in.Close())
				}
				n, err := in.ReadRows(buf)
				for _, row := range buf[:n] {
					it, err := itemOf(row, fields, len(extra))
					if err != nil {
						return errors.Join(damaged("%s: %w", path, err), in.Close())
					}
					if err := yield(it); err != nil {
						return errors.Join(err, in.Close())
					}
				}
				seen += int64(n)
				if err != nil && !errors.Is(err, io.EOF) || n == 0 && seen < g.NumRows() {
					return errors.Join(damaged("%s: %w", path, cmpErr(err)), in.Close())
				}
			}
			if err := in.Close(); err != nil {
				return damaged("%s: %w", path, err)
			}
		}
		return nil
	})
}

// cmpErr makes an unexpected end of no error.
func cmpErr(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// itemFields says which field each leaf of the file is: a position among itemColumns and, behind them, extra; -1 for others.
func itemFields(f *parquet.File, extra []string) (map[int]int, error) {
	fields := make(map[int]int)
	for i, name := range append(slices.Clone(itemColumns), extra...) {
		kind := parquet.ByteArray
		if name == "year" {
			kind = parquet.Int32
		}
		c, err := open(f, name, kind, name == "categories")
		if err != nil {
			return nil, err
		}
		fields[c.index] = i
	}
	return fields, nil
}

func itemOf(row parquet.Row, fields map[int]int, extra int) (Item, error) {
	it := Item{Extra: make([]string, extra)}
	for _, v := range row {
		field, known := fields[v.Column()]
		if !known || v.IsNull() {
			continue
		}
		if field == 2 {
			it.Year = int(v.Int32())
			continue
		}
		text := string(v.ByteArray())
		if !utf8.ValidString(text) {
			return it, fmt.Errorf("item %s: not valid UTF-8", quote(it.ID))
		}
		switch field {
		case 0:
			it.ID = text
		case 1:
			it.Title = text
		case 3:
			it.Categories = append(it.Categories, text)
		case 4:
			it.Profile = text
		case 5:
			it.Price = text
		default:
			it.Extra[field-len(itemColumns)] = text
		}
	}
	if it.ID == "" {
		return it, errors.New("item_id: an id is missing")
	}
	return it, nil
}
