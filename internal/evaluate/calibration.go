package evaluate

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// A reliability curve has at most reliabilityBins bins of as many records each, and each holds leastInBin records or more.
const (
	reliabilityBins = 10
	leastInBin      = 20
)

// Calibration says whether predictions mean what they say: among records predicted y, is the mean rating y?
type Calibration struct {
	System    string       `json:"system"`
	N         int          `json:"n"`
	Bins      []Bin        `json:"bins"`      // by prediction, ascending, of about as many records each
	Slope     float64      `json:"slope"`     // of the line truth = intercept + slope·prediction by least squares: 1 and 0 are perfect
	SlopeSE   float64      `json:"slope_se"`  // as of independent records
	Intercept float64      `json:"intercept"` // of the same line
	Error     float64      `json:"error"`     // expected calibration error: mean over bins of |mean prediction − mean truth|, by their records
	Brier     *float64     `json:"brier,omitempty"`
	Spread    *Uncertainty `json:"uncertainty,omitempty"`     // with the standard deviations brought to size on validation
	RawSpread *Uncertainty `json:"raw_uncertainty,omitempty"` // as the network gave them
}

// Bin is one point of a reliability curve.
type Bin struct {
	N          int     `json:"n"`
	Prediction float64 `json:"prediction"` // mean
	Truth      float64 `json:"truth"`      // mean
	SE         float64 `json:"se"`         // of the mean truth
}

// Calibrate measures predictions of ratings on [0,1].
func Calibrate(pred, truth []float32) (*Calibration, error) {
	if err := checkPredictions(pred, truth); err != nil {
		return nil, err
	}
	order := ascending(pred)
	c := &Calibration{N: len(pred)}
	for _, part := range equalParts(order, func(i int) float32 { return pred[i] }) {
		b := Bin{N: len(part)}
		ys := make([]float64, len(part))
		for k, i := range part {
			b.Prediction += float64(pred[i]) / float64(len(part))
			ys[k] = float64(truth[i])
		}
		b.Truth, b.SE = MeanSE(ys)
		c.Bins = append(c.Bins, b)
		c.Error += math.Abs(b.Prediction-b.Truth) * float64(len(part)) / float64(len(pred))
	}
	c.Slope, c.SlopeSE, c.Intercept = lineThrough(pred, truth)
	return c, nil
}

// CalibrateClick measures predicted probabilities that a record is liked (LabelAt): its truth is 1 or 0, and the Brier score is the mean squared
// difference.
func CalibrateClick(probability, truth []float32) (*Calibration, error) {
	label := make([]float32, len(truth))
	for i, y := range truth {
		if y >= LabelAt {
			label[i] = 1
		}
	}
	c, err := Calibrate(probability, label)
	if err != nil {
		return nil, err
	}
	brier := 0.0
	for i, p := range probability {
		brier += float64(p-label[i]) * float64(p-label[i]) / float64(len(label))
	}
	c.Brier = &brier
	return c, nil
}

// Uncertainty says whether standard deviations given with predictions are those of the errors, taken as Gaussian.
type Uncertainty struct {
	Factor    float64     `json:"factor"` // that the standard deviations were multiplied by
	Coverage  []Coverage  `json:"coverage"`
	ENCE      float64     `json:"ence"`      // expected normalised calibration error (Levi et al. 2022): mean over bins of |RMS deviation − RMSE| / RMS deviation
	Sharpness float64     `json:"sharpness"` // mean standard deviation: the smaller the better, if coverage is right
	CRPS      float64     `json:"crps"`      // continuous ranked probability score of the Gaussian (Gneiting and Raftery 2007), lower is better
	NLL       float64     `json:"nll"`       // negative log likelihood of the Gaussian, nats per record
	Bins      []SpreadBin `json:"bins"`      // by standard deviation, ascending, of about as many records each
}

// Coverage is the share of records within the central interval of a level.
type Coverage struct {
	Level float64 `json:"level"`
	Share float64 `json:"share"`
}

// SpreadBin is one bin of records with like uncertainty.
type SpreadBin struct {
	N    int     `json:"n"`
	SD   float64 `json:"sd"`   // root of the mean variance
	RMSE float64 `json:"rmse"` // of the predictions
	SE   float64 `json:"se"`   // of that RMSE, as of independent records
}

// Levels are the central intervals whose coverage is told.
var Levels = []float64{.5, .8, .9, .95}

// MeasureSpread judges standard deviations sd, multiplied by factor, beside predictions of ratings.
func MeasureSpread(pred, truth, sd []float32, factor float64) (*Uncertainty, error) {
	if err := checkSpread(pred, truth, sd); err != nil {
		return nil, err
	}
	if !(factor > 0) || math.IsInf(factor, 0) {
		return nil, fmt.Errorf("evaluate: standard deviations times %v", factor)
	}
	n := float64(len(pred))
	u := &Uncertainty{Factor: factor}
	inside, reach := make([]float64, len(Levels)), make([]float64, len(Levels))
	for k, level := range Levels {
		reach[k] = distuv.UnitNormal.Quantile((1 + level) / 2)
	}
	for i, p := range pred {
		s := float64(sd[i]) * factor
		z := (float64(truth[i]) - float64(p)) / s
		for k := range Levels {
			if math.Abs(z) <= reach[k] {
				inside[k]++
			}
		}
		u.Sharpness += s / n
		u.CRPS += s * (z*(2*distuv.UnitNormal.CDF(z)-1) + 2*distuv.UnitNormal.Prob(z) - 1/math.SqrtPi) / n
		u.NLL += (math.Log(s) + .5*math.Log(2*math.Pi) + z*z/2) / n
	}
	for k, level := range Levels {
		u.Coverage = append(u.Coverage, Coverage{level, inside[k] / n})
	}
	parts := equalParts(ascending(sd), func(i int) float32 { return sd[i] })
	for _, part := range parts {
		var v, sq, fourth float64
		m := float64(len(part))
		for _, i := range part {
			s, e := float64(sd[i])*factor, float64(truth[i])-float64(pred[i])
			v, sq, fourth = v+s*s/m, sq+e*e/m, fourth+e*e*e*e/m
		}
		b := SpreadBin{N: len(part), SD: math.Sqrt(v), RMSE: math.Sqrt(sq)}
		if sq > 0 {
			b.SE = math.Sqrt(max(fourth-sq*sq, 0)/m) / (2 * b.RMSE)
		}
		u.Bins = append(u.Bins, b)
		u.ENCE += math.Abs(b.SD-b.RMSE) / b.SD / float64(len(parts))
	}
	return u, nil
}

// Recalibrate returns the factor that makes standard deviations those of the errors, by greatest likelihood: the root mean square of the errors in
// units of their deviations. It is chosen on validation records and used on test records.
func Recalibrate(pred, truth, sd []float32) (float64, error) {
	if err := checkSpread(pred, truth, sd); err != nil {
		return 0, err
	}
	sum := 0.0
	for i, p := range pred {
		z := (float64(truth[i]) - float64(p)) / float64(sd[i])
		sum += z * z
	}
	if sum == 0 {
		return 0, fmt.Errorf("evaluate: no prediction of %d is off: nothing to bring deviations to", len(pred))
	}
	return math.Sqrt(sum / float64(len(pred))), nil
}

func checkPredictions(pred, truth []float32) error {
	if len(pred) == 0 || len(pred) != len(truth) {
		return fmt.Errorf("evaluate: %d predictions for %d records", len(pred), len(truth))
	}
	for i, p := range pred {
		if d := p - truth[i]; d-d != 0 {
			return fmt.Errorf("evaluate: prediction %d is %v, truth %v", i, p, truth[i])
		}
	}
	return nil
}

func checkSpread(pred, truth, sd []float32) error {
	if err := checkPredictions(pred, truth); err != nil {
		return err
	}
	if len(sd) != len(pred) {
		return fmt.Errorf("evaluate: %d standard deviations for %d predictions", len(sd), len(pred))
	}
	for i, s := range sd {
		if !(s > 0) || s-s != 0 {
			return fmt.Errorf("evaluate: standard deviation %d is %v", i, s)
		}
	}
	return nil
}

// ascending returns the positions of xs by value, equal ones in their order.
func ascending(xs []float32) []int {
	order := make([]int, len(xs))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case xs[a] < xs[b]:
			return -1
		case xs[a] > xs[b]:
			return 1
		}
		return 0
	})
	return order
}

// equalParts cuts an order into at most reliabilityBins parts of about as many records each, leastInBin or more if there are so many. Records of
// one value stay together.
func equalParts(order []int, value func(int) float32) [][]int {
	n := max(1, min(reliabilityBins, len(order)/leastInBin))
	var out [][]int
	for from, cut := 0, 1; from < len(order); {
		for cut*len(order)/n <= from { // ties may have carried beyond a cut
			cut++
		}
		to := cut * len(order) / n
		for to < len(order) && value(order[to]) == value(order[to-1]) {
			to++
		}
		out = append(out, order[from:to])
		from = to
	}
	return out
}

// lineThrough fits truth = intercept + slope·pred by least squares. Predictions that are all the same have slope 0.
func lineThrough(pred, truth []float32) (slope, slopeSE, intercept float64) {
	n := float64(len(pred))
	var mx, my, sxx, sxy, rss float64
	for i := range pred {
		mx, my = mx+float64(pred[i])/n, my+float64(truth[i])/n
	}
	for i := range pred {
		dx := float64(pred[i]) - mx
		sxx, sxy = sxx+dx*dx, sxy+dx*(float64(truth[i])-my)
	}
	if sxx == 0 {
		return 0, 0, my
	}
	slope = sxy / sxx
	intercept = my - slope*mx
	for i := range pred {
		e := float64(truth[i]) - intercept - slope*float64(pred[i])
		rss += e * e
	}
	if n > 2 {
		slopeSE = math.Sqrt(rss / (n - 2) / sxx)
	}
	return slope, slopeSE, intercept
}
