package aspects

import (
	"context"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
)

// PerRecord is how many terms a record is described by: the paper's lists hold three.
const PerRecord = 3

// Options varies Build. The zero value is sound.
type Options struct {
	Folds      int   // of the cross-fitting, 0 = 10
	FoldSeed   int64 // of the assignment of records to folds
	MinRecords int   // fewest records that speak of an aspect, 0 = 5
	Max        int   // aspects at most, 0 = 500
	PerItem    int   // aspects kept of an item, 0 = 8
}

func (o Options) withDefaults() Options {
	if o.Folds <= 1 {
		o.Folds = 10
	}
	if o.MinRecords <= 0 {
		o.MinRecords = 5
	}
	if o.Max <= 0 {
		o.Max = 500
	}
	if o.PerItem <= 0 {
		o.PerItem = 8
	}
	return o
}

// Quad is one opinion of a review.
type Quad struct {
	Aspect   string  `json:"aspect"`   // lower case, singular: sound, gig bag
	Opinion  string  `json:"opinion"`  // great; "too loud"
	Sentence string  `json:"sentence"` // as it was written
	Polarity int     `json:"polarity"` // +1 or −1, negations heeded
	Strength float64 `json:"strength"` // how far reviews with this opinion are rated from the mean, in units of y
}

// Term is an aspect with what is said of it.
type Term struct {
	ID      int32  `json:"-"`       // index into Names
	Name    string `json:"name"`    // lower case, singular
	Records int    `json:"records"` // that speak of it
	Good    int    `json:"good"`    // records that speak well of it
	Bad     int    `json:"bad"`     // and ill
}

// Polarity is the mean of +1 (spoken well of) and −1 over the records that judge the term, 0 when none does.
func (t Term) Polarity() float64 { return float64(t.Good-t.Bad) / max(1, float64(t.Good+t.Bad)) }

// Aspects holds what the visible reviews of a data set speak of. It is safe for concurrent use.
type Aspects struct {
	view   *dataset.View
	corpus *corpus
	at     []int32 // per rated record, its place in corpus.recs; -1 for an invisible one
	models []*model
	names  []string
	id     []int32 // per phrase, its place in names; -1 for none
}

// Build reads the visible reviews and makes all models. It takes some 50 µs of one core per hundred words, and 12 bytes per opinion or
// noun phrase until Forget.
func Build(ctx context.Context, view *dataset.View, opts Options) (*Aspects, error) {
	opts = opts.withDefaults()
	ds := view.Dataset()
	c, err := read(ctx, view, opts)
	if err != nil {
		return nil, err
	}
	a := &Aspects{view: view, corpus: c, at: make([]int32, ds.Rated()), models: make([]*model, opts.Folds+1)}
	for r := range a.at {
		a.at[r] = -1
	}
	byItem := make([][]int32, len(ds.Items))
	for i, r := range c.recs {
		a.at[r] = int32(i)
		byItem[c.item[i]] = append(byItem[c.item[i]], int32(i))
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for left := range a.models {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			a.models[left] = c.fit(left, len(ds.Items), byItem, opts)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	a.number()
	return a, nil
}

// Forget lets go of the reviews, which take most of the memory: what is left answers for items and vocabularies, and knows nothing of single
// records but their folds. It must not run beside other calls.
func (a *Aspects) Forget() {
	a.corpus.events, a.corpus.start = nil, make([]int, len(a.corpus.recs)+1)
}

// number gives the aspects of all models their place in the union, by name.
func (a *Aspects) number() {
	a.id = make([]int32, len(a.corpus.phrases))
	for i := range a.id {
		a.id[i] = -1
	}
	for _, m := range a.models {
		for _, t := range m.ranked {
			a.id[t.phrase] = 0
		}
	}
	for p, name := range a.corpus.phrases { // ascending
		if a.id[p] == 0 {
			a.id[p] = int32(len(a.names))
			a.names = append(a.names, name)
		}
	}
}

// Names lists the aspects of all models in ascending order. The caller must not change it.
func (a *Aspects) Names() []string { return a.names }

// Vocabulary lists the aspects that are known without a fold, those first of which most records say an opinion.
func (a *Aspects) Vocabulary(fold int) []Term { return a.terms(a.models[fold].ranked) }

func (a *Aspects) terms(rs []ranked) []Term {
	out := make([]Term, len(rs))
	for i, r := range rs {
		out[i] = Term{a.id[r.phrase], a.corpus.phrases[r.phrase], int(r.records), int(r.good), int(r.bad)}
	}
	return out
}

// Fold is the model for a record as a target: the one without the record's fold, the last one, which knows everything visible, for a
// record that is not visible itself.
func (a *Aspects) Fold(rec int32) int {
	if i := a.place(rec); i >= 0 {
		return a.corpus.fold[i]
	}
	return len(a.models) - 1
}

// Folds is the number of folds; Fold's largest value.
func (a *Aspects) Folds() int { return len(a.models) - 1 }

func (a *Aspects) place(rec int32) int32 {
	if rec < 0 || int(rec) >= len(a.at) {
		return -1 // a candidate
	}
	return a.at[rec]
}

// Item lists the aspects of an item, the most characteristic first, as known without the fold: Fold(rec) for what may be said to record rec
// as a target, Folds() for everything visible.
func (a *Aspects) Item(item int32, fold int) []Term {
	m := a.models[fold]
	return a.terms(m.items[m.start[item]:m.start[item+1]])
}

// Mentions lists the aspects that a visible record's review names, by the words that are known without a fold, as ids in the order of the
// text. It is an outcome of the record.
func (a *Aspects) Mentions(rec int32, fold int) []int32 {
	var out []int32
	i := a.place(rec)
	if i < 0 {
		return nil
	}
	m := a.models[fold]
	for _, e := range a.corpus.of(int(i)) {
		if e.phrase >= 0 && m.term[e.phrase] >= 0 {
			if id := a.id[m.term[e.phrase]]; !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	return out
}

// Record lists up to three terms of a visible record's review: aspects that it judges in the order of the text, then others that it names.
// It is an outcome of the record.
func (a *Aspects) Record(rec int32) []string {
	var out []string
	take := func(name string) {
		if len(out) < PerRecord && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, o := range a.opinions(rec) {
		take(a.names[o.term])
	}
	for _, id := range a.Mentions(rec, a.Fold(rec)) {
		take(a.names[id])
	}
	return out
}

// opinion is an event that is a quadruple.
type opinion struct {
	event
	term     int32 // place in names
	polarity int
	strength float64
}

func (a *Aspects) opinions(rec int32) (out []opinion) {
	i := a.place(rec)
	if i < 0 {
		return nil
	}
	m := a.models[a.corpus.fold[i]]
	for _, e := range a.corpus.of(int(i)) {
		if e.phrase < 0 || m.term[e.phrase] < 0 {
			continue
		}
		if s := m.polarity(e); s != 0 {
			out = append(out, opinion{e, a.id[m.term[e.phrase]], s, m.strength(e)})
		}
	}
	return out
}

// Quads lists the opinions of a visible record's review in the order of the text. It is an outcome of the record. Aspects and polarities
// are those of the model without the record's fold.
func (a *Aspects) Quads(rec int32) []Quad {
	ops := a.opinions(rec)
	if len(ops) == 0 {
		return nil
	}
	text, _ := a.view.Review(rec)
	var at []span
	sentences(text, func(s span, _ []token) { at = append(at, s) })
	out := make([]Quad, len(ops))
	for i, o := range ops {
		s := at[o.sentence]
		out[i] = Quad{a.names[o.term], a.corpus.opinions[o.opinion], text[s.from:s.to], o.polarity, o.strength}
	}
	return out
}

// Sentiment is what a visible record's review says on the whole, in units of y: the mean strength of all its opinion words, on an aspect
// or not, by the model without the record's fold. ok is false when there is none.
func (a *Aspects) Sentiment(rec int32) (s float64, ok bool) {
	i := a.place(rec)
	if i < 0 {
		return 0, false
	}
	m := a.models[a.corpus.fold[i]]
	n := 0
	for _, e := range a.corpus.of(int(i)) {
		if x := m.strength(e); x != 0 {
			s += x
			n++
		}
	}
	return s / max(1, float64(n)), n > 0
}
