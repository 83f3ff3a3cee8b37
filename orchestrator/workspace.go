package orchestrator

import (
	"context"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/dataset/terms"
	"recpie/internal/fault"
	"recpie/prompts"
	"recpie/recommender"
	"recpie/recommender/bias"
)

// Side is everything computed from one view of the outcomes.
type Side struct {
	View     *dataset.View
	Terms    *terms.Terms
	Renderer *prompts.Renderer
	Items    *Items            // what is known of items beside their own fields; nil: nothing is
	Net      *recommender.Data // biases and features
}

// Workspace is the data of a run. Two sides are kept apart: whatever is chosen on validation sees the training records only (Train);
// the final test run sees training and validation records (Final). Explanations of training and validation records are always
// written from Train, those of test records from Final, so that each is written once and none knows its own outcome.
type Workspace struct {
	Data         *dataset.Dataset
	Report       *dataset.Report
	Split        *dataset.Split
	Regularisers bias.Regularisers
	Train, Final Side

	prompts prompts.Settings
	terms   terms.Source
	seed    int64
	silent  bool // no prompt is asked with
	written bool // a model wrote profiles
}

// DataSettings say which records a run is about and what prompts show of them.
type DataSettings struct {
	Path        string
	SamplePairs int // 0: all users
	MinRecords  int
	TrainSparse bool // records of users with fewer than MinRecords serve for training
	MaxRecords  int  // users with more are not drawn into the sample, 0: no limit
	Seed        int64
	Prompts     prompts.Settings
	Terms       terms.Source // what the terms of prompts are made of
	Quarantine  string       // file for broken rows, "" for none
	TextOnly    bool         // prompts only: the networks' biases and features are left out
	Silent      bool         // no prompt will be asked with: what reviewers say of items is left out of them
	Rehearse    bool         // split the training and validation records once more, in place of the test: see dataset.Split.Inner
	Blind       bool         // without test outcomes, and so without the final side
}

// Prepare reads the data, splits it, and computes for both sides what prompts and networks need.
func Prepare(ctx context.Context, s DataSettings) (*Workspace, error) {
	ds, report, err := dataset.Load(ctx, s.Path, dataset.Options{Quarantine: s.Quarantine})
	if err != nil {
		return nil, err
	}
	return PrepareData(ctx, ds, report, s)
}

// PrepareData is Prepare for a data set in memory.
func PrepareData(ctx context.Context, ds *dataset.Dataset, report *dataset.Report, s DataSettings) (*Workspace, error) {
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{MinRecords: s.MinRecords, TrainSparse: s.TrainSparse})
	if err != nil {
		return nil, err
	}
	if s.Rehearse {
		split = split.Inner(ds)
	}
	w := &Workspace{Data: ds, Report: report, Split: split, prompts: s.Prompts, terms: s.Terms, seed: s.Seed, silent: s.Silent}
	if s.SamplePairs > 0 || s.MaxRecords > 0 {
		w.Split = split.SampleUsers(ds, dataset.Sample{Pairs: s.SamplePairs, MaxRecords: s.MaxRecords, Seed: s.Seed})
		if w.Split.Sample != nil && w.Split.Sample.Users == 0 {
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "data", "no user has at most %d rated records", s.MaxRecords), "raise data.max_records; 0 sets no limit")
		}
	}
	if s.Blind {
		ds, w.Split = w.Split.Blind(ds)
		w.Data, split = ds, w.Split.Whole()
	} else {
		w.Final.View = w.Split.FinalView(ds)
	}
	w.Train.View = w.Split.TrainView(ds)
	// Statistics and their regularisers come from the records of all users; the sample says whose records are explained and judged.
	if !s.TextOnly {
		if w.Regularisers, err = bias.Choose(w.Train.View, split.Val); err != nil {
			return nil, err
		}
	}
	var g errgroup.Group
	for _, side := range w.sides() {
		g.Go(func() error { return w.describe(ctx, side) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if s.TextOnly {
		return w, nil
	}
	for _, side := range w.sides() { // one after the other: each of them uses all cores
		if side.Net, err = recommender.NewData(ctx, side.View, w.Regularisers, s.Seed); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// describe makes what prompts and fixed sentences say of a side's records from what its view shows.
func (w *Workspace) describe(ctx context.Context, side *Side) (err error) {
	ds := side.View.Dataset()
	if err := w.nameTerms(side); err != nil {
		return err
	}
	if !w.silent && !w.prompts.Redact && ds.Spec.Review != "" && slices.ContainsFunc(ds.Items, func(it dataset.Item) bool { return it.Profile == "" }) {
		if side.Items, err = newItems(ctx, side.View, w.seed, true); err != nil { // reviewers' terms stand for the profiles that are missing
			return err
		}
	}
	return w.renderer(side)
}

// nameTerms finds the terms of a side's records.
func (w *Workspace) nameTerms(side *Side) (err error) {
	source := w.terms
	if w.prompts.Redact {
		source = terms.Metadata // reviews stay here
	}
	side.Terms, err = terms.Build(side.View, terms.Options{Source: source, FoldSeed: w.seed, Max: w.prompts.Terms})
	return err
}

// sides are both sides, or the one that a blind workspace has.
func (w *Workspace) sides() []*Side {
	if w.Final.View == nil {
		return []*Side{&w.Train}
	}
	return []*Side{&w.Train, &w.Final}
}

// nameOf is the name of a side in files.
func (w *Workspace) nameOf(side *Side) string {
	if side == &w.Final {
		return "final"
	}
	return "train"
}

// render makes the prompts of both sides anew, of what is known by now.
func (w *Workspace) render() error {
	for _, side := range w.sides() {
		if err := w.renderer(side); err != nil {
			return err
		}
	}
	return nil
}

func (w *Workspace) renderer(side *Side) (err error) {
	s := w.prompts
	if side.Items != nil {
		s.Items = side.Items
	}
	side.Renderer, err = prompts.New(s, side.View, side.Terms)
	return err
}

// SideOf returns the side that explanations of rec are written from: those of test records and of candidates from Final.
func (w *Workspace) SideOf(rec int32) *Side {
	if int(rec) >= w.Data.Rated() {
		return &w.Final
	}
	if _, test := slices.BinarySearch(w.Split.Test, rec); test {
		return &w.Final
	}
	return &w.Train
}

// Pairs lists the records to explain: those of the split, sample or not, in the order train, validation, test.
func (w *Workspace) Pairs() []int32 {
	return slices.Concat(w.Split.Train, w.Split.Val, w.Split.Test)
}

// Sample says in words whose records are judged.
func (w *Workspace) Sample() string {
	if w.Split.Sample == nil {
		return "all users"
	}
	users := map[int32]bool{}
	for _, r := range w.Pairs() {
		users[w.Data.Records[r].User] = true
	}
	return fmt.Sprintf("sample of %d users", len(users))
}
