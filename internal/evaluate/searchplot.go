package evaluate

import (
	"html/template"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// BestSoFar draws errors (grey) over x, which ascends, and the lowest one so far (blue).
func BestSoFar(title, unit string, x, y []float64) (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, unit, "validation RMSE"
	top := ceiling(y)
	all, best := plotter.XYs{}, make(plotter.XYs, len(y))
	low := y[0]
	for i := range y {
		low = min(low, y[i])
		best[i] = plotter.XY{X: x[i], Y: min(low, top)}
		if y[i] <= top {
			all = append(all, plotter.XY{X: x[i], Y: y[i]})
		}
	}
	dots, err := scatter(all)
	if err != nil {
		return "", err
	}
	line, err := plotter.NewLine(best)
	if err != nil {
		return "", err
	}
	line.StepStyle, line.Color, line.Width = plotter.PostStep, blue, vg.Points(1.5)
	p.Add(plotter.NewGrid(), dots, line)
	return svg(p)
}

// Sweep is one setting's values beside the errors that they gave.
type Sweep struct {
	Name  string
	Log   bool      // draw X on a logarithmic axis; values of 0 or below are left out
	Names []string  // what X counts, when it counts choices
	X, Y  []float64 // value and error of each trial
	Mark  int       // the trial to draw in orange, -1 none
}

// SVG draws the sweep.
func (s Sweep) SVG() (template.HTML, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = s.Name, "validation RMSE"
	top := ceiling(s.Y)
	var all, marked plotter.XYs
	for i := range s.X {
		switch at := (plotter.XY{X: s.X[i], Y: s.Y[i]}); {
		case s.Log && at.X <= 0 || at.Y > top:
		case i == s.Mark:
			marked = append(marked, at)
		default:
			all = append(all, at)
		}
	}
	p.Add(plotter.NewGrid())
	for k, xys := range []plotter.XYs{all, marked} {
		if len(xys) == 0 {
			continue
		}
		dots, err := scatter(xys)
		if err != nil {
			return "", err
		}
		if k == 1 {
			dots.Color, dots.Radius = orange, vg.Points(4)
		}
		p.Add(dots)
	}
	switch {
	case len(s.Names) > 0:
		p.NominalX(s.Names...)
		p.X.Min, p.X.Max = p.X.Min-.3, p.X.Max+.3 // room for the names
	case s.Log && p.X.Min > 0 && p.X.Min < p.X.Max:
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	return svg(p)
}

func scatter(xys plotter.XYs) (*plotter.Scatter, error) {
	s, err := plotter.NewScatter(xys)
	if err != nil {
		return nil, err
	}
	s.Color, s.Shape, s.Radius = grey, draw.CircleGlyph{}, vg.Points(2.5)
	return s, nil
}

// ceiling returns the error above which a trial is not drawn, so that one that diverged does not press the others into a line: five times as far
// above the best as the median.
func ceiling(y []float64) float64 {
	sorted := slices.Sorted(slices.Values(y))
	best, median := sorted[0], sorted[len(sorted)/2]
	return max(best+5*(median-best), median)
}
