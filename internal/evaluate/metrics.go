// Package evaluate measures predictions and writes the report: error metrics, paired tests clustered by user, report.json with the
// names of the protocol, and a self-contained report.html.
package evaluate

import (
	"fmt"
	"math"
	"sort"

	"gonum.org/v1/gonum/stat/distuv"
)

// LabelAt is the rating on [0,1] from which a record counts as liked: the label of AUC and of the "high" histogram.
const LabelAt = 0.75

// LowAt is the rating on [0,1] up to which a record counts as disliked in the attention histogram (the paper's Fig. 6b).
const LowAt = 0.25

// Metrics are the errors of one set of predictions, on ratings scaled to [0,1].
type Metrics struct {
	RMSE float64 `json:"rmse"`
	MAE  float64 `json:"mae"`
	AUC  float64 `json:"auc"`
}

// Measure compares predictions with the truth; predictions are clipped to [0,1] first. AUC ranks by the unclipped prediction and is
// 0.5 when only one label occurs.
func Measure(pred, truth []float32) (Metrics, error) {
	if len(pred) != len(truth) || len(pred) == 0 {
		return Metrics{}, fmt.Errorf("evaluate: %d predictions for %d records", len(pred), len(truth))
	}
	var sq, abs float64
	for i, p := range pred {
		if math.IsNaN(float64(p)) || math.IsInf(float64(p), 0) {
			return Metrics{}, fmt.Errorf("evaluate: prediction %d is %v", i, p)
		}
		e := residual(p, truth[i])
		sq += e * e
		abs += math.Abs(e)
	}
	n := float64(len(pred))
	return Metrics{RMSE: math.Sqrt(sq / n), MAE: abs / n, AUC: auc(pred, truth)}, nil
}

func residual(pred, truth float32) float64 {
	return float64(truth) - min(1, max(0, float64(pred)))
}

// auc is the Mann–Whitney form: the share of (liked, not liked) pairs that are ranked right, ties counting half.
func auc(pred, truth []float32) float64 {
	order := make([]int, len(pred))
	for i := range order {
		order[i] = i
	}
	sort.Slice(order, func(a, b int) bool { return pred[order[a]] < pred[order[b]] })
	var ranks float64
	pos := 0
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && pred[order[j]] == pred[order[i]] {
			j++
		}
		mean := float64(i+j+1) / 2 // ranks i+1..j share their mean
		for ; i < j; i++ {
			if truth[order[i]] >= LabelAt {
				ranks += mean
				pos++
			}
		}
	}
	neg := len(pred) - pos
	if pos == 0 || neg == 0 {
		return 0.5
	}
	return (ranks - float64(pos)*float64(pos+1)/2) / (float64(pos) * float64(neg))
}

// MeanSE returns the mean of xs and its standard error; one value has no standard error and gives 0.
func MeanSE(xs []float64) (mean, se float64) {
	if len(xs) == 0 {
		return math.NaN(), math.NaN()
	}
	for _, x := range xs {
		mean += x
	}
	mean /= float64(len(xs))
	if len(xs) == 1 {
		return mean, 0
	}
	var ss float64
	for _, x := range xs {
		ss += (x - mean) * (x - mean)
	}
	return mean, math.Sqrt(ss / float64(len(xs)-1) / float64(len(xs)))
}

// Paired compares two systems on the same records.
type Paired struct {
	RMSE float64 `json:"rmse_difference"` // RMSE of a minus RMSE of b: below 0 when a is better
	SE   float64 `json:"se"`              // standard error of that difference, clustered by user
	T    float64 `json:"t"`
	P    float64 `json:"p"` // two-sided
	N    int     `json:"clusters"`

	Bootstrap *Interval   `json:"bootstrap,omitempty"` // of that difference, clustered by user
	Seeds     *SeedTest   `json:"seeds,omitempty"`     // t-test over seeds
	Wilcoxon  *SignedRank `json:"wilcoxon,omitempty"`  // over the users' mean squared errors
}

// Compare tests system a against system b by the differences of their squared errors, summed within users: records of one user are
// not independent. The difference of mean squared errors is carried over to RMSE by the delta method.
func Compare(a, b, truth []float32, user []int32) (Paired, error) {
	if len(a) != len(truth) || len(b) != len(truth) || len(user) != len(truth) || len(truth) == 0 {
		return Paired{}, fmt.Errorf("evaluate: %d and %d predictions, %d users for %d records", len(a), len(b), len(user), len(truth))
	}
	var sa, sb float64
	type cluster struct{ a, b, n float64 }
	by := map[int32]*cluster{}
	var users []int32
	for i, y := range truth {
		ea, eb := residual(a[i], y), residual(b[i], y)
		c := by[user[i]]
		if c == nil {
			c = &cluster{}
			by[user[i]] = c
			users = append(users, user[i])
		}
		c.a += ea * ea
		c.b += eb * eb
		c.n++
		sa += ea * ea
		sb += eb * eb
	}
	n, g := float64(len(truth)), float64(len(users))
	ra, rb := math.Sqrt(sa/n), math.Sqrt(sb/n)
	p := Paired{RMSE: ra - rb, N: len(users)}
	var ss float64
	for _, u := range users {
		c := by[u]
		// the influence of a user on RMSE_a − RMSE_b
		inf := influence(c.a, c.n, sa/n, ra) - influence(c.b, c.n, sb/n, rb)
		ss += inf * inf
	}
	if g > 1 {
		p.SE = math.Sqrt(ss*g/(g-1)) / n
	}
	if p.SE > 0 {
		p.T = p.RMSE / p.SE
		p.P = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: g - 1}.Survival(math.Abs(p.T))
	} else {
		p.P = 1
	}
	return p, nil
}

func influence(sum, count, mse, rmse float64) float64 {
	if rmse == 0 {
		return 0
	}
	return (sum - count*mse) / (2 * rmse)
}

// MannWhitney tests whether values of a tend to be larger than those of b. It returns the share of pairs (a, b) with a > b and the
// two-sided p-value by the normal approximation with ties. It needs at least 8 values on each side; fewer give p = 1.
func MannWhitney(a, b []float64) (share, p float64) {
	if len(a) < 8 || len(b) < 8 {
		return math.NaN(), 1
	}
	type value struct {
		x     float64
		fromA bool
	}
	all := make([]value, 0, len(a)+len(b))
	for _, x := range a {
		all = append(all, value{x, true})
	}
	for _, x := range b {
		all = append(all, value{x, false})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].x < all[j].x })
	var ranks, ties float64
	for i := 0; i < len(all); {
		j := i
		for j < len(all) && all[j].x == all[i].x {
			j++
		}
		t := float64(j - i)
		ties += t*t*t - t
		mean := float64(i+j+1) / 2
		for ; i < j; i++ {
			if all[i].fromA {
				ranks += mean
			}
		}
	}
	na, nb := float64(len(a)), float64(len(b))
	n := na + nb
	u := ranks - na*(na+1)/2
	sd := math.Sqrt(na * nb / 12 * (n + 1 - ties/(n*(n-1))))
	if sd == 0 {
		return 0.5, 1
	}
	return u / (na * nb), 2 * distuv.UnitNormal.Survival(math.Abs(u-na*nb/2)/sd)
}

// Gain is a mean over records with its standard error, clustered by user.
type Gain struct{ Mean, SE, T, P float64 }

// ClusterMean tests whether the mean of xs differs from 0 when records of one user are not independent.
func ClusterMean(xs []float64, user []int32) Gain {
	n := float64(len(xs))
	var g Gain
	for _, x := range xs {
		g.Mean += x / n
	}
	sums := map[int32]float64{}
	var order []int32
	for i, x := range xs {
		if _, ok := sums[user[i]]; !ok {
			order = append(order, user[i])
		}
		sums[user[i]] += x - g.Mean
	}
	var ss float64
	for _, u := range order {
		ss += sums[u] * sums[u]
	}
	c := float64(len(order))
	g.P = 1
	if c < 2 || ss == 0 {
		return g
	}
	g.SE = math.Sqrt(ss*c/(c-1)) / n
	g.T = g.Mean / g.SE
	g.P = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: c - 1}.Survival(math.Abs(g.T))
	return g
}
