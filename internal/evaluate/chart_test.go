package evaluate

import (
	"html/template"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestChartsDrawEverySeriesAndEscapeTheirWords(t *testing.T) {
	const word = `<b onload="x">&`
	two := []Series{{Name: word, X: []float64{1, 2, 3}, Y: []float64{.1, .2, .3}, SE: []float64{.01, .02, 0}}, {Name: "second", X: []float64{1}, Y: []float64{math.NaN(), .5}, SE: []float64{0, .1}}}
	for name, draw := range map[string]func() (template.HTML, error){
		"bars":      func() (template.HTML, error) { return Bars("t", "u", []string{word, "plain"}, two...) },
		"scatter":   func() (template.HTML, error) { return Scatter("t", "x", "y", two[0]) },
		"curves":    func() (template.HTML, error) { return Curves("t", "x", "y", two[0]) },
		"histogram": func() (template.HTML, error) { return Histogram(word, "u", []float64{-1, 0, 0, 1, 900}, -.5, .5) },
	} {
		svg, err := draw()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !strings.HasPrefix(string(svg), "<svg") || strings.Contains(string(svg), "<b ") || !strings.Contains(string(svg), "&lt;b onload=") {
			t.Errorf("%s does not escape: %.300s", name, svg)
		}
	}
	bars, err := Bars("t", "u", []string{"a", "b"}, two...)
	if err != nil || !strings.Contains(string(bars), "second") || strings.Contains(string(bars), "NaN") {
		t.Errorf("a value that is not there: %v\n%.300s", err, bars)
	}
	if _, err := Histogram("t", "u", nil); err == nil {
		t.Error("a histogram of nothing")
	}
}

// Whatever the values, each is counted once and nothing panics.
func TestBinnedCountsEveryValue(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(-1, 1), rapid.SampledFrom([]float64{-.08500000000000008, .08499999999999999, .08500000000000002, 0})), 1, 50).Draw(rt, "values")
		n := rapid.IntRange(1, 50).Draw(rt, "bars")
		h := binned(values, slices.Min(values), slices.Max(values), n)
		sum := 0.0
		for k, b := range h.Bins {
			sum += b.Weight
			if !(b.Max > b.Min) || k > 0 && b.Min < h.Bins[k-1].Min {
				rt.Fatalf("bar %+v", b)
			}
		}
		if sum != float64(len(values)) {
			rt.Fatalf("%g of %d values are counted", sum, len(values))
		}
		if _, err := Histogram("t", "u", values); err != nil {
			rt.Fatal(err)
		}
	})
}

// A page with a point per record would be too large for a browser.
func TestScatterThinsOut(t *testing.T) {
	s := Series{Name: "s"}
	for i := range 20000 {
		s.X, s.Y = append(s.X, float64(i)), append(s.Y, float64(i%97))
	}
	few, err := Scatter("t", "x", "y", Series{Name: "s", X: s.X[:100], Y: s.Y[:100]})
	if err != nil {
		t.Fatal(err)
	}
	many, err := Scatter("t", "x", "y", s)
	if err != nil {
		t.Fatal(err)
	}
	if len(many) > 20*len(few) || len(many) < 5*len(few) {
		t.Errorf("100 points take %d bytes, 20,000 take %d", len(few), len(many))
	}
}
