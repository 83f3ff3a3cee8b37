package evaluate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"gonum.org/v1/gonum/stat/distuv"
)

// Resamples is how many bootstrap samples an interval is read from. With very many users there are fewer: see Bootstrap.
const Resamples = 2000

// Interval is a bootstrap interval of a difference.
type Interval struct {
	Low       float64 `json:"low"`
	High      float64 `json:"high"`
	Level     float64 `json:"level"` // .95
	Resamples int     `json:"resamples"`
}

// squares are the sums of squared errors of two systems over one user's records.
type squares struct{ a, b, n float64 }

// clusters sums squared errors by user, users in the order of their first record. pred are [seed][record].
func clusters(a, b [][]float32, truth []float32, user []int32) ([]squares, error) {
	if len(truth) == 0 || len(user) != len(truth) || len(a) == 0 || len(a) != len(b) {
		return nil, fmt.Errorf("evaluate: %d and %d seeds, %d users for %d records", len(a), len(b), len(user), len(truth))
	}
	at := map[int32]int{}
	var out []squares
	for s := range a {
		if len(a[s]) != len(truth) || len(b[s]) != len(truth) {
			return nil, fmt.Errorf("evaluate: seed %d has %d and %d predictions for %d records", s, len(a[s]), len(b[s]), len(truth))
		}
		for i, y := range truth {
			k, ok := at[user[i]]
			if !ok {
				k = len(out)
				at[user[i]] = k
				out = append(out, squares{})
			}
			ea, eb := residual(a[s][i], y), residual(b[s][i], y)
			out[k].a += ea * ea
			out[k].b += eb * eb
			out[k].n++
		}
	}
	return out, nil
}

// Bootstrap gives the percentile interval of the difference of two systems' RMSE (of a less of b, errors of all seeds together) over samples of
// users, drawn with replacement, each with all its records: Efron's paired bootstrap, clustered. Predictions are [seed][record]. The draws follow
// the seed alone, so that comparisons on the same records meet the same samples. Beyond 100,000 users there are fewer samples than Resamples,
// never below 200, which keeps the work at 2·10⁸ draws.
func Bootstrap(a, b [][]float32, truth []float32, user []int32, seed int64) (Interval, error) {
	of, err := clusters(a, b, truth, user)
	if err != nil {
		return Interval{}, err
	}
	n := min(Resamples, max(200, 2e8/len(of)))
	rng := rand.New(rand.NewPCG(uint64(seed), 0xb0075))
	return percentiles(of, n, func() int { return rng.IntN(len(of)) }), nil
}

// percentiles resamples the clusters by draw and reads the central 95 % of the differences.
func percentiles(of []squares, resamples int, draw func() int) Interval {
	diffs := make([]float64, resamples)
	for k := range diffs {
		var s squares
		for range of {
			c := &of[draw()]
			s.a, s.b, s.n = s.a+c.a, s.b+c.b, s.n+c.n
		}
		diffs[k] = math.Sqrt(s.a/s.n) - math.Sqrt(s.b/s.n)
	}
	slices.Sort(diffs)
	return Interval{Low: percentile(diffs, .025), High: percentile(diffs, .975), Level: .95, Resamples: resamples}
}

// percentile reads a quantile of sorted values, between two of them by linear interpolation.
func percentile(sorted []float64, q float64) float64 {
	at := q * float64(len(sorted)-1)
	lo := int(at)
	hi := min(lo+1, len(sorted)-1)
	return sorted[lo] + (at-float64(lo))*(sorted[hi]-sorted[lo])
}

// SeedTest is a paired t-test over seeds: are the differences of two systems' RMSE, seed by seed, away from 0? It says how far a result hangs on
// the draw of the first weights; whether it holds for other users is what the test clustered by user says.
type SeedTest struct {
	Seeds int     `json:"seeds"`
	Mean  float64 `json:"mean_difference"` // of a less b
	SE    float64 `json:"se"`
	T     float64 `json:"t"`
	DF    int     `json:"df"`
	P     float64 `json:"p"` // two-sided
}

// CompareSeeds tests the differences a[s]−b[s]. It returns nil for fewer than two seeds.
func CompareSeeds(a, b []float64) (*SeedTest, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("evaluate: %d and %d seeds", len(a), len(b))
	}
	if len(a) < 2 {
		return nil, nil
	}
	t := &SeedTest{Seeds: len(a), DF: len(a) - 1, P: 1}
	if t.Mean, t.SE = MeanSE(less(a, b)); t.SE > 0 {
		t.T = t.Mean / t.SE
		t.P = 2 * distuv.StudentsT{Mu: 0, Sigma: 1, Nu: float64(t.DF)}.Survival(math.Abs(t.T))
	}
	return t, nil
}

// SignedRank is Wilcoxon's signed-rank test: are differences as often and as far below 0 as above? It asks less of the data than the t-test.
type SignedRank struct {
	N int     `json:"n"` // differences other than 0
	W float64 `json:"w"` // the smaller sum of ranks
	P float64 `json:"p"` // two-sided, by the normal approximation with ties
}

// Wilcoxon tests the differences. Those of 0 are left out; fewer than 10 others give p = 1, for the approximation needs more.
func Wilcoxon(diffs []float64) SignedRank {
	d := slices.DeleteFunc(slices.Clone(diffs), func(x float64) bool { return x == 0 })
	slices.SortFunc(d, func(a, b float64) int {
		switch a, b := math.Abs(a), math.Abs(b); {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	var up, down, ties float64
	for i := 0; i < len(d); {
		j := i
		for j < len(d) && math.Abs(d[j]) == math.Abs(d[i]) {
			j++
		}
		t, mean := float64(j-i), float64(i+j+1)/2
		ties += t*t*t - t
		for ; i < j; i++ {
			if d[i] > 0 {
				up += mean
			} else {
				down += mean
			}
		}
	}
	n := float64(len(d))
	r := SignedRank{N: len(d), W: min(up, down), P: 1}
	if sd := math.Sqrt(n*(n+1)*(2*n+1)/24 - ties/48); len(d) >= 10 && sd > 0 {
		r.P = 2 * distuv.UnitNormal.Survival(math.Abs(r.W-n*(n+1)/4)/sd)
	}
	return r
}

// CompareAll tests system a against b in every way: Compare's test clustered by user and the bootstrap's interval on the errors of all seeds,
// Wilcoxon's test on the users' mean squared errors, and the t-test over seeds. Predictions are [seed][record].
func CompareAll(a, b [][]float32, truth []float32, user []int32, seed int64) (Paired, error) {
	of, err := clusters(a, b, truth, user)
	if err != nil {
		return Paired{}, err
	}
	var pa, pb, y []float32
	var users []int32
	var ra, rb []float64
	for s := range a {
		pa, pb, y, users = append(pa, a[s]...), append(pb, b[s]...), append(y, truth...), append(users, user...)
		ra, rb = append(ra, rmse(a[s], truth)), append(rb, rmse(b[s], truth))
	}
	p, err := Compare(pa, pb, y, users)
	if err != nil {
		return p, err
	}
	interval, err := Bootstrap(a, b, truth, user, seed)
	if err != nil {
		return p, err
	}
	diffs := make([]float64, len(of))
	for k, c := range of {
		diffs[k] = (c.a - c.b) / c.n
	}
	w := Wilcoxon(diffs)
	p.Bootstrap, p.Wilcoxon = &interval, &w
	p.Seeds, err = CompareSeeds(ra, rb)
	return p, err
}

func rmse(pred, truth []float32) float64 {
	sum := 0.0
	for i, y := range truth {
		e := residual(pred[i], y)
		sum += e * e
	}
	return math.Sqrt(sum / float64(len(truth)))
}
