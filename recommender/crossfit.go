package recommender

import (
	"context"

	"recpie/internal/fault"
)

// Cross is a set of models of which each has been trained without one part of the training records. A record is judged by the
// model that has not seen its outcome, so that rewards do not flatten where the network has learned the answers.
type Cross struct {
	Models []*Model
	seed   int64
}

// CrossFit trains k models, each on the training records outside one part; a record's part is drawn by a hash of its index and the
// seed. in.Epochs must be given (from an earlier Fit with validation). start, of the same k and seed, gives each model's first
// weights, nil = fresh; in.Start must be nil, since a single model has seen every record.
func CrossFit(ctx context.Context, in Input, k int, start *Cross) (*Cross, error) {
	if k < 2 || in.Epochs <= 0 || in.Start != nil || (start != nil && (len(start.Models) != k || start.seed != in.Seed)) {
		return nil, fault.Newf(fault.Fatal, "recommender: cross-fit", "%d parts, %d epochs, or a start with other parts", k, in.Epochs)
	}
	c := &Cross{Models: make([]*Model, k), seed: in.Seed}
	for part := range k {
		sub := in
		sub.Train = nil
		for _, r := range in.Train {
			if c.part(r) != part {
				sub.Train = append(sub.Train, r)
			}
		}
		if start != nil {
			sub.Start = start.Models[part]
		}
		m, _, err := Fit(ctx, sub)
		if err != nil {
			c.Close()
			return nil, err
		}
		c.Models[part] = m
	}
	return c, nil
}

// part draws the part of a record (splitmix64).
func (c *Cross) part(r int32) int {
	z := uint64(r)*0x9e3779b97f4a7c15 + uint64(c.seed) + 0xc405
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return int((z ^ z>>31) % uint64(len(c.Models)))
}

// Unseen returns the model that has not been trained on record rec. For records outside the training part that is any of them,
// and the same one at every call.
func (c *Cross) Unseen(rec int32) *Model { return c.Models[c.part(rec)] }

// Predict predicts each record by Unseen: see Model.Predict.
func (c *Cross) Predict(ctx context.Context, recs []int32, expl *Explanations) (*Predictions, error) {
	return c.route(recs, func(m *Model, at []int) (*Predictions, error) {
		return m.Predict(ctx, pick(recs, at), expl)
	})
}

// PredictWith predicts each record by Unseen with the given explanations: see Model.PredictWith. Alternatives for one record are
// all judged by one model.
func (c *Cross) PredictWith(ctx context.Context, recs, pos, neg []int32, vectors *Vectors) (*Predictions, error) {
	if len(pos) != len(recs) || len(neg) != len(recs) {
		return nil, fault.Newf(fault.Fatal, "recommender", "%d records, %d positive and %d negative explanations", len(recs), len(pos), len(neg))
	}
	return c.route(recs, func(m *Model, at []int) (*Predictions, error) {
		return m.PredictWith(ctx, pick(recs, at), pick(pos, at), pick(neg, at), vectors)
	})
}

func (c *Cross) route(recs []int32, predict func(m *Model, at []int) (*Predictions, error)) (*Predictions, error) {
	at := make([][]int, len(c.Models))
	for k, r := range recs {
		p := c.part(r)
		at[p] = append(at[p], k)
	}
	out := &Predictions{Y: make([]float32, len(recs)), Attention: make([][6]float32, len(recs))}
	for p, m := range c.Models {
		part, err := predict(m, at[p])
		if err != nil {
			return nil, err
		}
		for k, at := range at[p] {
			out.Y[at], out.Attention[at] = part.Y[k], part.Attention[k]
			if part.SD != nil {
				if out.SD == nil {
					out.SD = make([]float32, len(recs))
				}
				out.SD[at] = part.SD[k]
			}
		}
	}
	return out, nil
}

func pick(of []int32, at []int) []int32 {
	out := make([]int32, len(at))
	for k, a := range at {
		out[k] = of[a]
	}
	return out
}

// Close frees the models.
func (c *Cross) Close() {
	for _, m := range c.Models {
		if m != nil {
			m.Close()
		}
	}
}
