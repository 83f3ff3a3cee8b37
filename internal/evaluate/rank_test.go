package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestRankOfCountsTiesAgainstTheModel(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		positive  float32
		negatives []float32
		want      int32
	}{
		{.9, []float32{.1, .2, .3}, 1},
		{.25, []float32{.1, .2, .3}, 2},
		{.05, []float32{.1, .2, .3}, 4},
		{.2, []float32{.1, .2, .2, .3}, 4}, // both of the same score stand before it
		{.5, []float32{.5, .5, .5}, 4},
		{.9, []float32{nan, .1}, 2},
		{nan, []float32{.1, .2}, 3},
		{.9, nil, 1},
	} {
		if got := RankOf(c.positive, c.negatives); got != c.want {
			t.Errorf("RankOf(%v, %v) = %d, want %d", c.positive, c.negatives, got, c.want)
		}
	}
}

func TestRankedByHand(t *testing.T) {
	// two seeds, three lists of two users
	ranks := [][]int32{{1, 3, 7}, {2, 3, 4}}
	got, err := Ranked(ranks, [][]int32{{1, 1, 1}}, []int32{5, 5, 9}, []int{2, 5})
	if err != nil {
		t.Fatal(err)
	}
	third, half2 := 1/math.Log2(3), .5 // the gains of ranks 2 and 3
	fifth := 1 / math.Log2(5)          // of rank 4
	near(t, "NDCG@2", got[0].NDCG, ((1+third)/2+0+0)/3, 1e-12)
	near(t, "Recall@2", got[0].Recall, 1./3, 1e-12)
	near(t, "NDCG@5", got[1].NDCG, ((1+third)/2+half2+fifth/2)/3, 1e-12)
	near(t, "Recall@5", got[1].Recall, (1+1+.5)/3, 1e-12)
	// Recall@5 of the lists is 1, 1, .5 with mean 5/6: users' sums of deviations are 1/3 and -1/3
	near(t, "SE of Recall@5", got[1].RecallSE, math.Sqrt(2*(1./9)*2)/3, 1e-12)
	near(t, "difference of Recall@5", got[1].Difference.Recall, 2.5/3-1, 1e-12)
	near(t, "difference of NDCG@2", got[0].Difference.NDCG, got[0].NDCG-1, 1e-12)
	for _, bad := range [][][]int32{nil, {{1}}, {{1, 2, 0}}} {
		if _, err := Ranked(bad, nil, []int32{1, 2, 3}, []int{5}); err == nil {
			t.Errorf("ranks %v were measured", bad)
		}
	}
}

// A model that knows the answers finds every positive first; random scores find it as often as the formula says.
func TestPerfectAndRandomModels(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 2))
	const lists, negatives = 4000, 50
	perfect, random, constant := make([]int32, lists), make([]int32, lists), make([]int32, lists)
	users, counts := make([]int32, lists), make([]int, lists)
	for i := range lists {
		users[i], counts[i] = int32(i), negatives
		others := make([]float32, negatives)
		for k := range others {
			others[k] = rng.Float32()
		}
		perfect[i], random[i] = RankOf(2, others), RankOf(rng.Float32(), others)
		for k := range others {
			others[k] = .5
		}
		constant[i] = RankOf(.5, others)
	}
	ks := []int{1, 5, 10, 51}
	expected := RandomRanking(counts, ks)
	for name, ranks := range map[string][]int32{"perfect": perfect, "random": random, "constant": constant} {
		got, err := Ranked([][]int32{ranks}, nil, users, ks)
		if err != nil {
			t.Fatal(err)
		}
		for i, s := range got {
			switch name {
			case "perfect":
				if s.NDCG != 1 || s.Recall != 1 {
					t.Errorf("perfect at %d: %+v", s.K, s)
				}
			case "random":
				near(t, "random recall", s.Recall, expected[i].Recall, 4*s.RecallSE+1e-12)
				near(t, "random NDCG", s.NDCG, expected[i].NDCG, 4*s.NDCGSE)
			case "constant":
				if s.K < 51 && (s.Recall != 0 || s.NDCG != 0) {
					t.Errorf("a constant model at %d: %+v", s.K, s)
				}
			}
		}
	}
	near(t, "expected recall at 10 of 51", expected[2].Recall, 10./51, 1e-12)
	near(t, "expected NDCG at 1", expected[0].NDCG, 1./51, 1e-12)
	near(t, "all of a list", expected[3].Recall, 1, 1e-12)
}

// Scores grow with K, NDCG is at most recall, and a better rank never lowers either.
func TestRankScoresAreMonotone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ranks := rapid.SliceOfN(rapid.Int32Range(1, 30), 1, 20).Draw(rt, "ranks")
		users := make([]int32, len(ranks))
		at := rapid.IntRange(0, len(ranks)-1).Draw(rt, "list")
		got, err := Ranked([][]int32{ranks}, nil, users, []int{1, 5, 10})
		if err != nil {
			rt.Fatal(err)
		}
		better := append([]int32(nil), ranks...)
		better[at] = max(1, ranks[at]-3)
		after, _ := Ranked([][]int32{better}, nil, users, []int{1, 5, 10})
		for i, s := range got {
			if s.NDCG > s.Recall+1e-12 || i > 0 && (s.Recall < got[i-1].Recall || s.NDCG < got[i-1].NDCG) || after[i].NDCG < s.NDCG-1e-12 || after[i].Recall < s.Recall-1e-12 {
				rt.Fatalf("%+v, then %+v", got, after)
			}
		}
	})
}
