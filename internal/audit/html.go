package audit

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"math"

	"recpie/internal/evaluate"
)

//go:embed audit.html.tmpl
var pageSource string

var page = template.Must(template.New("audit").Funcs(template.FuncMap{
	"f4":    func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"s4":    func(x float64) string { return fmt.Sprintf("%+.4f", x) },
	"pc":    func(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) },
	"p":     pvalue,
	"count": count,
}).Parse(pageSource))

// shownAspects is how many aspects a picture shows.
const shownAspects = 20

// HTML renders the summary as one page without scripts or outside references. It needs the numbers of Summarise, not those read back from JSON.
func (s *Summary) HTML() ([]byte, error) {
	data := struct {
		*Summary
		Shares    []namedShares
		Correlate []namedAgrees
		Changes   []template.HTML
		Bars      template.HTML
		Scatter   template.HTML
		Curve     template.HTML
	}{Summary: s}
	for _, name := range []string{"records", sides[0], sides[1]} {
		data.Shares = append(data.Shares, namedShares{name, s.Verdicts[name]})
	}
	for _, name := range sides {
		data.Correlate = append(data.Correlate, namedAgrees{name, s.Attention[name]})
	}
	var err error
	draw := func(to *template.HTML, picture func() (template.HTML, error)) {
		if err == nil {
			*to, err = picture()
		}
	}
	for _, e := range s.Effects {
		data.Changes = append(data.Changes, "")
		draw(&data.Changes[len(data.Changes)-1], func() (template.HTML, error) {
			return evaluate.Histogram(e.Name, "change of the prediction", s.Histogram[e.Name], -s.Threshold.Used, s.Threshold.Used)
		})
	}
	if len(s.Aspects) > 0 {
		draw(&data.Bars, s.drawAspects)
	}
	if len(s.scatter[0])+len(s.scatter[1]) > 0 {
		draw(&data.Scatter, s.drawAttention)
	}
	if len(s.Curves) > 1 {
		draw(&data.Curve, s.drawCurves)
	}
	if err != nil {
		return nil, fmt.Errorf("audit: draw: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("audit: page: %w", err)
	}
	return b.Bytes(), nil
}

type namedShares struct {
	Name string
	Shares
}

type namedAgrees struct {
	Name string
	Agrees
}

func (s *Summary) drawAspects() (template.HTML, error) {
	var names []string
	pro, con := evaluate.Series{Name: "speaks for the item"}, evaluate.Series{Name: "speaks against it"}
	add := func(to *evaluate.Series, m Mean) {
		if m.N == 0 {
			m.Mean = math.NaN()
		}
		to.Y, to.SE = append(to.Y, m.Mean), append(to.SE, m.SE)
	}
	for _, a := range s.Aspects[:min(shownAspects, len(s.Aspects))] {
		names = append(names, a.Name)
		add(&pro, a.For)
		add(&con, a.Against)
	}
	return evaluate.Bars("What a reason adds to the prediction", "mean, with standard error clustered by user", names, pro, con)
}

func (s *Summary) drawAttention() (template.HTML, error) {
	var series []evaluate.Series
	for side, dots := range s.scatter {
		x := evaluate.Series{Name: sides[side] + " explanation"}
		for _, d := range dots {
			x.X, x.Y = append(x.X, d.attention), append(x.Y, d.moved)
		}
		series = append(series, x)
	}
	return evaluate.Scatter("Does attention tell the truth?", "attention to the explanation", "|change| without it", series...)
}

func (s *Summary) drawCurves() (template.HTML, error) {
	removed, plain, kept := evaluate.Series{Name: "the k strongest removed"}, evaluate.Series{Name: "the last k removed"}, evaluate.Series{Name: "only the k strongest kept"}
	for _, p := range s.Curves {
		for to, m := range map[*evaluate.Series]Mean{&removed: p.Removed, &plain: p.Plain, &kept: p.Kept} {
			to.Y, to.SE = append(to.Y, m.Mean), append(to.SE, m.SE)
		}
	}
	return evaluate.Curves("Reasons taken out one after the other", "reasons k", "|change|", removed, plain, kept)
}
