package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/evaluate"
	"recpie/internal/evaluate/ranking"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/torch"
	"recpie/orchestrator"
)

func (a *app) trainCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "train", Short: "Train: the whole loop, or the network alone", Args: cobra.NoArgs,
		Long: `Train runs the loop: explanations, network, policy steps, new explanations, and writes the run directory with report.html.
The same command continues an interrupted run. With --explanations off it trains the network alone on all records, with --explanations
heuristic it explains by fixed rules, without a language model: what explanations are worth to the network, and where that comes from.`,
		Example: `  recpie train                                        MovieLens 100K, a sample of users, embedded language model
  recpie train --data my/data --run runs/mine         your data
  recpie train --explanations off --data my/data      the network alone
  recpie train --explanations heuristic               the best three and worst three reasons, no language model
  recpie train -c recpie.yaml --set policy.rounds=3   your inference and training servers
  recpie train -c recpie.yaml --set training.frozen=true   your inference servers, language model as it is`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			report, err := a.train(cmd.Context(), c, show)
			if err != nil {
				return err
			}
			path := filepath.Join(c.Run, "report.html")
			return a.print(cmd.OutOrStdout(), report, func(w io.Writer) { fmt.Fprintf(w, "\n%s\nreport: %s\n", report.Text(), path) })
		},
	}
	a.settingFlag(cmd, "explanations", "explanations", "")
	a.settingFlag(cmd, "rounds", "policy.rounds", "")
	a.settingFlag(cmd, "steps", "policy.steps", "")
	a.settingFlag(cmd, "loss", "recommender.loss", "")
	a.settingFlag(cmd, "network-seeds", "recommender.seeds", "")
	a.settingFlag(cmd, "redact", "prompts.redact", "")
	a.settingFlag(cmd, "ranking", "evaluate.ranking", "")
	return cmd
}

// train runs what the settings ask for in the run directory and writes the report there.
func (a *app) train(ctx context.Context, c *config.Config, show *progress.Reporter) (report *evaluate.Report, err error) {
	torch.SetThreads(1)
	dir, err := openRun(c)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	log, err := dir.OpenLog()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	show.Log(log)
	show.Note("recpie %s begins or continues %s", version()["revision"], c.Run)
	defer func() {
		if err != nil {
			show.Note("ended by: %v", err)
		} else {
			show.Note("finished")
		}
	}()
	began, start := time.Now(), time.Now()
	w, err := prepare(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := w.Split.SaveFile(dir.Path("split.json"), w.Data); err != nil {
		return nil, err
	}
	show.Printf("%s: %d users, %d items, %d records; %s, %d train, %d validation, %d test; read in %s", w.Data.Name, len(w.Data.Users), len(w.Data.Items),
		len(w.Data.Records), w.Sample(), len(w.Split.Train), len(w.Split.Val), len(w.Split.Test), time.Since(began).Round(100*time.Millisecond))
	lab := newLab(c, w, dir.Path("networks"))
	lab.Progress = func(name string, seed int) { show.Printf("network %s, seed %d of %d", name, seed+1, len(lab.Seeds)) }
	began = time.Now()
	why, err := rankings(ctx, c, lab, dir.Path("candidates.jsonl"))
	if err != nil {
		return nil, err
	}
	if why != "" {
		show.Printf("%s", why)
	}
	drawn := time.Since(began).Seconds()
	switch c.Explanations {
	case "off":
		report, err = orchestrator.TrainNetwork(ctx, lab)
	case "heuristic":
		report, err = trainHeuristic(ctx, c, lab)
	default:
		report, err = a.loop(ctx, c, dir, w, lab, show)
	}
	if err != nil {
		return nil, err
	}
	if why != "" {
		report.Notes = append(report.Notes, why)
	}
	if lab.Ranker != nil {
		report.Timings["candidates"] = drawn
	}
	report.Timings["all"] = time.Since(start).Seconds()
	return report, report.Write(dir.Path())
}

// rankings has the networks to come rank items, if the settings want it; why says in words that this is not possible.
func rankings(ctx context.Context, c *config.Config, lab *orchestrator.Lab, path string) (why string, err error) {
	e := c.Evaluate
	if e.Ranking == "off" {
		return "", nil
	}
	lab.Ranker, err = orchestrator.NewRanker(ctx, lab.Work, path, orchestrator.RankSettings{
		Settings: ranking.Settings{Users: e.Users, Positives: e.Positives, Negatives: e.Negatives, Seed: c.Seed}, Cutoffs: e.Ks(), Explained: e.Explained})
	if err != nil && fault.ClassOf(err) == fault.Item {
		return "No rankings: " + err.Error(), nil
	}
	return "", err
}

// trainHeuristic trains on the fixed sentences.
func trainHeuristic(ctx context.Context, c *config.Config, lab *orchestrator.Lab) (*evaluate.Report, error) {
	enc, err := openEncoder(ctx, c)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return orchestrator.TrainHeuristic(ctx, lab, enc)
}
