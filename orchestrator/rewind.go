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
	l.info = info
	l.Rollouts.Vocabulary = int32(info.Vocabulary)
	return nil
}

// Frozen says what of the policy is not trained, "" when all that is wanted is.
func (l *Learner) Frozen() string {
	if l.Set.SoftOnly {
		return "The language model stays as it is: only the projection of the users' embeddings, which become soft prompts, is trained (policy.path: soft_prompt)."
	}
	if !l.Set.Soft || l.info.PromptEmbeds {
		return ""
	}
	return "The training server does not offer prompt_embeds.v1: soft prompts are sent and stay as they were made; the adapter alone is trained."
}
