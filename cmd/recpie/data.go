package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/dataset"
	"recpie/internal/dataset/terms"
	"recpie/internal/fault"
	"recpie/orchestrator"
	"recpie/prompts"
	"recpie/recommender"
)

func (a *app) dataCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "data", Short: "Get, import, check and describe data sets", Example: "  recpie data get yelp\n  recpie data import --format csv ratings.csv --out data/mine\n  recpie data check data/mine\n  recpie data stats data/mine\n  recpie data aspects data/mine --out aspects.jsonl"}
	var quarantine string
	var verify bool
	check := &cobra.Command{
		Use: "check PATH", Short: "Read a data set, report what is broken, and show its split", Args: cobra.ExactArgs(1),
		Long: `Check reads a data set as a run would, reports broken rows and shows the split. Of an imported set it compares the sizes of the files with the
manifest, with --verify their SHA-256.`,
		Example: "  recpie data check my/data\n  recpie data check ml-100k -o json\n  recpie data check my/data --quarantine broken.jsonl\n  recpie data check data/imported --verify",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := dataPath(args[0])
			if err != nil {
				return err
			}
			report, err := dataset.Check(cmd.Context(), path, dataset.Options{Quarantine: quarantine, Verify: verify})
			if report == nil || report.Format == "" || errors.Is(err, os.ErrNotExist) { // nothing was read
				return err
			}
			if perr := a.print(cmd.OutOrStdout(), report, func(w io.Writer) { _ = report.WriteText(w) }); err == nil {
				err = perr
			}
			return err
		},
	}
	check.Flags().StringVar(&quarantine, "quarantine", "", "write the broken rows to this file, one JSON object a line")
	check.Flags().BoolVar(&verify, "verify", false, "compare the SHA-256 of every file of an imported set")
	cmd.AddCommand(check, a.getCmd(), a.importCmd(), a.statsCmd(), a.aspectsCmd(), a.profilesCmd(), a.plantedCmd())
	return cmd
}

// cacheDir is where set-up and runs keep what may be made again.
func cacheDir() (string, error) {
	if dir := os.Getenv("RECPIE_CACHE"); dir != "" {
		return dir, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fault.WithHint(fault.New(fault.Fatal, "cache folder", err), "set RECPIE_CACHE to a writable folder")
	}
	return filepath.Join(base, "recpie"), nil
}

// dataPath resolves the name of a cached data set; a folder that exists wins over the name.
func dataPath(path string) (string, error) {
	if _, err := os.Stat(path); err == nil || path != "ml-100k" {
		return path, nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "ml-100k")
	if _, err := os.Stat(dir); err != nil {
		return "", fault.WithHint(fault.Newf(fault.Fatal, "data", "MovieLens 100K is not in the cache (%s)", dir), "run 'make setup', or name a folder with --data")
	}
	return dir, nil
}

// prepare reads the data of a run.
func prepare(ctx context.Context, c *config.Config) (*orchestrator.Workspace, error) {
	return prepareSide(ctx, c, false)
}

// prepareBlind reads the data without test outcomes.
func prepareBlind(ctx context.Context, c *config.Config) (*orchestrator.Workspace, error) {
	return prepareSide(ctx, c, true)
}

func prepareSide(ctx context.Context, c *config.Config, blind bool) (*orchestrator.Workspace, error) {
	path, err := dataPath(c.Data.Path)
	if err != nil {
		return nil, err
	}
	s := dataSettings(c)
	s.Path, s.Blind = path, blind
	if c.Explanations == "off" {
		s.SamplePairs, s.MaxRecords = 0, 0 // the network alone needs no sample
	}
	return orchestrator.Prepare(ctx, s)
}

// dataSettings maps the settings of data and prompts; Path is left to the caller.
func dataSettings(c *config.Config) orchestrator.DataSettings {
	s := prompts.DefaultSettings()
	s.History, s.Terms, s.Taste, s.Opinions, s.Redact = c.Prompts.History, c.Prompts.Terms, c.Prompts.Taste, c.Prompts.Opinions, c.Prompts.Redact
	source, _ := terms.ParseSource(c.Prompts.Source) // checked when it was read
	return orchestrator.DataSettings{Terms: source, SamplePairs: c.Data.SamplePairs, MinRecords: c.Data.MinRecords, TrainSparse: c.Data.TrainSparse, MaxRecords: c.Data.MaxRecords, Seed: c.Seed, Prompts: s}
}

// networkSettings starts from what suits the number of training records and lets the user's settings win.
func networkSettings(c *config.Config, train int) recommender.Settings {
	s := recommender.DefaultSettings(train)
	r := c.Recommender
	s.Dim, s.Loss, s.Dropout, s.WeightDecay, s.MaxEpochs, s.Patience = r.Dim, recommender.Loss(r.Loss), r.Dropout, r.WeightDecay, r.Epochs, r.Patience
	s.LRDecay, s.IDL2, s.InputDropout, s.History = r.LRDecay, r.IDL2, r.InputDrop, r.History
	s.Without = recommender.Without{Consumer: !r.Consumer, Product: !r.Product, Sequence: !r.Sequence, Context: !r.Context, Text: !r.Text}
	if r.LR > 0 {
		s.LR = r.LR
	}
	if r.Batch > 0 {
		s.Batch = r.Batch
	}
	return s
}

func newLab(c *config.Config, w *orchestrator.Workspace, dir string) *orchestrator.Lab {
	lab := &orchestrator.Lab{Work: w, Settings: networkSettings(c, len(w.Split.Train)), Dir: dir}
	for i := range c.Recommender.Seeds {
		lab.Seeds = append(lab.Seeds, c.Seed+int64(i))
	}
	return lab
}
