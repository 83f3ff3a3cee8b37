package orchestrator

import (
	"context"
	"maps"
	"path/filepath"

	"recpie/clients/training"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	"recpie/policy"
)

// TrainingServer implements Trainers over the adapter-training API.
type TrainingServer struct {
	Session *training.Session
	Model   string // base model's name there
	Rank    int    // of the LoRA
	Seed    int64
	Frozen  bool // no gradient for the adapter: soft prompts alone are trained
}

// Create implements Trainers. Only attention is adapted, without dropout: with it the trainer's probabilities would not be the sampler's.
func (t *TrainingServer) Create(ctx context.Context) (Trainer, error) {
	m, err := t.Session.CreateModel(ctx, t.Model, tinker.LoRAConfig{Rank: t.Rank, Seed: &t.Seed, TrainAttn: true})
	if err != nil {
		return nil, err
	}
	return &remoteTrainer{t.Session, m, t.Frozen}, nil
}

// Restore implements Trainers.
func (t *TrainingServer) Restore(ctx context.Context, path string) (Trainer, error) {
	m, err := t.Session.CreateFromCheckpoint(ctx, path, t.Model, true)
	if err != nil {
		return nil, fault.WithHint(err, "the run's last checkpoint is "+path+" at the training server; if the server has lost it, begin a new run")
	}
	return &remoteTrainer{t.Session, m, t.Frozen}, nil
}

type remoteTrainer struct {
	session *training.Session
	model   *training.Model
	frozen  bool
}

// ForwardBackward implements policy.Trainer.
func (t *remoteTrainer) ForwardBackward(ctx context.Context, data []policy.Datum, loss string, config map[string]float64) (*policy.Pass, error) {
	in := make([]training.Datum, len(data))
	for i, d := range data {
		in[i] = training.Datum{Tokens: d.Tokens, Targets: d.Targets, Logprobs: d.Logprobs, Advantages: d.Advantages, Embeds: d.Embeds, EmbedPositions: d.EmbedPos}
		if !t.session.PromptEmbeds() {
			// the server would train on the placeholders and say nothing
			in[i].Embeds, in[i].EmbedPositions = nil, nil
		}
	}
	if t.session.PromptEmbeds() {
		// a server of ours: it scores only what carries an advantage, and computes what a pair's texts share once (their soft rows'
		// gradient then comes with the first of them, which leaves the sum as it is)
		config = maps.Clone(config)
		config["logprobs_only_weighted"], config["shared_prompt_grads"] = 1, 1
		if t.frozen {
			config["freeze_adapter"] = 1
		}
	}
	p, err := t.model.ForwardBackward(ctx, in, loss, config)
	if err != nil {
		return nil, err
	}
	pass, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return &policy.Pass{Logprobs: pass.Logprobs, EmbedGrads: pass.EmbedGrads, LossSum: pass.Metrics["loss:sum"]}, nil
}

// OptimStep implements policy.Trainer.
func (t *remoteTrainer) OptimStep(ctx context.Context, s policy.AdamStep) error {
	p, err := t.model.OptimStep(ctx, tinker.AdamParams{LearningRate: s.LR, Beta1: s.Beta1, Beta2: s.Beta2, Eps: s.Eps, WeightDecay: s.WeightDecay, GradClipNorm: s.ClipNorm})
	if err != nil {
		return err
	}
	_, err = p.Wait(ctx)
	return err
}

// Info implements Trainer.
func (t *remoteTrainer) Info(ctx context.Context) (ModelInfo, error) {
	i, err := t.model.Info(ctx)
	if err != nil {
		return ModelInfo{}, err
	}
	return ModelInfo{Hidden: i.ModelData.HiddenSize, Vocabulary: i.ModelData.VocabSize, Norm: i.ModelData.TokenEmbeddingNorm, PromptEmbeds: t.session.PromptEmbeds()}, nil
}

// SaveState implements Trainer.
func (t *remoteTrainer) SaveState(ctx context.Context, name string) (string, error) {
	p, err := t.model.SaveWeights(ctx, name)
	if err != nil {
		return "", err
	}
	r, err := p.Wait(ctx)
	return r.Path, err
}

// Export implements Trainer.
func (t *remoteTrainer) Export(ctx context.Context, name, dir string) error {
	p, err := t.model.SaveWeightsForSampler(ctx, name)
	if err != nil {
		return err
	}
	r, err := p.Wait(ctx)
	if err != nil {
		return err
	}
	return t.session.Download(ctx, r.Path, filepath.Clean(dir))
}
