package evaluate

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. Got\n%s", path, got)
	}
}

// evaluated is a report whose every part comes from made-up predictions.
func evaluated(t *testing.T, seed uint64) *Report {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 77))
	a, b, truth, user := twoSystems(rng, 30, 8, 3, .4)
	r := &Report{Data: "made-up", Sample: "all users", SplitDigest: strings.Repeat("cd", 32), NTrain: 960, NTest: len(truth), Biases: Metrics{.25, .2, .7}, Seeds: []int64{1, 2, 3},
		Timings: map[string]float64{"all": 1}}
	measured := func(preds [][]float32) *System {
		var ms []Metrics
		for _, p := range preds {
			m, err := Measure(p, truth)
			if err != nil {
				t.Fatal(err)
			}
			ms = append(ms, m)
		}
		return Summarise(ms, nil)
	}
	r.Test = Systems{NoExplanations: measured(a), Heuristic: measured(b)}
	p, err := CompareAll(b, a, truth, user, 1)
	if err != nil {
		t.Fatal(err)
	}
	r.Paired = map[string]Paired{"heuristic against no_explanations": p}
	counts := make([]int, len(truth))
	for i := range counts {
		counts[i] = int(user[i]) % 25
	}
	biases := make([]float32, len(truth))
	for i := range biases {
		biases[i] = .5
	}
	groups := append(GroupByEdges("user_records", counts, []int{0, 1, 5, 20}), GroupByQuantiles("item_popularity", counts, 3)...)
	if r.Cohorts, err = Cohorts(groups, []Predicted{{"biases", [][]float32{biases}}, {"no_explanations", a}, {"heuristic", b}}, "no_explanations", truth, user); err != nil {
		t.Fatal(err)
	}
	for name, preds := range map[string][][]float32{"no_explanations": a} {
		c, err := Calibrate(preds[0], truth)
		if err != nil {
			t.Fatal(err)
		}
		sd := make([]float32, len(truth))
		for i := range sd {
			sd[i] = .2 + .1*rng.Float32()
		}
		c.System = name
		if c.RawSpread, err = MeasureSpread(preds[0], truth, sd, 1); err != nil {
			t.Fatal(err)
		}
		if c.Spread, err = MeasureSpread(preds[0], truth, sd, 1.1); err != nil {
			t.Fatal(err)
		}
		r.Calibration = append(r.Calibration, *c)
	}
	click, err := CalibrateClick(b[0], truth)
	if err != nil {
		t.Fatal(err)
	}
	click.System = "heuristic"
	r.Calibration = append(r.Calibration, *click)
	ranks := func(best int32) (out [][]int32) {
		for range 3 {
			var seed []int32
			for range 60 {
				seed = append(seed, best+rng.Int32N(20))
			}
			out = append(out, seed)
		}
		return out
	}
	lengths := make([]int, 60)
	for i := range lengths {
		lengths[i] = 100
	}
	r.Ranking = &Ranking{Candidates: strings.Repeat("ef", 32), Lists: 60, Users: 30, Negatives: 100}
	for _, name := range []string{"uniform", "popular"} {
		base, other, ks := ranks(1), ranks(4), []int{5, 10}
		d := RankDraw{Name: name, Random: RandomRanking(lengths, ks)}
		for k, s := range []string{"no_explanations", "heuristic"} {
			got, against := base, [][]int32(nil)
			if k == 1 {
				got, against = other, base
			}
			at, err := Ranked(got, against, user[:60], ks)
			if err != nil {
				t.Fatal(err)
			}
			d.Systems = append(d.Systems, RankSystem{s, 60, at})
		}
		r.Ranking.Draws = append(r.Ranking.Draws, d)
	}
	return r
}

func TestTextOfAnEvaluation(t *testing.T) { golden(t, "report.txt", evaluated(t, 1).Text()) }

// The fragments of the page, without their pictures.
func TestFragmentsOfThePage(t *testing.T) {
	r := evaluated(t, 1)
	d, err := r.details()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for name, data := range map[string]any{"paired": r.Paired, "cohorts": d, "calibration": d, "ranking": d} {
		b.Reset()
		if err := page.ExecuteTemplate(&b, name, data); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".html", regexp.MustCompile(`(?s)<svg.*?</svg>`).ReplaceAllString(b.String(), "<svg>"))
	}
	empty := &Report{}
	if d, err = empty.details(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]any{"paired": empty.Paired, "cohorts": d, "calibration": d, "ranking": d} {
		b.Reset()
		if err := page.ExecuteTemplate(&b, name, data); err != nil || strings.TrimSpace(b.String()) != "" {
			t.Errorf("%s of nothing: %q, %v", name, b.String(), err)
		}
	}
}

// A page is the same every time, has all pictures, and lets no name of a system through as markup.
func TestPageOfAnEvaluation(t *testing.T) {
	r := evaluated(t, 1)
	r.Calibration[0].System = "<script>x</script>"
	r.Ranking.Draws[0].Systems[0].Name = "<script>y</script>"
	first, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	second, err := r.HTML()
	if err != nil || !bytes.Equal(first, second) {
		t.Errorf("two pages of one report differ: %v", err)
	}
	if n := strings.Count(string(first), "<svg"); n != 1+2+2+1 { // systems, cohorts by two quantities, calibration, ranking
		t.Errorf("%d pictures, want 6", n)
	}
	if strings.Contains(string(first), "<script") {
		t.Error("the page contains <script")
	}
}

// The new fields stand beside the old ones in report.json and come back.
func TestEvaluationRoundTrip(t *testing.T) {
	dir, r := t.TempDir(), evaluated(t, 1)
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
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(a, &keys); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ranking", "cohorts", "calibration", "paired", "test", "biases", "split_digest"} {
		if keys[name] == nil {
			t.Errorf("report.json has no %s at its top", name)
		}
	}
	if got.Text() != r.Text() {
		t.Error("the text differs")
	}
}

func TestShownSystems(t *testing.T) {
	one := &System{}
	for _, c := range []struct {
		r    Report
		want string
	}{
		{Report{}, "biases no_explanations"},
		{Report{Test: Systems{Heuristic: one}}, "biases no_explanations heuristic"},
		{Report{Test: Systems{Heuristic: one, Untrained: one}}, "biases no_explanations untrained"},
		{Report{Test: Systems{Heuristic: one, Untrained: one}, SelectedRound: 2}, "biases no_explanations rounds[2]"},
	} {
		if got := strings.Join(c.r.shown(), " "); got != c.want {
			t.Errorf("shown are %s, want %s", got, c.want)
		}
	}
}
