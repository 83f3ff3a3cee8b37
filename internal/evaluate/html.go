package evaluate

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"
	"strings"
)

//go:embed report.html.tmpl
var pageSource string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"f4": func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"f2": func(x float64) string { return fmt.Sprintf("%.2f", x) },
	"pc": func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) },
	"p": func(x float64) string {
		if x < 0.001 {
			return "< .001"
		}
		return fmt.Sprintf("%.3f", x)
	},
}).Parse(pageSource))

// Line is a row of the table of compared systems.
type Line struct {
	Name, Meaning string
	System        System
	HasSE         bool
}

// Table lists the compared systems in reading order, the biases first.
func (r *Report) Table() []Line {
	out := []Line{{"biases", "user and item biases, no network", System{RMSE: r.Biases.RMSE, MAE: r.Biases.MAE, AUC: r.Biases.AUC}, false}}
	add := func(name, meaning string, s *System) {
		if s != nil {
			out = append(out, Line{name, meaning, *s, true})
		}
	}
	add("no_explanations", "network retrained without the explanation inputs", r.Test.NoExplanations)
	add("untrained", "explanations before the first PPO step", r.Test.Untrained)
	for i := range r.Test.Rounds {
		meaning := "explanations after this round, network refitted"
		if i+1 == r.SelectedRound {
			meaning += "; selected on validation"
		}
		add(fmt.Sprintf("rounds[%d]", i+1), meaning, &r.Test.Rounds[i])
	}
	add("heuristic", "fixed best-three and worst-three sentences, no language model", r.Test.Heuristic)
	add("shuffled_refit", "control: explanations permuted between pairs, retrained", r.Test.ShuffledRefit)
	add("numbers_refit", "control: the same content as numbers, retrained", r.Test.NumbersRefit)
	add("positive_only", "the fixed best reasons alone, retrained", r.Test.PositiveOnly)
	add("negative_only", "the fixed worst reasons alone, retrained", r.Test.NegativeOnly)
	add("ensemble", "no explanations, the seeds' predictions averaged", r.Test.Ensemble)
	return out
}

// Text returns the table of compared systems for a terminal.
func (r *Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s: %d training and %d test records\n\n", r.Data, r.Sample, r.NTrain, r.NTest)
	fmt.Fprintf(&b, "%-16s %8s %8s %8s %8s\n", "", "RMSE", "SE", "MAE", "AUC")
	for _, l := range r.Table() {
		se := ""
		if l.HasSE {
			se = fmt.Sprintf("%.4f", l.System.RMSESE)
		}
		fmt.Fprintf(&b, "%-16s %8.4f %8s %8.4f %8.4f\n", l.Name, l.System.RMSE, se, l.System.MAE, l.System.AUC)
	}
	return b.String()
}

// HTML renders the report as one page without scripts or outside references.
func (r *Report) HTML() ([]byte, error) {
	data := struct {
		*Report
		Lines                                            []Line
		Bars, RewardCurve, KLCurve, LossCurve, High, Low template.HTML
	}{Report: r, Lines: r.Table()}
	names, mean, se := []string{}, []float64{}, []float64{}
	for _, l := range data.Lines {
		names, mean, se = append(names, l.Name), append(mean, l.System.RMSE), append(se, l.System.RMSESE)
	}
	var err error
	draw := func(to *template.HTML, f func() (template.HTML, error)) {
		if err == nil {
			*to, err = f()
		}
	}
	draw(&data.Bars, func() (template.HTML, error) { return bars(names, mean, se) })
	if len(r.Steps) > 0 {
		var marks []float64
		for i := 1; i < len(r.Steps); i++ {
			if r.Steps[i].Round != r.Steps[i-1].Round {
				marks = append(marks, float64(i)+0.5)
			}
		}
		curve := func(title, unit string, y func(Step) float64) func() (template.HTML, error) {
			ys := make([]float64, len(r.Steps))
			for i, s := range r.Steps {
				if ys[i] = y(s); math.IsNaN(ys[i]) || math.IsInf(ys[i], 0) {
					ys[i] = 0
				}
			}
			return func() (template.HTML, error) { return line(title, unit, ys, marks) }
		}
		draw(&data.RewardCurve, curve("Mean reward of the sampled explanations", "reward (eq. 1)", func(s Step) float64 { return s.Reward }))
		draw(&data.KLCurve, curve("Distance from the reference model", "KL, nats per sentence", func(s Step) float64 { return s.KL }))
		draw(&data.LossCurve, curve("Policy loss", "clipped surrogate", func(s Step) float64 { return s.Loss }))
	}
	if a := r.Attention; a != nil && len(a.HighPos) > 0 && len(a.LowPos) > 0 {
		draw(&data.High, func() (template.HTML, error) { return histogram("Records rated high", a.HighPos, a.HighNeg) })
		draw(&data.Low, func() (template.HTML, error) { return histogram("Records rated low", a.LowPos, a.LowNeg) })
	}
	if err != nil {
		return nil, fmt.Errorf("evaluate: draw: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("evaluate: page: %w", err)
	}
	return b.Bytes(), nil
}
