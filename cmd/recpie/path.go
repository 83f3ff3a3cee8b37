package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"recpie/adapters"
	"recpie/clients/vllm"
	"recpie/config"
	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/progress"
	"recpie/policy"
)

// mergedDir holds the merged checkpoints, beside the versions that they were made of.
const mergedDir = "merged"

// path finds out what the servers can do and chooses how what is learned reaches them. A choice that changes what is trained is told.
func (b *backend) path(ctx context.Context, c *config.Config, show *progress.Reporter) (policy.Path, error) {
	want := policy.Path(c.Policy.Path)
	var o policy.Obstacles
	for i, cl := range b.asks {
		why, err := cl.RefusesAdapters(ctx)
		if err != nil {
			return "", fmt.Errorf("inference server %s: %w", b.urls[i], err)
		}
		if why != "" {
			o.LoRA = b.urls[i] + ": " + why
			break
		}
	}
	if want == policy.PathSoftPrompt || o.LoRA != "" {
		o.SoftPrompt = b.softObstacle(ctx, c)
	}
	path, why, err := policy.ChoosePath(want, o)
	if why != "" {
		show.Printf("the inference servers take no adapters (%s): soft prompts alone are trained (policy.path: soft_prompt)", why)
	}
	return path, err
}

// softObstacle says why soft prompts cannot be trained.
func (b *backend) softObstacle(ctx context.Context, c *config.Config) string {
	if why := softSetting(c, b.session.PromptEmbeds()); why != "" {
		return why
	}
	for i, cl := range b.asks {
		if _, err := cl.SoftWidth(ctx); err != nil {
			return fmt.Sprintf("%s takes no soft rows: %v", b.urls[i], err)
		}
	}
	return ""
}

// softSetting says what of the settings and of the training server is in the way of training soft prompts.
func softSetting(c *config.Config, gradients bool) string {
	switch {
	case !c.Inference.SoftPrompts:
		return "inference.soft_prompts is off"
	case !gradients:
		return "the training server returns no gradients of soft rows"
	case c.Policy.ProjectionRate == 0:
		return "policy.projection_rate is 0"
	}
	return ""
}

// stepsAtTrainer dials the training server as the inference server that samples the policy's steps. recpie lm serve is both, and takes adapters
// on every architecture.
func (b *backend) stepsAtTrainer(ctx context.Context, c *config.Config) (*backend, error) {
	b.steps = &backend{base: b.trainName, baseID: b.baseID, trainName: b.trainName, lm: c.LM}
	b.stop = append(b.stop, b.steps.close)
	err := b.steps.dial(ctx, c, []config.Endpoint{{URL: c.Training.URL, KeyEnv: c.Training.KeyEnv}}, max(c.Inference.Timeout, embeddedTimeout))
	var why string
	if err == nil {
		why, err = b.steps.asks[0].RefusesAdapters(ctx)
	}
	if err != nil {
		why = err.Error()
	}
	_, _, err = policy.ChoosePath(policy.PathMerged, policy.Obstacles{Merged: why})
	return b.steps, err
}

// serveMerged makes sure that a version's checkpoint is there and that every inference server serves it. Where one does not, the run ends with
// what to do: the same command goes on from there.
func (b *backend) serveMerged(model, root string) func(context.Context, *adapters.Version) error {
	return func(ctx context.Context, v *adapters.Version) error {
		dir := filepath.Join(root, mergedDir, v.Name)
		switch _, err := os.Stat(dir); {
		case errors.Is(err, fs.ErrNotExist):
			if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
				return fault.New(fault.Fatal, "merge", err)
			}
			if err := lm.Merge(model, v.Dir, dir); err != nil {
				return err
			}
		case err != nil:
			return fault.New(fault.Fatal, "merge", err)
		}
		return b.servedMerged(ctx, v.Name, dir)
	}
}

// servedMerged is the error of a merged version that some inference server does not serve, with what to do. dir is its checkpoint.
func (b *backend) servedMerged(ctx context.Context, name, dir string) error {
	var without []string
	for i, cl := range b.admin {
		models, err := cl.Models(ctx)
		if err != nil {
			return fmt.Errorf("inference server %s: %w", b.urls[i], err)
		}
		if !slices.ContainsFunc(models, func(m vllm.Model) bool { return m.ID == name && m.Parent == "" }) {
			without = append(without, b.urls[i])
		}
	}
	if len(without) == 0 {
		return nil
	}
	return fault.WithHint(fault.Newf(fault.Fatal, "policy: path", "the merged version %s is not served by %s", name, strings.Join(without, ", ")),
		fmt.Sprintf("start the server again on %s with --served-model-name %s, then the same command: it goes on from here", dir, name))
}
