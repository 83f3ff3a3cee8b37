package evaluate

import (
	"fmt"
	"math"
	"slices"
)

// RankOf returns the rank of a positive among the negatives of its list by descending score, from 1. A negative of the same score
// stands before the positive, and so does one whose score is NaN: a model that gives all items one score finds nothing.
func RankOf(positive float32, negatives []float32) int32 {
	rank := int32(1)
	for _, s := range negatives {
		if !(s < positive) {
			rank++
		}
	}
	return rank
}

// RankScore is how well the positives of lists with one positive each are found within the first K. Standard errors are over lists,
// clustered by user.
type RankScore struct {
	K        int     `json:"k"`
	NDCG     float64 `json:"ndcg"` // mean of 1/log2(1+rank) where rank ≤ K, else 0
	NDCGSE   float64 `json:"ndcg_se"`
	Recall   float64 `json:"recall"` // share of lists with rank ≤ K
	RecallSE float64 `json:"recall_se"`

	Difference *RankDifference `json:"difference,omitempty"` // to no_explanations on the same lists
}

// RankDifference is a system's scores less those of another, above 0 when it ranks better.
type RankDifference struct {
	NDCG     float64 `json:"ndcg"`
	NDCGSE   float64 `json:"ndcg_se"`
	NDCGP    float64 `json:"ndcg_p"` // two-sided
	Recall   float64 `json:"recall"`
	RecallSE float64 `json:"recall_se"`
	RecallP  float64 `json:"recall_p"`
}

func gainAt(k int, rank int32) float64 {
	if int(rank) > k {
		return 0
	}
	return 1 / math.Log2(1+float64(rank))
}

func hitAt(k int, rank int32) float64 {
	if int(rank) > k {
		return 0
	}
	return 1
}

// perList is the mean over seeds of a score of each list; ranks are [seed][list].
func perList(ranks [][]int32, k int, score func(k int, rank int32) float64) []float64 {
	out := make([]float64, len(ranks[0]))
	for _, seed := range ranks {
		for i, r := range seed {
			out[i] += score(k, r) / float64(len(ranks))
		}
	}
	return out
}

// Ranked measures ranks, [seed][list], at each cut-off; user gives the user of each list. With base, the ranks of another system on the same lists,
// it tests the difference to that.
func Ranked(ranks, base [][]int32, user []int32, ks []int) ([]RankScore, error) {
	for _, rs := range [][][]int32{ranks, base} {
		for _, seed := range rs {
			if len(seed) != len(user) || slices.ContainsFunc(seed, func(r int32) bool { return r < 1 }) {
				return nil, fmt.Errorf("evaluate: ranks of %d lists for %d users, from 1 upwards", len(seed), len(user))
			}
		}
	}
	if len(ranks) == 0 || len(user) == 0 {
		return nil, fmt.Errorf("evaluate: %d seeds and %d lists to rank", len(ranks), len(user))
	}
	var out []RankScore
	for _, k := range ks {
		gain, hit := perList(ranks, k, gainAt), perList(ranks, k, hitAt)
		g, h := ClusterMean(gain, user), ClusterMean(hit, user)
		s := RankScore{K: k, NDCGSE: g.SE, RecallSE: h.SE}
		s.NDCG, _ = MeanSE(gain) // without a rounding per list: a perfect ranking is 1
		s.Recall, _ = MeanSE(hit)
		if len(base) > 0 {
			g, h := ClusterMean(less(gain, perList(base, k, gainAt)), user), ClusterMean(less(hit, perList(base, k, hitAt)), user)
			s.Difference = &RankDifference{g.Mean, g.SE, g.P, h.Mean, h.SE, h.P}
		}
		out = append(out, s)
	}
	return out, nil
}

func less(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}

// RandomRanking is what scores drawn at random would give on average; negatives counts those of each list.
func RandomRanking(negatives []int, ks []int) []RankScore {
	var out []RankScore
	for _, k := range ks {
		s := RankScore{K: k}
		for _, m := range negatives {
			gain, ranks := 0.0, min(k, m+1)
			for r := 1; r <= ranks; r++ {
				gain += gainAt(k, int32(r))
			}
			s.NDCG += gain / float64(m+1)
			s.Recall += float64(ranks) / float64(m+1)
		}
		s.NDCG /= float64(len(negatives))
		s.Recall /= float64(len(negatives))
		out = append(out, s)
	}
	return out
}

// Ranking is how the systems order liked test items among items that their users have no record of. It says nothing about rated items that were
// not liked: for these see AUC.
type Ranking struct {
	Candidates string     `json:"candidates"` // digest of the lists
	Lists      int        `json:"lists"`
	Users      int        `json:"users"`
	Negatives  int        `json:"negatives"` // other items of a list, at most
	Draws      []RankDraw `json:"draws"`
}

// RankDraw is the ranking of lists whose other items were drawn in one way.
type RankDraw struct {
	Name    string       `json:"name"`   // uniform or popular
	Random  []RankScore  `json:"random"` // expected of scores at random
	Systems []RankSystem `json:"systems"`
}

// RankSystem is one system's scores.
type RankSystem struct {
	Name  string      `json:"name"`  // of a compared system, or popularity: by the number of training records
	Lists int         `json:"lists"` // that it ranked: a system with explanations may rank some of them only
	At    []RankScore `json:"at"`
}
