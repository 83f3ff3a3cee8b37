package audit

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Agrees says whether the attention to a sentence tells how far the prediction moves when the sentence is taken away.
type Agrees struct {
	N        int     `json:"n"`
	Pearson  float64 `json:"pearson"`
	Spearman float64 `json:"spearman"` // rank correlation
	SE       float64 `json:"se"`       // of the rank correlation: jackknife over groups of users
}

// dot is a sentence: attention to it, how far the prediction moves without it, the user.
type dot struct {
	attention, moved float64
	user             int32
}

// jackknife is the number of groups of users; each is left out once.
const jackknife = 40

// agreement correlates attention and effect. Fewer than three dots, or one side that does not vary, give 0.
func agreement(dots []dot) Agrees {
	a := Agrees{N: len(dots)}
	a.Pearson, a.Spearman = correlations(dots)
	order := map[int32]int{}
	for _, d := range dots {
		if _, ok := order[d.user]; !ok {
			order[d.user] = len(order)
		}
	}
	groups := min(jackknife, len(order))
	if groups < 3 {
		return a
	}
	rho := make([]float64, groups)
	mean := 0.0
	for g := range rho {
		var rest []dot
		for _, d := range dots {
			if order[d.user]%groups != g {
				rest = append(rest, d)
			}
		}
		_, rho[g] = correlations(rest)
		mean += rho[g] / float64(groups)
	}
	for _, r := range rho {
		a.SE += (r - mean) * (r - mean)
	}
	a.SE = math.Sqrt(a.SE * float64(groups-1) / float64(groups))
	return a
}

func correlations(dots []dot) (pearson, spearman float64) {
	x, y := make([]float64, len(dots)), make([]float64, len(dots))
	for i, d := range dots {
		x[i], y[i] = d.attention, d.moved
	}
	return correlation(x, y), correlation(ranks(x), ranks(y))
}

func correlation(x, y []float64) float64 {
	if len(x) < 3 {
		return 0
	}
	if r := stat.Correlation(x, y, nil); !math.IsNaN(r) {
		return r
	}
	return 0
}

// ranks returns the rank of each value; equal values share their mean rank.
func ranks(xs []float64) []float64 {
	order := make([]int, len(xs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(xs[a], xs[b]) })
	out := make([]float64, len(xs))
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && xs[order[j]] == xs[order[i]] {
			j++
		}
		for k := i; k < j; k++ {
			out[order[k]] = float64(i+j-1)/2 + 1
		}
		i = j
	}
	return out
}
