package terms

import (
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/stat"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

// On hotels both vocabularies from reviews tell something of ratings that they do not know. Which of the two tells more is written down,
// not asked for.
func TestSourcesFromReviews(t *testing.T) {
	for _, name := range []string{"tripadvisor_lara_u3", "amazon_musical_instruments_5"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, _, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := split(t, ds)
			y := ds.Labels(s.Val)
			for _, opts := range []Options{{Source: Reviews}, {Source: Aspects}, {Source: Aspects, Words: 200}} {
				tm := build(t, s.TrainView(ds), opts)
				if tm.Source() != opts.Source || len(tm.Names()) < 20 {
					t.Errorf("%v: %v", tm.Source(), tm.Names())
				}
				var taste, opinion, ya, yb []float64
				for i, rec := range s.Val {
					var ts, os []float64
					for _, c := range tm.For(rec) {
						if x := float64(c.Taste); !math.IsNaN(x) {
							ts = append(ts, x)
						}
						if x := float64(c.Opinion); !math.IsNaN(x) {
							os = append(os, x)
						}
					}
					if len(ts) > 0 {
						taste, ya = append(taste, stat.Mean(ts, nil)), append(ya, float64(y[i]))
					}
					if len(os) > 0 {
						opinion, yb = append(opinion, stat.Mean(os, nil)), append(yb, float64(y[i]))
					}
				}
				c := stat.Correlation(opinion, yb, nil)
				t.Logf("%v, %d terms: correlation with the ratings of validation: opinion %.3f over %d, taste %.3f over %d records", opts.Source, len(tm.Names()), c, len(yb), stat.Correlation(taste, ya, nil), len(ya))
				if name == "tripadvisor_lara_u3" && c < .1 {
					t.Errorf("%v: correlation %.3f", opts.Source, c)
				}
			}
		})
	}
}

func TestSourcesHaveNames(t *testing.T) {
	for _, s := range []Source{Auto, Metadata, Reviews, Aspects} {
		if got, ok := ParseSource(s.String()); !ok || got != s {
			t.Errorf("%v is read as %v", s, got)
		}
		if s.FromReviews() != slices.Contains([]Source{Reviews, Aspects}, s) {
			t.Errorf("%v", s)
		}
	}
	if _, ok := ParseSource("words"); ok || Source(9).String() != "unknown" {
		t.Error("an unknown source has a name")
	}
}
