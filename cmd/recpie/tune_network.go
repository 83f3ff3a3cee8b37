package main

import (
	"context"
	"path/filepath"
	"slices"

	"recpie/config"
	"recpie/orchestrator"
	"recpie/orchestrator/tune"
	"recpie/recommender"
)

// networkSpace is what is searched when nothing else is asked for.
var networkSpace = []string{
	"recommender.learning_rate=log:1e-4..5e-3",
	"recommender.learning_rate_decay=0.5..1",
	"recommender.batch=choice:64,128,256,512,1024",
	"recommender.dim=choice:16,32,64,128",
	"recommender.dropout=0..0.5",
	"recommender.input_dropout=0..0.3",
	"recommender.weight_decay=log:1e-5..0.1",
	"recommender.id_l2=log:0.001..10",
}

// searchable lists the network's settings that may be searched: not the loss, which changes what the validation error is an error of, and
// not what only says how often networks are trained.
func searchable(c *config.Config) (out []tune.Setting) {
	for _, k := range config.Keys() {
		name := k.Name()
		if k.Path[0] != "recommender" || slices.Contains([]string{"recommender.loss", "recommender.seeds", "recommender.folds"}, name) {
			continue
		}
		out = append(out, tune.Setting{Name: name, Whole: k.Kind == "int", Numbers: k.Kind == "int" || k.Kind == "float",
			Check: func(text string) error { _, err := c.With(map[string]string{name: text}); return err }})
	}
	return out
}

// searchedNetwork makes the network's side of a search: fits on the training records, stopped and measured by the validation records.
func searchedNetwork(ctx context.Context, c *config.Config, w *orchestrator.Workspace, space tune.Space) (*searched, error) {
	own := *c // with what the size of the data chooses spelt out
	s := networkSettings(c, len(w.Split.Train))
	own.Recommender.LR, own.Recommender.Batch = s.LR, s.Batch
	m := &searched{name: "network", own: tune.Values{}, epochs: s.MaxEpochs}
	for _, p := range space {
		m.own[p.Name] = own.Text(p.Name)
	}
	var expl *recommender.Explanations
	if c.Explanations != "off" {
		m.name = "network with heuristic sentences"
		var err error
		if expl, err = heuristicVectors(ctx, c, w); err != nil {
			return nil, err
		}
	}
	m.objective = func(ctx context.Context, t tune.Trial) (o tune.Outcome, err error) {
		tc, err := own.With(t.Values)
		if err != nil {
			return o, err
		}
		s := networkSettings(tc, len(w.Split.Train))
		if t.AtMost > 0 {
			s.MaxEpochs = min(s.MaxEpochs, t.AtMost)
		}
		o.RMSE, o.Epochs, err = w.Validate(ctx, s, t.Seed, expl)
		return o, err
	}
	m.settings = func(v tune.Values) ([]byte, error) {
		best, err := own.With(v)
		if err != nil {
			return nil, err
		}
		best.Run = filepath.Join(c.Run, "train")
		return best.YAML()
	}
	return m, nil
}

// heuristicVectors embeds the heuristic sentences of the training and validation records.
func heuristicVectors(ctx context.Context, c *config.Config, w *orchestrator.Workspace) (*recommender.Explanations, error) {
	enc, err := openEncoder(ctx, c)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return w.Heuristic(ctx, enc)
}
