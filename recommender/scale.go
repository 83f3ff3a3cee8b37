package recommender

import (
	"math"
	"slices"
)

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

// bins cuts each feature at quantiles of the training records and encodes it piece by piece: a piece below the value is full, one above
// it empty, the one that holds it filled in proportion (piecewise linear encoding: Gorishniy, Rubachev and Babenko 2022). A network then
// bends at any value of a feature, as trees do.
type bins struct {
	Edges [][]float32 `json:"edges"` // per feature, ascending, at least two
}

func newBins(n, dim, pieces int, row func(k int) []float32) bins {
	b := bins{Edges: make([][]float32, dim)}
	column := make([]float32, n)
	for c := range b.Edges {
		for k := range column {
			column[k] = row(k)[c]
		}
		slices.Sort(column)
		edges := []float32{column[0]}
		for q := 1; q <= pieces; q++ {
			if x := column[q*(n-1)/pieces]; x > edges[len(edges)-1]+1e-6 {
				edges = append(edges, x)
			}
		}
		if len(edges) == 1 {
			edges = append(edges, edges[0]+1) // constant
		}
		b.Edges[c] = edges
	}
	return b
}

// width is the length of an encoded row.
func (b bins) width() (n int) {
	for _, e := range b.Edges {
		n += len(e) - 1
	}
	return n
}

// apply encodes a row into dst, centred: each piece lies between −.5 and .5.
func (b bins) apply(dst, row []float32) {
	at := 0
	for c, x := range row {
		e := b.Edges[c]
		for t := range len(e) - 1 {
			dst[at] = min(max((x-e[t])/(e[t+1]-e[t]), 0), 1) - .5
			at++
		}
	}
}
