package evaluate

import (
	"fmt"
	"strings"
)

// Summary is what several runs of the same settings with different seeds say together.
type Summary struct {
	Data    string             `json:"data"`
	Runs    int                `json:"runs"`
	Systems []SummaryLine      `json:"systems"`
	Gains   map[string]MeanSEs `json:"gains"` // differences of test RMSE within a run, below 0 when the first is better
	Reward  []MeanSEs          `json:"reward"`

	GainTests   map[string]*SeedTest `json:"gain_tests,omitempty"` // t-tests over the runs of these differences
	Ranking     []SummaryRanking     `json:"ranking,omitempty"`
	Cohorts     []SummaryCohort      `json:"cohorts,omitempty"`
	Calibration []SummaryCalibration `json:"calibration,omitempty"`
}

// SummaryLine is one system over the runs.
type SummaryLine struct {
	Name string  `json:"name"`
	RMSE MeanSEs `json:"rmse"`
	MAE  MeanSEs `json:"mae"`
	AUC  MeanSEs `json:"auc"`
}

// MeanSEs is a mean over runs with its standard error.
type MeanSEs struct {
	Mean float64 `json:"mean"`
	SE   float64 `json:"se"`
}

// Merge summarises runs. Every run draws its own users, so a difference is taken within a run first.
func Merge(reports []*Report) (*Summary, error) {
	s := &Summary{Data: reports[0].Data, Runs: len(reports), Gains: map[string]MeanSEs{}, GainTests: map[string]*SeedTest{}}
	values := map[string][]System{}
	var order []string
	lead := ""
	for _, r := range reports {
		if r.Data != s.Data {
			return nil, fmt.Errorf("evaluate: runs of different data: %s and %s", s.Data, r.Data)
		}
		lines := r.Table()
		name, best := r.lead()
		if best != nil && name == "selected round" {
			lines = append(lines, Line{Name: name, System: *best})
		}
		if lead != "" && lead != name {
			return nil, fmt.Errorf("evaluate: runs of different kinds: what they show is %s and %s", lead, name)
		}
		lead = name
		for _, l := range lines {
			if values[l.Name] == nil {
				order = append(order, l.Name)
			}
			values[l.Name] = append(values[l.Name], l.System)
		}
	}
	best := values[lead]
	for _, name := range order {
		ss := values[name]
		if len(ss) != len(reports) {
			continue // not in every run
		}
		rmse := func(x System) float64 { return x.RMSE }
		s.Systems = append(s.Systems, SummaryLine{name, meanOver(ss, rmse), meanOver(ss, func(x System) float64 { return x.MAE }), meanOver(ss, func(x System) float64 { return x.AUC })})
		if name == lead || len(best) != len(ss) {
			continue
		}
		a, b := each(best, rmse), each(ss, rmse)
		m, se := MeanSE(less(a, b))
		key := lead + " against " + name
		s.Gains[key] = MeanSEs{m, se}
		test, err := CompareSeeds(a, b)
		if err != nil {
			return nil, err
		}
		if test != nil {
			s.GainTests[key] = test
		}
	}
	for k := range reports[0].Reward {
		var xs []float64
		for _, r := range reports {
			if k < len(r.Reward) {
				xs = append(xs, r.Reward[k]-r.Reward[0])
			}
		}
		m, se := MeanSE(xs)
		s.Reward = append(s.Reward, MeanSEs{m, se})
	}
	s.mergeEvaluations(reports)
	return s, nil
}

// lead is the system that a run is about: the selected round, without a policy the fixed sentences, without these the network alone.
func (r *Report) lead() (name string, s *System) {
	switch best := r.selected(); {
	case best != nil:
		return "selected round", best
	case r.Test.Heuristic != nil:
		return "heuristic", r.Test.Heuristic
	default:
		return "no_explanations", r.Test.NoExplanations
	}
}

// selected returns the system of the round that validation chose, nil for a run without explanations.
func (r *Report) selected() *System {
	if r.SelectedRound == 0 {
		return r.Test.Untrained
	}
	if r.SelectedRound <= len(r.Test.Rounds) {
		return &r.Test.Rounds[r.SelectedRound-1]
	}
	return nil
}

// Text returns the summary for a terminal.
func (s *Summary) Text() string {
	var b strings.Builder
	lead := ""
	for key := range s.Gains {
		lead, _, _ = strings.Cut(key, " against ")
	}
	head := ""
	if lead != "" {
		head = lead + " less this"
	}
	fmt.Fprintf(&b, "%s, %d runs: mean and standard error over runs\n\n%-16s %16s %16s %16s %26s %8s\n", s.Data, s.Runs, "", "RMSE", "MAE", "AUC", head, "p")
	for _, l := range s.Systems {
		gain, p := "", ""
		if g, ok := s.Gains[lead+" against "+l.Name]; ok {
			gain = fmt.Sprintf("%+.4f (%.4f)", g.Mean, g.SE)
			if t := s.GainTests[lead+" against "+l.Name]; t != nil {
				p = chance(t.P)
			}
		}
		fmt.Fprintf(&b, "%-16s %16s %16s %16s %26s %8s\n", l.Name, pair(l.RMSE), pair(l.MAE), pair(l.AUC), gain, p)
	}
	if len(s.Reward) > 1 {
		fmt.Fprintf(&b, "\nvalidation reward, gain over untrained:")
		for k, g := range s.Reward[1:] {
			fmt.Fprintf(&b, " round %d %+.4f (%.4f)", k+1, g.Mean, g.SE)
		}
		b.WriteByte('\n')
	}
	s.writeEvaluations(&b)
	return b.String()
}

func pair(x MeanSEs) string { return fmt.Sprintf("%.4f (%.4f)", x.Mean, x.SE) }

func each[T any](xs []T, f func(T) float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = f(x)
	}
	return out
}

func meanOver[T any](xs []T, f func(T) float64) MeanSEs {
	m, se := MeanSE(each(xs, f))
	return MeanSEs{m, se}
}
