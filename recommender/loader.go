package recommender

import "context"

// ahead is how many batches are assembled before they are asked for.
const ahead = 2

// source lists what to load: records in order, and their explanations either by place in the list (pos and neg) or by record (expl).
type source struct {
	recs     []int32
	pos, neg []int32
	expl     *Explanations
	vectors  *Vectors
	labels   bool // what to learn is wanted too
}

// part returns the pairs from … to−1; explanations by record are looked up into b's memory.
func (s *source) part(b *batch, from, to int) pairs {
	p := pairs{recs: s.recs[from:to]}
	switch {
	case s.pos != nil:
		p.pos, p.neg = s.pos[from:to], s.neg[from:to]
	case s.expl != nil:
		b.pos, b.neg = grow(b.pos, to-from), grow(b.neg, to-from)
		for k, r := range p.recs {
			b.pos[k], b.neg[k] = s.expl.Pos[r], s.expl.Neg[r]
		}
		p.pos, p.neg = b.pos, b.neg
	}
	return p
}

// pool holds the memory of a loader's batches, which are used in turn.
type pool struct {
	all  []*batch
	free chan *batch
}

func newPool(n int) *pool {
	p := &pool{free: make(chan *batch, n)}
	for range n {
		b := new(batch)
		p.all = append(p.all, b)
		p.free <- b
	}
	return p
}

// close frees the batches. No loader may be running on them.
func (p *pool) close() {
	for _, b := range p.all {
		b.free()
	}
}

// loader assembles batches in a goroutine of its own, ahead of their use and in the order of the records.
type loader struct {
	pool  *pool
	ready chan *batch
	stop  context.CancelFunc
}

// load begins with the record at place from.
func (m *Model) load(ctx context.Context, p *pool, s *source, from, size int) *loader {
	ctx, stop := context.WithCancel(ctx)
	l := &loader{pool: p, ready: make(chan *batch, len(p.all)), stop: stop}
	go func() {
		defer close(l.ready)
		for ; from < len(s.recs); from += size {
			var b *batch
			select {
			case b = <-p.free:
			case <-ctx.Done():
				return
			}
			to := min(from+size, len(s.recs))
			b.err = m.assemble(b, s.part(b, from, to), s.vectors)
			if s.labels {
				b.labels = m.data.ds.Labels(s.recs[from:to])
				for k, y := range b.labels {
					b.labels[k] = target(m.settings.Loss, y)
				}
			}
			l.ready <- b // holds all batches: this never waits
		}
	}()
	return l
}

// next returns the next batch, nil after the last one or when the context has ended.
func (l *loader) next() (*batch, error) {
	b := <-l.ready
	if b == nil {
		return nil, nil
	}
	return b, b.err
}

// done gives a batch back.
func (l *loader) done(b *batch) { l.pool.free <- b }

// close ends the goroutine and returns what it had assembled to the pool.
func (l *loader) close() {
	l.stop()
	for b := range l.ready {
		l.pool.free <- b
	}
}
