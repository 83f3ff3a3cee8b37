package loadgen

import (
	"math"
	"math/bits"
	"time"
)

// subBits says how finely a histogram resolves: a power of two is divided into 2^subBits buckets, so that a value is known to
// within 1/2^(subBits+1) of itself, 0.1%.
const subBits = 9

// histogram counts durations in buckets whose width grows with the value, as HdrHistogram does: any number of samples in bounded
// memory, all quantiles known to the same relative precision.
type histogram struct {
	counts   []int64 // grows to the largest bucket used, at most 28k for the longest duration
	n        int64
	sum      float64 // ns
	min, max time.Duration
}

// bucket returns the index of a duration's bucket. The first 2^subBits nanoseconds have a bucket each.
func bucket(d time.Duration) int {
	v := uint64(max(0, d))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// middle returns the value that stands for a bucket.
func middle(i int) time.Duration {
	if i < 2<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	low := uint64(i&(1<<subBits-1)+1<<subBits) << shift
	return time.Duration(low + 1<<shift/2)
}

func (h *histogram) add(d time.Duration) {
	d = max(0, d)
	i := bucket(d)
	if i >= len(h.counts) {
		h.counts = append(h.counts, make([]int64, i+1-len(h.counts))...)
	}
	h.counts[i]++
	if h.n == 0 || d < h.min {
		h.min = d
	}
	h.max = max(h.max, d)
	h.n++
	h.sum += float64(d)
}

// quantile returns the smallest value that at least a share q of the samples do not exceed, 0 without samples.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(math.Ceil(q * float64(h.n)))
	seen := int64(0)
	for i, n := range h.counts {
		if seen += n; n > 0 && seen >= rank {
			return min(max(middle(i), h.min), h.max)
		}
	}
	return h.max
}

// Latency summarises durations, in milliseconds. Without samples everything is 0.
type Latency struct {
	Samples int64   `json:"samples"`
	Mean    float64 `json:"mean_ms"`
	P50     float64 `json:"p50_ms"`
	P90     float64 `json:"p90_ms"`
	P99     float64 `json:"p99_ms"`
	Max     float64 `json:"max_ms"`
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (h *histogram) latency() Latency {
	if h.n == 0 {
		return Latency{}
	}
	return Latency{
		Samples: h.n, Mean: h.sum / float64(h.n) / float64(time.Millisecond),
		P50: milliseconds(h.quantile(.5)), P90: milliseconds(h.quantile(.9)), P99: milliseconds(h.quantile(.99)), Max: milliseconds(h.max),
	}
}
