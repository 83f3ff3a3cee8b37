package evaluate

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func near(t *testing.T, name string, got, want, tol float64) {
	t.Helper()
	if math.IsNaN(got) || math.Abs(got-want) > tol {
		t.Errorf("%s = %v, want %v", name, got, want)
	}
}

func TestMeasureByHand(t *testing.T) {
	m, err := Measure([]float32{0.5, 1.5, 0, 0.8}, []float32{1, 1, 0.25, 0.75})
	if err != nil {
		t.Fatal(err)
	}
	// residuals .5, 0 (clipped), .25, -.05
	near(t, "RMSE", m.RMSE, math.Sqrt((0.25+0.0625+0.0025)/4), 1e-7)
	near(t, "MAE", m.MAE, 0.2, 1e-7)
	near(t, "AUC", m.AUC, 1, 0) // the only unliked record has the lowest prediction
	if _, err := Measure([]float32{float32(math.NaN())}, []float32{1}); err == nil {
		t.Error("a NaN prediction was measured")
	}
	if _, err := Measure([]float32{1}, nil); err == nil {
		t.Error("lengths differ and nothing was said")
	}
}

func TestAUCIsTheShareOfRightPairs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 30).Draw(rt, "n")
		pred, truth := make([]float32, n), make([]float32, n)
		for i := range n {
			pred[i] = float32(rapid.IntRange(0, 6).Draw(rt, "p")) / 6
			truth[i] = float32(rapid.IntRange(0, 4).Draw(rt, "y")) / 4
		}
		var right, all float64
		for i := range n {
			for j := range n {
				if truth[i] >= LabelAt && truth[j] < LabelAt {
					all++
					switch {
					case pred[i] > pred[j]:
						right++
					case pred[i] == pred[j]:
						right += 0.5
					}
				}
			}
		}
		want := 0.5
		if all > 0 {
			want = right / all
		}
		if got := auc(pred, truth); math.Abs(got-want) > 1e-9 {
			rt.Fatalf("auc = %v, pairs say %v", got, want)
		}
	})
}

// The clustered standard error must cover: over many draws of the same world, the difference lies within two of them about 95 times in 100.
func TestPairedStandardErrorCovers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const users, per, worlds = 60, 8, 300
	within := 0
	for range worlds {
		var a, b, y []float32
		var u []int32
		for user := range users {
			shared := rng.NormFloat64() * 0.1 // both systems fail alike within a user
			only := rng.NormFloat64() * 0.05
			for range per {
				y = append(y, 0.5)
				a = append(a, float32(0.5+shared+only+rng.NormFloat64()*0.05))
				b = append(b, float32(0.5+shared-only+rng.NormFloat64()*0.05))
				u = append(u, int32(user))
			}
		}
		p, err := Compare(a, b, y, u)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(p.RMSE) < 1.96*p.SE {
			within++
		}
	}
	if share := float64(within) / worlds; share < 0.90 || share > 0.985 {
		t.Errorf("the true difference 0 is covered %.3f of the time, want about .95", share)
	}
}

func TestCompareSeesARealDifference(t *testing.T) {
	var a, b, y []float32
	var u []int32
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		e := float32(rng.NormFloat64() * 0.1)
		y, a, b, u = append(y, 0.5), append(a, 0.5+e), append(b, 0.5+2*e), append(u, int32(i/8))
	}
	p, err := Compare(a, b, y, u)
	if err != nil || p.RMSE >= 0 || p.P > 1e-6 || p.N != 50 {
		t.Errorf("Compare = %+v, %v", p, err)
	}
}

func TestMannWhitney(t *testing.T) {
	var a, b []float64
	for i := range 40 {
		a, b = append(a, float64(i)+20), append(b, float64(i))
	}
	share, p := MannWhitney(a, b)
	near(t, "share", share, 1-float64(20*19/2+20/2)/1600, 1e-3)
	if p > 1e-6 {
		t.Errorf("p = %v", p)
	}
	if _, p := MannWhitney(a[:3], b); p != 1 {
		t.Errorf("too few values gave p = %v", p)
	}
}

func TestMeanSE(t *testing.T) {
	m, se := MeanSE([]float64{1, 2, 3, 4})
	near(t, "mean", m, 2.5, 1e-12)
	near(t, "se", se, math.Sqrt(5.0/3)/2, 1e-12)
}

func sample() *Report {
	return &Report{
		Data: "ml-100k", Sample: "sample of 28 users", SplitDigest: strings.Repeat("ab", 32), NTrain: 10, NTest: 5,
		Biases: Metrics{.25, .2, .7},
		Test: Systems{NoExplanations: &System{RMSE: .24, RMSESE: .001}, Untrained: &System{RMSE: .239}, Rounds: []System{{RMSE: .238}, {RMSE: .237}},
			Heuristic: &System{RMSE: .236}, ShuffledRefit: &System{RMSE: .24}, NumbersRefit: &System{RMSE: .236}},
		SelectedRound: 2, Reward: []float64{.8, .81, .82}, RewardSE: []float64{0, .001, .001},
		Faithfulness: &Faithfulness{SoftPromptShare: new(float64)}, Paired: map[string]Paired{"rounds against no_explanations": {RMSE: -.003, SE: .001}},
		Attention: &Attention{HighPos: []float64{.1, .2}, HighNeg: []float64{.2, .2}, LowPos: []float64{.1, .3}, LowNeg: []float64{.2, .1}},
		Examples:  []Example{{User: "u", Item: "<script>alert(1)</script>", Positive: `"><img src=x onerror=1>`, Negative: "n"}},
		Steps:     []Step{{1, 1, .8, .1, .2, 0}, {1, 2, .81, .2, .1, 0}, {2, 1, .82, math.Inf(1), .1, 0}},
		Policy:    []PolicyRound{{Round: 1, Valid: .987, Distinct2: .1234, Samples: []PolicyText{{Text: "<script>alert(2)</script><img src=y>"}, {Text: "fine", Valid: true, Reward: .8765}}}},
	}
}

func TestPageEscapesWhatModelsAndUsersWrote(t *testing.T) {
	b, err := sample().HTML()
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	for _, bad := range []string{"<script", "<img", "http://www.w3.org/1999/xhtml"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page contains %s", bad)
		}
	}
	for _, want := range []string{"sample of 28 users", "rounds[2]", "selected on validation", "&lt;script&gt;", "alert(2)", "no usable sentence", "98.7 %", "0.1234", "reward 0.8765", "<svg", "0.0 % of the greedy explanations change"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	if n := strings.Count(page, "<svg"); n != 6 {
		t.Errorf("%d pictures, want 6", n)
	}
}

func TestReportRoundTrip(t *testing.T) {
	dir := t.TempDir()
	r := sample()
	r.Steps[2].KL = 1
	if err := r.Write(dir); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(dir)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(r)
	b, _ := json.Marshal(got)
	if string(a) != string(b) {
		t.Errorf("read back\n%s\nwant\n%s", b, a)
	}
	for _, name := range []string{`"no_explanations"`, `"untrained"`, `"heuristic"`, `"rounds"`, `"shuffled_refit"`, `"numbers_refit"`, `"rmse_se"`, `"selected_round"`, `"split_digest"`, `"n_train"`} {
		if !strings.Contains(string(b), name) {
			t.Errorf("report.json lacks the protocol's name %s", name)
		}
	}
	if !strings.Contains(r.Text(), "no_explanations") {
		t.Error("the text table lacks a system")
	}
}
