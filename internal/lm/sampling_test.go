package lm

import (
	"math"
	"testing"
)

func logs(p ...float64) []float32 {
	out := make([]float32, len(p))
	for i, v := range p {
		out[i] = float32(math.Log(v))
	}
	return out
}

// The frequencies of drawn tokens must be those of the truncated, rescaled distribution.
func TestPickFollowsTheDistribution(t *testing.T) {
	logp := logs(.4, .3, .2, .1)
	for _, c := range []struct {
		name   string
		r      GenRequest
		banned []int32
		want   []float64
	}{
		{"plain", GenRequest{Temperature: 1}, nil, []float64{.4, .3, .2, .1}},
		{"hot", GenRequest{Temperature: 2}, nil, []float64{.3250, .2815, .2298, .1625}},
		{"cold", GenRequest{Temperature: .01}, nil, []float64{1, 0, 0, 0}},
		{"greedy", GenRequest{}, nil, []float64{1, 0, 0, 0}},
		{"top-k", GenRequest{Temperature: 1, TopK: 2}, nil, []float64{.5714, .4286, 0, 0}},
		{"top-p at a border", GenRequest{Temperature: 1, TopP: .69}, nil, []float64{.5714, .4286, 0, 0}},
		{"top-p past a border", GenRequest{Temperature: 1, TopP: .71}, nil, []float64{.4444, .3333, .2222, 0}},
		{"tiny top-p", GenRequest{Temperature: 1, TopP: 1e-9}, nil, []float64{1, 0, 0, 0}},
		{"banned", GenRequest{Temperature: 1}, []int32{0}, []float64{0, .5, .3333, .1667}},
		{"banned, greedy", GenRequest{}, []int32{0, 1}, []float64{0, 0, 1, 0}},
	} {
		s := newSampler(&c.r, 5, 0)
		const n = 40000
		var count [4]float64
		for range n {
			id, lp := s.pick(logp, make([]float32, 4), c.banned)
			if math.Abs(float64(lp-logp[id])) > 1e-6 {
				t.Fatalf("%s: log probability %g of %g", c.name, lp, logp[id])
			}
			count[id]++
		}
		for i := range count {
			near(t, c.name, count[i]/n, c.want[i], 0.012)
		}
	}
}

func TestAlternativesAndRanks(t *testing.T) {
	logp := logs(.1, .4, .3, .2)
	got := alternatives(logp, 0, 3, 2)
	if len(got) != 3 || got[0].ID != 3 || got[0].Rank != 3 || got[1].ID != 1 || got[1].Rank != 1 || got[2].ID != 2 || got[2].Rank != 2 {
		t.Errorf("alternatives %+v", got)
	}
	if got := alternatives(logp, 0, 1, 2); len(got) != 2 || got[0].ID != 1 || got[1].ID != 2 {
		t.Errorf("the token itself is counted twice: %+v", got)
	}
	if got := alternatives(logp, 0, 0, 0); len(got) != 1 || got[0].Rank != 4 {
		t.Errorf("without alternatives: %+v", got)
	}
}

func TestStopStringsCrossTokens(t *testing.T) {
	for _, c := range []struct {
		stops  []string
		tokens []string
		stop   string
		text   string
	}{
		{[]string{"END"}, []string{"a E", "N", "D b"}, "END", "a "},
		{[]string{"xyz", "yz"}, []string{"ax", "yz"}, "xyz", "a"},
		{[]string{"é"}, []string{"caf\xc3", "\xa9!"}, "é", "caf"},
		{[]string{"b", ""}, []string{"\xc3", "b"}, "b", "\uFFFD"},
		{[]string{"b"}, []string{"\xc3\xc3", "b"}, "b", "\uFFFD\uFFFD"},
		{[]string{"q"}, []string{"abc"}, "", ""},
	} {
		f := newStopFinder(c.stops)
		stop, text := "", ""
		for _, tok := range c.tokens {
			if s, cut, ok := f.add([]byte(tok), true); ok {
				stop, text = s, f.before(cut)
				break
			}
		}
		if stop != c.stop || text != c.text {
			t.Errorf("%q in %q: stop %q, text %q; want %q, %q", c.stops, c.tokens, stop, text, c.stop, c.text)
		}
	}
	f := newStopFinder([]string{"ab"})
	if _, _, ok := f.add([]byte("ab"), false); ok {
		t.Error("found although not searched")
	}
}
