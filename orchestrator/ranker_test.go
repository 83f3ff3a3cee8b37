package orchestrator

import (
	"context"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"recpie/internal/dataset"
	"recpie/internal/evaluate"
	"recpie/internal/evaluate/ranking"
	"recpie/prompts"
	"recpie/recommender"
)

// byHash embeds a text as eight numbers drawn by its hash.
type byHash struct{}

func (byHash) Embed(_ context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, s := range texts {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s))
		rng := rand.New(rand.NewPCG(h.Sum64(), 1))
		for range 8 {
			out[i] = append(out[i], float32(rng.NormFloat64()))
		}
	}
	return out, nil
}

func ranker(t *testing.T, w *Workspace, explained int) *Ranker {
	t.Helper()
	r, err := NewRanker(t.Context(), w, filepath.Join(t.TempDir(), "candidates.jsonl"),
		RankSettings{Settings: ranking.Settings{Users: 8, Positives: 2, Negatives: 6, Seed: 3}, Cutoffs: []int{1, 3}, Explained: explained})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The items of a list are the user's at the moment of the liked record, and scores turn into the ranks of that record, draw by draw.
func TestRankerReadsRanksOffScores(t *testing.T) {
	w := workspace(t, restaurants(t))
	r := ranker(t, w, 0)
	ds := r.data.View.Dataset()
	scores := make([]float32, len(r.recs))
	var want ranks
	for l, list := range r.Lists.All {
		liked := w.Data.Records[list.Record]
		for k := r.starts[l]; k < r.starts[l+1]; k++ {
			got := ds.Records[r.recs[k]]
			if got.User != liked.User || got.Time != liked.Time || got.HasTime != liked.HasTime || int(r.recs[k]) < w.Data.Rated() {
				t.Fatalf("list %d holds %+v beside %+v", l, got, liked)
			}
		}
		if ds.Records[r.recs[r.starts[l]]].Item != liked.Item {
			t.Fatalf("list %d does not begin with the liked item", l)
		}
		place := l % 5 // so many of each draw are given higher scores
		scores[r.starts[l]] = .5
		k := r.starts[l] + 1
		for d, items := range list.Negatives {
			for j := range items {
				if j < place {
					scores[k] = .9
				}
				k++
			}
			want[d] = append(want[d], int32(min(place, len(items))+1))
		}
	}
	if got := r.order(nil, scores); !reflect.DeepEqual(got, want) {
		t.Errorf("ranks %v, want %v", got, want)
	}
}

// Test outcomes reach neither the features nor the sentences of candidates.
func TestCandidatesDoNotKnowTestOutcomes(t *testing.T) {
	for name, world := range worlds {
		t.Run(name, func(t *testing.T) {
			a := workspace(t, world(t))
			b := workspace(t, a.Data.PermuteOutcomes(a.Split.Test, 7))
			var cs []dataset.Candidate
			for _, r := range a.Split.Test {
				for i := range int32(10) {
					rec := a.Data.Records[r]
					cs = append(cs, dataset.Candidate{Pair: dataset.Pair{User: rec.User, Item: i}, Time: rec.Time, HasTime: rec.HasTime})
				}
			}
			var sides [2]Side
			for k, w := range []*Workspace{a, b} {
				net, first, err := w.Final.Net.With(t.Context(), cs)
				if err != nil {
					t.Fatal(err)
				}
				sides[k] = Side{View: net.View, Net: net}
				if err := w.describe(t.Context(), &sides[k]); err != nil {
					t.Fatal(err)
				}
				if int(first) != len(w.Data.Records) {
					t.Fatalf("candidates begin at %d", first)
				}
			}
			for k := range cs {
				rec := int32(len(a.Data.Records) + k)
				if !slices.Equal(seen(sides[0].Net, rec), seen(sides[1].Net, rec)) {
					t.Fatalf("features of candidate %d have changed", k)
				}
				for _, pol := range prompts.Polarities {
					if sides[0].Renderer.Heuristic(rec, pol) != sides[1].Renderer.Heuristic(rec, pol) {
						t.Fatalf("sentences of candidate %d have changed", k)
					}
				}
			}
		})
	}
}

// A run with fixed sentences reports ranks of both networks on the same lists, cohorts that hold every record, and calibration; continued, it
// fits nothing and says the same.
func TestHeuristicRunIsEvaluated(t *testing.T) {
	w := workspace(t, restaurants(t))
	dir := t.TempDir()
	s := recommender.DefaultSettings(len(w.Split.Train))
	s.MaxEpochs, s.Patience, s.Dim = 2, 1, 8
	run := func() (*evaluate.Report, int) {
		fits := 0
		lab := &Lab{Work: w, Settings: s, Seeds: []int64{1, 2}, Dir: dir, Ranker: ranker(t, w, 5), Progress: func(string, int) { fits++ }}
		r, err := TrainHeuristic(t.Context(), lab, byHash{})
		if err != nil {
			t.Fatal(err)
		}
		return r, fits
	}
	r, fits := run()
	if fits != 12 {
		t.Errorf("%d fits, want 12", fits)
	}
	again, fits := run()
	again.Timings, r.Timings = nil, nil
	if fits != 0 || !reflect.DeepEqual(r, again) {
		t.Errorf("continued after %d fits the report differs", fits)
	}
	for _, d := range r.Ranking.Draws {
		var names []string
		for _, sys := range d.Systems {
			names = append(names, sys.Name)
			n := r.Ranking.Lists
			if sys.Name == "heuristic" {
				n = 5
			}
			if sys.Lists != n || len(sys.At) != 2 || sys.At[1].Recall < sys.At[0].Recall {
				t.Errorf("%s, %s: %+v", d.Name, sys.Name, sys)
			}
			if (sys.At[0].Difference == nil) != (sys.Name == "no_explanations") {
				t.Errorf("%s, %s: a difference to itself, or none to the other", d.Name, sys.Name)
			}
		}
		if !slices.Equal(names, []string{"popularity", "biases", "heuristic", "no_explanations"}) {
			t.Errorf("%s ranks %v", d.Name, names)
		}
	}
	records := map[string]int{}
	for _, c := range r.Cohorts {
		records[c.By] += c.N
		if len(c.Systems) != 7 { // the biases and six networks
			t.Errorf("%s %s: %d systems", c.By, c.Name, len(c.Systems))
		}
	}
	for _, by := range []string{"user_records", "item_records", "item_popularity", "history"} {
		if records[by] != len(w.Split.Test) {
			t.Errorf("cohorts by %s hold %d of %d records", by, records[by], len(w.Split.Test))
		}
	}
	if len(r.Calibration) != 2 || r.Calibration[0].System != "no_explanations" || r.Calibration[1].System != "heuristic" {
		t.Fatalf("calibration of %+v", r.Calibration)
	}
	for _, c := range r.Calibration {
		if c.N != len(w.Split.Test) || c.Spread == nil || c.Spread.Factor <= 0 || c.RawSpread.Factor != 1 {
			t.Errorf("%+v", c)
		}
	}
	p := r.Paired["heuristic against no_explanations"]
	if p.Bootstrap == nil || p.Bootstrap.Low > p.RMSE || p.Bootstrap.High < p.RMSE || p.Seeds == nil || p.Seeds.DF != 1 || p.Wilcoxon == nil {
		t.Errorf("%+v", p)
	}
}

// The factor comes from validation records: test labels do not move it.
func TestRecalibrationIsChosenOnValidation(t *testing.T) {
	w := workspace(t, restaurants(t))
	s := recommender.DefaultSettings(len(w.Split.Train))
	s.MaxEpochs, s.Patience, s.Dim = 2, 1, 8
	lab := &Lab{Work: w, Settings: s, Seeds: []int64{1, 2}}
	res, err := lab.Judge(t.Context(), "no_explanations", nil)
	if err != nil {
		t.Fatal(err)
	}
	truth := w.Data.Labels(w.Split.Test)
	a, err := lab.calibration(res, truth)
	if err != nil {
		t.Fatal(err)
	}
	for i := range truth {
		truth[i] = 1 - truth[i]
	}
	b, err := lab.calibration(res, truth)
	if err != nil || a.Spread.Factor != b.Spread.Factor || a.Spread.CRPS == b.Spread.CRPS {
		t.Errorf("factors %v and %v, %v", a.Spread.Factor, b.Spread.Factor, err)
	}
	near, p := 0.0, pooled(res.ValY, res.ValSD)
	for k, y := range w.Data.Labels(w.Split.Val) {
		z := float64(p.Y[k]-y) / (float64(p.SD[k]) * a.Spread.Factor)
		near += z * z / float64(len(w.Split.Val))
	}
	if near < .999 || near > 1.001 {
		t.Errorf("on validation errors are %.4f of the deviations, squared", near)
	}
	lab.Settings.Loss = recommender.BCE
	click, err := lab.Judge(t.Context(), "no_explanations", nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := lab.calibration(click, w.Data.Labels(w.Split.Test))
	if err != nil || c.Brier == nil || c.Spread != nil || *c.Brier < 0 || *c.Brier > 1 {
		t.Errorf("clicks: %+v, %v", c, err)
	}
}

func TestLostListsAreRefused(t *testing.T) {
	w := workspace(t, restaurants(t))
	path := filepath.Join(t.TempDir(), "candidates.jsonl")
	if err := os.WriteFile(path, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRanker(t.Context(), w, path, RankSettings{Settings: ranking.Settings{Negatives: 3}, Cutoffs: []int{5}}); err == nil {
		t.Error("broken lists were taken")
	}
}
