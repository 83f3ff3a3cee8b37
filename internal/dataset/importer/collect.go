package importer

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
)

// Streams of the first pass: the records, and for each part of the users the keys by which repeated pairs are found.
const (
	parts    = 64
	bulkSize = 1 << 18 // bytes of a chunk of records
	keySize  = 1 << 16 // bytes of a chunk of keys
	keyBytes = 24      // user, item, time, number of the record
)

// collection is what the first pass over a source leaves.
type collection struct {
	sieve   *sieve
	users   *ids
	items   *ids
	columns map[string]int // outcomes by name
	names   []string       // by number
	extra   []string       // further inputs of items

	records *spool  // one stream
	keys    *spool  // parts streams
	bulk    []int64 // bytes of a user's records in the spool, by user
	n       int64   // records spooled

	described *os.File // entries of items, one behind the other
	entry     []int64  // offset of the entry of an item in described, by item; −1 none
	length    []int32  // and its bytes
	refused   bits     // items that a condition leaves out
	end       int64    // of described
	itemTwice int64

	events   int64 // that the source gave
	filtered map[string]int64
	lastRow  int64
	base     int64 // added to the rows of the file at hand
	scratch  record
	buf, out []byte
}

func newCollection(dir string, s *sieve) (c *collection, err error) {
	c = &collection{sieve: s, users: newIDs(), items: newIDs(), columns: make(map[string]int), filtered: make(map[string]int64), lastRow: -1}
	if c.records, err = newSpool(dir, 1, bulkSize); err != nil {
		return c, err
	}
	if c.keys, err = newSpool(dir, parts, keySize); err != nil {
		return c, err
	}
	c.described, err = nameless(dir)
	return c, err
}

func (c *collection) close() {
	c.records.close()
	c.keys.close()
	if c.described != nil {
		_ = c.described.Close()
	}
}

// errEnough ends a reading that was asked for a sample alone.
var errEnough = errors.New("enough records")

// read takes items and events in. sample > 0 ends the reading after so many records; then the source does not see its end.
func (c *collection) read(ctx context.Context, src formats.Source, sample int64) error {
	err := src.Items(ctx, func(batch []dataset.Item) error {
		for i := range batch {
			if err := c.item(&batch[i]); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	err = src.Events(ctx, func(batch []dataset.Event) error {
		for i := range batch {
			if sample > 0 && c.events == sample {
				return errEnough
			}
			if err := c.event(&batch[i]); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	if err := c.sieve.unmet(c.columns); err != nil {
		return err
	}
	return errors.Join(c.records.done(), c.keys.done())
}

// item keeps an entry for the last pass.
func (c *collection) item(it *dataset.Item) error {
	if it.ID == "" || !utf8.ValidString(it.ID) {
		return fault.Newf(fault.Fatal, "import", "item %q has no sound id", it.ID)
	}
	n, err := c.itemNumber(it.ID)
	if err != nil {
		return err
	}
	if c.entry[n] >= 0 {
		c.itemTwice++
		return nil
	}
	if !c.sieve.item(it) {
		c.refused.set(int64(n))
	}
	c.learnExtra(it.Extra)
	c.out = appendItem(c.out[:0], it)
	if len(c.out) > math.MaxInt32 {
		return fault.Newf(fault.Fatal, "import", "item %q is larger than 2 GiB", it.ID)
	}
	if _, err := c.described.WriteAt(c.out, c.end); err != nil {
		return fault.New(fault.Fatal, "import: spool", err)
	}
	c.entry[n], c.length[n] = c.end, int32(len(c.out))
	c.end += int64(len(c.out))
	return nil
}

func (c *collection) itemNumber(id string) (int32, error) {
	n, err := c.items.number(id)
	if err == nil && int(n) == len(c.entry) {
		c.entry, c.length = append(c.entry, -1), append(c.length, 0)
	}
	return n, err
}

// learnExtra keeps the further columns in the order in which the source has them: each stands behind the one that it followed.
func (c *collection) learnExtra(fields []dataset.Field) {
	at := 0
	for _, f := range fields {
		i := slices.Index(c.extra, f.Name)
		switch {
		case i < 0:
			c.extra = slices.Insert(c.extra, at, f.Name)
			at++
		case i < at:
			copy(c.extra[i:at-1], c.extra[i+1:at])
			c.extra[at-1] = f.Name
		default:
			at = i + 1
		}
	}
}

// event spools a record that no static filter leaves out.
func (c *collection) event(e *dataset.Event) error {
	c.events++
	row := int64(e.Row) + c.base
	if row <= c.lastRow { // the next file began
		c.base = c.lastRow + 1
		row = int64(e.Row) + c.base
	}
	c.lastRow = row
	if e.User == "" || e.Item == "" || !utf8.ValidString(e.User) || !utf8.ValidString(e.Item) || math.IsNaN(e.Rating) || math.IsInf(e.Rating, 0) {
		return fault.Newf(fault.Fatal, "import", "record %d (user %q, item %q, rating %v) is not a rated record", row, e.User, e.Item, e.Rating)
	}
	if s := c.sieve.spec; s.Min < s.Max && (e.Rating < s.Min || e.Rating > s.Max) {
		c.filtered["scale"]++
		return nil
	}
	for _, o := range e.Outcomes {
		if _, ok := c.columns[o.Name]; !ok {
			c.columns[o.Name] = len(c.names)
			c.names = append(c.names, o.Name)
		}
	}
	if why := c.leaves(e); why != "" {
		c.filtered[why]++
		return nil
	}
	item, err := c.itemNumber(e.Item)
	if err != nil {
		return err
	}
	user, err := c.users.number(e.User)
	if err != nil {
		return err
	}
	if int(user) == len(c.bulk) {
		c.bulk = append(c.bulk, 0)
	}
	return c.spool(e, user, item, row)
}

// leaves names the filter that leaves a record out, "" when none does. An item of which nothing is known meets no condition.
func (c *collection) leaves(e *dataset.Event) string {
	if len(c.sieve.items) > 0 {
		if n, known := c.items.find(e.Item); !known || c.entry[n] < 0 || c.refused.has(int64(n)) {
			return "where"
		}
	}
	return c.sieve.event(e)
}

func (c *collection) spool(e *dataset.Event, user, item int32, row int64) error {
	c.buf = c.buf[:0]
	for _, o := range e.Outcomes {
		if o.Value != "" {
			c.buf = appendOutcome(c.buf, c.columns[o.Name], strings.ToValidUTF8(o.Value, "\uFFFD"))
		}
	}
	r := &c.scratch
	*r = record{user: user, item: item, rating: e.Rating, hasTime: e.HasTime, row: row, outcomes: c.buf}
	key := int64(math.MinInt64) // a missing time comes first
	if e.HasTime {
		r.time, key = e.Time, max(e.Time, math.MinInt64+1)
	}
	c.out = r.append(c.out[:0])
	c.bulk[user] += int64(len(c.out))
	if err := c.records.add(0, c.out); err != nil {
		return err
	}
	var k [keyBytes]byte
	binary.LittleEndian.PutUint32(k[0:], uint32(user))
	binary.LittleEndian.PutUint32(k[4:], uint32(item))
	binary.LittleEndian.PutUint64(k[8:], uint64(key))
	binary.LittleEndian.PutUint64(k[16:], uint64(c.n))
	c.n++
	return c.keys.add(int(user%parts), k[:])
}

// counts sums what the source found. A sample was cut off somewhere: what the source had read by then says nothing.
func (c *collection) counts(items, events []dataset.FileReport, sample bool) layout.Counts {
	n := layout.Counts{Filtered: c.filtered, Reasons: make(map[string]int64), ItemTwice: c.itemTwice}
	if sample {
		n.Rows = c.events
		return n
	}
	asked := c.events // of the rows that are neither broken nor without a rating
	for _, f := range events {
		n.Rows += int64(f.Rows)
		n.Unrated += int64(f.Unrated)
		n.Broken += int64(f.Broken)
		if f.Skipped > 0 {
			c.filtered["where"] += int64(f.Skipped)
			asked += int64(f.Skipped)
		}
		for why, k := range f.Reasons {
			n.Reasons[why] += int64(k)
		}
	}
	for _, f := range items {
		n.ItemRows += int64(f.Rows)
		n.ItemBroken += int64(f.Broken)
		for why, k := range f.Reasons {
			n.Reasons[why] += int64(k)
		}
	}
	if left := n.Rows - n.Unrated - n.Broken - asked; left > 0 {
		c.filtered["source"] += left
	}
	n.Rows = max(n.Rows, n.Unrated+n.Broken+asked)
	return n
}
