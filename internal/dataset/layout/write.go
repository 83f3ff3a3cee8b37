package layout

import (
	"fmt"
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"

	"recpie/internal/fault"
)

// The columns that every file has.
var (
	interactionColumns = []string{"user_id", "item_id", "rating", "timestamp", "source_row"}
	itemColumns        = []string{"item_id", "title", "year", "categories", "profile", "price"}
)

// A row group is closed at whichever bound is met first: it is what a writer holds in memory, twice over.
const (
	groupRows  = 128 << 10
	groupBytes = 32 << 20
)

// ShardName is the name of the i-th file of interactions, from 0.
func ShardName(i int) string { return fmt.Sprintf("interactions-%05d.parquet", i) }

// Interaction is one rated record. Its texts must stay as they are until the writer is closed.
type Interaction struct {
	User, Item []byte
	Rating     float64
	Time       int64
	HasTime    bool
	Row        int64
	Outcomes   [][]byte // by the columns of the file, empty: none
}

// Item is one item. Extra holds one value per further column of the file, "" none.
type Item struct {
	ID, Title      string
	Year           int
	Categories     []string
	Profile, Price string
	Extra          []string
}

// writer writes rows of any schema in bounded row groups, compressed with zstd. Its bytes depend on the rows alone.
type writer struct {
	w           *parquet.GenericWriter[any]
	batch       []parquet.Row
	rows, bytes int   // of the open row group
	total       int64 // rows written
}

func newWriter(out io.Writer, name string, group parquet.Group) *writer {
	return &writer{w: parquet.NewGenericWriter[any](out, parquet.NewSchema(name, group), parquet.Compression(&parquet.Zstd), parquet.CreatedBy("recpie", "1", ""))}
}

// next returns the row to fill.
func (w *writer) next() parquet.Row {
	if len(w.batch) < cap(w.batch) {
		w.batch = w.batch[:len(w.batch)+1]
	} else {
		w.batch = append(w.batch, nil)
	}
	return w.batch[len(w.batch)-1][:0]
}

// put takes the row that next gave, filled; size is that of its texts.
func (w *writer) put(row parquet.Row, size int) error {
	w.batch[len(w.batch)-1] = row
	w.rows++
	w.total++
	w.bytes += size
	full := w.rows >= groupRows || w.bytes >= groupBytes
	if len(w.batch) >= 512 || full {
		if err := w.spill(); err != nil {
			return err
		}
	}
	if full {
		w.rows, w.bytes = 0, 0
		if err := w.w.Flush(); err != nil {
			return fault.New(fault.Fatal, "dataset: parquet", err)
		}
	}
	return nil
}

func (w *writer) spill() error {
	_, err := w.w.WriteRows(w.batch)
	w.batch = w.batch[:0]
	return fault.New(fault.Fatal, "dataset: parquet", err)
}

func (w *writer) close() error {
	if err := w.spill(); err != nil {
		return err
	}
	return fault.New(fault.Fatal, "dataset: parquet", w.w.Close())
}

// leaves returns the columns' places in the file: a group is stored in the order of its names.
func leaves(group parquet.Group) map[string]int {
	names := make([]string, 0, len(group))
	for name := range group {
		names = append(names, name)
	}
	slices.Sort(names)
	index := make(map[string]int, len(names))
	for i, name := range names {
		index[name] = i
	}
	return index
}

func words() parquet.Node    { return parquet.Encoded(parquet.String(), &parquet.RLEDictionary) }
func integers() parquet.Node { return parquet.Encoded(parquet.Int(64), &parquet.DeltaBinaryPacked) }

// InteractionWriter writes one file of interactions.
type InteractionWriter struct {
	*writer
	order []int // position of each leaf among interactionColumns and, behind them, the outcomes
}

// NewInteractionWriter begins a file with these outcomes. Those that repeat themselves are written with a dictionary.
func NewInteractionWriter(out io.Writer, outcomes []string, repeating []bool) (*InteractionWriter, error) {
	if why := columnsFlaw("outcomes", outcomes, interactionColumns); why != "" {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "dataset", "%s", why), "rename the column in the raw file")
	}
	group := parquet.Group{"user_id": words(), "item_id": words(), "rating": parquet.Encoded(parquet.Leaf(parquet.DoubleType), &parquet.RLEDictionary),
		"timestamp": parquet.Optional(integers()), "source_row": integers()}
	for i, name := range outcomes {
		if node := parquet.String(); repeating[i] {
			group[name] = parquet.Optional(words())
		} else {
			group[name] = parquet.Optional(node)
		}
	}
	w := &InteractionWriter{writer: newWriter(out, "interactions", group), order: make([]int, len(group))}
	index := leaves(group)
	for i, name := range append(slices.Clone(interactionColumns), outcomes...) {
		w.order[index[name]] = i
	}
	return w, nil
}

// Write appends a record.
func (w *InteractionWriter) Write(r *Interaction) error {
	row, size := w.next(), 40+len(r.User)+len(r.Item)
	for leaf, field := range w.order {
		var v parquet.Value
		defined := 0
		switch field {
		case 0:
			v = parquet.ByteArrayValue(r.User)
		case 1:
			v = parquet.ByteArrayValue(r.Item)
		case 2:
			v = parquet.DoubleValue(r.Rating)
		case 3:
			if r.HasTime {
				v, defined = parquet.Int64Value(r.Time), 1
			}
		case 4:
			v = parquet.Int64Value(r.Row)
		default:
			if text := r.Outcomes[field-len(interactionColumns)]; len(text) > 0 {
				v, defined = parquet.ByteArrayValue(text), 1
				size += len(text)
			}
		}
		row = append(row, v.Level(0, defined, leaf))
	}
	return w.put(row, size)
}

// Close finishes the file and returns its number of rows.
func (w *InteractionWriter) Close() (int64, error) { return w.total, w.close() }

// ItemWriter writes the file of items.
type ItemWriter struct {
	*writer
	order []int
}

// NewItemWriter begins a file of items with these further columns.
func NewItemWriter(out io.Writer, extra []string) (*ItemWriter, error) {
	if why := columnsFlaw("item_extra", extra, itemColumns); why != "" {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "dataset", "%s", why), "rename the column in the raw file")
	}
	group := parquet.Group{"item_id": parquet.String(), "title": parquet.Optional(parquet.String()), "year": parquet.Optional(parquet.Int(32)),
		"categories": parquet.Repeated(words()), "profile": parquet.Optional(parquet.String()), "price": parquet.Optional(parquet.String())}
	for _, name := range extra {
		group[name] = parquet.Optional(parquet.String())
	}
	w := &ItemWriter{writer: newWriter(out, "items", group), order: make([]int, len(group))}
	index := leaves(group)
	for i, name := range append(slices.Clone(itemColumns), extra...) {
		w.order[index[name]] = i
	}
	return w, nil
}

// Write appends an item.
func (w *ItemWriter) Write(it *Item) error {
	row, size := w.next(), 16+len(it.ID)
	text := func(s string, leaf int) {
		v, defined := parquet.Value{}, 0
		if s != "" {
			v, defined = parquet.ByteArrayValue([]byte(s)), 1
			size += len(s)
		}
		row = append(row, v.Level(0, defined, leaf))
	}
	for leaf, field := range w.order {
		switch field {
		case 0:
			row = append(row, parquet.ByteArrayValue([]byte(it.ID)).Level(0, 0, leaf))
		case 1:
			text(it.Title, leaf)
		case 2:
			if it.Year != 0 {
				row = append(row, parquet.Int32Value(int32(it.Year)).Level(0, 1, leaf))
			} else {
				row = append(row, parquet.Value{}.Level(0, 0, leaf))
			}
		case 3:
			if len(it.Categories) == 0 {
				row = append(row, parquet.Value{}.Level(0, 0, leaf))
			}
			for i, c := range it.Categories {
				row = append(row, parquet.ByteArrayValue([]byte(c)).Level(min(i, 1), 1, leaf))
				size += len(c)
			}
		case 4:
			text(it.Profile, leaf)
		case 5:
			text(it.Price, leaf)
		default:
			text(it.Extra[field-len(itemColumns)], leaf)
		}
	}
	return w.put(row, size)
}

// Close finishes the file and returns its number of rows.
func (w *ItemWriter) Close() (int64, error) { return w.total, w.close() }
