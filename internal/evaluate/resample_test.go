package evaluate

import (
	"math/rand/v2"
	"testing"
)

// twoSystems draws records of users on which system a errs gap more than b.
func twoSystems(rng *rand.Rand, users, per, seeds int, gap float64) (a, b [][]float32, truth []float32, user []int32) {
	a, b = make([][]float32, seeds), make([][]float32, seeds)
	for u := range users {
		lean := rng.NormFloat64() * .03
		for range per {
			y := rng.Float64()
			truth, user = append(truth, float32(y)), append(user, int32(u))
			for s := range seeds {
				e := rng.NormFloat64() * .1
				a[s] = append(a[s], float32(.5+(y-.5)*.2+e*(1+gap)+lean))
				b[s] = append(b[s], float32(.5+(y-.5)*.2+e-lean))
			}
		}
	}
	return a, b, truth, user
}

// Over many worlds the interval holds the difference that infinitely many records would show about 95 times in 100: 0 where both err alike.
func TestBootstrapCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	const worlds = 150
	within := 0
	for w := range worlds {
		a, b, truth, user := twoSystems(rng, 40, 5, 1, 0)
		i, err := Bootstrap(a, b, truth, user, int64(w))
		if err != nil {
			t.Fatal(err)
		}
		if i.Low <= 0 && i.High >= 0 {
			within++
		}
		if i.Low > i.High || i.Resamples != Resamples || i.Level != .95 {
			t.Fatalf("%+v", i)
		}
	}
	if share := float64(within) / worlds; share < .88 || share > .99 {
		t.Errorf("the true difference 0 is covered %.3f of the time, want about .95", share)
	}
}

// The interval follows the seed, and is about that of the delta method.
func TestBootstrapIsSeededAndLikeTheDeltaMethod(t *testing.T) {
	a, b, truth, user := twoSystems(rand.New(rand.NewPCG(8, 2)), 200, 6, 3, .5)
	p, err := CompareAll(a, b, truth, user, 1)
	if err != nil {
		t.Fatal(err)
	}
	again, _ := CompareAll(a, b, truth, user, 1)
	other, _ := CompareAll(a, b, truth, user, 2)
	if *again.Bootstrap != *p.Bootstrap || *other.Bootstrap == *p.Bootstrap {
		t.Error("the draws do not follow the seed")
	}
	near(t, "width of the interval", p.Bootstrap.High-p.Bootstrap.Low, 2*1.96*p.SE, .1*2*1.96*p.SE)
	near(t, "its middle", (p.Bootstrap.High+p.Bootstrap.Low)/2, p.RMSE, .3*p.SE)
	if p.RMSE <= 0 || p.P > 1e-6 || p.Wilcoxon.P > 1e-6 || p.Wilcoxon.N != 200 || p.Seeds.DF != 2 || p.Seeds.Mean <= 0 || p.Seeds.P > .01 || p.N != 200 {
		t.Errorf("%+v %+v %+v", p, p.Seeds, p.Wilcoxon)
	}
}

func TestComparisonsRefuseWhatDoesNotGoTogether(t *testing.T) {
	y, u := []float32{.5, .5}, []int32{1, 2}
	one := [][]float32{{.1, .2}}
	for name, err := range map[string]error{
		"no seeds":      second(CompareAll(nil, nil, y, u, 1)),
		"other lengths": second(CompareAll(one, [][]float32{{.1}}, y, u, 1)),
		"other seeds":   second(CompareAll(one, append(one, one...), y, u, 1)),
		"other users":   second(CompareAll(one, one, y, u[:1], 1)),
		"t-test":        second(CompareSeeds([]float64{1}, nil)),
	} {
		if err == nil {
			t.Errorf("%s: compared", name)
		}
	}
	p, err := CompareAll(one, one, y, u, 1)
	if err != nil || p.Seeds != nil || p.P != 1 || p.Wilcoxon.P != 1 || *p.Bootstrap != (Interval{Level: .95, Resamples: Resamples}) {
		t.Errorf("a system against itself: %+v, %v", p, err)
	}
}

func second[T any](_ T, err error) error { return err }
