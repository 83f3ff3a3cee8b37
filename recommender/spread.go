package recommender

import (
	"math"

	"recpie/internal/torch"
)

// How far a prediction may be off differs from pair to pair: a head of its own predicts the logarithm of the error's variance from the
// features, the texts and the base (mean-variance estimation: Nix and Weigend 1994). It learns beside the rest and changes nothing there:
// the errors reach it as plain numbers. On validation one factor then brings all its standard deviations to the size of the errors seen.
const (
	spreadHidden = 16
	spreadWeight = .01 // of its loss in the sum: Adam does not mind, and the clipped norm stays that of the prediction
	startSD      = .2
)

func (m *Model) initialiseSpread(linear func(name string, out, in int), add func(name string, data []float32, shape ...int64)) {
	linear("spread.0", spreadHidden, len(m.data.Features.Names)+m.data.Text.Dim()+1)
	add("spread.1.weight", make([]float32, spreadHidden), 1, spreadHidden)
	add("spread.1.bias", []float32{float32(2 * math.Log(startSD))}, 1)
}

// logVariance is the head's output, [B].
func (f *forward) logVariance(b *batch) *torch.Tensor {
	s, n := f.s, int64(b.size)
	h := f.layer(s.View(&b.known, n, b.known.Width(n)), "spread.0", 0)
	return s.Clamp(s.Reshape(f.linear(h, "spread.1"), n), -12, 2)
}

// surprise is the mean negative log likelihood of the errors under the head's variances, a constant left out.
func (f *forward) surprise(b *batch, predicted, labels []float32) *torch.Tensor {
	s, sq := f.s, make([]float32, len(labels))
	for k := range min(len(sq), len(predicted)) {
		sq[k] = (predicted[k] - labels[k]) * (predicted[k] - labels[k])
	}
	lv := f.logVariance(b)
	return s.MulS(s.Mean(s.Add(lv, s.Mul(s.Float32(sq, int64(len(sq))), s.Exp(s.Neg(lv))))), .5)
}

// calibration is the root mean square of the errors in units of their standard deviations.
func calibration(p *Predictions, labels []float32) float64 {
	sum := 0.0
	for k, y := range labels {
		z := float64(p.Y[k]-y) / float64(p.SD[k])
		sum += z * z
	}
	return math.Sqrt(sum / float64(len(labels)))
}

// Pool is the deep ensemble's prediction (Lakshminarayanan, Pritzel and Blundell 2017): the mean over the members, and a variance that is the mean of
// theirs and the variance between them. All members predict the same records.
func Pool(members []*Predictions) *Predictions {
	n, count := len(members[0].Y), float32(len(members))
	out := &Predictions{Y: make([]float32, n), Attention: make([][6]float32, n)}
	if members[0].SD != nil {
		out.SD = make([]float32, n)
	}
	for k := range n {
		var y, sq, within float32
		for _, p := range members {
			y += p.Y[k] / count
			for a, x := range p.Attention[k] {
				out.Attention[k][a] += x / count
			}
		}
		for _, p := range members {
			sq += (p.Y[k] - y) * (p.Y[k] - y) / count
			if out.SD != nil {
				within += p.SD[k] * p.SD[k] / count
			}
		}
		out.Y[k] = y
		if out.SD != nil {
			out.SD[k] = float32(math.Sqrt(float64(within + sq)))
		}
	}
	return out
}
