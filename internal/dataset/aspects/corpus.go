package aspects

import (
	"context"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
)

// corpus is the visible reviews as events, with what is counted of them by fold.
type corpus struct {
	recs     []int32 // visible records, ascending
	fold     []int   // of recs
	item     []int32 // of recs
	start    []int   // events of recs[i] are events[start[i]:start[i+1]]
	events   []event
	phrases  []string // ascending
	head     []int32  // per phrase of two words, the phrase of its second; -1 for one word
	opinions []string // ascending
	uses     [][]use  // per opinion, per fold
	all      []moments
}

// parsed is a part of the corpus as one goroutine made it.
type parsed struct {
	parser *parser
	counts []int
	events []event
}

// read parses the visible reviews, in parallel.
func read(ctx context.Context, view *dataset.View, opts Options) (*corpus, error) {
	ds := view.Dataset()
	c := &corpus{recs: view.Records()}
	fold := view.Folds(opts.Folds, opts.FoldSeed)
	for _, r := range c.recs {
		c.fold, c.item = append(c.fold, fold[r]), append(c.item, ds.Records[r].Item)
	}
	parts := make([]parsed, max(1, min(runtime.GOMAXPROCS(0), len(c.recs)/64)))
	var g errgroup.Group
	for i := range parts {
		from, to := i*len(c.recs)/len(parts), (i+1)*len(c.recs)/len(parts)
		g.Go(func() error {
			p := parsed{parser: newParser(), counts: make([]int, 0, to-from)}
			for _, r := range c.recs[from:to] {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				text, _ := view.Review(r)
				events := p.parser.parse(text)
				p.counts, p.events = append(p.counts, len(events)), append(p.events, events...)
			}
			parts[i] = p
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	c.join(parts)
	c.prune(opts)
	c.count(view, opts)
	return c, nil
}

// join puts the parts together. Names are numbered in their own order, so that the number of parts changes nothing.
func (c *corpus) join(parts []parsed) {
	var phrases, opinions [][]string
	n := 0
	for _, p := range parts {
		phrases, opinions = append(phrases, p.parser.phrases.names), append(opinions, p.parser.opinions.names)
		n += len(p.events)
	}
	var phraseIDs, opinionIDs [][]int32
	c.phrases, phraseIDs = union(phrases, heads)
	c.opinions, opinionIDs = union(opinions, nil)
	c.head = make([]int32, len(c.phrases))
	for i, name := range c.phrases {
		c.head[i] = -1
		if _, last, two := strings.Cut(name, " "); two {
			at, _ := slices.BinarySearch(c.phrases, last)
			c.head[i] = int32(at)
		}
	}
	c.events, c.start = make([]event, 0, n), append(make([]int, 0, len(c.recs)+1), 0)
	for i, p := range parts {
		for _, e := range p.events {
			c.events = append(c.events, event{translate(phraseIDs[i], e.phrase), translate(opinionIDs[i], e.opinion), e.sentence, e.negated, e.weak})
		}
		for _, n := range p.counts {
			c.start = append(c.start, c.start[len(c.start)-1]+n)
		}
	}
}

func translate(ids []int32, id int32) int32 {
	if id < 0 {
		return -1
	}
	return ids[id]
}

// heads adds the second word of every phrase of two.
func heads(names []string) (out []string) {
	for _, name := range names {
		if _, last, two := strings.Cut(name, " "); two {
			out = append(out, last)
		}
	}
	return out
}

// union sorts the names of all lists and returns, per list, their places. more, if not nil, gives further names of a list.
func union(lists [][]string, more func([]string) []string) (names []string, ids [][]int32) {
	for _, list := range lists {
		names = append(names, list...)
		if more != nil {
			names = append(names, more(list)...)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, list := range lists {
		at := make([]int32, len(list))
		for i, name := range list {
			k, _ := slices.BinarySearch(names, name)
			at[i] = int32(k)
		}
		ids = append(ids, at)
	}
	return names, ids
}

// prune drops phrases and opinions that too few records have for any fold to count; such a phrase of two words becomes its head.
func (c *corpus) prune(opts Options) {
	docs, uses := make([]int32, len(c.phrases)), make([]int32, len(c.opinions))
	var phrase, opinion once
	phrase.init(len(c.phrases))
	opinion.init(len(c.opinions))
	for i := range c.recs {
		for _, e := range c.of(i) {
			for id := e.phrase; id >= 0; id = c.head[id] {
				if phrase.first(id, i) {
					docs[id]++
				}
			}
			if e.opinion >= 0 && opinion.first(e.opinion, i) {
				uses[e.opinion]++
			}
		}
	}
	phrases, phraseAt := keep(c.phrases, func(i int) bool { return docs[i] >= int32(opts.MinRecords) })
	opinions, opinionAt := keep(c.opinions, func(i int) bool { return uses[i] >= leastUses || prior(c.opinions[i]) != 0 })
	at, kept := 0, c.events[:0]
	for i := range c.recs {
		events := c.of(i)
		c.start[i] = at
		for _, e := range events {
			id := e.phrase
			for id >= 0 && phraseAt[id] < 0 {
				id = c.head[id]
			}
			e.phrase, e.opinion = translate(phraseAt, id), translate(opinionAt, e.opinion)
			if e.phrase >= 0 || e.opinion >= 0 {
				kept = append(kept, e)
				at++
			}
		}
	}
	c.start[len(c.recs)] = at
	c.events = slices.Clip(kept)
	head := make([]int32, len(phrases))
	for i, name := range phrases {
		head[i] = -1
		if _, last, two := strings.Cut(name, " "); two {
			if k, ok := slices.BinarySearch(phrases, last); ok {
				head[i] = int32(k)
			}
		}
	}
	c.phrases, c.opinions, c.head = phrases, opinions, head
}

// keep returns the names that pass, and where each of all went, -1 for nowhere.
func keep(names []string, pass func(i int) bool) (kept []string, at []int32) {
	at = make([]int32, len(names))
	for i, name := range names {
		at[i] = -1
		if pass(i) {
			at[i] = int32(len(kept))
			kept = append(kept, name)
		}
	}
	return kept, at
}

// count sums the ratings of each opinion word's records, by fold.
func (c *corpus) count(view *dataset.View, opts Options) {
	c.uses, c.all = make([][]use, len(c.opinions)), make([]moments, opts.Folds)
	for i := range c.uses {
		c.uses[i] = make([]use, opts.Folds)
	}
	var plain, negated once
	plain.init(len(c.opinions))
	negated.init(len(c.opinions))
	for i, r := range c.recs {
		v, _ := view.Y(r)
		y, f := float64(v), c.fold[i]
		c.all[f] = moments{c.all[f].n + 1, c.all[f].y + y, c.all[f].yy + y*y}
		for _, e := range c.of(i) {
			if e.opinion < 0 {
				continue
			}
			u := &c.uses[e.opinion][f]
			switch {
			case e.negated && negated.first(e.opinion, i):
				u.negatedN, u.negatedY = u.negatedN+1, u.negatedY+y
			case !e.negated && plain.first(e.opinion, i):
				u.n, u.y = u.n+1, u.y+y
			}
		}
	}
}

// of returns the events of the i-th record.
func (c *corpus) of(i int) []event { return c.events[c.start[i]:c.start[i+1]] }

// once tells the first time that an id is met in a record from later ones, without being cleared between records.
type once struct{ last []int32 }

func (o *once) init(n int) { o.last = make([]int32, n) }

func (o *once) first(id int32, record int) bool {
	if o.last[id] == int32(record)+1 {
		return false
	}
	o.last[id] = int32(record) + 1
	return true
}
