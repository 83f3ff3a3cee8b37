package audit

import (
	"context"
	"fmt"
	"math"

	"recpie/internal/fault"
)

// Query asks for the prediction of a record with two sentences in place of its own; "" is none.
type Query struct {
	Record             int32
	Positive, Negative string
}

// Prediction is the answer to a Query.
type Prediction struct {
	Y                  float64 // on [0,1]
	Positive, Negative float64 // attention to the two sentences
}

// Predictor is the network under audit. It answers each query by itself: neither order nor company may matter.
type Predictor interface {
	Predict(ctx context.Context, queries []Query) ([]Prediction, error)
}

// Reason is a term as the reason that a sentence makes of it. Lean is what is said of it: above 0 speaks for the item, below 0 against it,
// 0 says neither.
type Reason struct {
	Aspect string
	Lean   float64
}

// Stance is what a sentence says of the item in all.
type Stance int

// The stances.
const (
	Unsaid Stance = iota // no verdict stands in it
	Pro                  // all that it says speaks for the item
	Con                  // all speaks against it
	Both                 // some speaks for it and some against
)

// StanceOf returns the stance of a sentence by the sums of its verdicts for and against the item.
func StanceOf(pro, con float64) Stance {
	switch {
	case pro != 0 && con != 0:
		return Both
	case pro != 0:
		return Pro
	case con != 0:
		return Con
	}
	return Unsaid
}

// Editor reads and alters sentences.
type Editor interface {
	// Read lists the reasons of a sentence, each aspect once, and says what it says in all.
	Read(sentence string) ([]Reason, Stance)
	// Without takes aspects that Read gave out of a sentence.
	Without(sentence string, aspects ...string) string
	// Negate says the opposite of a sentence; changed is false where there is none.
	Negate(sentence string) (opposite string, changed bool)
}

// Pair is the positive and the negative sentence of a record, "" for none.
type Pair [2]string

// Case is a record to audit, with its sentences and those that are put in their place.
type Case struct {
	Record int32
	User   int32 // records of one user are not independent: standard errors are clustered by it
	UserID string
	ItemID string
	Truth  float64 // the rating on [0,1]
	Texts  Pair
	Other  *Pair // what another user was told of the same item; nil where nobody was
	Random Pair  // the sentences of a pair drawn at random
	Edit   Editor
	Curve  bool // reasons are also taken out one after the other
}

// The interventions, by the names that files and reports use.
const (
	Blanked         = "blanked"
	BlankedPositive = "blanked_positive"
	BlankedNegative = "blanked_negative"
	SwappedUser     = "swapped_user"
	SwappedRandom   = "swapped_random"
	Exchanged       = "exchanged"
	Negated         = "negated"
	NegatedPositive = "negated_positive"
	NegatedNegative = "negated_negative"
)

// Interventions lists them in reading order with what each does.
var Interventions = []struct{ Name, Meaning string }{
	{Blanked, "both explanations are taken away"},
	{BlankedPositive, "the positive explanation is taken away"},
	{BlankedNegative, "the negative explanation is taken away"},
	{SwappedUser, "another user's explanations of the same item"},
	{SwappedRandom, "the explanations of a pair drawn at random"},
	{Exchanged, "positive and negative explanation exchanged"},
	{Negated, "both explanations say the opposite"},
	{NegatedPositive, "the positive explanation says the opposite"},
	{NegatedNegative, "the negative explanation says the opposite"},
}

// alterations returns what each intervention makes of a case's sentences. One that cannot be made is left out.
func (c *Case) alterations() map[string]Pair {
	p, n := c.Texts[0], c.Texts[1]
	out := map[string]Pair{Exchanged: {n, p}, SwappedRandom: c.Random}
	if p != "" || n != "" {
		out[Blanked] = Pair{}
	}
	if p != "" {
		out[BlankedPositive] = Pair{"", n}
	}
	if n != "" {
		out[BlankedNegative] = Pair{p, ""}
	}
	if c.Other != nil {
		out[SwappedUser] = *c.Other
	}
	np, changedP := c.Edit.Negate(p)
	nn, changedN := c.Edit.Negate(n)
	if changedP {
		out[NegatedPositive] = Pair{np, n}
	}
	if changedN {
		out[NegatedNegative] = Pair{p, nn}
	}
	if changedP || changedN {
		out[Negated] = Pair{np, nn}
	}
	return out
}

// removal is one aspect taken out of the sentences that name it.
type removal struct {
	in     [2]bool
	aspect string
	lean   float64 // of all sentences that name it
}

// removals lists the aspects of both sentences and the stance of each sentence. An aspect that both name is one: what one sentence still says
// would hide what the other no longer does.
func (c *Case) removals() (out []removal, says [2]Stance) {
	at := map[string]int{}
	for side, text := range c.Texts {
		var rs []Reason
		rs, says[side] = c.Edit.Read(text)
		for _, r := range rs {
			k, seen := at[r.Aspect]
			if !seen {
				k = len(out)
				at[r.Aspect], out = k, append(out, removal{aspect: r.Aspect})
			}
			out[k].in[side], out[k].lean = true, out[k].lean+r.Lean
		}
	}
	return out, says
}

// sentence names the sentences that a removal shortens.
func (r removal) sentence() string {
	switch {
	case r.in[0] && r.in[1]:
		return "both"
	case r.in[0]:
		return sides[0]
	}
	return sides[1]
}

// without takes the given aspects out of the sentences.
func (c *Case) without(gone []removal) Pair {
	var names [2][]string
	for _, r := range gone {
		for side, in := range r.in {
			if in {
				names[side] = append(names[side], r.aspect)
			}
		}
	}
	out := c.Texts
	for side := range out {
		if len(names[side]) > 0 {
			out[side] = c.Edit.Without(out[side], names[side]...)
		}
	}
	return out
}

// unaltered stands for the query of a case whose sentences an alteration leaves as they are: the change is 0, whatever the network rounds to.
const unaltered = -1

// asked collects queries.
type asked []Query

// ask returns the index of a query of a case with these sentences.
func (a *asked) ask(c *Case, texts Pair) int {
	if texts == c.Texts {
		return unaltered
	}
	*a = append(*a, Query{c.Record, texts[0], texts[1]})
	return len(*a) - 1
}

// change is what the answer to a query changes of a prediction.
func change(got []Prediction, query int, own float64) float64 {
	if query == unaltered {
		return 0
	}
	return got[query].Y - own
}

func predict(ctx context.Context, p Predictor, queries []Query) ([]Prediction, error) {
	out, err := p.Predict(ctx, queries)
	if err != nil {
		return nil, err
	}
	if len(out) != len(queries) {
		return nil, fault.Newf(fault.Fatal, "audit", "%d predictions for %d queries", len(out), len(queries))
	}
	for i, x := range out {
		if math.IsNaN(x.Y) || math.IsInf(x.Y, 0) {
			return nil, fault.New(fault.Fatal, "audit", fmt.Errorf("the prediction of record %d is %v", queries[i].Record, x.Y))
		}
	}
	return out, nil
}

// Measure audits cases in one go: a row per case, in their order, without verdicts.
func Measure(ctx context.Context, p Predictor, cases []Case) ([]Row, error) {
	var a asked
	for k := range cases { // the k-th query is that of the k-th case with its own sentences
		a = append(a, Query{cases[k].Record, cases[k].Texts[0], cases[k].Texts[1]})
	}
	at := make([]map[string]int, len(cases))
	reasons := make([][]removal, len(cases))
	removed := make([][]int, len(cases)) // per case and reason, the query
	rows := make([]Row, len(cases))
	for k := range cases {
		c := &cases[k]
		at[k] = map[string]int{}
		altered := c.alterations()
		for _, x := range Interventions {
			if texts, ok := altered[x.Name]; ok {
				at[k][x.Name] = a.ask(c, texts)
			}
		}
		reasons[k], rows[k].says = c.removals()
		for _, r := range reasons[k] {
			removed[k] = append(removed[k], a.ask(c, c.without([]removal{r})))
		}
	}
	got, err := predict(ctx, p, a)
	if err != nil {
		return nil, err
	}
	for k := range cases {
		c, own, r := &cases[k], got[k], &rows[k]
		r.Record, r.Cluster, r.User, r.Item, r.Truth = c.Record, c.User, c.UserID, c.ItemID, c.Truth
		r.Positive, r.Negative = c.Texts[0], c.Texts[1]
		r.Prediction, r.AttentionPositive, r.AttentionNegative = own.Y, own.Positive, own.Negative
		r.Changes = map[string]float64{}
		for name, i := range at[k] {
			r.Changes[name] = change(got, i, own.Y)
		}
		for j, m := range reasons[k] {
			r.Reasons = append(r.Reasons, Removed{Sentence: m.sentence(), Aspect: m.aspect, Lean: m.lean, Change: change(got, removed[k][j], own.Y)})
		}
	}
	return rows, curves(ctx, p, cases, reasons, rows)
}
