package importer

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
)

// overhead is what a record costs in memory besides its bytes in the spool.
const overhead = 96

// deal is how the kept records are divided into files: each holds the records of a range of users.
type deal struct {
	users   []int32  // kept users in the order of their ids
	rank    []int32  // of a user among them, −1 gone
	share   []uint32 // file of a user, by rank
	columns []int    // of the outcomes that occur, in the order of their names → number in the collection
	names   []string // their names
	shards  *spool   // one stream per file
	files   int
}

// arrange divides the users into ranges of about size bytes.
func (c *collection) arrange(s *survivors, size int64) *deal {
	d := &deal{rank: make([]int32, c.users.len())}
	d.users = c.users.sorted(func(u int32) bool { return s.perUser[u] > 0 && !s.userGone[u] })
	for u := range d.rank {
		d.rank[u] = -1
	}
	d.share = make([]uint32, len(d.users))
	var filled int64
	for r, u := range d.users {
		d.rank[u] = int32(r)
		if filled >= size {
			d.files++
			filled = 0
		}
		d.share[r] = uint32(d.files)
		filled += c.bulk[u] + overhead*int64(s.perUser[u])
	}
	d.files++
	return d
}

// distribute gives every kept record to its file, and learns which outcomes occur.
func (c *collection) distribute(ctx context.Context, dir string, s *survivors, d *deal) (err error) {
	if d.shards, err = newSpool(dir, d.files, bulkSize); err != nil {
		return err
	}
	var n int64
	used := make([]bool, len(c.names))
	err = c.records.each(0, func(chunk []byte) error {
		var r record
		for len(chunk) > 0 {
			rest := r.cut(chunk)
			if s.keeps(n, &r) {
				if err := d.shards.add(int(d.share[d.rank[r.user]]), chunk[:len(chunk)-len(rest)]); err != nil {
					return err
				}
				eachOutcome(r.outcomes, func(column int, _ []byte) { used[column] = true })
			}
			n++
			chunk = rest
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	for k := range c.names {
		if used[k] {
			d.columns = append(d.columns, k)
		}
	}
	slices.SortFunc(d.columns, func(a, b int) int { return cmp.Compare(c.names[a], c.names[b]) })
	for _, k := range d.columns {
		d.names = append(d.names, c.names[k])
	}
	return d.shards.done()
}

// writeShards writes the files of interactions, several at once: a file depends on its range alone.
func (c *collection) writeShards(ctx context.Context, dir string, d *deal, workers int, done func(records int64)) ([]layout.File, error) {
	files := make([]layout.File, d.files)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for i := range files {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			files[i], err = c.writeShard(filepath.Join(dir, layout.ShardName(i)), d, i)
			done(files[i].Rows)
			return err
		})
	}
	return files, g.Wait()
}

func (c *collection) writeShard(path string, d *deal, shard int) (layout.File, error) {
	var records []record
	err := d.shards.each(shard, func(chunk []byte) error {
		for chunk = slices.Clone(chunk); len(chunk) > 0; {
			var r record
			chunk = r.cut(chunk)
			records = append(records, r)
		}
		return nil
	})
	if err != nil {
		return layout.File{}, err
	}
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(d.rank[a.user], d.rank[b.user]), cmp.Compare(keyTime(&a), keyTime(&b)), cmp.Compare(a.row, b.row))
	})
	at := make([]int, len(c.names)) // column of the collection → of the file
	for k, column := range d.columns {
		at[column] = k
	}
	return writeFile(path, func(out io.Writer) (int64, error) {
		w, err := layout.NewInteractionWriter(out, d.names, repeating(records, at, len(d.names)))
		if err != nil {
			return 0, err
		}
		row := layout.Interaction{Outcomes: make([][]byte, len(d.names))}
		for i := range records {
			r := &records[i]
			row.User, row.Item = c.users.at(r.user), c.items.at(r.item)
			row.Rating, row.Time, row.HasTime, row.Row = r.rating, r.time, r.hasTime, r.row
			clear(row.Outcomes)
			eachOutcome(r.outcomes, func(column int, text []byte) { row.Outcomes[at[column]] = text })
			if err := w.Write(&row); err != nil {
				return 0, err
			}
		}
		return w.Close()
	})
}

func keyTime(r *record) int64 {
	if !r.hasTime {
		return math.MinInt64
	}
	return max(r.time, math.MinInt64+1)
}

// repeating says for each outcome whether half of the first values repeat another: then a dictionary pays.
func repeating(records []record, at []int, columns int) []bool {
	const look = 4096
	seen, count := make([]map[string]bool, columns), make([]int, columns)
	for k := range seen {
		seen[k] = make(map[string]bool)
	}
	for i := range records[:min(len(records), look)] {
		eachOutcome(records[i].outcomes, func(column int, text []byte) {
			seen[at[column]][string(text)] = true
			count[at[column]]++
		})
	}
	out := make([]bool, columns)
	for k := range out {
		out[k] = 2*len(seen[k]) <= count[k]
	}
	return out
}

// writeItems writes the kept items in the order of their ids, and counts those that are kept, described, and dropped.
func (c *collection) writeItems(dir string, s *survivors, counts *layout.Counts) (layout.File, error) {
	keep := func(i int32) bool {
		return s.perItem[i] > 0 || c.entry[i] >= 0 && !s.itemGone[i] && !c.refused.has(int64(i))
	}
	order := c.items.sorted(keep)
	f, err := writeFile(filepath.Join(dir, layout.ItemsName), func(out io.Writer) (int64, error) {
		w, err := layout.NewItemWriter(out, c.extra)
		if err != nil {
			return 0, err
		}
		var buf []byte
		for _, i := range order {
			it := layout.Item{ID: string(c.items.at(i)), Extra: make([]string, len(c.extra))}
			if c.entry[i] >= 0 {
				counts.Described++
				buf = slices.Grow(buf[:0], int(c.length[i]))[:c.length[i]]
				if _, err := c.described.ReadAt(buf, c.entry[i]); err != nil {
					return 0, fault.New(fault.Fatal, "import: spool", err)
				}
				full := cutItem(buf)
				it.Title, it.Year, it.Categories, it.Profile, it.Price = full.Title, full.Year, full.Categories, full.Profile, full.Price
				for _, f := range full.Extra {
					it.Extra[slices.Index(c.extra, f.Name)] = f.Value
				}
			}
			if err := w.Write(&it); err != nil {
				return 0, err
			}
		}
		return w.Close()
	})
	counts.Items = f.Rows
	for _, at := range c.entry {
		if at >= 0 {
			counts.ItemLeft++
		}
	}
	counts.ItemLeft -= counts.Described
	return f, err
}

// writeFile writes a file and returns its entry in the manifest.
func writeFile(path string, fill func(io.Writer) (rows int64, err error)) (layout.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return layout.File{}, fault.New(fault.Fatal, "import", err)
	}
	defer f.Close()
	h := sha256.New()
	b := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	rows, err := fill(b)
	if err != nil {
		return layout.File{}, err
	}
	if err := b.Flush(); err != nil {
		return layout.File{}, fault.New(fault.Fatal, "import", err)
	}
	info, err := f.Stat()
	if err != nil {
		return layout.File{}, fault.New(fault.Fatal, "import", err)
	}
	return layout.File{Name: filepath.Base(path), Bytes: info.Size(), SHA256: hex.EncodeToString(h.Sum(nil)), Rows: rows}, nil
}
