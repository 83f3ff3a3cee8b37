package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"slices"
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
	"recpie/recommender"
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
nothing else, so that the order in which they finish changes nothing. Each finished trial is kept in trials.jsonl; the same command continues
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
			res, err := searchNetwork(cmd.Context(), c, space, f, show)
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
	fl.IntVar(&f.parallel, "parallel", runtime.NumCPU(), "trials at a time, on one core each")
	fl.IntVar(&f.seeds, "fit-seeds", 1, "fits per trial")
	fl.BoolVar(&f.halving, "halving", false, "successive halving: all trials with a ninth of the epochs, the best third with a third, the best ninth with all")
	return cmd
}

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

// searchNetwork searches in the run directory and writes what was found there.
func searchNetwork(ctx context.Context, c *config.Config, space tune.Space, f tuneFlags, show *progress.Reporter) (*tune.Result, error) {
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
	own := *c // with what the size of the data chooses spelt out
	s := networkSettings(c, len(w.Split.Train))
	own.Recommender.LR, own.Recommender.Batch = s.LR, s.Batch
	search := tune.Search{Model: "network", Space: space, Start: tune.Values{}, Trials: f.trials, Budget: f.budget, Parallel: f.parallel,
		Seed: c.Seed, Finalists: finalists, Epochs: s.MaxEpochs, Halving: f.halving}
	for _, p := range space {
		search.Start[p.Name] = own.Text(p.Name)
	}
	for i := range f.seeds {
		search.Seeds = append(search.Seeds, c.Seed+int64(i))
	}
	for i := range confirmSeeds {
		search.ConfirmSeeds = append(search.ConfirmSeeds, c.Seed+int64(f.seeds+i))
	}
	if err := pinSearch(dir, w, &search); err != nil {
		return nil, err
	}
	var expl *recommender.Explanations
	if c.Explanations != "off" {
		search.Model = "network with heuristic sentences"
		if expl, err = heuristicVectors(ctx, c, w); err != nil {
			return nil, err
		}
	}
	search.Objective = func(ctx context.Context, t tune.Trial) (tune.Outcome, error) {
		tc, err := own.With(t.Values)
		if err != nil {
			return tune.Outcome{}, err
		}
		s := networkSettings(tc, len(w.Split.Train))
		if t.AtMost > 0 {
			s.MaxEpochs = min(s.MaxEpochs, t.AtMost)
		}
		var out tune.Outcome
		out.RMSE, out.Epochs, err = w.Validate(ctx, s, t.Seeds, expl)
		return out, err
	}
	show.Printf("%s: %s, %d training and %d validation records; %d trials at a time", w.Data.Name, w.Sample(), len(w.Split.Train), len(w.Split.Val), f.parallel)
	search.Done = func(r tune.Record) { show.Printf("%s", told(r)) }
	res, err := search.Run(ctx, dir.Path())
	if err != nil {
		return nil, err
	}
	res.Data, res.SplitDigest = w.Data.Name, w.Split.Digest
	if err := res.Write(dir.Path()); err != nil {
		return nil, err
	}
	best, err := own.With(res.Best.Values)
	if err != nil {
		return nil, err
	}
	best.Run = filepath.Join(c.Run, "train")
	text, err := best.YAML()
	if err != nil {
		return nil, err
	}
	return res, durable.WriteFile(dir.Path("best.yaml"), text, 0o644)
}

// told is a finished measurement in words.
func told(r tune.Record) string {
	what := fmt.Sprintf("trial %d", r.Trial)
	if r.Confirms {
		what += ", confirmation"
	}
	if r.AtMost > 0 {
		what += fmt.Sprintf(", %d epochs at most", r.AtMost)
	}
	if r.Error != "" {
		return what + ": failed: " + r.Error
	}
	return fmt.Sprintf("%s: validation RMSE %.4f (%.1f s)", what, mean(r.RMSE), r.Seconds)
}

func mean(xs []float64) (m float64) {
	for _, x := range xs {
		m += x / float64(len(xs))
	}
	return m
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

// heuristicVectors embeds the heuristic sentences of the training and validation records.
func heuristicVectors(ctx context.Context, c *config.Config, w *orchestrator.Workspace) (*recommender.Explanations, error) {
	enc, err := openEncoder(ctx, c)
	if err != nil {
		return nil, err
	}
	defer enc.Close()
	return w.Heuristic(ctx, enc)
}
