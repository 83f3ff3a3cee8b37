package audit

import (
	"cmp"
	"context"
	"math"
	"slices"
)

// curves takes reasons out one after the other, the one with the largest effect first, for the cases that ask for it.
func curves(ctx context.Context, p Predictor, cases []Case, reasons [][]removal, rows []Row) error {
	type step struct {
		row                  int
		removed, kept, plain int // queries
	}
	var a asked
	var steps []step
	for i := range cases {
		c, told := &cases[i], reasons[i]
		if !c.Curve || len(told) == 0 {
			continue
		}
		best := bySize(told, rows[i].Reasons)
		for k := 1; k <= len(best); k++ {
			steps = append(steps, step{i, a.ask(c, c.without(best[:k])), a.ask(c, c.without(best[k:])), a.ask(c, c.without(told[len(told)-k:]))})
		}
	}
	if len(steps) == 0 {
		return nil
	}
	got, err := predict(ctx, p, a)
	if err != nil {
		return err
	}
	for _, s := range steps {
		r := &rows[s.row]
		if r.Curve == nil {
			r.Curve = &Curve{}
		}
		move := func(query int) float64 { return math.Abs(change(got, query, r.Prediction)) }
		r.Curve.Removed, r.Curve.Kept, r.Curve.Plain = append(r.Curve.Removed, move(s.removed)), append(r.Curve.Kept, move(s.kept)), append(r.Curve.Plain, move(s.plain))
	}
	return nil
}

// bySize orders reasons by how far taking each out moved the prediction, the furthest first.
func bySize(told []removal, measured []Removed) []removal {
	order := make([]int, len(told))
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(x, y int) int { return cmp.Compare(math.Abs(measured[y].Change), math.Abs(measured[x].Change)) })
	best := make([]removal, len(told))
	for j, o := range order {
		best[j] = told[o]
	}
	return best
}
