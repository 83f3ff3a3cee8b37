package tune

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"path/filepath"
	"slices"
	"strconv"

	"recpie/internal/durable"
	"recpie/internal/evaluate"
)

//go:embed tune.html.tmpl
var pageSource string

var page = template.Must(template.New("tune").Funcs(template.FuncMap{
	"f4": func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"f1": func(x float64) string { return fmt.Sprintf("%.1f", x) },
}).Parse(pageSource))

// Write stores the result as tune.json and tune.html in dir.
func (res *Result) Write(dir string) error {
	b, err := json.MarshalIndent(res, "", "  ")
	if err != nil {
		return fmt.Errorf("tune: %w", err)
	}
	html, err := res.HTML()
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, "tune.json"), append(b, '\n'), 0o644); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, "tune.html"), html, 0o644)
}

// HTML renders the result as one page without scripts or outside references.
func (res *Result) HTML() ([]byte, error) {
	data := struct {
		*Result
		Names  []string
		Course []template.HTML // of the search
		Sweeps []template.HTML // one per setting
	}{Result: res}
	ok := slices.DeleteFunc(slices.Clone(res.Trials), func(r Row) bool { return r.Error != "" || r.AtMost != res.Trials[0].AtMost })
	byTrial := slices.SortedFunc(slices.Values(ok), func(a, b Row) int { return a.Trial - b.Trial })
	byTime := slices.SortedFunc(slices.Values(ok), func(a, b Row) int { return int(1000 * (a.At - b.At)) })
	for _, course := range []struct {
		title, unit string
		rows        []Row
		x           func(Row) float64
	}{
		{"Best trial so far", "trial", byTrial, func(r Row) float64 { return float64(r.Trial) }},
		{"Best trial over time", "seconds of search", byTime, func(r Row) float64 { return r.At }},
	} {
		var x, y []float64
		for _, r := range course.rows {
			x, y = append(x, course.x(r)), append(y, r.RMSE)
		}
		svg, err := evaluate.BestSoFar(course.title, course.unit, x, y)
		if err != nil {
			return nil, fmt.Errorf("tune: draw: %w", err)
		}
		data.Course = append(data.Course, svg)
	}
	for _, p := range res.space {
		data.Names = append(data.Names, p.Name)
		svg, err := sweep(p, ok, res.Best.Trial).SVG()
		if err != nil {
			return nil, fmt.Errorf("tune: draw: %w", err)
		}
		data.Sweeps = append(data.Sweeps, svg)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("tune: page: %w", err)
	}
	return b.Bytes(), nil
}

// sweep collects the values of one setting. A choice that only the model's own settings have comes last.
func sweep(p Param, rows []Row, best int) evaluate.Sweep {
	s := evaluate.Sweep{Name: p.Name, Log: p.Range.Log, Names: slices.Clone(p.Range.Choices), Mark: -1}
	for _, r := range rows {
		text := r.Values[p.Name]
		x, err := strconv.ParseFloat(text, 64)
		if len(p.Range.Choices) > 0 {
			at := slices.Index(s.Names, text)
			if at < 0 {
				at = len(s.Names)
				s.Names = append(s.Names, text)
			}
			x = float64(at)
		} else if err != nil {
			continue
		}
		if r.Trial == best {
			s.Mark = len(s.X)
		}
		s.X, s.Y = append(s.X, x), append(s.Y, r.RMSE)
	}
	return s
}
