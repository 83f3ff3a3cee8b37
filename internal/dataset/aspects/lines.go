package aspects

import (
	"bytes"
	"encoding/json"
	"io"
	"math"

	"recpie/internal/fault"
	"recpie/internal/screen"
)

// Line is what a file of aspects says of one visible record.
type Line struct {
	User  string   `json:"user_id"`
	Item  string   `json:"item_id"`
	Row   int      `json:"row"`             // of the record in its file, from 0
	Terms []string `json:"terms"`           // up to three of its review: an outcome, like the review
	Quads []Quad   `json:"quads,omitempty"` // the opinions of its review: outcomes too

	// ItemTerms are up to three terms of the item as reviews outside the record's fold know it: they may be shown to a model that predicts the record.
	ItemTerms []string `json:"item_terms"`
}

// Encoder writes values as JSON lines without what a terminal would obey.
type Encoder struct {
	to  io.Writer
	buf bytes.Buffer
}

// NewEncoder returns an encoder onto w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{to: w} }

// Encode writes one line.
func (e *Encoder) Encode(v any) error {
	e.buf.Reset()
	j := json.NewEncoder(&e.buf)
	j.SetEscapeHTML(false)
	if err := j.Encode(v); err != nil {
		return fault.New(fault.Fatal, "aspects: write", err)
	}
	_, err := io.WriteString(e.to, screen.JSON(e.buf.String()))
	return fault.New(fault.Fatal, "aspects: write", err)
}

// Line returns what is known of a visible record. Numbers are rounded to four digits.
func (a *Aspects) Line(rec int32) Line {
	ds := a.view.Dataset()
	r := ds.Records[rec]
	l := Line{User: ds.Users[r.User], Item: ds.Items[r.Item].ID, Row: r.Row, Terms: a.Record(rec), Quads: a.Quads(rec), ItemTerms: a.ItemTerms(r.Item, a.Fold(rec))}
	for i := range l.Quads {
		l.Quads[i].Strength = math.Round(1e4*l.Quads[i].Strength) / 1e4
	}
	if l.Terms == nil {
		l.Terms = []string{}
	}
	return l
}

// ItemTerms names the first three of Item.
func (a *Aspects) ItemTerms(item int32, fold int) []string {
	terms := a.Item(item, fold)
	out := make([]string, min(PerRecord, len(terms)))
	for i := range out {
		out[i] = terms[i].Name
	}
	return out
}

// Write writes a line per visible record, in their order.
func (a *Aspects) Write(w io.Writer) error {
	e := NewEncoder(w)
	for _, rec := range a.view.Records() {
		if err := e.Encode(a.Line(rec)); err != nil {
			return err
		}
	}
	return nil
}

// Summary counts what was found.
type Summary struct {
	Records   int       `json:"records"`    // visible ones
	Reviewed  int       `json:"reviewed"`   // that have a review
	WithTerms int       `json:"with_terms"` // whose review has a term
	Judging   int       `json:"judging"`    // that have a quadruple
	Quads     int       `json:"quads"`
	Good      int       `json:"good"` // quadruples that speak well of their aspect
	Bad       int       `json:"bad"`
	Items     int       `json:"items"` // that have a term
	Aspects   int       `json:"aspects"`
	Opinions  int       `json:"opinions"` // words in the opinion lexicon
	Top       []TopTerm `json:"top"`
}

// TopTerm is an aspect with its mean polarity.
type TopTerm struct {
	Term
	Polarity float64 `json:"polarity"`
}

// Summarise counts, and names the top aspects of which most records say an opinion.
func (a *Aspects) Summarise(top int) Summary {
	s := Summary{Records: len(a.view.Records())}
	for _, rec := range a.view.Records() {
		if text, _ := a.view.Review(rec); text != "" {
			s.Reviewed++
		}
		if len(a.Record(rec)) > 0 {
			s.WithTerms++
		}
		ops := a.opinions(rec)
		if len(ops) > 0 {
			s.Judging++
		}
		for _, o := range ops {
			s.Quads++
			if o.polarity > 0 {
				s.Good++
			} else {
				s.Bad++
			}
		}
	}
	for i := range a.view.Dataset().Items {
		if len(a.Item(int32(i), a.Folds())) > 0 {
			s.Items++
		}
	}
	for _, sign := range a.models[a.Folds()].signs {
		if sign != 0 {
			s.Opinions++
		}
	}
	voc := a.Vocabulary(a.Folds())
	s.Aspects = len(voc)
	for _, t := range voc[:min(top, len(voc))] {
		s.Top = append(s.Top, TopTerm{t, math.Round(1e3*t.Polarity()) / 1e3})
	}
	return s
}
