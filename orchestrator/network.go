package orchestrator

import (
	"context"
	"time"

	"recpie/internal/evaluate"
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
	p, err := lab.CompareBiases(res)
	if err != nil {
		return nil, err
	}
	report.Paired = map[string]evaluate.Paired{"no_explanations against biases": p}
	report.Timings["networks"] = time.Since(began).Seconds()
	return report, nil
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
