package main

import (
	"context"

	"recpie/adapters"
	"recpie/config"
	"recpie/internal/evaluate"
	"recpie/internal/progress"
	"recpie/internal/store"
	"recpie/orchestrator"
	"recpie/policy"
)

// loop wires the whole loop and runs it.
func (a *app) loop(ctx context.Context, c *config.Config, dir *orchestrator.RunDir, w *orchestrator.Workspace, lab *orchestrator.Lab, show *progress.Reporter) (*evaluate.Report, error) {
	root := versionsDir(c, dir.Path())
	if text := leaving(ctx, c, c.Inference.SoftPrompts && !c.Training.Frozen && c.Policy.Rounds > 0, nil); text != "" {
		show.Printf("%s", text)
	}
	b, err := connect(ctx, c, w, dir.Path("lm"), root, show)
	if err != nil {
		return nil, err
	}
	defer b.close()
	defer watch(b.fleet.Pool.Stats, show)()
	if err := runProfiles(ctx, c, dir.Path(), w, b, show); err != nil {
		return nil, err
	}
	enc, err := openEncoder(ctx, c)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	db, err := store.Open(ctx, dir.Path("explanations.db"))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	metrics, err := dir.OpenMetrics()
	if err != nil {
		return nil, err
	}
	defer metrics.Close()
	l := &orchestrator.Loop{
		Dir: dir, Lab: lab, Embed: enc, Base: b.base, BaseID: b.baseID, Folds: c.Recommender.Folds, Validate: c.Policy.Validation, Metrics: metrics, Show: show,
		Explain: &orchestrator.Explainer{Work: w, Store: db, Model: b.fleet, Concurrency: c.Inference.Concurrency, MaxTokens: c.Inference.MaxTokens},
	}
	if b.session != nil && c.Policy.Rounds > 0 {
		if l.Learner, err = learner(ctx, c, dir, w, b, enc, metrics, root, show); err != nil {
			return nil, err
		}
	}
	return l.Run(ctx)
}

func learner(ctx context.Context, c *config.Config, dir *orchestrator.RunDir, w *orchestrator.Workspace, b *backend, enc orchestrator.Embedder, metrics *orchestrator.Metrics, root string, show *progress.Reporter) (*orchestrator.Learner, error) {
	versions, err := adapters.OpenStore(root)
	if err != nil {
		return nil, err
	}
	path, err := b.path(ctx, c, show)
	if err != nil {
		return nil, err
	}
	at, serve := b, (func(context.Context, *adapters.Version) error)(nil)
	if path == policy.PathMerged {
		if at, err = b.stepsAtTrainer(ctx, c); err != nil {
			return nil, err
		}
		b.stop = append(b.stop, watch(at.fleet.Pool.Stats, show))
		serve = b.serveMerged(c.LM.Dir, root)
	}
	publisher, err := at.publisher(ctx, c, root)
	if err != nil {
		return nil, err
	}
	return &orchestrator.Learner{
		Serve: serve, Dir: dir, Versions: versions, Publish: publisher, Metrics: metrics,
		Set: orchestrator.PolicySettings{Rounds: c.Policy.Rounds, Steps: c.Policy.Steps, Pairs: c.Policy.Pairs, Seed: c.Seed, Soft: c.Inference.SoftPrompts, SoftOnly: path == policy.PathSoftPrompt, PPO: ppo(c)},
		Rollouts: &orchestrator.Rollouts{Work: w, Model: at.fleet, Scorer: at.fleet, Base: at.base, Embed: enc, Group: c.Policy.Group, Credit: c.Policy.Credit,
			Temperature: c.Policy.Temperature, MaxTokens: c.Inference.MaxTokens, Concurrency: c.Inference.Concurrency},
		Trainers: &orchestrator.TrainingServer{Session: b.session, Model: b.trainName, Rank: c.Training.Rank, Seed: c.Seed, Frozen: path == policy.PathSoftPrompt},
		Lineage:  adapters.Lineage{Run: c.Run, Base: b.baseID, SplitDigest: w.Split.Digest},
	}, nil
}

// ppo maps the settings onto the policy's.
func ppo(c *config.Config) policy.Settings {
	p, s := c.Policy, policy.DefaultSettings()
	s.Epochs, s.Minibatch, s.ClipLow, s.ClipHigh = p.Epochs, p.Minibatch, p.Clip, p.Clip
	s.RejectedPenalty, s.LoosePenalty = p.FormatPenalty, p.FormatPenalty/2
	s.Beta, s.TargetKL = p.KL, p.KLTarget
	s.Adapter.LR, s.Projection.LR = p.LearningRate, p.ProjectionRate
	s.Limits = policy.Limits{MaxRejected: p.MaxRejected, MaxKL: p.MaxKL, MaxSamplerGap: p.MaxSamplerGap, MinEntropy: p.MinEntropy, MinUnique: p.MinUnique, MinDistinct: p.MinDistinct}
	return s
}
