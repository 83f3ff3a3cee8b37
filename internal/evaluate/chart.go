package evaluate

import (
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Series is a named list of values with their standard errors (nil: none) at X (nil: 1, 2, …).
type Series struct {
	Name string
	X    []float64
	Y    []float64
	SE   []float64
}

var palette = []color.RGBA{blue, orange, grey, {R: 0x2e, G: 0x8b, B: 0x57, A: 0xff}}

// Histogram draws how often values occur, with grey vertical lines at marks. Values outside of the central 99.5 % are counted in the outermost
// bars, so that a few far ones do not press the rest together.
func Histogram(title, unit string, values []float64, marks ...float64) (template.HTML, error) {
	if len(values) == 0 {
		return "", fmt.Errorf("evaluate: no values for %q", title)
	}
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, unit, "records"
	sorted := slices.Sorted(slices.Values(values))
	cut := func(q float64) float64 { return sorted[int(q*float64(len(sorted)-1))] }
	lo, hi := cut(.0025), cut(.9975)
	h := binned(values, lo, hi, 40)
	h.FillColor, h.LineStyle.Color = color.RGBA{R: blue.R / 2, G: blue.G / 2, B: blue.B / 2, A: 0x80}, blue
	p.Add(h)
	top := p.Y.Max
	for _, x := range marks {
		m, err := plotter.NewLine(plotter.XYs{{X: x, Y: 0}, {X: x, Y: top}})
		if err != nil {
			return "", err
		}
		m.Color, m.Dashes = grey, []vg.Length{vg.Points(3), vg.Points(2)}
		p.Add(m)
	}
	return svg(p)
}

// binned counts values in n bars of one width from lo to hi; what lies outside counts in the outermost. plotter.NewHist counts too, and panics where
// rounding puts a value beside the last bar.
func binned(values []float64, lo, hi float64, n int) *plotter.Histogram {
	// Values that are all but the same still get bars with an edge on each side.
	width := max((hi-lo)/float64(n), 1e-9*max(math.Abs(lo), math.Abs(hi), 1e-3))
	h := &plotter.Histogram{Bins: make([]plotter.HistogramBin, n), Width: width, LineStyle: plotter.DefaultLineStyle}
	for k := range h.Bins {
		h.Bins[k].Min, h.Bins[k].Max = lo+float64(k)*width, lo+float64(k+1)*width
	}
	for _, v := range values {
		h.Bins[int(min(float64(n-1), max(0, (v-lo)/width)))].Weight++
	}
	return h
}

// Bars draws named values with their standard errors, from the top down in the order given.
func Bars(title, unit string, names []string, series ...Series) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, unit
	p.Add(plotter.NewGrid())
	n := len(names)
	for k, s := range series {
		pts := xErrPoints{XYs: make(plotter.XYs, 0, n), XErrors: make(plotter.XErrors, 0, n)}
		for i := range min(n, len(s.Y)) {
			if math.IsNaN(s.Y[i]) {
				continue
			}
			at := float64(n-1-i) + .12*float64(len(series)-1-2*k)
			pts.XYs = append(pts.XYs, plotter.XY{X: s.Y[i], Y: at})
			pts.XErrors = append(pts.XErrors, struct{ Low, High float64 }{s.SE[i], s.SE[i]})
		}
		if len(pts.XYs) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(pts.XYs)
		if err != nil {
			return "", err
		}
		whiskers, err := plotter.NewXErrorBars(pts)
		if err != nil {
			return "", err
		}
		dots.Color, dots.Shape, dots.Radius, whiskers.Color = palette[k%len(palette)], draw.CircleGlyph{}, vg.Points(3), palette[k%len(palette)]
		p.Add(dots, whiskers)
		p.Legend.Add(s.Name, dots)
	}
	zero, err := plotter.NewLine(plotter.XYs{{X: 0, Y: -.5}, {X: 0, Y: float64(n) - .5}})
	if err != nil {
		return "", err
	}
	zero.Color = grey
	p.Add(zero)
	labels := slices.Clone(names)
	slices.Reverse(labels)
	p.NominalY(labels...)
	p.Y.Min, p.Y.Max = -.6, float64(n)+1 // the legend stands above the first
	room := .04 * (p.X.Max - p.X.Min)
	p.X.Min, p.X.Max = p.X.Min-room, p.X.Max+room
	p.Legend.Top, p.Legend.Left = true, true
	return svgOf(p, vg.Points(420), vg.Points(90+14*float64(n)))
}

type xErrPoints struct {
	plotter.XYs
	plotter.XErrors
}

// scattered is the number of points that a scatter plot draws at most: more make a page that no browser likes.
const scattered = 1500

// Scatter draws pairs of X and Y of each series, at most 1,500 of them at even distances in the list.
func Scatter(title, x, y string, series ...Series) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Add(plotter.NewGrid())
	for k, s := range series {
		step := max(1, (len(s.Y)+scattered-1)/scattered)
		var pts plotter.XYs
		for i := 0; i < len(s.Y); i += step {
			pts = append(pts, plotter.XY{X: s.X[i], Y: s.Y[i]})
		}
		if len(pts) == 0 {
			continue
		}
		dots, err := plotter.NewScatter(pts)
		if err != nil {
			return "", err
		}
		dots.Color, dots.Shape, dots.Radius = palette[k%len(palette)], draw.CircleGlyph{}, vg.Points(1.2)
		p.Add(dots)
		p.Legend.Add(s.Name, dots)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Max *= 1.2
	return svg(p)
}

// Curves draws lines over steps 1, 2, … with their standard errors.
func Curves(title, x, y string, series ...Series) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.X.Tick.Marker = plot.TickerFunc(whole)
	p.Add(plotter.NewGrid())
	for k, s := range series {
		pts := errPoints{XYs: make(plotter.XYs, len(s.Y)), YErrors: make(plotter.YErrors, len(s.Y))}
		for i, v := range s.Y {
			pts.XYs[i] = plotter.XY{X: float64(i + 1), Y: v}
			pts.YErrors[i].Low, pts.YErrors[i].High = s.SE[i], s.SE[i]
		}
		l, dots, err := plotter.NewLinePoints(pts.XYs)
		if err != nil {
			return "", err
		}
		whiskers, err := plotter.NewYErrorBars(pts)
		if err != nil {
			return "", err
		}
		c := palette[k%len(palette)]
		l.Color, dots.Color, whiskers.Color, dots.Shape, dots.Radius = c, c, c, draw.CircleGlyph{}, vg.Points(2.5)
		p.Add(l, dots, whiskers)
		p.Legend.Add(s.Name, l, dots)
	}
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Max *= 1.35
	return svg(p)
}
