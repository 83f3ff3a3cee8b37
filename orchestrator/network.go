package orchestrator

import (
	"context"
	"time"

	"recpie/internal/evaluate"
	"recpie/prompts"
	"recpie/recommender"
)

// TrainNetwork is a run without explanations: the network alone, beside the biases.
func TrainNetwork(ctx context.Context, lab *Lab) (*evaluate.Report, error) {
	began := time.Now()
	report, err := newReport(lab)
	if err != nil {
		return nil, err
	}
	res, err := lab.Judge(ctx, "no_explanations", nil)
	if err != nil {
		return nil, err
	}
	report.Test.NoExplanations = res.System
	if report.Test.Ensemble, err = lab.ensemble(res); err != nil {
		return nil, err
	}
	p, err := lab.CompareBiases(res)
	if err != nil {
		return nil, err
	}
	report.Paired = map[string]evaluate.Paired{"no_explanations against biases": p}
	report.Timings["networks"] = time.Since(began).Seconds()
	return report, lab.evaluate(report, []*Result{res}, "")
}

// TrainHeuristic is a run whose explanations are the fixed best-three and worst-three sentences: what explanations are worth to the
// network before any language model takes part. Beside them: none, shuffled between pairs, as numbers, and each side alone.
func TrainHeuristic(ctx context.Context, lab *Lab, embed Embedder) (*evaluate.Report, error) {
	began := time.Now()
	report, err := newReport(lab)
	if err != nil {
		return nil, err
	}
	w := lab.Work
	said := heuristic(w, w.Pairs())
	expl, err := vectorise(ctx, embed, w.Data, said)
	if err != nil {
		return nil, err
	}
	if err := lab.Ranker.Explain(ctx, embed); err != nil {
		return nil, err
	}
	report.Timings["explanations"] = time.Since(began).Seconds()
	began = time.Now()
	one := func(side prompts.Polarity) *recommender.Explanations {
		out := blanked(w.Data, expl)
		if side == prompts.Positive {
			out.Pos = expl.Pos
		} else {
			out.Neg = expl.Neg
		}
		return out
	}
	t := &report.Test
	var results []*Result
	for _, c := range []struct {
		name string
		expl *recommender.Explanations
		to   **evaluate.System
	}{
		{"heuristic", expl, &t.Heuristic},
		{"no_explanations", nil, &t.NoExplanations},
		{"shuffled_refit", shuffled(expl, w.Split, lab.Seeds[0]), &t.ShuffledRefit},
		{"numbers_refit", numbers(w, said), &t.NumbersRefit},
		{"positive_only", one(prompts.Positive), &t.PositiveOnly},
		{"negative_only", one(prompts.Negative), &t.NegativeOnly},
	} {
		res, err := lab.Judge(ctx, c.name, c.expl)
		if err != nil {
			return nil, err
		}
		*c.to = res.System
		results = append(results, res)
	}
	report.Paired = map[string]evaluate.Paired{}
	for _, res := range results[1:] {
		if report.Paired["heuristic against "+res.Name], err = lab.Compare(results[0], res); err != nil {
			return nil, err
		}
	}
	if report.Paired["heuristic against biases"], err = lab.CompareBiases(results[0]); err != nil {
		return nil, err
	}
	if t.Ensemble, err = lab.ensemble(results[1]); err != nil {
		return nil, err
	}
	report.Timings["networks"] = time.Since(began).Seconds()
	if err := lab.evaluate(report, results, "heuristic"); err != nil {
		return nil, err
	}
	return report, lab.inspect(ctx, report, results[0], said, expl)
}

// ensemble measures the mean of the seeds' predictions; nil for a single seed.
func (l *Lab) ensemble(res *Result) (*evaluate.System, error) {
	if len(res.Test) < 2 {
		return nil, nil
	}
	m, err := evaluate.Measure(pooled(res.Test, res.SD).Y, l.Work.Data.Labels(l.Work.Split.Test))
	if err != nil {
		return nil, err
	}
	return evaluate.Summarise([]evaluate.Metrics{m}, nil), nil
}

// newReport fills what every report says of data, split and biases.
func newReport(lab *Lab) (*evaluate.Report, error) {
	w := lab.Work
	truth := w.Data.Labels(w.Split.Test)
	biases, err := evaluate.Measure(w.Final.Net.Bias.Predict(w.Data, w.Split.Test), truth)
	if err != nil {
		return nil, err
	}
	return &evaluate.Report{
		Data: w.Data.Name, Sample: w.Sample(), SplitDigest: w.Split.Digest,
		NTrain: len(w.Split.Train) + len(w.Split.Val), NTest: len(w.Split.Test),
		Biases: biases, Seeds: lab.Seeds, Timings: map[string]float64{},
	}, nil
}
