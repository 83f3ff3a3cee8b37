package lm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Families of common beginnings stay together whatever their lengths are, parts hold runs of about one length, and every sequence is in one part.
func TestBuckets(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	cfg := Config{ModelType: TypeLlama, VocabSize: 1000, HiddenSize: 256, NumLayers: 6, NumHeads: 8, MaxPositions: 1024}.withDefaults()
	ids := func(n int) (out []int64) {
		for range n {
			out = append(out, rng.Int64N(1000))
		}
		return out
	}
	parts := func(keys [][]int64, order []int) (padded, computed, members int) {
		budget := evenBudget(order, keys, maxTokens(cfg, passBytes/2), 2)
		for len(order) > 0 {
			pl, n := fittingPlan(cfg, order, keys, budget, passBytes/2)
			for _, lv := range pl.levels {
				padded += len(lv.nodes) * lv.cols
			}
			computed, members, order = computed+pl.computed(), members+n, order[n:]
		}
		return padded, computed, members
	}
	for name, make := range map[string]func() [][]int64{
		"unrelated prompts of 20 to 300 tokens": func() (keys [][]int64) {
			for range 128 {
				keys = append(keys, ids(20+rng.IntN(281)))
			}
			return keys
		},
		"four texts of 8 to 60 tokens behind prompts of 60 to 300": func() (keys [][]int64) {
			for range 64 {
				prompt := ids(60 + rng.IntN(241))
				for range 4 {
					keys = append(keys, append(slices.Clone(prompt), ids(8+rng.IntN(53))...))
				}
			}
			return keys
		},
	} {
		t.Run(name, func(t *testing.T) {
			keys := make()
			plain := []int{}
			for i := range keys {
				plain = append(plain, i)
			}
			slices.SortStableFunc(plain, func(a, b int) int { return slices.Compare(keys[a], keys[b]) })
			before, shared, _ := parts(keys, plain)
			after, computed, members := parts(keys, bucketed(plain, keys))
			if members != len(keys) {
				t.Errorf("%d of %d sequences are in a part", members, len(keys))
			}
			if computed > shared {
				t.Errorf("%d positions are computed, without buckets %d: families were torn apart", computed, shared)
			}
			t.Logf("padding %.0f %% of the positions in the order of the ids, %.0f %% in buckets", 100*float64(before-shared)/float64(before), 100*float64(after-computed)/float64(after))
			if 20*after > 19*before {
				t.Errorf("%d padded positions in buckets, %d without", after, before)
			}
		})
	}
}
