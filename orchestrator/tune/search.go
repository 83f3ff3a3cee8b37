package tune

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"recpie/internal/fault"
)

// Trial is what an Objective is to measure: one fit.
type Trial struct {
	Index  int    // 0 is the model's own settings
	Values Values // of the space's settings
	Seed   int64  // of the fit
	AtMost int    // epochs, 0: as the settings say
}

// Outcome is what it measured.
type Outcome struct {
	RMSE   float64 // on validation records
	Epochs int     // chosen on validation; 0 when the model has none
}

// Objective fits a model with the trial's values and measures it on validation records. It must give the same outcome for the same trial,
// may be called by several goroutines, and sees no outcome of a test record. An error speaks of these values: it is recorded and the
// search goes on.
type Objective func(ctx context.Context, t Trial) (Outcome, error)

// Search says what is searched and with which budget. Models are compared fairly when all but the first four fields are equal.
type Search struct {
	Model     string // for tables
	Space     Space
	Start     Values // the model's own values of the space's settings: trial 0
	Objective Objective

	Trials       int           // with trial 0; 0: as many as the budget lets
	Budget       time.Duration // of search over all sittings, without the confirmation; 0 sets no limit
	Parallel     int           // fits at a time
	Seed         int64         // of the draws
	Seeds        []int64       // of the fits of a trial, whose mean counts
	Finalists    int           // trials that are measured again, beside trial 0
	ConfirmSeeds []int64       // of the fits that decide between them
	Epochs       int           // with Halving: most epochs of a fit
	Halving      bool          // successive halving: all trials with a ninth of the epochs, a third of them with a third, a ninth with all

	Done func(Record) // told of every finished measurement, optional
}

// third is what successive halving keeps from stage to stage.
const third = 3

func (s *Search) check() error {
	bad := ""
	switch {
	case len(s.Space) == 0:
		bad = "the space is empty"
	case s.Trials < 0 || s.Budget < 0 || s.Trials == 0 && s.Budget == 0:
		bad = "neither a number of trials nor a budget of time is given"
	case s.Halving && (s.Trials == 0 || s.Epochs < 1):
		bad = "successive halving needs a number of trials and the most epochs of a fit"
	case s.Parallel < 1 || len(s.Seeds) == 0 || s.Finalists < 1 || len(s.ConfirmSeeds) == 0:
		bad = "fits at a time, seeds, finalists and their seeds must be at least one"
	}
	for _, p := range s.Space {
		if s.Start[p.Name] == "" {
			bad = "the model's own value of " + p.Name + " is not known"
		}
	}
	if bad == "" {
		return nil
	}
	return fault.Newf(fault.Fatal, "tune", "%s", bad)
}

// Run searches in the run directory dir, or continues a search there, and returns what was found. The caller holds the directory's lock.
func (s Search) Run(ctx context.Context, dir string) (*Result, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	j, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	defer j.file.Close()
	r := &run{Search: s, journal: j, before: j.elapsed(), began: time.Now()}
	last, err := r.search(ctx)
	if err != nil {
		return nil, err
	}
	finalists, err := r.finalists(last)
	if err != nil {
		return nil, err
	}
	if err := r.measureAll(ctx, ctx, fits(finalists, s.ConfirmSeeds, 0), true); err != nil {
		return nil, err
	}
	return r.result(finalists)
}

type run struct {
	Search
	journal *journal
	before  float64 // seconds of search of earlier sittings
	began   time.Time
}

func (r *run) elapsed() float64 { return r.before + time.Since(r.began).Seconds() }

// search measures the trials, stage after stage, and returns the epochs that the last stage was cut at.
func (r *run) search(ctx context.Context) (atMost int, err error) {
	limited := ctx
	if r.Budget > 0 {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeoutCause(ctx, r.Budget-time.Duration(r.before*float64(time.Second)), errBudget)
		defer cancel()
	}
	stages := r.stages()
	var trials []int
	for i := range r.Trials {
		trials = append(trials, i)
	}
	for k, atMost := range stages {
		if k > 0 {
			trials = r.best(trials, stages[k-1], (r.Trials+pow(third, k)-1)/pow(third, k))
		}
		if r.Trials == 0 {
			err = r.measureUntil(ctx, limited)
		} else {
			err = r.measureAll(ctx, limited, fits(trials, r.Seeds, atMost), false)
		}
		if err != nil {
			return 0, err
		}
		for _, t := range trials {
			if !r.measured(t, atMost, false).whole { // the budget ended in this stage: the one before is whole
				return stages[max(k-1, 0)], nil
			}
		}
	}
	return stages[len(stages)-1], nil
}

// fits lists what is to be measured, trial after trial: when a budget ends, few are left half measured.
func fits(trials []int, seeds []int64, atMost int) (all []Trial) {
	for _, i := range trials {
		for _, seed := range seeds {
			all = append(all, Trial{Index: i, Seed: seed, AtMost: atMost})
		}
	}
	return all
}

// stages are the epochs that fits are cut at, one stage after the other.
func (r *run) stages() []int {
	if r.Halving {
		return stagesOf(r.Epochs)
	}
	return []int{0}
}

// stagesOf returns the epochs that the stages of successive halving are cut at; the last one is not cut.
func stagesOf(epochs int) (out []int) {
	for _, part := range []int{third * third, third} {
		if n := (epochs + part - 1) / part; n < epochs && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return append(out, 0)
}

func pow(b, e int) int {
	p := 1
	for range e {
		p *= b
	}
	return p
}

var errBudget = errors.New("the budget is used up")

// measureAll measures the trials that are not recorded yet. Those that the end of limited stops are left out; the end of ctx is an error.
// Trial 0 and confirmations know no budget: without them nothing could be said.
func (r *run) measureAll(ctx, limited context.Context, trials []Trial, confirms bool) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(r.Parallel)
	for _, t := range trials {
		if gctx.Err() != nil || limited.Err() != nil && t.Index > 0 {
			break
		}
		if r.journal.find(key{t.Index, t.AtMost, confirms, t.Seed}) != nil {
			continue
		}
		g.Go(func() error { return r.measure(gctx, limited, t, confirms) })
	}
	return cmp.Or(g.Wait(), context.Cause(ctx))
}

// measureUntil measures trial after trial, each with all seeds, until limited ends.
func (r *run) measureUntil(ctx, limited context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	next := 0
	for range r.Parallel {
		g.Go(func() error {
			for {
				mu.Lock()
				t := Trial{Index: next / len(r.Seeds), Seed: r.Seeds[next%len(r.Seeds)]}
				next++
				mu.Unlock()
				if gctx.Err() != nil || limited.Err() != nil && t.Index > 0 {
					return nil
				}
				if r.journal.find(key{trial: t.Index, seed: t.Seed}) != nil {
					continue
				}
				if err := r.measure(gctx, limited, t, false); err != nil {
					return err
				}
			}
		})
	}
	return cmp.Or(g.Wait(), context.Cause(ctx))
}

// measure has one fit measured and records what came of it, unless it was stopped.
func (r *run) measure(ctx, limited context.Context, t Trial, confirms bool) error {
	t.Values = r.values(t.Index)
	if t.Index > 0 && !confirms { // the budget ends what is running
		both, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stop := context.AfterFunc(limited, func() { cancel(context.Cause(limited)) })
		defer stop()
		ctx = both
	}
	if ctx.Err() != nil { // while it waited for a worker
		return nil
	}
	began := time.Now()
	out, err := r.Objective(ctx, t)
	if err != nil && ctx.Err() != nil {
		return nil
	}
	rec := Record{Trial: t.Index, Seed: t.Seed, Confirms: confirms, AtMost: t.AtMost, Values: t.Values, RMSE: out.RMSE, Epochs: out.Epochs,
		Seconds: round(time.Since(began).Seconds()), At: round(r.elapsed())}
	if err == nil && (math.IsNaN(out.RMSE) || math.IsInf(out.RMSE, 0) || out.RMSE < 0) {
		err = errors.New("the validation RMSE is not finite")
	}
	if err != nil {
		rec.RMSE, rec.Epochs, rec.Error = 0, 0, err.Error()
	}
	if confirms { // it does not use up the budget
		rec.At = 0
	}
	if err := r.journal.add(rec); err != nil {
		return err
	}
	if r.Done != nil {
		r.Done(rec)
	}
	return nil
}

// round keeps milliseconds.
func round(seconds float64) float64 { return math.Round(seconds*1000) / 1000 }

func (r *run) values(trial int) Values {
	if trial == 0 {
		return r.Start
	}
	return r.Space.Draw(r.Seed, trial)
}
