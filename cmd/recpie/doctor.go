package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"recpie/clients/doctor"
	"recpie/config"
	"recpie/internal/fault"
	"recpie/policy"
)

// Doctor asks several servers at a time, but measures them one after the other: they may share a machine.
const doctorAtOnce = 8

func (a *app) doctorCmd() *cobra.Command {
	var probe, strictly bool
	cmd := &cobra.Command{
		Use: "doctor", Short: "Ask the configured servers what they can do", Args: cobra.NoArgs,
		Long: `Doctor examines every configured inference and training server as a run would use it, and prints what is in order, what is
doubtful and what is missing, each with its remedy:

  reachable, encryption, clock and key; the version, and whether soft prompts are safe with it; the served model and
  whether the settings' prompts fit; chat template, prompt scoring, soft prompts and their width; adapters loaded at
  run time, and slots for them; a canary answer, twice; the prefix cache; routes that are open without a key.
  Training server: dialect, base model, gradients of soft prompts, losses. Of all: the path on which what is learned
  reaches the inference servers (policy.path).

It changes nothing on a server: it has an adapter loaded that is not there. --probe puts load on the inference servers, for a minute each at most, to propose
inference.concurrency, and makes an adapter on the training server for a moment to run a pass of each loss.

The exit code is 0 when nothing is missing, 1 otherwise; with --strict doubtful findings count as well.`,
		Example: `  recpie doctor -c recpie.yaml
  recpie doctor -c recpie.yaml --probe          measure the throughput too
  recpie doctor -c recpie.yaml --strict         fail on warnings: before a long batch, or in CI
  recpie doctor -c recpie.yaml -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			servers := patients(c, probe)
			if len(servers) == 0 {
				return fault.WithHint(fault.Newf(fault.Fatal, "doctor", "no servers are configured: a run would use the embedded one"), "name inference.endpoints in a file and give it with -c")
			}
			limit, atOnce := time.Minute+4*c.Inference.Timeout, doctorAtOnce // the canary is two answers, each tried twice
			if probe {
				limit, atOnce = time.Duration(len(servers))*(limit+6*time.Minute), 1
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), limit)
			defer cancel()
			all := doctor.Examine(ctx, servers, atOnce)
			if f, ok := pathFinding(c, all); ok {
				all = append(all, f)
			}
			if err := a.print(cmd.OutOrStdout(), all, func(w io.Writer) { doctor.Write(w, all) }); err != nil {
				return err
			}
			switch warnings, missing := doctor.Count(all); {
			case missing > 0:
				return fmt.Errorf("%d of %d checks found something missing", missing, len(all))
			case strictly && warnings > 0:
				return fmt.Errorf("%d of %d checks found something doubtful", warnings, len(all))
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&probe, "probe", false, "measure the throughput and try the losses")
	cmd.Flags().BoolVar(&strictly, "strict", false, "fail when something is doubtful, too")
	return cmd
}

// patients lists the servers of the settings and what a run would ask of each.
func patients(c *config.Config, probe bool) []doctor.Server {
	var all []doctor.Server
	trained := c.Training.URL != "" && !c.Training.Frozen
	for _, e := range c.Inference.Endpoints {
		all = append(all, doctor.Inference{
			URL: e.URL, KeyEnv: e.KeyEnv, Model: c.Inference.Model, PromptTokens: c.Prompts.TokenBudget, AnswerTokens: c.Inference.MaxTokens,
			SoftPrompts: c.Inference.SoftPrompts, Adapters: trained, Path: c.Policy.Path, Concurrency: c.Inference.Concurrency, Timeout: c.Inference.Timeout, Chat: e.Chat, Probe: probe,
		})
	}
	if trained {
		base := c.Training.Model
		if base == "" {
			base = c.Inference.Model
		}
		if c.Policy.Path == string(policy.PathMerged) { // it samples the steps, with soft prompts where those are wanted
			all = append(all, doctor.Inference{URL: c.Training.URL, KeyEnv: c.Training.KeyEnv, Model: base, PromptTokens: c.Prompts.TokenBudget, AnswerTokens: c.Inference.MaxTokens,
				SoftPrompts: c.Inference.SoftPrompts, Adapters: true, Steps: true, Concurrency: c.Inference.Concurrency, Timeout: c.Inference.Timeout})
		}
		all = append(all, doctor.Training{URL: c.Training.URL, KeyEnv: c.Training.KeyEnv, Model: base, Rank: c.Training.Rank, SoftPrompts: c.Inference.SoftPrompts, Probe: probe})
	}
	return all
}

// pathFinding says on which path what is learned would reach the inference servers. It is absent where nothing is trained and where the
// servers did not get so far.
func pathFinding(c *config.Config, all []doctor.Finding) (doctor.Finding, bool) {
	told := doctor.Paths(all)
	lora, seen := told[string(policy.PathLoRA)]
	if c.Training.URL == "" || c.Training.Frozen || !seen {
		return doctor.Finding{}, false
	}
	soft := softSetting(c, true)
	if soft == "" {
		soft = told[string(policy.PathSoftPrompt)]
	}
	f := doctor.Finding{Server: "all servers", What: "policy path", Level: doctor.OK}
	path, why, err := policy.ChoosePath(policy.Path(c.Policy.Path), policy.Obstacles{LoRA: lora, SoftPrompt: soft, Merged: told[string(policy.PathMerged)]})
	switch {
	case err != nil:
		f.Level, f.Detail, f.Remedy = doctor.Miss, err.Error(), fault.HintOf(err)
	case why != "":
		f.Level, f.Detail = doctor.Warn, fmt.Sprintf("%s: the language model stays as it is and soft prompts are trained, for adapters cannot be loaded (%s)", path, why)
		f.Remedy = "nothing to do if that is wanted (policy.path: soft_prompt says so); to train the model, policy.path: merged writes a checkpoint after each round, as recpie lm merge does, for you to serve"
	default:
		f.Detail = string(path) + ": " + map[policy.Path]string{policy.PathLoRA: "versions are loaded while the servers run", policy.PathSoftPrompt: "the language model stays as it is, the users' rows are trained",
			policy.PathMerged: "the training server samples the steps, and each round ends with a checkpoint for you to serve"}[path]
	}
	return f, true
}
