package audit

import "math"

// sides names the two sentences, in the order of a Pair.
var sides = [2]string{"positive", "negative"}

// Verdict is what the audit says of a sentence, or of a record's two.
type Verdict string

// The verdicts.
const (
	Faithful Verdict = "faithful" // the prediction depends on what it says, in the direction it says
	Inert    Verdict = "inert"    // neither taking it away nor saying the opposite moves the prediction
	Contrary Verdict = "contrary" // the opposite moves the prediction the way the sentence should
	Absent   Verdict = ""         // there is no sentence
)

// Removed is one reason taken out of the sentences that give it.
type Removed struct {
	Sentence string  `json:"sentence" parquet:"sentence"` // positive, negative or both
	Aspect   string  `json:"aspect" parquet:"aspect"`
	Lean     float64 `json:"lean" parquet:"lean"`     // see Reason
	Change   float64 `json:"change" parquet:"change"` // of the prediction without it
}

// Effect is what the reason adds to the prediction.
func (r Removed) Effect() float64 { return -r.Change }

// Curve is how far the prediction moves, in absolute terms, when the k reasons with the largest effect are taken out (Removed: comprehensiveness),
// when they alone are left (Kept: sufficiency), and when the last k of the text are taken out (Plain, for comparison); k = 1, 2, ….
type Curve struct {
	Removed []float64 `json:"removed" parquet:"removed"`
	Kept    []float64 `json:"kept" parquet:"kept"`
	Plain   []float64 `json:"plain" parquet:"plain"`
}

// Row is the audit of one record.
type Row struct {
	Record            int32              `json:"record"`
	Cluster           int32              `json:"cluster"` // the user as a number
	User              string             `json:"user_id"`
	Item              string             `json:"item_id"`
	Positive          string             `json:"positive"`
	Negative          string             `json:"negative"`
	Truth             float64            `json:"truth"`
	Prediction        float64            `json:"prediction"`
	AttentionPositive float64            `json:"attention_positive"`
	AttentionNegative float64            `json:"attention_negative"`
	Changes           map[string]float64 `json:"changes"` // by intervention; one that could not be made is absent
	PositiveVerdict   Verdict            `json:"positive_verdict"`
	NegativeVerdict   Verdict            `json:"negative_verdict"`
	Verdict           Verdict            `json:"verdict"`
	Reasons           []Removed          `json:"reasons,omitempty"`
	Curve             *Curve             `json:"curve,omitempty"`

	says [2]Stance
}

// moved is how far the prediction moves when a sentence is taken away or says the opposite, whichever is more.
func (r *Row) moved(side int) float64 {
	return math.Max(math.Abs(r.Changes[[2]string{BlankedPositive, BlankedNegative}[side]]), math.Abs(r.opposite(side)))
}

func (r *Row) opposite(side int) float64 {
	return r.Changes[[2]string{NegatedPositive, NegatedNegative}[side]]
}

// judge gives the verdicts by a threshold on changes.
func (r *Row) judge(threshold float64) {
	r.PositiveVerdict, r.NegativeVerdict = r.sentence(0, threshold), r.sentence(1, threshold)
	switch both := [2]Verdict{r.PositiveVerdict, r.NegativeVerdict}; {
	case both == [2]Verdict{}:
		r.Verdict = Absent
	case both[0] == Contrary || both[1] == Contrary:
		r.Verdict = Contrary
	case both[0] == Faithful || both[1] == Faithful:
		r.Verdict = Faithful
	default:
		r.Verdict = Inert
	}
}

// sentence judges one of the two. Its direction is that of its words; where they give no verdict at all, that of its task: a positive explanation
// speaks for the item. One that speaks both ways has none. The opposite of what speaks for the item must lower the prediction.
func (r *Row) sentence(side int, threshold float64) Verdict {
	if [2]string{r.Positive, r.Negative}[side] == "" {
		return Absent
	}
	if r.moved(side) <= threshold {
		return Inert
	}
	says := r.says[side]
	if says == Unsaid {
		says = [2]Stance{Pro, Con}[side]
	}
	if change := r.opposite(side); says == Pro && change > threshold || says == Con && change < -threshold {
		return Contrary
	}
	return Faithful
}
