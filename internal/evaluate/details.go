package evaluate

import (
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
)

// details is what the page shows of an Evaluation.
type details struct {
	*Evaluation
	Shown                                          []string // systems whose cohorts are shown; report.json has all
	CohortCharts, CalibrationCharts, RankingCharts []template.HTML
}

// shown names the systems that stand for the others in tables of cohorts: the biases, the network alone, and the one with explanations.
func (r *Report) shown() []string {
	out := []string{"biases", "no_explanations"}
	switch {
	case r.SelectedRound > 0:
		out = append(out, fmt.Sprintf("rounds[%d]", r.SelectedRound))
	case r.Test.Untrained != nil:
		out = append(out, "untrained")
	case r.Test.Heuristic != nil:
		out = append(out, "heuristic")
	}
	return out
}

// Of picks the systems that are shown of a cohort.
func (d *details) Of(c Cohort) []CohortSystem {
	var out []CohortSystem
	for _, name := range d.Shown {
		for _, s := range c.Systems {
			if s.Name == name {
				out = append(out, s)
			}
		}
	}
	return out
}

// quantities says in words what cohorts are sorted by.
var quantities = map[string]string{
	"user_records": "Training records of the user", "item_records": "Training records of the item",
	"item_popularity": "The same, bands of as many test records", "history": "Records in the user's history, such bands",
}

// by lists the quantities that cohorts are sorted by, in their order, with their cohorts.
func by(cohorts []Cohort) (names []string, of map[string][]Cohort) {
	of = map[string][]Cohort{}
	for _, c := range cohorts {
		if of[c.By] == nil {
			names = append(names, c.By)
		}
		of[c.By] = append(of[c.By], c)
	}
	return names, of
}

func (r *Report) details() (*details, error) {
	d := &details{Evaluation: &r.Evaluation, Shown: r.shown()}
	var failed error
	add := func(to *[]template.HTML, svg template.HTML, err error) {
		if err != nil && failed == nil {
			failed = err
		}
		*to = append(*to, svg)
	}
	names, of := by(r.Cohorts)
	for _, name := range names {
		series := make([]Series, len(d.Shown))
		var bands []string
		for _, c := range of[name] {
			bands = append(bands, c.Name)
			for k, s := range d.Of(c) {
				series[k].Name, series[k].Y, series[k].SE = s.Name, append(series[k].Y, s.RMSE), append(series[k].SE, s.RMSESE)
			}
		}
		svg, err := Rows(quantities[name], "test RMSE", bands, series...)
		add(&d.CohortCharts, svg, err)
	}
	var means, spreads []Series
	for _, c := range r.Calibration {
		s := Series{Name: c.System}
		for _, b := range c.Bins {
			s.X, s.Y, s.SE = append(s.X, b.Prediction), append(s.Y, b.Truth), append(s.SE, b.SE)
		}
		means = append(means, s)
		if c.Spread != nil {
			s := Series{Name: c.System}
			for _, b := range c.Spread.Bins {
				s.X, s.Y, s.SE = append(s.X, b.SD), append(s.Y, b.RMSE), append(s.SE, b.SE)
			}
			spreads = append(spreads, s)
		}
	}
	if means != nil {
		svg, err := Against("Predicted and true ratings", "mean prediction of a bin", "mean truth", means...)
		add(&d.CalibrationCharts, svg, err)
	}
	if spreads != nil {
		svg, err := Against("Predicted and true errors", "predicted standard deviation", "RMSE of the bin", spreads...)
		add(&d.CalibrationCharts, svg, err)
	}
	if r.Ranking != nil {
		svg, err := r.Ranking.chart()
		add(&d.RankingCharts, svg, err)
	}
	return d, failed
}

// chart draws NDCG at the last cut-off, a row for each system and a series for each draw.
func (r *Ranking) chart() (template.HTML, error) {
	var names []string
	var series []Series
	k := 0
	for _, draw := range r.Draws {
		if len(draw.Random) == 0 {
			return "", fmt.Errorf("evaluate: a ranking without cut-offs")
		}
		s := Series{Name: draw.Name}
		names = []string{"expected at random"}
		last := draw.Random[len(draw.Random)-1]
		k = last.K
		s.Y, s.SE = []float64{last.NDCG}, []float64{0}
		for _, sys := range draw.Systems {
			at := sys.At[len(sys.At)-1]
			names, s.Y, s.SE = append(names, sys.Name), append(s.Y, at.NDCG), append(s.SE, at.NDCGSE)
		}
		series = append(series, s)
	}
	return Bars("Liked test records among unrated items", fmt.Sprintf("NDCG@%d (higher is better)", k), names, series...)
}

// writeDetails adds comparisons, cohorts, calibration and ranking to the text for a terminal.
func (r *Report) writeDetails(w io.Writer) {
	if len(r.Paired) > 0 {
		fmt.Fprintf(w, "\n%-50s %8s %8s %19s %8s %8s\n", "test RMSE, first less second", "", "SE", "95 % by bootstrap", "p", "p, seeds")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Paired)) {
		p := r.Paired[name]
		interval, seeds := "", ""
		if p.Bootstrap != nil {
			interval = fmt.Sprintf("%+.4f to %+.4f", p.Bootstrap.Low, p.Bootstrap.High)
		}
		if p.Seeds != nil {
			seeds = chance(p.Seeds.P)
		}
		fmt.Fprintf(w, "%-50s %+8.4f %8.4f %19s %8s %8s\n", name, p.RMSE, p.SE, interval, chance(p.P), seeds)
	}
	r.writeCohorts(w)
	for k, c := range r.Calibration {
		if k == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "calibration of %s: slope %.4f (%.4f), intercept %+.4f, error %.4f", c.System, c.Slope, c.SlopeSE, c.Intercept, c.Error)
		if c.Brier != nil {
			fmt.Fprintf(w, ", Brier %.4f", *c.Brier)
		}
		if s := c.Spread; s != nil {
			for _, v := range s.Coverage {
				fmt.Fprintf(w, "; %.0f %% intervals hold %.1f %%", 100*v.Level, 100*v.Share)
			}
			fmt.Fprintf(w, "; ENCE %.4f, CRPS %.4f, NLL %.4f", s.ENCE, s.CRPS, s.NLL)
		}
		fmt.Fprintln(w)
	}
	r.writeRanking(w)
}

// chance writes a p-value.
func chance(p float64) string {
	if p < .0001 {
		return "< .0001"
	}
	return fmt.Sprintf("%.4f", p)
}

func (r *Report) writeCohorts(w io.Writer) {
	if len(r.Cohorts) == 0 {
		return
	}
	d := details{Shown: r.shown()}
	fmt.Fprintf(w, "\n%-16s %-9s %7s %6s", "RMSE by", "", "records", "users")
	for _, name := range d.Shown {
		fmt.Fprintf(w, " %15s", name)
		if name != "no_explanations" {
			fmt.Fprintf(w, " %16s", "difference")
		}
	}
	fmt.Fprintln(w)
	for _, c := range r.Cohorts {
		fmt.Fprintf(w, "%-16s %-9s %7d %6d", c.By, c.Name, c.N, c.Users)
		for _, s := range d.Of(c) {
			fmt.Fprintf(w, " %15.4f", s.RMSE)
			if x := s.Difference; x != nil {
				fmt.Fprintf(w, " %16s", fmt.Sprintf("%+.4f (%.4f)", x.RMSE, x.SE))
			}
		}
		fmt.Fprintln(w)
	}
}

func (r *Report) writeRanking(w io.Writer) {
	if r.Ranking == nil {
		return
	}
	fmt.Fprintf(w, "\n%d liked test records of %d users, each among %d items without a record of the user\n", r.Ranking.Lists, r.Ranking.Users, r.Ranking.Negatives)
	for _, d := range r.Ranking.Draws {
		fmt.Fprintf(w, "%-20s %6s", "others drawn "+map[string]string{"uniform": "alike", "popular": "by use"}[d.Name], "lists")
		for _, s := range d.Random {
			fmt.Fprintf(w, " %16s %16s", fmt.Sprintf("NDCG@%d", s.K), fmt.Sprintf("Recall@%d", s.K))
		}
		fmt.Fprintf(w, "\n%-20s %6s", "expected at random", "")
		for _, s := range d.Random {
			fmt.Fprintf(w, " %7.4f %17.4f        ", s.NDCG, s.Recall)
		}
		fmt.Fprintln(w)
		for _, s := range d.Systems {
			fmt.Fprintf(w, "%-20s %6d", s.Name, s.Lists)
			for _, a := range s.At {
				fmt.Fprintf(w, " %16s %16s", fmt.Sprintf("%.4f (%.4f)", a.NDCG, a.NDCGSE), fmt.Sprintf("%.4f (%.4f)", a.Recall, a.RecallSE))
			}
			fmt.Fprintln(w)
		}
	}
}
