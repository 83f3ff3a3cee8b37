package stats

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"image/color"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"recpie/internal/evaluate"
)

var blue = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}

//go:embed page.html.tmpl
var pageSource string

var page = template.Must(template.New("stats").Funcs(template.FuncMap{"pc": percent}).Parse(pageSource))

// HTML renders the description as one page without scripts or outside references.
func (s *Stats) HTML() ([]byte, error) {
	data := struct {
		*Stats
		Spreads                           []namedSpread
		Histogram, ByUser, ByItem, InTime template.HTML
	}{Stats: s, Spreads: []namedSpread{{"records per user", s.PerUser}, {"records per item", s.PerItem}}}
	var err error
	drawing := func(to *template.HTML, p *plot.Plot, perr error) {
		if err == nil {
			err = perr
		}
		if err == nil {
			*to, err = evaluate.SVG(p)
		}
	}
	p, perr := counts("Records per user", "records", "users", s.userCounts)
	drawing(&data.ByUser, p, perr)
	p, perr = counts("Records per item", "records", "items", s.itemCounts)
	drawing(&data.ByItem, p, perr)
	if len(s.Months) > 1 {
		p, perr = months(s.Months)
		drawing(&data.InTime, p, perr)
	}
	if s.Seen != nil {
		data.Spreads = append(data.Spreads, namedSpread{"history at test", s.Split.History}, namedSpread{"words per review", s.Seen.Words}, namedSpread{"terms per record", s.Seen.Aspects})
		p, perr = ratings(s.Seen.Ratings)
		drawing(&data.Histogram, p, perr)
	}
	if err != nil {
		return nil, fmt.Errorf("stats: draw: %w", err)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("stats: page: %w", err)
	}
	return b.Bytes(), nil
}

type namedSpread struct {
	Name string
	Spread
}

func ratings(bins []Bin) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = "Ratings (training and validation)", "rating", "records"
	values, names := make(plotter.Values, len(bins)), make([]string, len(bins))
	for i, b := range bins {
		values[i], names[i] = float64(b.Records), fmt.Sprintf("%.3g", b.To)
	}
	bars, err := plotter.NewBarChart(values, vg.Points(300/float64(max(len(bins), 1)+3)))
	if err != nil {
		return nil, err
	}
	bars.Color, bars.LineStyle.Width = blue, 0
	p.Add(bars)
	p.NominalX(names...)
	return p, nil
}

// counts draws how many have each number of records, both axes logarithmic.
func counts(title, x, y string, sorted []int) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	var pts plotter.XYs
	for _, n := range sorted {
		if k := len(pts); k > 0 && pts[k-1].X == float64(n) {
			pts[k-1].Y++
		} else {
			pts = append(pts, plotter.XY{X: float64(n), Y: 1})
		}
	}
	dots, err := plotter.NewScatter(pts)
	if err != nil {
		return nil, err
	}
	dots.Color, dots.Shape, dots.Radius = blue, draw.CircleGlyph{}, vg.Points(1.8)
	p.Add(plotter.NewGrid(), dots)
	if p.X.Min == p.X.Max { // a logarithmic axis needs some width
		p.X.Max *= 10
	}
	if p.Y.Min == p.Y.Max {
		p.Y.Max *= 10
	}
	return p, nil
}

// months draws the records of each month.
func months(all []Month) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = "Records over time", "records per month"
	p.X.Tick.Marker = plot.TimeTicks{Format: "2006-01"}
	pts := make(plotter.XYs, 0, len(all))
	for _, m := range all {
		at, err := time.Parse("2006-01", m.Month)
		if err != nil {
			continue // a year beyond four digits has no place on the axis
		}
		pts = append(pts, plotter.XY{X: float64(at.Unix()), Y: float64(m.Records)})
	}
	if len(pts) == 0 {
		return p, nil
	}
	l, err := plotter.NewLine(pts)
	if err != nil {
		return nil, err
	}
	l.Color = blue
	p.Add(plotter.NewGrid(), l)
	p.Y.Min = 0
	p.X.Max += (p.X.Max - p.X.Min) / 15 // the last date needs room
	return p, nil
}
