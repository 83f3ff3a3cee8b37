package policy

import (
	"math"

	"recpie/internal/fault"
)

// Reward is eq. 1 of the RecPIE paper: r = 1/(1+|y−ŷ|), in [.5, 1] for ratings scaled to [0,1]. A non-finite y or ŷ is an Item error: it must
// not reach an update.
func Reward(y, predicted float64) (float64, error) {
	if !finite(y) || !finite(predicted) {
		return 0, fault.Newf(fault.Item, "policy: reward", "y %v, prediction %v: not finite", y, predicted)
	}
	return 1 / (1 + math.Abs(y-predicted)), nil
}

// Counterfactual gives each text of alternative g the part of the reward that it alone brought:
// pos[g] = r(e⁺,e⁻) − r(∅,e⁻), neg[g] = r(e⁺,e⁻) − r(e⁺,∅), with ∅ the zero vector in place of a text's embedding. The three slices have one entry
// per alternative. Our choice; the paper gives one scalar to the pair.
func Counterfactual(both, withoutPos, withoutNeg []float64) (pos, neg []float64, err error) {
	if len(both) != len(withoutPos) || len(both) != len(withoutNeg) {
		return nil, nil, fault.Newf(fault.Fatal, "policy: counterfactual", "%d rewards, %d without pos, %d without neg", len(both), len(withoutPos), len(withoutNeg))
	}
	pos, neg = make([]float64, len(both)), make([]float64, len(both))
	for g, r := range both {
		pos[g], neg[g] = r-withoutPos[g], r-withoutNeg[g]
	}
	return pos, neg, nil
}

// Crossed gives each text its mean reward over all partners of the other polarity: rewards[i][j] is the reward of positive text i beside negative
// text j, pos[i] the mean of row i, neg[j] of column j. It removes the luck of the partner, which is half the noise when alternatives are paired
// one to one, for G² cheap predictions instead of G. Our choice.
func Crossed(rewards [][]float64) (pos, neg []float64, err error) {
	if len(rewards) == 0 {
		return nil, nil, nil
	}
	pos, neg = make([]float64, len(rewards)), make([]float64, len(rewards[0]))
	for i, row := range rewards {
		if len(row) != len(neg) {
			return nil, nil, fault.Newf(fault.Fatal, "policy: crossed credit", "row %d has %d rewards, row 0 has %d", i, len(row), len(neg))
		}
		for j, r := range row {
			pos[i] += r / float64(len(row))
			neg[j] += r / float64(len(rewards))
		}
	}
	return pos, neg, nil
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// firstNonFinite returns the index of the first NaN or infinity, -1 when there is none.
func firstNonFinite(xs []float32) int {
	for i, x := range xs {
		if !finite(float64(x)) {
			return i
		}
	}
	return -1
}
