package orchestrator

import (
	"context"
	"slices"

	"recpie/recommender"
)

// Validate fits the network on the training records and measures it on the validation records: RMSE and the epochs so chosen. No outcome of a
// test record is needed: a blind workspace will do. expl may be nil.
func (w *Workspace) Validate(ctx context.Context, s recommender.Settings, seed int64, expl *recommender.Explanations) (rmse float64, epochs int, err error) {
	m, log, err := recommender.Fit(ctx, recommender.Input{Data: w.Train.Net, Train: w.Split.Train, Val: w.Split.Val, Expl: expl, Settings: s, Seed: seed})
	if err != nil {
		return 0, 0, err
	}
	m.Close()
	return log.ValRMSE, log.Best, nil
}

// Heuristic writes the fixed best-three and worst-three sentences for training and validation records and embeds them.
func (w *Workspace) Heuristic(ctx context.Context, enc Embedder) (*recommender.Explanations, error) {
	recs := slices.Concat(w.Split.Train, w.Split.Val)
	return vectorise(ctx, enc, w.Data, heuristic(w, recs))
}
