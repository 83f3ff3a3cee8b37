package audit

import (
	"context"
	"math"
	"slices"

	"recpie/internal/fault"
)

// Plain is the change below which a prediction is said to stay where it is, by convention.
const Plain = 0.001

// quantile of what meaningless sentences do is the calibrated threshold.
const quantile = 0.95

// Noise is what sentences do to a network for which they mean nothing: the 95th percentiles of the absolute changes.
type Noise struct {
	Network  string  `json:"network"` // which network
	Records  int     `json:"records"`
	Sentence float64 `json:"sentence"` // one sentence is taken away or says the opposite, whichever moves more
	Both     float64 `json:"both"`     // both are taken away
}

// Calibrate measures the noise on cases whose sentences belong to other pairs.
func Calibrate(ctx context.Context, network string, p Predictor, cases []Case) (*Noise, error) {
	n := &Noise{Network: network, Records: len(cases)}
	var one, both []float64
	for from := 0; from < len(cases); from += chunk {
		part := slices.Clone(cases[from:min(from+chunk, len(cases))])
		for i := range part {
			part[i].Edit = noReasons{part[i].Edit}
		}
		rows, err := Measure(ctx, p, part)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			for side, text := range part[i].Texts {
				if text != "" {
					one = append(one, rows[i].moved(side))
				}
			}
			if c, ok := rows[i].Changes[Blanked]; ok {
				both = append(both, math.Abs(c))
			}
		}
	}
	if len(one) == 0 {
		return nil, fault.Newf(fault.Fatal, "audit", "no validation record has an explanation to calibrate by")
	}
	n.Sentence, n.Both = percentile(one, quantile), percentile(both, quantile)
	return n, nil
}

// noReasons leaves single reasons alone.
type noReasons struct{ Editor }

func (noReasons) Read(string) ([]Reason, Stance) { return nil, Unsaid }

// percentile returns the q-quantile with linear interpolation, 0 of nothing. xs is sorted.
func percentile(xs []float64, q float64) float64 {
	if len(xs) == 0 {
		return 0
	}
	slices.Sort(xs)
	at := q * float64(len(xs)-1)
	i := int(at)
	return xs[i] + (at-float64(i))*(xs[min(i+1, len(xs)-1)]-xs[i])
}

// Threshold is what verdicts go by.
type Threshold struct {
	Used  float64 `json:"used"`
	Plain float64 `json:"plain"`
	Noise *Noise  `json:"noise,omitempty"` // of the network that was trained on shuffled explanations; nil where the run has none
	Own   *Noise  `json:"own,omitempty"`   // what the same sentences do to the network under audit, for comparison
}

// Choose takes the calibrated threshold, but at least Plain; set above 0 overrules both.
func (t *Threshold) Choose(set float64) {
	t.Plain, t.Used = Plain, Plain
	if t.Noise != nil {
		t.Used = math.Max(Plain, t.Noise.Sentence)
	}
	if set > 0 {
		t.Used = set
	}
}
