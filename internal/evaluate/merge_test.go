package evaluate

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestTextOfMergedRuns(t *testing.T) {
	s, err := Merge([]*Report{evaluated(t, 1), evaluated(t, 2), evaluated(t, 3)})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "merged.txt", s.Text())
}

// What the merge says is the mean of what the runs say, and names how many there are.
func TestMergedNumbersAreMeans(t *testing.T) {
	a, b := evaluated(t, 1), evaluated(t, 2)
	b.Ranking = nil
	s, err := Merge([]*Report{a, b})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Ranking {
		if r.Runs != 1 {
			t.Errorf("%d runs ranked, one did", r.Runs)
		}
	}
	if len(s.Ranking) != 2*2*2 {
		t.Errorf("%d lines of ranking", len(s.Ranking))
	}
	near(t, "NDCG", s.Ranking[0].NDCG.Mean, a.Ranking.Draws[0].Systems[0].At[0].NDCG, 1e-12)
	c := s.Cohorts[2] // user_records 0, heuristic
	if c.System != "heuristic" || c.Runs != 2 || c.Difference == nil {
		t.Fatalf("%+v", c)
	}
	near(t, "cohort", c.RMSE.Mean, (a.Cohorts[0].Systems[2].RMSE+b.Cohorts[0].Systems[2].RMSE)/2, 1e-12)
	near(t, "its difference", c.Difference.Mean, (a.Cohorts[0].Systems[2].Difference.RMSE+b.Cohorts[0].Systems[2].Difference.RMSE)/2, 1e-12)
	near(t, "slope", s.Calibration[0].Slope.Mean, (a.Calibration[0].Slope+b.Calibration[0].Slope)/2, 1e-12)
	near(t, "coverage", s.Calibration[0].Coverage[1].Mean, (a.Calibration[0].Spread.Coverage[1].Share+b.Calibration[0].Spread.Coverage[1].Share)/2, 1e-12)
	if s.Calibration[1].ENCE != nil {
		t.Error("a probability has got an uncertainty")
	}
	key := "heuristic against no_explanations"
	g, test := s.Gains[key], s.GainTests[key]
	near(t, "gain", g.Mean, (a.Test.Heuristic.RMSE-a.Test.NoExplanations.RMSE+b.Test.Heuristic.RMSE-b.Test.NoExplanations.RMSE)/2, 1e-12)
	if test == nil || test.DF != 1 || test.Mean != g.Mean || test.SE != g.SE {
		t.Errorf("%+v beside %+v", test, g)
	}
	if _, err := json.Marshal(s); err != nil {
		t.Error(err)
	}
}

func TestMergeFollowsTheSelectedRound(t *testing.T) {
	a, b := sample(), sample()
	b.Test.Rounds[1].RMSE = .235
	s, err := Merge([]*Report{a, b})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "gain", s.Gains["selected round against no_explanations"].Mean, (.237+.235)/2-.24, 1e-12)
	if text := s.Text(); !strings.Contains(text, "selected round less this") {
		t.Error(text)
	}
}

func TestMergeRefusesWhatDoesNotGoTogether(t *testing.T) {
	a, b := evaluated(t, 1), sample()
	if _, err := Merge([]*Report{a, b}); err == nil {
		t.Error("runs of different data")
	}
	b.Data = a.Data
	if _, err := Merge([]*Report{a, b}); err == nil {
		t.Error("runs of different kinds")
	}
}
