package audit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// signs is a language of explanations: "+comedy -war" speaks for the item by comedy and against it by war. "~" before a word says neither.
type signs struct{}

func (signs) Read(text string) (reasons []Reason, says Stance) {
	var pro, con float64
	for _, w := range strings.Fields(text) {
		r := Reason{Aspect: w[1:], Lean: map[byte]float64{'+': 1, '-': -1}[w[0]]}
		reasons, pro, con = append(reasons, r), pro+max(0, r.Lean), con+min(0, r.Lean)
	}
	return reasons, StanceOf(pro, con)
}

func (signs) Without(text string, aspects ...string) string {
	var left []string
	for _, w := range strings.Fields(text) {
		gone := false
		for _, a := range aspects {
			gone = gone || w[1:] == a
		}
		if !gone {
			left = append(left, w)
		}
	}
	return strings.Join(left, " ")
}

func (signs) Negate(text string) (string, bool) {
	out := strings.NewReplacer("+", "-", "-", "+").Replace(text)
	return out, out != text
}

// linear is a network whose truth is known: the prediction is .5 and, per word of both sentences, the weight of its aspect by its sign; words of
// the negative sentence count half.
type linear struct {
	weight map[string]float64
	asked  int
}

func (l *linear) Predict(_ context.Context, queries []Query) ([]Prediction, error) {
	out := make([]Prediction, len(queries))
	for i, q := range queries {
		l.asked++
		p := Prediction{Y: .5}
		for side, text := range []string{q.Positive, q.Negative} {
			rs, _ := signs{}.Read(text)
			for _, r := range rs {
				x := l.weight[r.Aspect] * r.Lean / float64(1+side)
				p.Y += x
				*[]*float64{&p.Positive, &p.Negative}[side] += max(x, -x)
			}
		}
		out[i] = p
	}
	return out, nil
}

var genres = []string{"comedy", "drama", "war", "noir", "quiet"}

func weights() map[string]float64 {
	return map[string]float64{"comedy": .1, "drama": .05, "war": .02, "noir": .01}
}

// world makes cases of n users with three records each.
func world(n int, seed uint64) []Case {
	rng := rand.New(rand.NewPCG(seed, 1))
	say := func() string {
		var words []string
		for _, g := range rng.Perm(len(genres))[:1+rng.IntN(3)] {
			words = append(words, string("+-"[rng.IntN(2)])+genres[g])
		}
		return strings.Join(words, " ")
	}
	var out []Case
	for k := range 3 * n {
		out = append(out, Case{Record: int32(k), User: int32(k / 3), UserID: fmt.Sprint("u", k/3), ItemID: fmt.Sprint("i", k%7), Truth: .25 * float64(rng.IntN(5)),
			Texts: Pair{say(), say()}, Random: Pair{say(), say()}, Edit: signs{}, Curve: true})
		if k%4 > 0 {
			out[k].Other = &Pair{say(), say()}
		}
	}
	return out
}

// audited runs an audit of cases to its end.
func audited(t testing.TB, p Predictor, cases []Case, th Threshold) (*Summary, *Journal) {
	t.Helper()
	j, err := OpenJournal(filepath.Join(t.TempDir(), "rows.jsonl"), "digest")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	if err := Run(t.Context(), p, th, j, len(cases), func(from, to int) []Case { return cases[from:to] }, nil); err != nil {
		t.Fatal(err)
	}
	s, err := Summarise(Summary{Data: "world", Network: "linear", Of: len(cases), Threshold: th}, j)
	if err != nil {
		t.Fatal(err)
	}
	return s, j
}

func plainThreshold() Threshold {
	var th Threshold
	th.Choose(0)
	return th
}
