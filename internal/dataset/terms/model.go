package terms

import (
	"math"
	"slices"

	"recpie/internal/dataset"
)

// biasShrink and biasRounds shape the regularised biases that tastes and opinions are measured against.
const (
	biasShrink = 5
	biasRounds = 5
	// sampled bounds the records whose scores set the quantiles.
	sampled = 20000
)

// sum is a running sum with its count.
type sum struct {
	s float64
	n int32
}

func (a *sum) add(x float64)     { a.s += x; a.n++ }
func (a sum) less(x float64) sum { return sum{a.s - x, a.n - 1} }

// tally holds a sum per term. A user or an item has few terms, so a list is smaller and quicker than a map.
type tally []termSum

type termSum struct {
	term int32
	sum  sum
}

func (t *tally) add(term int32, x float64) {
	for i := range *t {
		if (*t)[i].term == term {
			(*t)[i].sum.add(x)
			return
		}
	}
	*t = append(*t, termSum{term, sum{x, 1}})
}

// of returns the sum of a term, zero when there is none.
func (t tally) of(term int32) sum {
	for i := range t {
		if t[i].term == term {
			return t[i].sum
		}
	}
	return sum{}
}

// model is all that is known with one fold left out.
type model struct {
	opts      Options
	itemTerms [][]int32
	user      []sum     // of y − μ − b_i
	item      []sum     // of y − μ − b_u
	tastes    []tally   // per user, of y − μ − b_i
	said      []tally   // per item, of y − μ − b_u of those who mention the term; nil when every record speaks of every term
	tasteCut  []float64 // quantiles .1 .3 .7 .9
	saidCut   []float64
}

func fitModel(view *dataset.View, voc vocabulary, fold []int, left int, opts Options) *model {
	ds := view.Dataset()
	m := &model{opts: opts, itemTerms: voc.itemTerms(left), user: make([]sum, len(ds.Users)), item: make([]sum, len(ds.Items)),
		tastes: make([]tally, len(ds.Users))}
	if voc.spoken() {
		m.said = make([]tally, len(ds.Items))
	}
	var recs []int32
	var ys []float64
	for _, r := range view.Records() {
		if y, ok := view.Y(r); ok && fold[r] != left {
			recs, ys = append(recs, r), append(ys, float64(y))
		}
	}
	toItem, toUser := residuals(ds, recs, ys)
	for j, r := range recs {
		rec := ds.Records[r]
		m.user[rec.User].add(toUser[j])
		m.item[rec.Item].add(toItem[j])
		for _, term := range m.itemTerms[rec.Item] {
			m.tastes[rec.User].add(term, toUser[j])
		}
		for _, term := range voc.mentions(r, left) {
			m.said[rec.Item].add(term, toItem[j])
		}
	}
	m.cut(ds, voc, left, recs, toItem, toUser)
	return m
}

// residuals fits y ≈ μ + b_u + b_i and returns y − μ − b_u (what a record says of its item) and y − μ − b_i (what it says of its user).
func residuals(ds *dataset.Dataset, recs []int32, ys []float64) (toItem, toUser []float64) {
	mu := 0.0
	for _, y := range ys {
		mu += y
	}
	mu /= max(1, float64(len(ys)))
	bu, bi := make([]float64, len(ds.Users)), make([]float64, len(ds.Items))
	fit := func(b []float64, of func(dataset.Record) int32, other []float64, ofOther func(dataset.Record) int32) {
		n := make([]int32, len(b))
		clear(b)
		for j, r := range recs {
			rec := ds.Records[r]
			b[of(rec)] += ys[j] - mu - other[ofOther(rec)]
			n[of(rec)]++
		}
		for i := range b {
			b[i] /= biasShrink + float64(n[i])
		}
	}
	user, item := func(r dataset.Record) int32 { return r.User }, func(r dataset.Record) int32 { return r.Item }
	for range biasRounds {
		fit(bi, item, bu, user)
		fit(bu, user, bi, item)
	}
	toItem, toUser = make([]float64, len(recs)), make([]float64, len(recs))
	for j, r := range recs {
		rec := ds.Records[r]
		toItem[j], toUser[j] = ys[j]-mu-bu[rec.User], ys[j]-mu-bi[rec.Item]
	}
	return toItem, toUser
}

// taste is the shrunken mean of what the user's records with the term say, less the user's level over all records.
func (m *model) taste(term, user sum) (float64, bool) {
	if term.n <= 0 {
		return 0, false
	}
	level := user.s / (biasShrink + float64(user.n))
	return (term.s - float64(term.n)*level) / (float64(term.n) + m.opts.Shrink), true
}

// opinion is the shrunken mean of what the item's records that mention the term say; it shrinks to that of all its records, and that to 0.
func (m *model) opinion(said, item sum) (float64, bool) {
	if item.n <= 0 {
		return 0, false
	}
	level := item.s / (m.opts.Shrink + float64(item.n))
	if m.said == nil {
		return level, true
	}
	return (said.s + m.opts.Shrink*level) / (float64(said.n) + m.opts.Shrink), true
}

// cut sets the quantiles by the scores of the model's own records, each with itself taken out.
func (m *model) cut(ds *dataset.Dataset, voc vocabulary, left int, recs []int32, toItem, toUser []float64) {
	var tastes, opinions []float64
	step := len(recs)/sampled + 1
	for j := 0; j < len(recs); j += step {
		rec := ds.Records[recs[j]]
		user, item := m.user[rec.User].less(toUser[j]), m.item[rec.Item].less(toItem[j])
		mentioned := voc.mentions(recs[j], left)
		for _, term := range m.itemTerms[rec.Item] {
			if x, ok := m.taste(m.tastes[rec.User].of(term).less(toUser[j]), user); ok {
				tastes = append(tastes, x)
			}
			said := m.saidOf(rec.Item, term)
			if slices.Contains(mentioned, term) {
				said = said.less(toItem[j])
			}
			if x, ok := m.opinion(said, item); ok {
				opinions = append(opinions, x)
			}
		}
	}
	m.tasteCut, m.saidCut = quantiles(tastes), quantiles(opinions)
}

func (m *model) saidOf(item, term int32) sum {
	if m.said == nil {
		return sum{}
	}
	return m.said[item].of(term)
}

// describe gives the candidates of a record that the model has not seen.
func (m *model) describe(rec dataset.Record) []cell {
	terms := m.itemTerms[rec.Item]
	cells := make([]cell, 0, len(terms))
	for _, term := range terms {
		c := cell{term: term, taste: nan, opinion: nan, tasteWord: -1, opinionWord: -1}
		if x, ok := m.taste(m.tastes[rec.User].of(term), m.user[rec.User]); ok {
			c.taste, c.tasteWord = float32(x), word(x, m.tasteCut)
		}
		if x, ok := m.opinion(m.saidOf(rec.Item, term), m.item[rec.Item]); ok {
			c.opinion, c.opinionWord = float32(x), word(x, m.saidCut)
		}
		cells = append(cells, c)
	}
	return cells
}

// quantiles returns the cuts between the five words, nil when there are no scores.
func quantiles(xs []float64) []float64 {
	if len(xs) == 0 {
		return nil
	}
	slices.Sort(xs)
	cuts := make([]float64, 0, 4)
	for _, q := range []float64{.1, .3, .7, .9} {
		at := q * float64(len(xs)-1)
		i := int(at)
		hi := min(i+1, len(xs)-1)
		cuts = append(cuts, xs[i]+(at-math.Floor(at))*(xs[hi]-xs[i]))
	}
	return cuts
}

// word returns which of the five words a score earns; the middle one when nothing is known of the scale.
func word(x float64, cuts []float64) int8 {
	if cuts == nil {
		return 2
	}
	w := int8(0)
	for _, c := range cuts {
		if x >= c {
			w++
		}
	}
	return w
}
