package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"math"

	"recpie/clients/training"
	"recpie/internal/fault"
	"recpie/policy"
	"recpie/recommender"
)

// rewinds is how often a step is begun again.
const rewinds = 3

// advance makes a step and keeps it; step 0 of a round only publishes. When it stays unknown whether the training server has carried a
// request out (training.ErrAmbiguous), everything goes back to the checkpoint before the step, and the step, whose samples depend on its
// number alone, is made again.
func (l *Learner) advance(ctx context.Context, round, step int, judge *recommender.Cross) (policy.Metrics, error) {
	for again := 0; ; again++ {
		m, err := l.attempt(ctx, round, step, judge)
		if err == nil || again == rewinds || !errors.Is(err, training.ErrAmbiguous) {
			return m, err
		}
		if lost := l.rewind(ctx); lost != nil {
			return m, fmt.Errorf("%w; and going back to the checkpoint: %w", err, lost)
		}
	}
}

func (l *Learner) attempt(ctx context.Context, round, step int, judge *recommender.Cross) (m policy.Metrics, err error) {
	if step > 0 {
		if m, err = l.step(ctx, round, step, judge); err != nil {
			return m, err
		}
	}
	// a step that was made is kept even while stopping: the server's work was paid for
	return m, l.keep(context.WithoutCancel(ctx), round, step, m)
}

// rewind puts the trainer, the optimizer and the soft prompts back to the last checkpoint, or to the beginning when there is none. The
// trainer that is given up is left to the end of the session: where unloading leaves its gradients to the next adapter (SkyRL), that would be ours.
func (l *Learner) rewind(ctx context.Context) (err error) {
	l.optimizer, l.proj, l.soft = nil, nil, nil
	if l.at.Version == "" {
		if l.trainer, err = l.Trainers.Create(ctx); err != nil {
			return err
		}
		return l.prepare()
	}
	if l.trainer, err = l.Trainers.Restore(ctx, l.at.Trainer); err != nil {
		return err
	}
	if l.soft, err = l.version.SoftPrompt(); err != nil {
		return err
	}
	return l.prepare()
}

// know takes in what the training server says of the base model. Some servers, as SkyRL, do not tell the size of the vocabulary, above
// which ids mark soft rows; without soft prompts no id does.
func (l *Learner) know(info ModelInfo) error {
	if info.Vocabulary == 0 {
		if l.Set.Soft {
			return fault.WithHint(fault.Newf(fault.Fatal, "policy", "the training server does not tell the size of the vocabulary, by which soft rows are told from tokens"),
				"set inference.soft_prompts: false")
		}
		info.Vocabulary = math.MaxInt32
	}
	if l.Set.Soft && !info.PromptEmbeds {
		if l.Set.SoftOnly {
			return fault.WithHint(fault.Newf(fault.Fatal, "policy", "the training server does not offer prompt_embeds.v1, and soft prompts alone are to be trained"),
				"train at a server that offers it (recpie lm serve does), or set policy.path: lora")
		}
		// Sampled with rows and trained without them, the ratios of PPO would compare two different prompts.
		l.Set.Soft, l.without = false, "The training server does not offer prompt_embeds.v1: no soft prompts are sent, since it cannot train with them; the adapter alone is trained."
	}
	l.info = info
	l.Rollouts.Vocabulary = int32(info.Vocabulary)
	return nil
}

// Frozen says what of the policy is not trained and why, "" when everything is.
func (l *Learner) Frozen() string {
	if l.Set.SoftOnly {
		return "Soft prompts alone are trained (policy.path: soft_prompt): the projection of the users' embeddings. The language model's weights stay as they are."
	}
	return l.without
}
