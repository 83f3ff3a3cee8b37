package orchestrator

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"recpie/policy"
	"recpie/prompts"
)

// Every record has its turn once per pass, however the steps cut the passes.
func TestPickGoesThroughAllRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, pairs, seed := rapid.IntRange(1, 40).Draw(t, "records"), rapid.IntRange(1, 50).Draw(t, "pairs"), rapid.Int64().Draw(t, "seed")
		train := make([]int32, n)
		for i := range train {
			train[i] = int32(10 + 3*i)
		}
		var got []int32
		for step := 0; len(got) < 3*n; step++ {
			got = append(got, pick(train, seed, step, pairs)...)
		}
		for pass := range 3 {
			part := slices.Sorted(slices.Values(got[pass*n : (pass+1)*n]))
			if !slices.Equal(part, train) {
				t.Fatalf("pass %d is %v", pass, part)
			}
		}
	})
}

func TestPickFollowsTheSeed(t *testing.T) {
	train := indexes(100)
	if !slices.Equal(pick(train, 1, 3, 8), pick(train, 1, 3, 8)) {
		t.Error("one seed and step gave two batches")
	}
	if slices.Equal(pick(train, 1, 3, 8), pick(train, 2, 3, 8)) || slices.Equal(pick(train, 1, 0, 100), pick(train, 1, 1, 100)) {
		t.Error("seeds or passes share an order")
	}
}

func TestDrawSeedFitsServers(t *testing.T) {
	seen := map[int64]bool{}
	for step := range int64(20) {
		for rec := range int32(50) {
			for _, pol := range prompts.Polarities {
				s := drawSeed(5<<20+step, rec, pol)
				if s < 0 || s > math.MaxInt32 {
					t.Fatalf("seed %d", s)
				}
				seen[s] = true
			}
		}
	}
	if len(seen) < 1990 {
		t.Errorf("%d of 2000 seeds are distinct", len(seen))
	}
}

// Predictions for one record with two texts per polarity, in the order that Price asks for them: (p0,n0) (p0,n1) (p0,∅) (p1,n0)
// (p1,n1) (p1,∅) (∅,n0) (∅,n1). The truth is .5, so the reward of a prediction .5+d is 1/(1+d).
func TestShare(t *testing.T) {
	reward := func(d float64) float64 { return 1 / (1 + d) }
	pred := []float32{9, .5, .6, .7, .75, .9, .55, .65, .8} // a first number that belongs to another record
	r := func(i int) float64 { return reward(float64(pred[i]) - .5) }
	for credit, want := range map[string][4]float64{
		"pair":    {r(1), r(5), r(1), r(5)},
		"crossed": {(r(1) + r(2)) / 2, (r(4) + r(5)) / 2, (r(1) + r(4)) / 2, (r(2) + r(5)) / 2},
		"side":    {r(1) - r(7), r(5) - r(8), r(1) - r(3), r(5) - r(6)},
	} {
		P, N := make([]policy.Text, 2), make([]policy.Text, 2)
		k, err := (&Rollouts{Credit: credit}).share(P, N, .5, pred, 1)
		if err != nil || k != len(pred) {
			t.Fatalf("%s: read up to %d of %d: %v", credit, k, len(pred), err)
		}
		for i, got := range []float64{P[0].Reward, P[1].Reward, N[0].Reward, N[1].Reward} {
			if math.Abs(got-want[i]) > 1e-6 {
				t.Errorf("%s: reward %d is %v, want %v", credit, i, got, want[i])
			}
		}
	}
}

func TestShareRefusesWhatHasNoReward(t *testing.T) {
	bad := float32(math.NaN())
	for _, credit := range []string{"pair", "crossed", "side"} {
		P, N := make([]policy.Text, 1), make([]policy.Text, 1)
		if _, err := (&Rollouts{Credit: credit}).share(P, N, .5, []float32{.5, bad, .5}, 0); err == nil {
			t.Errorf("%s: a prediction that is no number was priced", credit)
		}
	}
	if _, err := (&Rollouts{Credit: "pair"}).share(make([]policy.Text, 2), make([]policy.Text, 1), .5, slices.Repeat([]float32{.5}, 5), 0); err == nil {
		t.Error("two positive texts were paired with one negative")
	}
}

func TestUnitScale(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.SliceOfN(rapid.Float32Range(-100, 100), 1, 50).Draw(t, "table")
		before := slices.Clone(in)
		out := unitScale(in)
		if !slices.Equal(in, before) {
			t.Fatal("the table itself was changed")
		}
		var ss, zero float64
		for i, x := range out {
			ss += float64(x) * float64(x)
			zero = max(zero, math.Abs(float64(in[i])))
			if (x < 0) != (in[i] < 0) && x != 0 {
				t.Fatal("a sign was changed")
			}
		}
		if rms := math.Sqrt(ss / float64(len(out))); zero > 1e-3 && math.Abs(rms-1) > 1e-5 {
			t.Fatalf("root mean square %g", rms)
		}
	})
	if out := unitScale([]float32{0, 0}); out[0] != 0 || out[1] != 0 {
		t.Errorf("zeros became %v", out)
	}
}
