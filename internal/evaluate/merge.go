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
	s := &Summary{Data: reports[0].Data, Runs: len(reports), Gains: map[string]MeanSEs{}}
	values := map[string][]System{}
	var order []string
	for _, r := range reports {
		if r.Data != s.Data {
			return nil, fmt.Errorf("evaluate: runs of different data: %s and %s", s.Data, r.Data)
		}
		lines := r.Table()
		if best := r.selected(); best != nil {
			lines = append(lines, Line{Name: "selected round", System: *best})
		}
		for _, l := range lines {
			if values[l.Name] == nil {
				order = append(order, l.Name)
			}
			values[l.Name] = append(values[l.Name], l.System)
		}
	}
	over := func(ss []System, f func(System) float64) MeanSEs {
		xs := make([]float64, len(ss))
		for i, x := range ss {
			xs[i] = f(x)
		}
		m, se := MeanSE(xs)
		return MeanSEs{m, se}
	}
	for _, name := range order {
		ss := values[name]
		if len(ss) != len(reports) {
			continue // not in every run
		}
		s.Systems = append(s.Systems, SummaryLine{name, over(ss, func(x System) float64 { return x.RMSE }), over(ss, func(x System) float64 { return x.MAE }), over(ss, func(x System) float64 { return x.AUC })})
		best := values["selected round"]
		if name == "selected round" || len(best) != len(ss) {
			continue
		}
		diff := make([]System, len(ss))
		for i := range ss {
			diff[i].RMSE = best[i].RMSE - ss[i].RMSE
		}
		s.Gains["selected round against "+name] = over(diff, func(x System) float64 { return x.RMSE })
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
	return s, nil
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
	fmt.Fprintf(&b, "%s, %d runs: mean and standard error over runs\n\n%-16s %16s %16s %16s %26s\n", s.Data, s.Runs, "", "RMSE", "MAE", "AUC", "selected round less this")
	for _, l := range s.Systems {
		gain := ""
		if g, ok := s.Gains["selected round against "+l.Name]; ok {
			gain = fmt.Sprintf("%+.4f (%.4f)", g.Mean, g.SE)
		}
		fmt.Fprintf(&b, "%-16s %16s %16s %16s %26s\n", l.Name, pair(l.RMSE), pair(l.MAE), pair(l.AUC), gain)
	}
	if len(s.Reward) > 1 {
		fmt.Fprintf(&b, "\nvalidation reward, gain over untrained:")
		for k, g := range s.Reward[1:] {
			fmt.Fprintf(&b, " round %d %+.4f (%.4f)", k+1, g.Mean, g.SE)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func pair(x MeanSEs) string { return fmt.Sprintf("%.4f (%.4f)", x.Mean, x.SE) }
