package audit

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func near(t testing.TB, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}

func TestMeasure(t *testing.T) {
	rows, err := Measure(t.Context(), &linear{weight: weights()}, []Case{{Record: 7, User: 3, Texts: Pair{"+comedy -war", "-drama ~noir"}, Other: &Pair{"+noir", ""},
		Random: Pair{"-comedy", "-comedy"}, Edit: signs{}, Curve: true}})
	if err != nil {
		t.Fatal(err)
	}
	r := rows[0]
	near(t, "the prediction", r.Prediction, .5+.1-.02-.025)
	near(t, "attention to the positive sentence", r.AttentionPositive, .12)
	for name, want := range map[string]float64{
		Blanked: -.055, BlankedPositive: -.08, BlankedNegative: .025, SwappedUser: .01 - .055, SwappedRandom: -.1 - .05 - .055, Exchanged: (-.05 + .05 - .01) - .055,
		Negated: -.11, NegatedPositive: -.16, NegatedNegative: .05,
	} {
		got, ok := r.Changes[name]
		if !ok {
			t.Errorf("no %s", name)
		}
		near(t, name, got, want)
	}
	for k, want := range []Removed{{"positive", "comedy", 1, -.1}, {"positive", "war", -1, .02}, {"negative", "drama", -1, .025}, {"negative", "noir", 0, 0}} {
		got := r.Reasons[k]
		near(t, want.Aspect, got.Change, want.Change)
		if got.Change = want.Change; got != want {
			t.Errorf("reason %+v, want %+v", got, want)
		}
	}
	twice, err := Measure(t.Context(), &linear{weight: weights()}, []Case{{Texts: Pair{"+comedy +war", "+comedy -war"}, Edit: signs{}}})
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range []Removed{{"both", "comedy", 2, -.15}, {"both", "war", 0, -.01}} {
		got := twice[0].Reasons[k]
		near(t, want.Aspect, got.Change, want.Change)
		if got.Change = want.Change; got != want {
			t.Errorf("reason %+v, want %+v", got, want)
		}
	}
	for k, want := range [][3]float64{{.1, .045, 0}, {.075, .02, .025}, {.055, 0, .045}, {.055, 0, .055}} {
		near(t, "removed", r.Curve.Removed[k], want[0])
		near(t, "kept", r.Curve.Kept[k], want[1])
		near(t, "the last removed", r.Curve.Plain[k], want[2])
	}
}

// Interventions that cannot be made are left out, and so are sentences that are not there.
func TestMeasureOfWhatIsNotThere(t *testing.T) {
	rows, err := Measure(t.Context(), &linear{weight: weights()}, []Case{
		{Record: 0, Edit: signs{}, Random: Pair{"+war", ""}},
		{Record: 1, Texts: Pair{"", "~war"}, Edit: signs{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range [][]string{{Exchanged, SwappedRandom}, {Blanked, BlankedNegative, Exchanged, SwappedRandom}} {
		if len(rows[k].Changes) != len(want) {
			t.Errorf("record %d: %v, want %v", k, rows[k].Changes, want)
		}
		for _, name := range want {
			if _, ok := rows[k].Changes[name]; !ok {
				t.Errorf("record %d has no %s", k, name)
			}
		}
		rows[k].judge(Plain)
	}
	if rows[0].Verdict != Absent || rows[1].PositiveVerdict != Absent || rows[1].NegativeVerdict != Inert || rows[1].Verdict != Inert {
		t.Errorf("verdicts %+v", rows)
	}
}

// chaotic answers the same query differently each time it is asked: whatever it says of an unaltered pair is not asked.
type chaotic struct{ n float64 }

func (c *chaotic) Predict(_ context.Context, queries []Query) ([]Prediction, error) {
	out := make([]Prediction, len(queries))
	for i := range out {
		c.n++
		out[i].Y = math.Mod(c.n*.618, 1)
	}
	return out, nil
}

// A swap for the same sentences changes nothing, whatever the network; and the other changes do not depend on who is audited beside.
func TestProperties(t *testing.T) {
	sentence := rapid.Custom(func(t *rapid.T) string {
		words := rapid.SliceOfNDistinct(rapid.SampledFrom(genres), 0, 4, rapid.ID).Draw(t, "words")
		for i := range words {
			words[i] = rapid.SampledFrom([]string{"+", "-", "~"}).Draw(t, "sign") + words[i]
		}
		return strings.Join(words, " ")
	})
	pair := rapid.Custom(func(t *rapid.T) Pair { return Pair{sentence.Draw(t, "positive"), sentence.Draw(t, "negative")} })
	rapid.Check(t, func(rt *rapid.T) {
		var cases []Case
		for k := range rapid.IntRange(1, 6).Draw(rt, "cases") {
			c := Case{Record: int32(k), Texts: pair.Draw(rt, "texts"), Random: pair.Draw(rt, "random"), Edit: signs{}, Curve: true}
			if rapid.Bool().Draw(rt, "same") {
				c.Random = c.Texts
			}
			same := c.Texts
			c.Other = &same
			cases = append(cases, c)
		}
		rows, err := Measure(context.Background(), &chaotic{}, cases)
		if err != nil {
			rt.Fatal(err)
		}
		for k, r := range rows {
			if r.Changes[SwappedUser] != 0 || cases[k].Random == cases[k].Texts && r.Changes[SwappedRandom] != 0 {
				rt.Fatalf("an identical swap changes the prediction: %+v", r)
			}
			if cases[k].Texts[0] == cases[k].Texts[1] && r.Changes[Exchanged] != 0 {
				rt.Fatalf("exchanging equal sentences changes the prediction: %+v", r)
			}
		}
		net := &linear{weight: weights()}
		together, err := Measure(context.Background(), net, cases)
		if err != nil {
			rt.Fatal(err)
		}
		for k := range cases {
			alone, err := Measure(context.Background(), net, cases[k:k+1])
			if err != nil {
				rt.Fatal(err)
			}
			for name, c := range alone[0].Changes {
				if together[k].Changes[name] != c {
					rt.Fatalf("%s is %g alone and %g in company", name, c, together[k].Changes[name])
				}
			}
			n := len(alone[0].Reasons)
			if n > 0 && alone[0].Curve.Kept[n-1] != 0 {
				rt.Fatalf("with all reasons kept the prediction moves: %+v", alone[0].Curve)
			}
		}
	})
}

type broken struct{ y []float64 }

func (b broken) Predict(context.Context, []Query) ([]Prediction, error) {
	var out []Prediction
	for _, y := range b.y {
		out = append(out, Prediction{Y: y})
	}
	return out, nil
}

func TestBrokenPredictorsAreRefused(t *testing.T) {
	one := []Case{{Record: 5, Edit: signs{}}}
	for want, b := range map[string]broken{"0 predictions for 1": {}, "record 5 is NaN": {[]float64{math.NaN()}}, "record 5 is +Inf": {[]float64{math.Inf(1)}}} {
		if _, err := Measure(t.Context(), b, one); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", b, err, want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	const th = .01
	for _, c := range []struct {
		name             string
		says             Stance
		blanked, negated float64
		positive         bool
		want             Verdict
	}{
		{"nothing moves", Pro, .01, -.01, true, Inert},
		{"the opposite lowers what speaks for it", Pro, -.001, -.02, true, Faithful},
		{"blanking alone moves", Pro, .03, -.001, true, Faithful},
		{"the opposite raises what speaks for it", Pro, -.03, .02, true, Contrary},
		{"the opposite raises what speaks against it", Con, 0, .02, true, Faithful},
		{"the opposite lowers what speaks against it", Con, 0, -.02, true, Contrary},
		{"a positive one without words of its own", Unsaid, 0, -.02, true, Faithful},
		{"a negative one without words of its own", Unsaid, 0, -.02, false, Contrary},
		{"the opposite moves against, but not above the threshold", Pro, -.03, .009, true, Faithful},
		{"one that speaks both ways", Both, 0, .02, true, Faithful},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := Row{Positive: "p", Changes: map[string]float64{BlankedPositive: c.blanked, NegatedPositive: c.negated}, says: [2]Stance{c.says}}
			got := func() Verdict { return r.PositiveVerdict }
			if !c.positive {
				r = Row{Negative: "n", Changes: map[string]float64{BlankedNegative: c.blanked, NegatedNegative: c.negated}, says: [2]Stance{Unsaid, c.says}}
				got = func() Verdict { return r.NegativeVerdict }
			}
			r.judge(th)
			if got() != c.want || r.Verdict != c.want {
				t.Errorf("%q, record %q, want %q", got(), r.Verdict, c.want)
			}
		})
	}
	for _, c := range []struct{ p, n, want Verdict }{{Faithful, Contrary, Contrary}, {Inert, Faithful, Faithful}, {Inert, Inert, Inert}} {
		moves := map[Verdict]float64{Faithful: -.02, Inert: 0, Contrary: .02}
		r := Row{Positive: "p", Negative: "n", says: [2]Stance{Pro, Pro}, Changes: map[string]float64{NegatedPositive: moves[c.p], NegatedNegative: moves[c.n]}}
		if r.judge(th); r.Verdict != c.want {
			t.Errorf("%s and %s make %s, want %s", c.p, c.n, r.Verdict, c.want)
		}
	}
}

func TestThreshold(t *testing.T) {
	cases := world(40, 2)
	n, err := Calibrate(t.Context(), "null", &linear{weight: weights()}, cases)
	if err != nil {
		t.Fatal(err)
	}
	if n.Records != 120 || n.Network != "null" || n.Sentence <= 0 || n.Both <= 0 || n.Both >= n.Sentence*1.5 {
		t.Errorf("%+v", n)
	}
	rows, err := Measure(t.Context(), &linear{weight: weights()}, cases)
	if err != nil {
		t.Fatal(err)
	}
	above := 0
	for i := range rows {
		for side := range sides {
			if rows[i].moved(side) > n.Sentence {
				above++
			}
		}
	}
	if above == 0 || above > 240/20 {
		t.Errorf("%d of 240 sentences move more than the 95th percentile", above)
	}
	still, err := Calibrate(t.Context(), "still", &linear{}, cases)
	if err != nil || still.Sentence != 0 {
		t.Errorf("%+v, %v", still, err)
	}
	for _, c := range []struct {
		noise *Noise
		set   float64
		want  float64
	}{{nil, 0, Plain}, {n, 0, n.Sentence}, {still, 0, Plain}, {n, .5, .5}, {nil, 1e-6, 1e-6}} {
		th := Threshold{Noise: c.noise}
		if th.Choose(c.set); th.Used != c.want || th.Plain != Plain {
			t.Errorf("%+v with %g set: %g, want %g", c.noise, c.set, th.Used, c.want)
		}
	}
	if _, err := Calibrate(t.Context(), "null", &linear{}, []Case{{Edit: signs{}}}); err == nil {
		t.Error("no sentence calibrates")
	}
}

func TestRunStopsWhenToldAndWhenPredictionsFail(t *testing.T) {
	j := begin(t, t.TempDir(), "d")
	stop := errors.New("stop")
	ctx, cancel := context.WithCancelCause(t.Context())
	cases := world(200, 1)
	at := func(from, to int) []Case { return cases[from:to] }
	err := Run(ctx, &linear{}, plainThreshold(), j, len(cases), at, func(int) { cancel(stop) })
	if !errors.Is(err, stop) || j.Done() != chunk {
		t.Errorf("%v after %d rows", err, j.Done())
	}
	if err := Run(t.Context(), broken{}, plainThreshold(), j, len(cases), at, nil); err == nil || j.Done() != chunk {
		t.Errorf("%v after %d rows", err, j.Done())
	}
}
