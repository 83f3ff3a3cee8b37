package audit

import (
	"cmp"
	"math"
	"slices"
)

// Example is a record as a person would read it.
type Example struct {
	Verdict    Verdict `json:"verdict"`
	User       string  `json:"user_id"`
	Item       string  `json:"item_id"`
	Positive   string  `json:"positive"`
	Negative   string  `json:"negative"`
	Prediction float64 `json:"prediction"`
	Blanked    float64 `json:"blanked"` // change of the prediction
	Negated    float64 `json:"negated"`

	record  int32
	telling float64 // how well it shows its verdict
}

// shownExamples is their number per verdict.
const shownExamples = 3

// show keeps the records that show a verdict best: those that move furthest, and the most inert.
func (t *tally) show(r *Row) {
	if r.Verdict == Absent {
		return
	}
	moved := math.Max(r.moved(0), r.moved(1))
	if r.Verdict == Inert {
		moved = -moved
	}
	list := append(t.examples[r.Verdict], Example{Verdict: r.Verdict, User: r.User, Item: r.Item, Positive: r.Positive, Negative: r.Negative, Prediction: r.Prediction,
		Blanked: r.Changes[Blanked], Negated: r.Changes[Negated], record: r.Record, telling: moved})
	slices.SortFunc(list, func(a, b Example) int {
		return cmp.Or(cmp.Compare(b.telling, a.telling), cmp.Compare(a.record, b.record))
	})
	t.examples[r.Verdict] = list[:min(shownExamples, len(list))]
}
