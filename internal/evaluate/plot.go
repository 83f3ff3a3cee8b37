package evaluate

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"slices"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

var (
	blue   = color.RGBA{R: 0x1f, G: 0x6f, B: 0xb4, A: 0xff}
	orange = color.RGBA{R: 0xe0, G: 0x7b, B: 0x1a, A: 0xff}
	grey   = color.RGBA{R: 0x99, G: 0x99, B: 0x99, A: 0xff}
)

// line draws one curve over steps 1..n; marks are drawn as vertical grey lines (where a round begins).
func line(title, unit string, ys []float64, marks []float64) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "PPO step", unit
	pts := make(plotter.XYs, len(ys))
	for i, y := range ys {
		pts[i] = plotter.XY{X: float64(i + 1), Y: y}
	}
	l, dots, err := plotter.NewLinePoints(pts)
	if err != nil {
		return "", err
	}
	l.Color, dots.Color = blue, blue
	dots.Shape, dots.Radius = draw.CircleGlyph{}, vg.Points(1.6)
	p.X.Tick.Marker = plot.TickerFunc(whole)
	p.Add(plotter.NewGrid(), l, dots)
	lo, hi := p.Y.Min, p.Y.Max
	for _, x := range marks {
		m, err := plotter.NewLine(plotter.XYs{{X: x, Y: lo}, {X: x, Y: hi}})
		if err != nil {
			return "", err
		}
		m.Color = grey
		p.Add(m)
	}
	return svg(p)
}

// whole puts ticks at whole numbers only, a dozen at most.
func whole(low, high float64) (ticks []plot.Tick) {
	step := max(1, math.Ceil((high-low)/12))
	for x := math.Ceil(low); x <= high; x += step {
		ticks = append(ticks, plot.Tick{Value: x, Label: strconv.Itoa(int(x))})
	}
	return ticks
}

// bars draws the test RMSE of the compared systems with their standard errors over seeds.
func bars(names []string, mean, se []float64) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = "Test error (lower is better)", "RMSE on [0,1]"
	pts := errPoints{XYs: make(plotter.XYs, len(mean)), YErrors: make(plotter.YErrors, len(mean))}
	for i := range mean {
		pts.XYs[i] = plotter.XY{X: float64(i), Y: mean[i]}
		pts.YErrors[i].Low, pts.YErrors[i].High = se[i], se[i]
	}
	s, err := plotter.NewScatter(pts.XYs)
	if err != nil {
		return "", err
	}
	s.Color, s.Shape, s.Radius = blue, draw.CircleGlyph{}, vg.Points(4)
	e, err := plotter.NewYErrorBars(pts)
	if err != nil {
		return "", err
	}
	e.Color = blue
	p.Add(plotter.NewGrid(), s, e)
	p.NominalX(names...)
	p.X.Max += 0.5 // the last name needs room
	p.X.Tick.Label.Rotation = 0.35
	p.X.Tick.Label.XAlign = draw.XRight
	return svg(p)
}

type errPoints struct {
	plotter.XYs
	plotter.YErrors
}

// histogram draws the attention to the positive (blue) and the negative (orange) explanation: the paper's Fig. 6.
func histogram(title string, pos, neg []float64) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "mean attention", "records"
	for _, side := range []struct {
		name string
		xs   []float64
		c    color.RGBA
	}{{"positive explanation", pos, blue}, {"negative explanation", neg, orange}} {
		if len(side.xs) == 0 {
			return "", fmt.Errorf("evaluate: no values for %q", title)
		}
		h := binned(side.xs, slices.Min(side.xs), slices.Max(side.xs), 24)
		fill := side.c
		fill.A = 0x80
		fill.R, fill.G, fill.B = fill.R/2, fill.G/2, fill.B/2 // alpha-premultiplied
		h.FillColor = fill
		h.LineStyle.Color = side.c
		p.Add(h)
		p.Legend.Add(side.name, h)
	}
	p.Legend.Top, p.Legend.Left = true, true // text to the right of the patches: fonts differ in width
	p.Y.Max *= 1.3                           // below it
	return svg(p)
}

func svg(p *plot.Plot) (template.HTML, error) { return svgOf(p, vg.Points(420), vg.Points(250)) }

func svgOf(p *plot.Plot, width, height vg.Length) (template.HTML, error) {
	c := vgsvg.New(width, height)
	p.Draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	s := b.Bytes()
	if i := bytes.Index(s, []byte("<svg")); i > 0 {
		s = s[i:] // without the XML prologue it stands inside a page
	}
	return template.HTML(s), nil // vgsvg escapes the texts of titles and labels
}

// SVG renders a plot for the inside of a page.
func SVG(p *plot.Plot) (template.HTML, error) { return svg(p) }
