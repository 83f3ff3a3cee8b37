package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recpie/config"
	"recpie/internal/durable"
	"recpie/internal/fault"
	"recpie/internal/progress"
	"recpie/internal/torch"
	"recpie/orchestrator"
	"recpie/orchestrator/tune"
)

// tuneFlags are the flags of tune that are no settings of a run.
type tuneFlags struct {
	space     []string
	spaceFile string
	trials    int
	budget    time.Duration
	parallel  int
	seeds     int
	halving   bool
}

const (
	finalists    = 3 // trials measured again
	confirmSeeds = 3 // each by so many fits
)

func (a *app) tuneCmd() *cobra.Command {
	var f tuneFlags
	cmd := &cobra.Command{
		Use: "tune", Short: "Search the network's settings on validation records", Args: cobra.NoArgs,
		Long: `Tune searches settings of the network at random and measures each trial on validation records: the RMSE that early stopping
reached, the mean over --fit-seeds fits. Trial 0 is the settings as given. The three best trials and trial 0 are then fitted with three fresh
seeds, and the mean of these decides. No outcome of a test record is read.

The budget is a number of trials, or wall-clock time with --budget; the confirmation comes on top. Trials depend on the seed and on
nothing else, so that the order in which they finish changes nothing. Each finished fit is kept in trials.jsonl; the same command continues
an interrupted search, and one with more --trials goes on behind a finished one.

A range is LOW..HIGH, log:LOW..HIGH (drawn in the logarithm) or choice:A,B,C. Without --space and --space-file a default space is searched;
with them, only what they name.

The run directory gets trials.jsonl, tune.json, tune.html and best.yaml, which 'recpie train -c' takes. With --explanations on the network
reads heuristic sentences, the fixed best-three and worst-three reasons, in place of a language model's.`,
		Example: `  recpie tune --data my/data --explanations off
  recpie tune --data my/data --explanations off --trials 60 --halving
  recpie tune --data my/data --explanations off --budget 30m --parallel 4 --run runs/tuned
  recpie tune --space recommender.learning_rate=log:1e-4..1e-2 --space recommender.dim=choice:16,32,64
  recpie tune --space-file space.yaml -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			if c.Run == config.Default().Run {
				c.Run = "runs/tune"
			}
			if f.budget > 0 && !cmd.Flags().Changed("trials") {
				f.trials = 0
			}
			space, err := f.read(c)
			if err != nil {
				return err
			}
			show := progress.New(cmd.ErrOrStderr())
			defer show.Close()
			res, err := search(cmd.Context(), c, space, f, show)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), res, func(w io.Writer) {
				fmt.Fprintf(w, "\n%spage: %s\nsettings: %s\n", res.Text(), filepath.Join(c.Run, "tune.html"), filepath.Join(c.Run, "best.yaml"))
			})
		},
	}
	a.settingFlag(cmd, "explanations", "explanations", "")
	a.settingFlag(cmd, "loss", "recommender.loss", "")
	fl := cmd.Flags()
	fl.StringArrayVar(&f.space, "space", nil, "a setting and its range, as recommender.dropout=0..0.5 (repeatable)")
	fl.StringVar(&f.spaceFile, "space-file", "", "YAML file with lines like recommender.dropout: 0..0.5")
	fl.IntVar(&f.trials, "trials", 20, "trials, with that of the settings as given")
	fl.DurationVar(&f.budget, "budget", 0, "wall-clock time of search, as 30m, instead of a number of trials or beside it")
	fl.IntVar(&f.parallel, "parallel", runtime.NumCPU(), "fits at a time, on one core each")
	fl.IntVar(&f.seeds, "fit-seeds", 1, "fits per trial")
	fl.BoolVar(&f.halving, "halving", false, "successive halving: all trials with a ninth of the epochs, the best third with a third, the best ninth with all")
	return cmd
}

// read makes the space of the flags.
func (f *tuneFlags) read(c *config.Config) (tune.Space, error) {
	switch {
	case f.trials < 0 || f.budget < 0 || f.trials == 0 && f.budget == 0:
		return nil, &usageError{fmt.Errorf("--trials or --budget must be above 0")}
	case f.halving && f.trials == 0:
		return nil, &usageError{fmt.Errorf("--halving needs --trials")}
	case f.parallel < 1 || f.seeds < 1:
		return nil, &usageError{fmt.Errorf("--parallel and --fit-seeds must be at least 1")}
	}
	var entries []tune.Entry
	if f.spaceFile != "" {
		var err error
		if entries, err = tune.ReadSpace(f.spaceFile); err != nil {
			return nil, &usageError{err}
		}
	}
	list := f.space
	if len(list) == 0 && f.spaceFile == "" {
		list = networkSpace
	}
	for _, s := range list {
		name, text, ok := strings.Cut(s, "=")
		if !ok {
			return nil, &usageError{fmt.Errorf("--space takes a setting and its range, as recommender.dropout=0..0.5, not %q", s)}
		}
		entries = append(entries, tune.Entry{Place: "--space", Name: name, Text: text})
	}
	space, err := tune.MakeSpace(entries, searchable(c))
	if err != nil {
		return nil, &usageError{err}
	}
	return space, nil
}

// searched is a model whose settings are searched. Each kind of model makes its own; the search, its budget and its report are the same for all.
type searched struct {
	name      string // for tables
	own       tune.Values
	objective tune.Objective
	epochs    int                               // most epochs of a fit, 0: successive halving does not fit it
	settings  func(tune.Values) ([]byte, error) // a settings file for 'recpie train' with these values
}

// search searches in the run directory and writes what was found there.
func search(ctx context.Context, c *config.Config, space tune.Space, f tuneFlags, show *progress.Reporter) (*tune.Result, error) {
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
	w, err := prepareBlind(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(w.Split.Val) == 0 {
		return nil, fault.Newf(fault.Fatal, "tune", "%s has no validation records", c.Data.Path)
	}
	m, err := searchedNetwork(ctx, c, w, space)
	if err != nil {
		return nil, err
	}
	s := tune.Search{Model: m.name, Space: space, Start: m.own, Objective: m.objective, Trials: f.trials, Budget: f.budget, Parallel: f.parallel,
		Seed: c.Seed, Finalists: finalists, Epochs: m.epochs, Halving: f.halving}
	for i := range f.seeds {
		s.Seeds = append(s.Seeds, c.Seed+int64(i))
	}
	for i := range confirmSeeds {
		s.ConfirmSeeds = append(s.ConfirmSeeds, c.Seed+int64(f.seeds+i))
	}
	if err := pinSearch(dir, w, &s); err != nil {
		return nil, err
	}
	show.Printf("%s: %s, %d training and %d validation records; %d fits at a time", w.Data.Name, w.Sample(), len(w.Split.Train), len(w.Split.Val), f.parallel)
	s.Done = func(r tune.Record) { show.Printf("%s", told(r)) }
	res, err := s.Run(ctx, dir.Path())
	if err != nil {
		return nil, err
	}
	res.Data, res.SplitDigest = w.Data.Name, w.Split.Digest
	if err := res.Write(dir.Path()); err != nil {
		return nil, err
	}
	text, err := m.settings(res.Best.Values)
	if err != nil {
		return nil, err
	}
	return res, durable.WriteFile(dir.Path("best.yaml"), text, 0o644)
}

// told is a finished fit in words.
func told(r tune.Record) string {
	what := fmt.Sprintf("trial %d, seed %d", r.Trial, r.Seed)
	if r.Confirms {
		what += ", confirmation"
	}
	if r.AtMost > 0 {
		what += fmt.Sprintf(", %d epochs at most", r.AtMost)
	}
	if r.Error != "" {
		return what + ": failed: " + r.Error
	}
	return fmt.Sprintf("%s: validation RMSE %.4f (%.1f s)", what, r.RMSE, r.Seconds)
}

// pinSearch holds the run directory to one search: what may change from sitting to sitting are budget, workers and stages.
func pinSearch(dir *orchestrator.RunDir, w *orchestrator.Workspace, s *tune.Search) error {
	pin := struct {
		Data  string            `json:"data"` // digest of the training and validation records
		Seed  int64             `json:"seed"`
		Seeds []int64           `json:"seeds"`
		Space map[string]string `json:"space"`
		Own   tune.Values       `json:"own"`
	}{w.Split.FinalView(w.Data).Digest(), s.Seed, s.Seeds, map[string]string{}, s.Start}
	for _, p := range s.Space {
		pin.Space[p.Name] = p.Range.String()
	}
	text, err := json.MarshalIndent(pin, "", "  ")
	if err != nil {
		return fault.New(fault.Fatal, "tune", err)
	}
	return dir.Pin("search.json", append(text, '\n'))
}
