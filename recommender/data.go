package recommender

import (
	"context"

	"recpie/internal/dataset"
	"recpie/internal/fault"
	"recpie/recommender/bias"
	"recpie/recommender/feature"
	"recpie/recommender/text"
)

// Data is what a model reads: a view with the bias model, the features and the text vectors computed through it.
type Data struct {
	View     *dataset.View
	Bias     *bias.Model
	Features *feature.Table
	Text     *text.Table

	ds *dataset.Dataset
}

// NewData fits the bias model with the given regularisers (from bias.Choose) and computes the features of a view. seed draws the
// folds of the cross-fitted biases.
func NewData(ctx context.Context, view *dataset.View, reg bias.Regularisers, seed int64) (*Data, error) {
	base, err := bias.Fit(view, reg, seed)
	if err != nil {
		return nil, err
	}
	table, err := feature.Build(ctx, view, feature.Options{})
	if err != nil {
		return nil, err
	}
	return &Data{View: view, Bias: base, Features: table, Text: text.Build(view), ds: view.Dataset()}, nil
}

// With returns what a model reads, candidates included: candidate k is record first+k. What is computed is computed for them alone; a
// candidate takes some 250 bytes.
func (d *Data) With(ctx context.Context, cs []dataset.Candidate) (_ *Data, first int32, err error) {
	view, first, err := d.View.With(cs)
	if err != nil {
		return nil, 0, err
	}
	table, err := d.Features.With(ctx, view, feature.Options{})
	if err != nil {
		return nil, 0, err
	}
	return &Data{View: view, Bias: d.Bias.With(view.Dataset()), Features: table, Text: d.Text.With(view), ds: view.Dataset()}, first, nil
}

// Vectors are the embeddings of distinct explanations, or other numbers in their place: Dim numbers each, one after the other.
type Vectors struct {
	Dim  int
	Data []float32
}

// Len returns the number of vectors.
func (v *Vectors) Len() int { return len(v.Data) / v.Dim }

// Explanations says which vector belongs to which record: Pos and Neg have one entry per record of the data set, an index into
// Vectors or -1 for none.
type Explanations struct {
	Pos, Neg []int32
	Vectors  *Vectors
}

func (e *Explanations) check(records int) error {
	if err := e.Vectors.check(); err != nil {
		return err
	}
	if len(e.Pos) != records || len(e.Neg) != records {
		return fault.Newf(fault.Fatal, "recommender: explanations", "%d positive and %d negative entries for %d records", len(e.Pos), len(e.Neg), records)
	}
	return nil
}

func (v *Vectors) check() error {
	if v == nil || v.Dim < 1 || len(v.Data)%v.Dim != 0 {
		return fault.Newf(fault.Fatal, "recommender: explanations", "vectors are missing or not a multiple of their dimension")
	}
	for k, x := range v.Data {
		if x-x != 0 { // NaN or infinite
			return fault.Newf(fault.Fatal, "recommender: explanations", "vector %d is not finite", k/v.Dim)
		}
	}
	return nil
}

// pairs lists what to predict: a record and its two explanations by index into the vectors, nil when the model takes none.
type pairs struct {
	recs, pos, neg []int32
}

func (e *Explanations) of(recs []int32) pairs {
	p := pairs{recs: recs}
	if e == nil {
		return p
	}
	p.pos, p.neg = make([]int32, len(recs)), make([]int32, len(recs))
	for k, r := range recs {
		p.pos[k], p.neg[k] = e.Pos[r], e.Neg[r]
	}
	return p
}
