package torch

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkPagedAttention is one layer of one step: 64 continuations of 176 positions, 8 heads over 4 of 32, whose first 160 eight share.
func BenchmarkPagedAttention(b *testing.B) {
	const rows, heads, kvHeads, head, length = 64, 8, 4, 32, 176
	for _, share := range []int{1, 8} {
		b.Run(fmt.Sprint("shared-by-", share), func(b *testing.B) {
			perRow := length / PageSize
			kv, err := NewPagedKV(rows*perRow+1, 1, kvHeads, head)
			if err != nil {
				b.Fatal(err)
			}
			defer kv.Free()
			rng := rand.New(rand.NewPCG(1, 1))
			q := &PagedQueries{}
			var slots []int64
			for r := range rows {
				q.Tokens, q.Lengths, q.At = append(q.Tokens, int32(r)), append(q.Lengths, length), append(q.At, int64(len(q.Tables)))
				for p := range perRow {
					owner := r
					if p < 160/PageSize {
						owner = r / share * share
					}
					q.Tables = append(q.Tables, int32(owner*perRow+p))
				}
				slots = append(slots, int64(q.Tables[len(q.Tables)-1])*PageSize+PageSize-1)
			}
			data := make([]float32, rows*(heads+2*kvHeads)*head)
			for i := range data {
				data[i] = float32(rng.NormFloat64())
			}
			_ = NoGrad(func(s *Scope) error {
				x := s.Float32(data, rows, (heads+2*kvHeads)*head)
				for b.Loop() {
					s.Sub(func(s *Scope) { s.PagedAttention(kv, 0, heads, x, nil, nil, slots, q) })
				}
				b.ReportMetric(float64(4*rows*heads*head*length)*float64(b.N)/1e9/b.Elapsed().Seconds(), "GFLOP/s")
				return nil
			})
		})
	}
}
