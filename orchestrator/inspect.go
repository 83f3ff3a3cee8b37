package orchestrator

import (
	"context"
	"math"
	"math/rand/v2"

	"recpie/internal/evaluate"
	"recpie/prompts"
	"recpie/recommender"
)

// unmoved is the change of a prediction, on [0,1], below which an explanation is said to do nothing.
const unmoved = 0.001

// inspect fills what the report shows of the selected system: faithfulness, attention, examples. The network is that of the first seed.
func (l *Lab) inspect(ctx context.Context, report *evaluate.Report, res *Result, e *Explained, expl *recommender.Explanations) error {
	w := l.Work
	test := w.Split.Test
	truth := w.Data.Labels(test)
	m, err := recommender.LoadModel(res.Model, w.Final.Net)
	if err != nil {
		return err
	}
	defer m.Close()
	plain, err := m.Predict(ctx, test, expl)
	if err != nil {
		return err
	}
	f := &evaluate.Faithfulness{}
	blank, err := m.Predict(ctx, test, blanked(w.Data, expl))
	if err != nil {
		return err
	}
	mixed, err := m.Predict(ctx, test, shuffled(expl, w.Split, l.Seeds[0]))
	if err != nil {
		return err
	}
	if f.Blanked, err = evaluate.Measure(blank.Y, truth); err != nil {
		return err
	}
	if f.Shuffled, err = evaluate.Measure(mixed.Y, truth); err != nil {
		return err
	}
	for i := range plain.Y {
		d := math.Abs(float64(plain.Y[i] - blank.Y[i]))
		f.MeanShift += d / float64(len(plain.Y))
		if d < unmoved {
			f.UnchangedShare += 1 / float64(len(plain.Y))
		}
	}
	report.Faithfulness = f
	report.Attention = attention(plain.Attention, truth)
	l.examples(report, e, plain, truth)
	return nil
}

// attention collects eq. 11's ᾱ of the two explanations for records rated high and low: the paper's Fig. 6.
func attention(alpha [][6]float32, truth []float32) *evaluate.Attention {
	a := &evaluate.Attention{}
	var high, low []float64
	for i, y := range truth {
		pos, neg := float64(alpha[i][0]), float64(alpha[i][1])
		switch {
		case y >= evaluate.LabelAt:
			a.HighPos, a.HighNeg, high = append(a.HighPos, pos), append(a.HighNeg, neg), append(high, pos-neg)
		case y <= evaluate.LowAt:
			a.LowPos, a.LowNeg, low = append(a.LowPos, pos), append(a.LowNeg, neg), append(low, pos-neg)
		}
	}
	if len(high) > 0 {
		a.HighGap, _ = evaluate.MeanSE(high)
	}
	if len(low) > 0 {
		a.LowGap, _ = evaluate.MeanSE(low)
	}
	_, a.P = evaluate.MannWhitney(high, low)
	return a
}

// examples draws twelve test records by seed.
func (l *Lab) examples(report *evaluate.Report, e *Explained, p *recommender.Predictions, truth []float32) {
	w := l.Work
	at := map[int32]int{}
	for i, r := range e.Recs {
		at[r] = i
	}
	rng := rand.New(rand.NewPCG(uint64(l.Seeds[0]), 0xe4))
	for _, i := range rng.Perm(len(w.Split.Test)) {
		if len(report.Examples) == 12 {
			return
		}
		rec := w.Data.Records[w.Split.Test[i]]
		item := w.Data.Items[rec.Item]
		name := item.Title
		if name == "" {
			name = item.ID
		}
		k := at[w.Split.Test[i]]
		report.Examples = append(report.Examples, evaluate.Example{
			User: w.Data.Users[rec.User], Item: name, Positive: e.Text[prompts.Positive][k], Negative: e.Text[prompts.Negative][k],
			Prediction: w.Data.Spec.Rating(float64(p.Y[i])), Truth: w.Data.Spec.Rating(float64(truth[i])),
			AttentionPositive: float64(p.Attention[i][0]), AttentionNegative: float64(p.Attention[i][1]),
		})
	}
}
