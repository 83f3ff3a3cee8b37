package recommender

import "math"

// clipAt bounds standardised inputs.
const clipAt = 4

// scaler standardises inputs with the mean and standard deviation of the training records, then clips.
type scaler struct {
	Mean []float32 `json:"mean"`
	SD   []float32 `json:"sd"`
}

// newScaler measures n rows of dim numbers; row(k) returns the k-th.
func newScaler(n, dim int, row func(k int) []float32) scaler {
	s := scaler{Mean: make([]float32, dim), SD: make([]float32, dim)}
	sum, sq := make([]float64, dim), make([]float64, dim)
	for k := range n {
		for c, x := range row(k) {
			sum[c] += float64(x)
		}
	}
	for c := range sum {
		sum[c] /= float64(max(n, 1))
	}
	for k := range n {
		for c, x := range row(k) {
			d := float64(x) - sum[c]
			sq[c] += d * d
		}
	}
	for c := range sum {
		sd := math.Sqrt(sq[c] / float64(max(n, 1)))
		if sd < 1e-6*(1+math.Abs(sum[c])) {
			sd = 1 // constant: becomes 0
		}
		s.Mean[c], s.SD[c] = float32(sum[c]), float32(sd)
	}
	return s
}

// apply writes the standardised row into dst.
func (s scaler) apply(dst, row []float32) {
	for c, x := range row {
		dst[c] = min(max((x-s.Mean[c])/s.SD[c], -clipAt), clipAt)
	}
}
