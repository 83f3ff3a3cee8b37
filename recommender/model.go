package recommender

import (
	"context"

	"recpie/internal/fault"
	"recpie/internal/torch"
)

// Model is a trained network bound to the data it reads. It may be used by several goroutines for prediction.
type Model struct {
	settings Settings
	data     *Data
	seed     int64
	epochs   int // trained in all
	features scaler
	bins     bins
	around   scaler  // of the text vectors
	texts    scaler  // of the explanations
	sdScale  float64 // of the predicted standard deviations, measured on validation
	textDim  int     // 0 = a network without explanations
	params   *torch.Params
}

// predictBatch is the number of records of one forward pass.
const predictBatch = 2048

// Predictions holds one entry per requested record.
type Predictions struct {
	Y         []float32    // rating on [0,1], or the probability of a click for BCE
	SD        []float32    // standard deviation of the error to expect, on [0,1]; nil for BCE, where Y says it
	Attention [][6]float32 // ᾱ of eq. 11 in the order of Inputs: the mean over rows and heads of each column of α; sums to 1
}

// Settings returns what the model was made with.
func (m *Model) Settings() Settings { return m.settings }

// Data returns what the model reads.
func (m *Model) Data() *Data { return m.data }

// On returns the model bound to data with candidates, which Data.With made of the model's own data. The weights are shared: the copy is not
// closed, and is not used after the model is.
func (m *Model) On(data *Data) (*Model, error) {
	if data.View.Digest() != m.data.View.Digest() || data.Features.View != m.data.Features.View {
		return nil, fault.Newf(fault.Fatal, "recommender", "the model was trained on another view of the data")
	}
	c := *m
	c.data = data
	return &c, nil
}

// Close frees the weights. The model must not be used afterwards.
func (m *Model) Close() { m.params.Free() }

// Predict predicts the records with their explanations; expl is ignored by a model without explanations and compulsory for others.
func (m *Model) Predict(ctx context.Context, recs []int32, expl *Explanations) (*Predictions, error) {
	if m.textDim == 0 {
		return m.predict(ctx, pairs{recs: recs}, nil)
	}
	if expl == nil {
		return nil, fault.Newf(fault.Fatal, "recommender", "the model was trained with explanations and gets none")
	}
	if err := expl.check(len(m.data.ds.Records)); err != nil {
		return nil, err
	}
	return m.predict(ctx, expl.of(recs), expl.Vectors)
}

// PredictWith predicts the records with the given explanations, by index into vectors, -1 for none: pos[k] and neg[k] belong to
// recs[k], and a record may occur many times with different explanations. It is how alternatives are compared.
func (m *Model) PredictWith(ctx context.Context, recs, pos, neg []int32, vectors *Vectors) (*Predictions, error) {
	if m.textDim == 0 {
		return nil, fault.Newf(fault.Fatal, "recommender", "the model was trained without explanations")
	}
	if err := vectors.check(); err != nil {
		return nil, err
	}
	if len(pos) != len(recs) || len(neg) != len(recs) {
		return nil, fault.Newf(fault.Fatal, "recommender", "%d records, %d positive and %d negative explanations", len(recs), len(pos), len(neg))
	}
	return m.predict(ctx, pairs{recs, pos, neg}, vectors)
}

func (m *Model) checkPairs(p pairs, vectors *Vectors) error {
	for _, r := range p.recs {
		if r < 0 || int(r) >= len(m.data.ds.Records) {
			return fault.Newf(fault.Fatal, "recommender", "record %d of %d", r, len(m.data.ds.Records))
		}
	}
	if m.textDim == 0 {
		return nil
	}
	if vectors.Dim != m.textDim {
		return fault.Newf(fault.Fatal, "recommender", "explanation vectors have %d dimensions, the model wants %d", vectors.Dim, m.textDim)
	}
	for _, side := range [2][]int32{p.pos, p.neg} {
		for _, v := range side {
			if int(v) >= vectors.Len() {
				return fault.Newf(fault.Fatal, "recommender", "explanation %d of %d", v, vectors.Len())
			}
		}
	}
	return nil
}

func (m *Model) predict(ctx context.Context, p pairs, vectors *Vectors) (*Predictions, error) {
	if err := m.checkPairs(p, vectors); err != nil {
		return nil, err
	}
	out := &Predictions{Y: make([]float32, 0, len(p.recs)), Attention: make([][6]float32, 0, len(p.recs))}
	batches := newPool(min(ahead+1, (len(p.recs)+predictBatch-1)/predictBatch))
	defer batches.close()
	l := m.load(ctx, batches, &source{recs: p.recs, pos: p.pos, neg: p.neg, vectors: vectors}, 0, predictBatch)
	defer l.close()
	for {
		b, err := l.next()
		if err == nil {
			err = ctx.Err()
		}
		if b == nil || err != nil {
			return out, err
		}
		err = torch.NoGrad(func(s *torch.Scope) error { return m.append(s, b, out) })
		l.done(b)
		if err != nil {
			return nil, fault.New(fault.Fatal, "recommender: predict", err)
		}
	}
}

// append adds the predictions of a batch to out.
func (m *Model) append(s *torch.Scope, b *batch, out *Predictions) error {
	f := &forward{s: s, m: m, lookup: func(table string, ids []int64) *torch.Tensor { return s.Rows(m.params.Get(table), ids) }}
	o := f.run(b)
	y := o.y
	if m.settings.Loss == BCE {
		y = s.Sigmoid(y)
	} else {
		out.SD = append(out.SD, s.Float32s(s.MulS(s.Exp(s.MulS(f.logVariance(b), .5)), m.sdScale))...)
	}
	out.Y = append(out.Y, s.Float32s(s.Clamp(y, 0, 1))...)
	alpha := s.Contiguous(o.attention).F32View() // [B,H,T,T]
	if s.Err() != nil {
		return nil // Do returns it
	}
	t, heads := m.tokens(), m.settings.Heads
	for k := range b.size {
		var a [6]float32
		for row := range heads * t {
			at := (k*heads*t + row) * t
			for c, x := range alpha[at : at+t] {
				a[len(a)-t+c] += x / float32(heads*t)
			}
		}
		out.Attention = append(out.Attention, a)
	}
	return nil
}

// Consumers returns E_c without the row for unknown users: one row of dim numbers per user of the data set, a copy.
func (m *Model) Consumers() (table []float32, dim int) {
	dim = m.settings.Dim
	return append([]float32(nil), m.params.Get(tableUsers).F32View()[dim:]...), dim
}
