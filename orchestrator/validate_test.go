package orchestrator

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"recpie/internal/dataset"
	"recpie/orchestrator/tune"
	"recpie/prompts"
	"recpie/recommender"
)

// blindly prepares a data set for a search.
func blindly(t *testing.T, ds *dataset.Dataset, sample int) *Workspace {
	t.Helper()
	w, err := PrepareData(context.Background(), ds, nil, DataSettings{Seed: 2, Prompts: prompts.DefaultSettings(), Blind: true, SamplePairs: sample})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func small(n int) recommender.Settings {
	s := recommender.DefaultSettings(n)
	s.Dim, s.MaxEpochs, s.LR = 8, 4, .01
	return s
}

// A search on blind data measures what one measures that could have seen the test outcomes, bit for bit, whatever these are.
func TestTrialsDoNotKnowTestOutcomes(t *testing.T) {
	for name, world := range worlds {
		for _, sample := range []int{0, 60} {
			t.Run(fmt.Sprint(name, ", ", sample), func(t *testing.T) {
				ds := world(t)
				open, err := PrepareData(t.Context(), ds, nil, DataSettings{Seed: 2, Prompts: prompts.DefaultSettings(), SamplePairs: sample})
				if err != nil {
					t.Fatal(err)
				}
				s := small(len(open.Split.Train))
				both := func(w *Workspace) (rmse [2]float64) {
					for i, seed := range []int64{1, 2} {
						var err error
						if rmse[i], _, err = w.Validate(t.Context(), s, seed, nil); err != nil {
							t.Fatal(err)
						}
					}
					return rmse
				}
				want := both(open)
				if want[0] == want[1] {
					t.Fatal(want)
				}
				for seed := range int64(3) {
					other := ds.PermuteOutcomes(open.Split.Whole().Test, seed)
					if slices.Equal(ds.Labels(open.Split.Whole().Test), other.Labels(open.Split.Whole().Test)) {
						t.Fatal("nothing was permuted")
					}
					w := blindly(t, other, sample)
					if got := both(w); got != want {
						t.Errorf("seed %d: %v, want %v", seed, got, want)
					}
					if w.Final.View != nil || len(w.Split.Test) != 0 || w.Split.Digest != open.Split.Digest {
						t.Error("a blind workspace has a final side or test records")
					}
				}
				// It does see what it may: other validation outcomes are another error.
				w := blindly(t, ds.PermuteOutcomes(open.Split.Val, 1), sample)
				if got := both(w); got == want {
					t.Errorf("validation outcomes are not read: %v", got)
				}
			})
		}
	}
}

// The files of whole searches are equal bit for bit, times aside, when test outcomes are permuted.
func TestSearchesDoNotKnowTestOutcomes(t *testing.T) {
	ds := restaurants(t)
	split := workspace(t, ds).Split
	find := func(ds *dataset.Dataset) (out []tune.Row) {
		w := blindly(t, ds, 0)
		s := tune.Search{Model: "network", Space: tune.Space{{Name: "dropout", Range: tune.Range{Low: 0, High: .5}}}, Start: tune.Values{"dropout": "0.3"},
			Trials: 5, Parallel: 2, Seed: 1, Seeds: []int64{1}, Finalists: 2, ConfirmSeeds: []int64{2, 3},
			Objective: func(ctx context.Context, tr tune.Trial) (o tune.Outcome, err error) {
				set := small(len(w.Split.Train))
				if _, err := fmt.Sscan(tr.Values["dropout"], &set.Dropout); err != nil {
					return o, err
				}
				o.RMSE, o.Epochs, err = w.Validate(ctx, set, tr.Seed, nil)
				return o, err
			}}
		res, err := s.Run(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range res.Trials {
			r.Seconds, r.At = 0, 0
			out = append(out, r)
		}
		return out
	}
	a, b := find(ds), find(ds.PermuteOutcomes(split.Test, 5))
	if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	if a[0].RMSE == a[1].RMSE {
		t.Error("the trials do not differ")
	}
}

// Heuristic sentences of a blind workspace are those of an open one, and none is written for a test record.
func TestHeuristicOfBlindData(t *testing.T) {
	enc := openMiniLM(t)
	open := workspace(t, restaurants(t))
	w := blindly(t, restaurants(t), 0)
	expl, err := w.Heuristic(t.Context(), enc)
	if err != nil {
		t.Fatal(err)
	}
	if expl.Vectors.Len() == 0 {
		t.Fatal("no sentences")
	}
	for _, r := range open.Split.Test {
		if expl.Pos[r] >= 0 || expl.Neg[r] >= 0 {
			t.Fatalf("test record %d has an explanation", r)
		}
	}
	for _, r := range slices.Concat(w.Split.Train, w.Split.Val) {
		for _, pol := range prompts.Polarities {
			if got, want := w.SideOf(r).Renderer.Heuristic(r, pol), open.SideOf(r).Renderer.Heuristic(r, pol); got != want {
				t.Fatalf("record %d: %q, want %q", r, got, want)
			}
		}
	}
	if _, _, err := w.Validate(t.Context(), small(len(w.Split.Train)), 1, expl); err != nil {
		t.Error(err)
	}
}
