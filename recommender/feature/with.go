package feature

import (
	"context"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// With returns the table with rows for candidates that View.With put behind the records of the table's view. The other rows are shared.
// A candidate's row depends on its pair, its time and the view alone, never on the candidates beside it.
func (t *Table) With(ctx context.Context, view *dataset.View, opts Options) (*Table, error) {
	opts = opts.withDefaults()
	ds, f := view.Dataset(), len(t.Names)
	known := len(t.X) / f
	if view.Digest() != t.View || known > len(ds.Records) || known < ds.Rated() {
		return nil, fault.Newf(fault.Fatal, "feature", "the candidates belong to another view than the table of %d records", known)
	}
	out := &Table{Names: t.Names, X: t.X, View: t.View, more: make([]float32, (len(ds.Records)-known)*f)}
	byUser := make(map[int32][]int32)
	for r := known; r < len(ds.Records); r++ {
		u := ds.Records[r].User
		byUser[u] = append(byUser[u], int32(r))
	}
	users := make([]int32, 0, len(byUser))
	for u := range byUser {
		users = append(users, u)
	}
	slices.Sort(users)
	w := newWorld(view, opts.MaxRaters)
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range min(opts.Workers, len(users)) {
		group.Go(func() error {
			b := newBuilder(w, out)
			for k := next.Add(1) - 1; int(k) < len(users); k = next.Add(1) - 1 {
				for part := range slices.Chunk(byUser[users[k]], candidatesAtOnce) {
					if err := ctx.Err(); err != nil {
						return err
					}
					b.candidates(users[k], part)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return out, nil
}

// candidatesAtOnce bounds the memory of a builder, which grows with candidates times visible records of a user.
const candidatesAtOnce = 1024

// candidates writes the rows of candidates of user u, which come after all that is visible of the user.
func (b *builder) candidates(u int32, recs []int32) {
	b.from, b.to = b.w.ds.OfUser(u)
	b.recs = append(append(b.recs[:0], b.w.view.OfUser(u)...), recs...)
	b.first = len(b.recs) - len(recs)
	b.read()
	for p := b.first; p < len(b.recs); p++ {
		b.row(p)
	}
}
