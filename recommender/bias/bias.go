// Package bias is the regularised bias model y = mu + b_u + b_i: the base that the network corrects, and the yardstick that it has
// to beat. For training records the base is cross-fitted: a record is predicted by a model that has not seen its outcome, so that
// the network meets residuals of the size it will meet on new records.
package bias

import (
	"math"
	"math/rand/v2"
	"slices"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

const (
	sweeps = 30 // of the alternating solution, converged to 1e-6 on every set tried
	// Folds is the number of parts for cross-fitting: with 20, a fold model sees 95% of what the full one sees.
	Folds = 20
)

// Grid holds the regularisers tried for users and for items.
var Grid = []float64{2, 5, 10, 20}

// Model holds mu, b_u and b_i of one view, and the base of every record of the data set.
type Model struct {
	Mu         float64
	User, Item []float64 // 0 for those without visible records
	LUser      float64   // regulariser l_u, in records
	LItem      float64
	Base       []float32 // per record: cross-fitted where the view shows the outcome, else by the full model; not clipped
}

// Regularisers chosen on validation.
type Regularisers struct{ User, Item float64 }

// Choose fits on the view's records for every pair of the Grid and returns the one of least squared error on val, whose outcomes
// the view must not show.
func Choose(view *dataset.View, val []int32) (Regularisers, error) {
	if len(val) == 0 {
		return Regularisers{}, fault.Newf(fault.Fatal, "bias", "no validation records to choose regularisers on")
	}
	ds := view.Dataset()
	y, err := visible(view, view.Records())
	if err != nil {
		return Regularisers{}, err
	}
	labels := ds.Labels(val)
	best, least := Regularisers{}, math.Inf(1)
	for _, lu := range Grid {
		for _, li := range Grid {
			m := fit(ds, view.Records(), y, lu, li)
			sse := 0.0
			for k, r := range val {
				e := float64(labels[k]) - min(max(m.predict(ds.Records[r]), 0), 1)
				sse += e * e
			}
			if sse < least {
				best, least = Regularisers{lu, li}, sse
			}
		}
	}
	return best, nil
}

// Fit fits the model on all records of the view and cross-fits their base; seed draws the folds.
func Fit(view *dataset.View, reg Regularisers, seed int64) (*Model, error) {
	ds, rows := view.Dataset(), view.Records()
	if len(rows) == 0 || reg.User < 0 || reg.Item < 0 {
		return nil, fault.Newf(fault.Fatal, "bias", "%d records, regularisers %v", len(rows), reg)
	}
	y, err := visible(view, rows)
	if err != nil {
		return nil, err
	}
	m := fit(ds, rows, y, reg.User, reg.Item)
	m.Base = make([]float32, len(ds.Records))
	for r, rec := range ds.Records {
		m.Base[r] = float32(m.predict(rec))
	}
	order := rand.New(rand.NewPCG(uint64(seed), 0xb1a5)).Perm(len(rows))
	for f := range Folds {
		var in []int32
		var iny []float64
		for k, p := range order {
			if k%Folds != f {
				in, iny = append(in, rows[p]), append(iny, y[p])
			}
		}
		if len(in) == 0 {
			continue
		}
		part := fit(ds, in, iny, reg.User, reg.Item)
		for k, p := range order {
			if k%Folds == f {
				m.Base[rows[p]] = float32(part.predict(ds.Records[rows[p]]))
			}
		}
	}
	return m, nil
}

func visible(view *dataset.View, rows []int32) ([]float64, error) {
	y := make([]float64, len(rows))
	for k, r := range rows {
		v, ok := view.Y(r)
		if !ok {
			return nil, fault.Newf(fault.Fatal, "bias", "record %d is not visible", r)
		}
		y[k] = float64(v)
	}
	return y, nil
}

// fit alternates b_i = sum(y − mu − b_u)/(l_i + n_i) and b_u = sum(y − mu − b_i)/(l_u + n_u), from zero.
func fit(ds *dataset.Dataset, rows []int32, y []float64, lu, li float64) *Model {
	m := &Model{User: make([]float64, len(ds.Users)), Item: make([]float64, len(ds.Items)), LUser: lu, LItem: li}
	nu, ni := make([]float64, len(m.User)), make([]float64, len(m.Item))
	for k, r := range rows {
		m.Mu += y[k]
		nu[ds.Records[r].User]++
		ni[ds.Records[r].Item]++
	}
	m.Mu /= float64(len(rows))
	for range sweeps {
		clear(m.Item)
		for k, r := range rows {
			m.Item[ds.Records[r].Item] += y[k] - m.Mu - m.User[ds.Records[r].User]
		}
		for i := range m.Item {
			m.Item[i] /= li + max(ni[i], 1e-9)
		}
		clear(m.User)
		for k, r := range rows {
			m.User[ds.Records[r].User] += y[k] - m.Mu - m.Item[ds.Records[r].Item]
		}
		for u := range m.User {
			m.User[u] /= lu + max(nu[u], 1e-9)
		}
	}
	return m
}

func (m *Model) predict(rec dataset.Record) float64 {
	return m.Mu + m.User[rec.User] + m.Item[rec.Item]
}

// With returns the model with a base for the candidates behind the records that it knows, by the full model.
func (m *Model) With(ds *dataset.Dataset) *Model {
	c, known := *m, len(m.Base)
	c.Base = slices.Grow(m.Base[:known:known], len(ds.Records)-known)
	for _, rec := range ds.Records[known:] {
		c.Base = append(c.Base, float32(m.predict(rec)))
	}
	return &c
}

// Predict returns mu + b_u + b_i of the records by the full model, clipped to [0,1]: the yardstick for records that the view
// does not show.
func (m *Model) Predict(ds *dataset.Dataset, rows []int32) []float32 {
	out := make([]float32, len(rows))
	for k, r := range rows {
		out[k] = float32(min(max(m.predict(ds.Records[r]), 0), 1))
	}
	return out
}
