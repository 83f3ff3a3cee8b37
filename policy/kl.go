package policy

import "math"

// KL holds three estimates of the divergence of the policy from the reference, in nats per sequence, from samples of the policy. With
// d = log π − log π_ref per token: K1 sums d (unbiased, noisy), K2 sums d²/2 (low variance, biased), K3 sums e^−d − 1 + d (unbiased, never
// negative). They are known by these names from John Schulman's note on approximating KL.
type KL struct {
	K1 float64 `json:"k1"`
	K2 float64 `json:"k2"`
	K3 float64 `json:"k3"`
}

// maxLogRatio bounds the exponent of K3 (and of the ratio in metrics): one token that the reference loves and the policy abhors must not
// turn a logged number into an infinity.
const maxLogRatio = 20

func (k *KL) addToken(d float64) {
	k.K1 += d
	k.K2 += d * d / 2
	k.K3 += math.Exp(math.Min(-d, maxLogRatio)) - 1 + d
}

func (k KL) over(sequences int) KL {
	n := math.Max(1, float64(sequences))
	return KL{k.K1 / n, k.K2 / n, k.K3 / n}
}

// nextBeta moves the KL coefficient towards the target: β·exp(rate·clip(KL/target − 1, −1, 1)), within [min, max]. A target of 0 keeps β.
// The exponential form of the controller of Ziegler et al. 2019 cannot make β negative and recovers from any bound.
func nextBeta(beta, kl float64, s Settings) float64 {
	if s.TargetKL <= 0 {
		return beta
	}
	e := math.Max(-1, math.Min(1, kl/s.TargetKL-1))
	return math.Max(s.BetaMin, math.Min(s.BetaMax, beta*math.Exp(s.BetaRate*e)))
}
