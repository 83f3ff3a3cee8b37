package recommender

import "math"

// ratingBuckets is the number of rating embeddings in the history: y in steps of a tenth.
const ratingBuckets = 11

// batch is one batch as plain numbers. B records, L history entries (latest first), F features, D explanation dimensions.
type batch struct {
	size, length int
	users        []int64   // B, 0 = unknown
	items        []int64   // B + B·L: candidates, then histories, 0 = unknown or padding
	ratings      []int64   // B·L
	present      []bool    // B·L
	some         []bool    // B: history not empty
	features     []float32 // B·F, standardised
	bins         []float32 // B·bins.width(), the same features piece by piece
	around       []float32 // B·text dimensions: reviews by the user and of the item, the item's own text, standardised
	base         []float32 // B
	texts        []float32 // B·2·D, standardised, zero for a missing explanation
	hasText      []float32 // B·2
}

// assemble reads the pairs' inputs. Ids that the view has no record of are unknown: nothing was learned about them.
func (m *Model) assemble(p pairs, vectors *Vectors) *batch {
	n, view, ds := len(p.recs), m.data.View, m.data.ds
	b := &batch{size: n, length: 1}
	histories := make([][]int32, n)
	off := m.settings.Without
	for k, r := range p.recs {
		if off.Sequence {
			break
		}
		h := view.History(r)
		if len(h) > m.settings.History {
			h = h[len(h)-m.settings.History:]
		}
		histories[k] = h
		b.length = max(b.length, len(h))
	}
	f, l := len(m.data.Features.Names), b.length
	b.users, b.items = make([]int64, n), make([]int64, n+n*l)
	b.ratings, b.present, b.some = make([]int64, n*l), make([]bool, n*l), make([]bool, n)
	b.features, b.base = make([]float32, n*f), make([]float32, n)
	w, a := m.bins.width(), m.data.Text.Dim()
	b.bins, b.around = make([]float32, n*w), make([]float32, n*a)
	for k, r := range p.recs {
		rec := ds.Records[r]
		if !off.Consumer && len(view.OfUser(rec.User)) > 0 {
			b.users[k] = int64(rec.User) + 1
		}
		if !off.Product {
			b.items[k] = m.itemID(rec.Item)
		}
		b.base[k] = m.data.Bias.Base[r]
		if !off.Context {
			m.features.apply(b.features[k*f:(k+1)*f], m.data.Features.Row(r))
			m.bins.apply(b.bins[k*w:(k+1)*w], m.data.Features.Row(r))
		}
		if !off.Text {
			row := b.around[k*a : (k+1)*a]
			m.data.Text.Row(row, r)
			m.around.apply(row, row)
		}
		h := histories[k]
		b.some[k] = len(h) > 0
		for j := range l {
			at := k*l + j
			if j < len(h) {
				past := h[len(h)-1-j]
				y, _ := view.Y(past)
				b.items[n+at] = m.itemID(ds.Records[past].Item)
				b.ratings[at] = int64(min(max(math.Round(float64(y)*(ratingBuckets-1)), 0), ratingBuckets-1))
				b.present[at] = true
			}
		}
		b.present[k*l] = true // an empty history still needs one entry to attend to; its result is replaced
	}
	if m.textDim > 0 {
		m.addTexts(b, p, vectors)
	}
	return b
}

func (m *Model) itemID(i int32) int64 {
	if len(m.data.View.OfItem(i)) == 0 {
		return 0
	}
	return int64(i) + 1
}

func (m *Model) addTexts(b *batch, p pairs, vectors *Vectors) {
	d := m.textDim
	b.texts, b.hasText = make([]float32, b.size*2*d), make([]float32, b.size*2)
	for side, index := range [2][]int32{p.pos, p.neg} {
		for k, v := range index {
			if v >= 0 {
				at := k*2 + side
				m.texts.apply(b.texts[at*d:(at+1)*d], vectors.Data[int(v)*d:(int(v)+1)*d])
				b.hasText[at] = 1
			}
		}
	}
}
