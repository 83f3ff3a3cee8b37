package recommender

import (
	"errors"
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
	base      []float32       // B
	hasText   []float32       // B·2

	// Inputs of the layers. Features and texts (reviews by the user and of the item, the item's own text) are standardised.
	context torch.Buffer // B·(F + texts)
	direct  torch.Buffer // B·(bins.width() + texts): the features piece by piece
	known   torch.Buffer // B·(F + texts + 1): with the base, for the head of the spread
	texts   torch.Buffer // B·2·D, explanations, standardised, zero for a missing one
	labels  []float32    // B, for training

	lengths  []int32 // of the histories
	pos, neg []int32 // B, explanations looked up
	err      error   // of the assembly
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
func (m *Model) assemble(b *batch, p pairs, vectors *Vectors) error {
	n, f, view, ds := len(p.recs), len(m.data.Features.Names), m.data.View, m.data.ds
	off := m.settings.Without
	b.size = n
	b.users, b.items, b.some = grow(b.users, n), grow(b.items, n), grow(b.some, n)
	w, a := m.bins.width(), m.data.Text.Dim()
	b.base = grow(b.base, n)
	context, err1 := b.context.Floats(n * (f + a))
	direct, err2 := b.direct.Floats(n * (w + a))
	known, err3 := b.known.Floats(n * (f + a + 1))
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
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
		row, pieces := context[k*(f+a):(k+1)*(f+a)], direct[k*(w+a):(k+1)*(w+a)]
		if off.Context {
			clear(row[:f])
			clear(pieces[:w])
		} else {
			raw := m.data.Features.Row(r)
			m.features.apply(row[:f], raw)
			m.bins.apply(pieces[:w], raw)
		}
		if off.Text {
			clear(row[f:])
		} else if a > 0 {
			m.data.Text.Row(row[f:], r)
			m.around.apply(row[f:], row[f:])
		}
		copy(pieces[w:], row[f:])
		copy(known[k*(f+a+1):], row)
		known[(k+1)*(f+a+1)-1] = b.base[k]
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
		return m.addTexts(b, p, vectors)
	}
	return nil
}

func (m *Model) itemID(i int32) int64 {
	if len(m.data.View.OfItem(i)) == 0 {
		return 0
	}
	return int64(i) + 1
}

func (m *Model) addTexts(b *batch, p pairs, vectors *Vectors) error {
	d := m.textDim
	b.hasText = grow(b.hasText, b.size*2)
	texts, err := b.texts.Floats(b.size * 2 * d)
	if err != nil {
		return err
	}
	for side, index := range [2][]int32{p.pos, p.neg} {
		for k, v := range index {
			at := k*2 + side
			row := texts[at*d : (at+1)*d]
			if v < 0 {
				clear(row)
				b.hasText[at] = 0
				continue
			}
			m.texts.apply(row, vectors.Data[int(v)*d:(int(v)+1)*d])
			b.hasText[at] = 1
		}
	}
	return nil
}

// free gives the memory outside Go's back.
func (b *batch) free() {
	for _, x := range []*torch.Buffer{&b.context, &b.direct, &b.known, &b.texts} {
		x.Free()
	}
}
