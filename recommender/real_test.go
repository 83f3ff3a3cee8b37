package recommender

import (
	"math"
	"os"
	"testing"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
	"recpie/recommender/bias"
)

// realSet loads a public set, skipping the test when it is absent.
func realSet(t testing.TB, name string) (*dataset.Dataset, *dataset.Split) {
	t.Helper()
	ds, _, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ds, split
}

// The network alone is no worse than the biases on test records, by one standard error of the paired difference clustered by user.
// It trains on whole sets for minutes: RECPIE_LONG=1 switches it on.
func TestNetworkBeatsBiases(t *testing.T) {
	if os.Getenv("RECPIE_LONG") == "" {
		t.Skip("RECPIE_LONG is not set")
	}
	for _, name := range []string{"ml-100k", "ml-latest-small", "rottentomatoes_critics_rated5", "tripadvisor_lara_u3", "amazon_musical_instruments_5"} {
		t.Run(name, func(t *testing.T) {
			ds, split := realSet(t, name)
			start := time.Now()
			ctx := t.Context()
			train := split.TrainView(ds)
			reg, err := bias.Choose(train, split.Val)
			if err != nil {
				t.Fatal(err)
			}
			data, err := NewData(ctx, train, reg, 1)
			if err != nil {
				t.Fatal(err)
			}
			prepared := time.Since(start)
			set := DefaultSettings(len(split.Train))
			chosen, log, err := Fit(ctx, Input{Data: data, Train: split.Train, Val: split.Val, Settings: set, Seed: 1})
			if err != nil {
				t.Fatal(err)
			}
			chosen.Close()
			for _, e := range log.Epochs {
				t.Logf("epoch %d loss %.5f validation %.5f", e.Epoch, e.Loss, e.ValRMSE)
			}
			final, err := NewData(ctx, split.FinalView(ds), reg, 1)
			if err != nil {
				t.Fatal(err)
			}
			both := append(append([]int32{}, split.Train...), split.Val...)
			m, _, err := Fit(ctx, Input{Data: final, Train: both, Settings: set, Seed: 1, Epochs: log.Best})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			p, err := m.Predict(ctx, split.Test, nil)
			if err != nil {
				t.Fatal(err)
			}
			y := ds.Labels(split.Test)
			base := final.Bias.Predict(ds, split.Test)
			diff, se := pairedDifference(ds, split.Test, y, p.Y, base)
			valBase := rmseOf(data.Bias.Predict(ds, split.Val), ds.Labels(split.Val))
			t.Logf("%s: biases (l_u %v, l_i %v) %.4f/%.4f, network %.4f/%.4f, paired difference of squared errors %+.5f (SE %.5f), preparation %v, all %v",
				name, reg.User, reg.Item, valBase, rmseOf(base, y), log.ValRMSE, rmseOf(p.Y, y), diff, se, prepared.Round(time.Second/10), time.Since(start).Round(time.Second))
			if diff > se {
				t.Error("worse than the biases")
			}
		})
	}
}

func rmseOf(p, y []float32) float64 {
	sum := 0.0
	for k := range p {
		e := float64(p[k] - y[k])
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(p)))
}

// pairedDifference is the mean of (a−y)² − (b−y)² and its standard error over users.
func pairedDifference(ds *dataset.Dataset, recs []int32, y, a, b []float32) (mean, se float64) {
	byUser := make([]float64, len(ds.Users))
	counts := make([]float64, len(ds.Users))
	for k, r := range recs {
		d := float64(a[k]-y[k])*float64(a[k]-y[k]) - float64(b[k]-y[k])*float64(b[k]-y[k])
		mean += d / float64(len(recs))
		byUser[ds.Records[r].User] += d
		counts[ds.Records[r].User]++
	}
	for u := range byUser {
		d := byUser[u] - counts[u]*mean
		se += d * d
	}
	return mean, math.Sqrt(se) / float64(len(recs))
}
