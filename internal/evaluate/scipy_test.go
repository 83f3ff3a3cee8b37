package evaluate

import (
	"encoding/json"
	"os"
	"testing"
)

// scipy is what scripts/reference/evaluate_scipy.py computed.
type scipy struct {
	Seeds []struct {
		A, B     []float64
		T, P     float64
		DF       int
		Mean, SE float64
	}
	SignedRank []struct {
		D    []float64
		N    int
		W, P float64
	} `json:"signed_rank"`
	RankSum []struct {
		A, B     []float64
		Share, P float64
	} `json:"rank_sum"`
	Bootstrap struct {
		User      []int32
		Truth     []float32
		A, B      [][]float32
		Draws     []int
		Resamples int
		Low, High float64
	}
	Calibration struct {
		Pred, Truth, SD                           []float32
		Factor, Slope, Intercept                  float64
		SlopeSE                                   float64 `json:"slope_se"`
		Coverage                                  []float64
		CRPS, NLL, Sharpness, Recalibrated, Brier float64
	}
}

func reference(t *testing.T) (out scipy) {
	t.Helper()
	b, err := os.ReadFile("testdata/scipy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Seeds) == 0 || len(out.SignedRank) == 0 || len(out.RankSum) == 0 {
		t.Fatal("the reference is empty")
	}
	return out
}

func TestTestsAsSciPys(t *testing.T) {
	ref := reference(t)
	for _, c := range ref.Seeds {
		got, err := CompareSeeds(c.A, c.B)
		if err != nil || got.DF != c.DF || got.Seeds != len(c.A) {
			t.Fatalf("%+v, %v", got, err)
		}
		near(t, "t over seeds", got.T, c.T, 1e-9)
		near(t, "p over seeds", got.P, c.P, 1e-9)
		near(t, "mean difference", got.Mean, c.Mean, 1e-12)
		near(t, "its SE", got.SE, c.SE, 1e-12)
	}
	for _, c := range ref.SignedRank {
		got := Wilcoxon(c.D)
		if got.N != c.N || got.W != c.W {
			t.Errorf("Wilcoxon: %+v, want n %d, W %v", got, c.N, c.W)
		}
		near(t, "p of Wilcoxon", got.P, c.P, 1e-9)
	}
	for _, c := range ref.RankSum {
		share, p := MannWhitney(c.A, c.B)
		near(t, "share of Mann and Whitney", share, c.Share, 1e-12)
		near(t, "p of Mann and Whitney", p, c.P, 1e-9)
	}
}

func TestBootstrapAsNumPys(t *testing.T) {
	c := reference(t).Bootstrap
	of, err := clusters(c.A, c.B, c.Truth, c.User)
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	got := percentiles(of, c.Resamples, func() int { next++; return c.Draws[next-1] })
	near(t, "low", got.Low, c.Low, 1e-9)
	near(t, "high", got.High, c.High, 1e-9)
	if next != len(c.Draws) {
		t.Errorf("%d draws for %d users", next, len(c.Draws))
	}
}

func TestCalibrationAsSciPys(t *testing.T) {
	c := reference(t).Calibration
	got, err := Calibrate(c.Pred, c.Truth)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "slope", got.Slope, c.Slope, 1e-9)
	near(t, "its SE", got.SlopeSE, c.SlopeSE, 1e-9)
	near(t, "intercept", got.Intercept, c.Intercept, 1e-9)
	u, err := MeasureSpread(c.Pred, c.Truth, c.SD, c.Factor)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "CRPS", u.CRPS, c.CRPS, 1e-6)
	near(t, "NLL", u.NLL, c.NLL, 1e-9)
	near(t, "sharpness", u.Sharpness, c.Sharpness, 1e-9)
	for k, want := range c.Coverage {
		near(t, "coverage", u.Coverage[k].Share, want, 1e-9)
	}
	factor, err := Recalibrate(c.Pred, c.Truth, c.SD)
	near(t, "recalibration", factor, c.Recalibrated, 1e-9)
	if err != nil {
		t.Error(err)
	}
	click, err := CalibrateClick(c.Pred, c.Truth)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "Brier", *click.Brier, c.Brier, 1e-7)
}
