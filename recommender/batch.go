package recommender

import (
	"math"

	"recpie/internal/torch"
)

// ratingBuckets is the number of rating embeddings in the history: y in steps of a tenth.
const ratingBuckets = 11

// batch is one batch as plain numbers. B records, L history entries of all records together (each history's latest first), F features,
// D explanation dimensions.
type batch struct {
	size      int
	users     []int64         // B, 0 = unknown
	items     []int64         // B + L: candidates, then histories, 0 = unknown
	ratings   []int64         // L
	histories torch.Histories // of the records that have one, in order
	some      []int64         // per record: 1 + its place among the histories, 0 = none
	features  []float32       // B·F, standardised
	bins      []float32       // B·bins.width(), the same features piece by piece
	around    []float32       // B·text dimensions: reviews by the user and of the item, the item's own text, standardised
	base      []float32       // B
	texts     []float32       // B·2·D, standardised, zero for a missing explanation
	hasText   []float32       // B·2
	labels    []float32       // B, for training

	lengths []int32 // of the histories
}

// grow returns s with n elements, whose content is to be overwritten.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}

// assemble reads the pairs' inputs into b, whose memory is used again. Ids that the view has no record of are unknown: nothing was
// learned about them.
func (m *Model) assemble(b *batch, p pairs, vectors *Vectors) {
	n, f, view, ds := len(p.recs), len(m.data.Features.Names), m.data.View, m.data.ds
	off := m.settings.Without
	b.size = n
	b.users, b.items, b.some = grow(b.users, n), grow(b.items, n), grow(b.some, n)
	w, a := m.bins.width(), m.data.Text.Dim()
	b.features, b.bins, b.around, b.base = grow(b.features, n*f), grow(b.bins, n*w), grow(b.around, n*a), grow(b.base, n)
	b.ratings, b.lengths = b.ratings[:0], b.lengths[:0]
	for k, r := range p.recs {
		rec := &ds.Records[r]
		b.users[k], b.items[k], b.some[k] = 0, 0, 0
		if !off.Consumer && len(view.OfUser(rec.User)) > 0 {
			b.users[k] = int64(rec.User) + 1
		}
		if !off.Product {
			b.items[k] = m.itemID(rec.Item)
		}
		b.base[k] = m.data.Bias.Base[r]
		features, pieces, around := b.features[k*f:(k+1)*f], b.bins[k*w:(k+1)*w], b.around[k*a:(k+1)*a]
		if off.Context {
			clear(features)
			clear(pieces)
		} else {
			row := m.data.Features.Row(r)
			m.features.apply(features, row)
			m.bins.apply(pieces, row)
		}
		if off.Text {
			clear(around)
		} else {
			m.data.Text.Row(around, r)
			m.around.apply(around, around)
		}
	}
	for k, r := range p.recs {
		if off.Sequence {
			break
		}
		h := view.History(r)
		h = h[max(0, len(h)-m.settings.History):]
		if len(h) == 0 {
			continue
		}
		b.lengths = append(b.lengths, int32(len(h)))
		b.some[k] = int64(len(b.lengths))
		for j := len(h) - 1; j >= 0; j-- {
			y, _ := view.Y(h[j])
			b.items = append(b.items, m.itemID(ds.Records[h[j]].Item))
			b.ratings = append(b.ratings, int64(min(max(math.Round(float64(y)*(ratingBuckets-1)), 0), ratingBuckets-1)))
		}
	}
	b.histories = torch.NewHistories(b.lengths, b.histories)
	if m.textDim > 0 {
		m.addTexts(b, p, vectors)
	}
}

func (m *Model) itemID(i int32) int64 {
	if len(m.data.View.OfItem(i)) == 0 {
		return 0
	}
	return int64(i) + 1
}

func (m *Model) addTexts(b *batch, p pairs, vectors *Vectors) {
	d := m.textDim
	b.texts, b.hasText = grow(b.texts, b.size*2*d), grow(b.hasText, b.size*2)
	for side, index := range [2][]int32{p.pos, p.neg} {
		for k, v := range index {
			at := k*2 + side
			row := b.texts[at*d : (at+1)*d]
			if v < 0 {
				clear(row)
				b.hasText[at] = 0
				continue
			}
			m.texts.apply(row, vectors.Data[int(v)*d:(int(v)+1)*d])
			b.hasText[at] = 1
		}
	}
}
