package aspects

import (
	"cmp"
	"math"
	"slices"
)

// leastSaid is how many records must say an opinion of a phrase that is an aspect.
const leastSaid = 3

// model is what is known with the records of one fold left out.
type model struct {
	lexicon []float32 // strength per opinion
	signs   []int8    // polarity per opinion: −1, 0 for no opinion, +1
	term    []int32   // per phrase, the aspect that it stands for; -1 for none
	ranked  []ranked  // the aspects, most spoken of first
	start   []int32   // aspects of an item are items[start[item]:start[item+1]]
	items   []ranked
}

// ranked is an aspect with what is said of it, in the reviews of the data set or of an item.
type ranked struct {
	phrase    int32
	records   int32 // that speak of it
	good, bad int32 // records that speak well of it, and ill
	score     float32
}

// fit makes the model without fold left; left = the number of folds leaves nothing out.
func (c *corpus) fit(left, items int, byItem [][]int32, opts Options) *model {
	m := &model{lexicon: make([]float32, len(c.opinions)), signs: make([]int8, len(c.opinions))}
	var all moments
	for f, a := range c.all {
		if f != left {
			all = moments{all.n + a.n, all.y + a.y, all.yy + a.yy}
		}
	}
	for i, folds := range c.uses {
		var u use
		for f := range folds {
			if f != left {
				u.add(folds[f])
			}
		}
		p := prior(c.opinions[i])
		m.lexicon[i] = strength(u, p, all)
		m.signs[i] = int8(sign(p, m.lexicon[i]))
	}
	m.choose(c, left, opts)
	m.describe(c, left, items, byItem, opts)
	return m
}

// choose takes as aspects the phrases of which most records say an opinion.
func (m *model) choose(c *corpus, left int, opts Options) {
	records, said := make([]int32, len(c.phrases)), make([]int32, len(c.phrases))
	var met, judged once
	met.init(len(c.phrases))
	judged.init(len(c.phrases))
	for i := range c.recs {
		if c.fold[i] == left {
			continue
		}
		for _, e := range c.of(i) {
			for id := e.phrase; id >= 0; id = c.head[id] {
				if met.first(id, i) {
					records[id]++
				}
				if e.opinion >= 0 && !e.weak && m.signs[e.opinion] != 0 && judged.first(id, i) {
					said[id]++
				}
			}
		}
	}
	var found []ranked
	for id := range c.phrases {
		least := int32(leastSaid)
		if c.head[id] >= 0 {
			least *= 2 // two words must be worth more than their head alone
		}
		if records[id] >= int32(opts.MinRecords) && said[id] >= least {
			found = append(found, ranked{phrase: int32(id), records: records[id], score: float32(said[id])})
		}
	}
	slices.SortFunc(found, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.phrase, b.phrase)) })
	found = found[:min(opts.Max, len(found))]
	m.term = make([]int32, len(c.phrases))
	for i := range m.term {
		m.term[i] = -1
	}
	for _, f := range found {
		m.term[f.phrase] = f.phrase
	}
	for id := range m.term { // phrases of two words that are no aspect stand for their head
		if m.term[id] < 0 && c.head[id] >= 0 && m.term[c.head[id]] == c.head[id] {
			m.term[id] = c.head[id]
		}
	}
	m.ranked = found
}

// polarity is what an event says of its phrase: +1, −1, or 0 for nothing.
func (m *model) polarity(e event) int {
	if e.opinion < 0 {
		return 0
	}
	if e.negated {
		return -int(m.signs[e.opinion])
	}
	return int(m.signs[e.opinion])
}

// strength is how far reviews with such an event are rated from the mean, in units of y.
func (m *model) strength(e event) float64 {
	if e.opinion < 0 {
		return 0
	}
	if e.negated {
		return -float64(m.lexicon[e.opinion])
	}
	return float64(m.lexicon[e.opinion])
}

// describe finds the aspects of every item, the most characteristic first: records × log inverse share.
func (m *model) describe(c *corpus, left, items int, byItem [][]int32, opts Options) {
	share := make([]int32, len(c.phrases))
	total := int32(0)
	var met once
	met.init(len(c.phrases))
	tally := make([]ranked, len(c.phrases)) // of the item at hand
	var touched []int32
	sums := make([]int, len(c.phrases)) // of the record at hand
	var own []int32
	record := func(i int) { // distinct aspects of a record with the sums of their polarities
		own = own[:0]
		for _, e := range c.of(i) {
			if e.phrase < 0 || m.term[e.phrase] < 0 {
				continue
			}
			t := m.term[e.phrase]
			if met.first(t, i) {
				own, sums[t] = append(own, t), 0
			}
			sums[t] += m.polarity(e)
		}
	}
	for i := range c.recs {
		if c.fold[i] != left {
			record(i)
			total++
			for _, t := range own {
				share[t]++
			}
		}
	}
	met.init(len(c.phrases))
	dataset := make([]ranked, len(c.phrases))
	m.start = make([]int32, items+1)
	for item := range items {
		touched = touched[:0]
		for _, i := range byItem[item] {
			if c.fold[i] == left {
				continue
			}
			record(int(i))
			for _, t := range own {
				a := &tally[t]
				if a.records == 0 {
					*a = ranked{phrase: t}
					touched = append(touched, t)
				}
				a.add(sums[t])
				dataset[t].add(sums[t])
			}
		}
		from := len(m.items)
		for _, t := range touched {
			a := tally[t]
			a.score = float32(float64(a.records) * math.Log(float64(total+1)/float64(share[t])))
			m.items = append(m.items, a)
			tally[t] = ranked{}
		}
		found := m.items[from:]
		slices.SortFunc(found, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.phrase, b.phrase)) })
		m.items = m.items[:from+min(opts.PerItem, len(found))]
		m.start[item+1] = int32(len(m.items))
	}
	for i := range m.ranked {
		d := dataset[m.ranked[i].phrase]
		m.ranked[i].records, m.ranked[i].good, m.ranked[i].bad = d.records, d.good, d.bad
	}
}

func (a *ranked) add(polarity int) {
	a.records++
	switch {
	case polarity > 0:
		a.good++
	case polarity < 0:
		a.bad++
	}
}
