package audit

import (
	"cmp"
	"slices"
)

// Aspect is what the reasons about one aspect do to predictions.
type Aspect struct {
	Name    string `json:"name"`
	Size    Mean   `json:"size"`    // |change| when it is taken out of a sentence
	For     Mean   `json:"for"`     // what it adds where it speaks for the item
	Against Mean   `json:"against"` // what it adds where it speaks against it
}

type aspectTally struct {
	size   values
	effect [2]values // for, against
}

// byAspect lists the aspects, those that move predictions most first.
func (t *tally) byAspect() []Aspect {
	out := make([]Aspect, 0, len(t.aspects))
	for name, a := range t.aspects {
		out = append(out, Aspect{name, a.size.mean(), a.effect[0].mean(), a.effect[1].mean()})
	}
	slices.SortFunc(out, func(a, b Aspect) int {
		return cmp.Or(cmp.Compare(b.Size.Mean, a.Size.Mean), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Point is one point of the curves: how far the prediction moves when k reasons are taken out or are all that is left. The k-th point is over
// the records with at least k reasons, so that the three values of a point compare and those of two points only nearly do.
type Point struct {
	K       int  `json:"k"`
	Removed Mean `json:"removed"` // the k reasons with the largest effect are gone: comprehensiveness
	Plain   Mean `json:"plain"`   // the last k of the text are gone
	Kept    Mean `json:"kept"`    // only the k with the largest effect are left: sufficiency, better when small
}

type curveTally struct{ removed, plain, kept values }

func (t *tally) addCurve(r *Row) {
	if r.Curve == nil {
		return
	}
	for k := range r.Curve.Removed {
		if k == len(t.curve) {
			t.curve = append(t.curve, curveTally{})
		}
		t.curve[k].removed.add(r.Curve.Removed[k], r.Cluster)
		t.curve[k].plain.add(r.Curve.Plain[k], r.Cluster)
		t.curve[k].kept.add(r.Curve.Kept[k], r.Cluster)
	}
}

func (t *tally) points() (out []Point) {
	for k := range t.curve {
		c := &t.curve[k]
		out = append(out, Point{k + 1, c.removed.mean(), c.plain.mean(), c.kept.mean()})
	}
	return out
}
