package evaluate

import (
	"fmt"
	"io"
)

// SummaryRanking is a system's ranking at one cut-off, over the runs that measured it.
type SummaryRanking struct {
	Draw   string  `json:"draw"`
	Name   string  `json:"name"`
	K      int     `json:"k"`
	Runs   int     `json:"runs"`
	NDCG   MeanSEs `json:"ndcg"`
	Recall MeanSEs `json:"recall"`
	Random MeanSEs `json:"random_ndcg"` // expected of scores at random on the same lists
}

// SummaryCohort is a system on a cohort, over the runs that have both.
type SummaryCohort struct {
	By         string   `json:"by"`
	Name       string   `json:"name"` // band N, from 1, where the bands' limits hang on the run
	System     string   `json:"system"`
	Runs       int      `json:"runs"`
	RMSE       MeanSEs  `json:"rmse"`
	Difference *MeanSEs `json:"difference,omitempty"` // to no_explanations within a run
}

// SummaryCalibration is a system's calibration, over the runs that measured it. Spread is nil where no run knows standard deviations.
type SummaryCalibration struct {
	System   string    `json:"system"`
	Runs     int       `json:"runs"`
	Slope    MeanSEs   `json:"slope"`
	Error    MeanSEs   `json:"error"`
	Coverage []MeanSEs `json:"coverage,omitempty"` // of the intervals of Levels
	ENCE     *MeanSEs  `json:"ence,omitempty"`
	CRPS     *MeanSEs  `json:"crps,omitempty"`
	NLL      *MeanSEs  `json:"nll,omitempty"`
}

// collected keeps values by key, keys in the order in which they were met.
type collected[T any] struct {
	order []string
	of    map[string][]T
}

func (c *collected[T]) add(x T, key ...any) {
	if c.of == nil {
		c.of = map[string][]T{}
	}
	k := fmt.Sprint(key...)
	if c.of[k] == nil {
		c.order = append(c.order, k)
	}
	c.of[k] = append(c.of[k], x)
}

// mergeEvaluations summarises cohorts, calibration and ranking. A run lacks what it did not measure; how many runs a line stands for it says.
func (s *Summary) mergeEvaluations(reports []*Report) {
	type ranked struct {
		line   SummaryRanking
		score  RankScore
		random float64
	}
	type cohort struct {
		line   SummaryCohort
		system CohortSystem
	}
	var ranks collected[ranked]
	var cohorts collected[cohort]
	var calibrations collected[Calibration]
	for _, r := range reports {
		if r.Ranking != nil {
			for _, d := range r.Ranking.Draws {
				for _, sys := range d.Systems {
					for i, a := range sys.At {
						if i < len(d.Random) {
							ranks.add(ranked{SummaryRanking{Draw: d.Name, Name: sys.Name, K: a.K}, a, d.Random[i].NDCG}, d.Name, "\x00", sys.Name, "\x00", a.K)
						}
					}
				}
			}
		}
		for _, c := range r.Cohorts {
			name := c.Name
			if c.Band > 0 {
				name = fmt.Sprintf("band %d", c.Band)
			}
			for _, sys := range c.Systems {
				cohorts.add(cohort{SummaryCohort{By: c.By, Name: name, System: sys.Name}, sys}, c.By, "\x00", name, "\x00", sys.Name)
			}
		}
		for _, c := range r.Calibration {
			calibrations.add(c, c.System)
		}
	}
	for _, key := range ranks.order {
		xs := ranks.of[key]
		line := xs[0].line
		line.Runs = len(xs)
		line.NDCG, line.Recall = meanOver(xs, func(x ranked) float64 { return x.score.NDCG }), meanOver(xs, func(x ranked) float64 { return x.score.Recall })
		line.Random = meanOver(xs, func(x ranked) float64 { return x.random })
		s.Ranking = append(s.Ranking, line)
	}
	for _, key := range cohorts.order {
		xs := cohorts.of[key]
		line := xs[0].line
		line.Runs, line.RMSE = len(xs), meanOver(xs, func(x cohort) float64 { return x.system.RMSE })
		var diffs []float64
		for _, x := range xs {
			if x.system.Difference != nil {
				diffs = append(diffs, x.system.Difference.RMSE)
			}
		}
		if len(diffs) == len(xs) {
			m, se := MeanSE(diffs)
			line.Difference = &MeanSEs{m, se}
		}
		s.Cohorts = append(s.Cohorts, line)
	}
	for _, key := range calibrations.order {
		s.Calibration = append(s.Calibration, summariseCalibration(calibrations.of[key]))
	}
}

func summariseCalibration(xs []Calibration) SummaryCalibration {
	line := SummaryCalibration{System: xs[0].System, Runs: len(xs)}
	line.Slope, line.Error = meanOver(xs, func(c Calibration) float64 { return c.Slope }), meanOver(xs, func(c Calibration) float64 { return c.Error })
	var spreads []*Uncertainty
	for _, c := range xs {
		if c.Spread != nil && len(c.Spread.Coverage) == len(Levels) {
			spreads = append(spreads, c.Spread)
		}
	}
	if len(spreads) < len(xs) {
		return line
	}
	for k := range Levels {
		line.Coverage = append(line.Coverage, meanOver(spreads, func(u *Uncertainty) float64 { return u.Coverage[k].Share }))
	}
	ence, crps, nll := meanOver(spreads, func(u *Uncertainty) float64 { return u.ENCE }), meanOver(spreads, func(u *Uncertainty) float64 { return u.CRPS }), meanOver(spreads, func(u *Uncertainty) float64 { return u.NLL })
	line.ENCE, line.CRPS, line.NLL = &ence, &crps, &nll
	return line
}

// writeEvaluations adds them to the text for a terminal.
func (s *Summary) writeEvaluations(w io.Writer) {
	if len(s.Cohorts) > 0 {
		fmt.Fprintf(w, "\n%-16s %-9s %-16s %4s %16s %26s\n", "RMSE by", "", "", "runs", "", "less no_explanations")
	}
	for _, c := range s.Cohorts {
		diff := ""
		if c.Difference != nil {
			diff = fmt.Sprintf("%+.4f (%.4f)", c.Difference.Mean, c.Difference.SE)
		}
		fmt.Fprintf(w, "%-16s %-9s %-16s %4d %16s %26s\n", c.By, c.Name, c.System, c.Runs, pair(c.RMSE), diff)
	}
	for k, c := range s.Calibration {
		if k == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "calibration of %s, %d runs: slope %s, error %s", c.System, c.Runs, pair(c.Slope), pair(c.Error))
		for k, x := range c.Coverage {
			fmt.Fprintf(w, "; %.0f %% intervals hold %.1f %%", 100*Levels[k], 100*x.Mean)
		}
		if c.ENCE != nil {
			fmt.Fprintf(w, "; ENCE %s, CRPS %s, NLL %s", pair(*c.ENCE), pair(*c.CRPS), pair(*c.NLL))
		}
		fmt.Fprintln(w)
	}
	if len(s.Ranking) > 0 {
		fmt.Fprintf(w, "\n%-10s %-20s %4s %4s %16s %16s %16s\n", "ranking", "", "k", "runs", "NDCG", "Recall", "NDCG at random")
	}
	for _, r := range s.Ranking {
		fmt.Fprintf(w, "%-10s %-20s %4d %4d %16s %16s %16.4f\n", r.Draw, r.Name, r.K, r.Runs, pair(r.NDCG), pair(r.Recall), r.Random.Mean)
	}
}
