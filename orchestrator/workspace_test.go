package orchestrator

import (
	"slices"
	"testing"

	"recpie/internal/dataset"
	"recpie/prompts"
	"recpie/recommender"
)

// The protocol's properties, on what a run really shows: prompts and features of both sides.

var worlds = map[string]func(*testing.T) *dataset.Dataset{"terms from metadata": restaurants, "terms from reviews": reviewed}

func rendered(t *testing.T, s *Side, rec int32) [2]string {
	t.Helper()
	var out [2]string
	for _, pol := range prompts.Polarities {
		p, err := s.Renderer.Render(rec, pol)
		if err != nil {
			t.Fatal(err)
		}
		out[pol] = p.Text + "\n" + s.Renderer.Heuristic(rec, pol)
	}
	return out
}

// seen is everything a network reads of a record.
func seen(d *recommender.Data, rec int32) []float32 {
	return append(slices.Clone(d.Features.Row(rec)), d.Bias.Base[rec])
}

func TestTestOutcomesChangeNothingShown(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			a := workspace(t, make(t))
			b := workspace(t, a.Data.PermuteOutcomes(a.Split.Test, 7))
			if slices.Equal(a.Data.Labels(a.Split.Test), b.Data.Labels(b.Split.Test)) {
				t.Fatal("nothing was permuted")
			}
			if a.Regularisers != b.Regularisers || a.Split.Digest != b.Split.Digest {
				t.Error("regularisers or split have changed")
			}
			for k, pair := range [][2]*Side{{&a.Train, &b.Train}, {&a.Final, &b.Final}} {
				if pair[0].Renderer.Digest() != pair[1].Renderer.Digest() || pair[0].View.Digest() != pair[1].View.Digest() {
					t.Errorf("side %d: digests have changed", k)
				}
				for rec := range int32(len(a.Data.Records)) {
					if rendered(t, pair[0], rec) != rendered(t, pair[1], rec) {
						t.Fatalf("side %d: the prompt of record %d has changed", k, rec)
					}
					if !slices.Equal(seen(pair[0].Net, rec), seen(pair[1].Net, rec)) {
						t.Fatalf("side %d: the features of record %d have changed", k, rec)
					}
				}
			}
		})
	}
}

// Validation outcomes are seen by the final side alone.
func TestValidationOutcomesDoNotReachTheTrainSide(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			a := workspace(t, make(t))
			b := workspace(t, a.Data.PermuteOutcomes(a.Split.Val, 7))
			moved := false
			for rec := range int32(len(a.Data.Records)) {
				if rendered(t, &a.Train, rec) != rendered(t, &b.Train, rec) {
					t.Fatalf("the prompt of record %d has changed", rec)
				}
				if !slices.Equal(a.Train.Net.Features.Row(rec), b.Train.Net.Features.Row(rec)) {
					t.Fatalf("the features of record %d have changed", rec)
				}
				moved = moved || rendered(t, &a.Final, rec) != rendered(t, &b.Final, rec)
			}
			if !moved {
				t.Error("the final side does not see validation outcomes either: the test looks at nothing")
			}
		})
	}
}

func TestOwnOutcomeDoesNotReachOwnPrompt(t *testing.T) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			a := workspace(t, make(t))
			for i := 0; i < len(a.Split.Train); i += 17 {
				rec := a.Split.Train[i]
				y, _ := a.Train.View.Y(rec)
				rating := 5.
				if y > .5 {
					rating = 1
				}
				ds, err := a.Data.WithRatings([]int32{rec}, []float64{rating})
				if err == nil && a.Data.Spec.Review != "" {
					ds, err = ds.WithColumn("review", []int32{rec}, []string{"The basement was dreadful, and so was the basement's basement."})
				}
				if err != nil {
					t.Fatal(err)
				}
				b := workspace(t, ds)
				for k, pair := range [][2]*Side{{&a.Train, &b.Train}, {&a.Final, &b.Final}} {
					if x, y := rendered(t, pair[0], rec), rendered(t, pair[1], rec); x != y {
						t.Errorf("side %d: record %d's outcome reaches its own prompt:\n%s\n%s", k, rec, x, y)
					}
					changed := pair[1].Net
					if a.Regularisers != b.Regularisers {
						// chosen on validation from all records: one number of the run, not of the record
						if changed, err = recommender.NewData(t.Context(), pair[1].View, a.Regularisers, 2); err != nil {
							t.Fatal(err)
						}
					}
					if !slices.Equal(seen(pair[0].Net, rec), seen(changed, rec)) {
						t.Errorf("side %d: record %d's outcome reaches its own features", k, rec)
					}
				}
				if later := a.Data.Records[rec].User == a.Data.Records[rec+1].User; later && rendered(t, &a.Train, rec+1) == rendered(t, &b.Train, rec+1) {
					t.Errorf("record %d's outcome does not reach the next record's prompt: the test looks at nothing", rec)
				}
			}
		})
	}
}

func TestSides(t *testing.T) {
	w := workspace(t, restaurants(t))
	for _, part := range []struct {
		recs []int32
		side *Side
	}{{w.Split.Train, &w.Train}, {w.Split.Val, &w.Train}, {w.Split.Test, &w.Final}} {
		for _, r := range part.recs {
			if w.SideOf(r) != part.side {
				t.Fatalf("record %d is explained from the wrong side", r)
			}
		}
	}
	pairs := w.Pairs()
	if len(pairs) != len(w.Data.Records) || pairs[0] != w.Split.Train[0] || pairs[len(pairs)-1] != w.Split.Test[len(w.Split.Test)-1] {
		t.Errorf("%d pairs of %d records", len(pairs), len(w.Data.Records))
	}
	if w.Sample() != "all users" {
		t.Error(w.Sample())
	}
}

func TestSampleKeepsAllOutcomesVisible(t *testing.T) {
	ds := restaurants(t)
	all := workspace(t, ds)
	some, err := PrepareData(t.Context(), ds, nil, DataSettings{Seed: 2, SamplePairs: 30, Prompts: prompts.DefaultSettings()})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(some.Pairs()); n < 30 || n > 42 {
		t.Fatalf("%d pairs", n)
	}
	if some.Sample() != "sample of 3 users" {
		t.Error(some.Sample())
	}
	for _, r := range some.Pairs() {
		if rendered(t, some.SideOf(r), r) != rendered(t, all.SideOf(r), r) || !slices.Equal(seen(some.SideOf(r).Net, r), seen(all.SideOf(r).Net, r)) {
			t.Fatalf("record %d looks different in a sample", r)
		}
	}
}
