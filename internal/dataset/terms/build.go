package terms

import (
	"math"
	"slices"

	"recpie/internal/dataset"
)

// Source says what the vocabulary is made of.
type Source int

// Sources. Auto takes metadata when the items carry at least 1.5 shared categories or decades on average, or when there are no reviews.
const (
	Auto Source = iota
	Metadata
	Reviews
	Aspects // what reviews judge, as package aspects finds it: in place of Reviews where it is asked for
)

// sourceNames are the sources as settings name them.
var sourceNames = [...]string{Auto: "auto", Metadata: "metadata", Reviews: "reviews", Aspects: "aspects"}

// ParseSource reads the name of a source; ok is false for another word.
func ParseSource(name string) (s Source, ok bool) {
	i := slices.Index(sourceNames[:], name)
	return Source(max(i, 0)), i >= 0
}

// String returns the source's name in settings.
func (s Source) String() string {
	if s < 0 || int(s) >= len(sourceNames) {
		return "unknown"
	}
	return sourceNames[s]
}

// FromReviews says whether the vocabulary of a source comes from what people wrote.
func (s Source) FromReviews() bool { return s == Reviews || s == Aspects }

// Options varies Build. The zero value is sound.
type Options struct {
	Source   Source
	Folds    int     // K of the cross-fitting, 0 = 20
	Max      int     // most candidate terms of a record, 0 = 8
	Words    int     // size of a vocabulary from reviews, 0 = 40
	Shrink   float64 // records' worth of the prior in tastes and opinions, 0 = 3
	FoldSeed int64   // of the assignment of records to folds
}

func (o Options) withDefaults() Options {
	if o.Folds <= 1 {
		o.Folds = 20
	}
	if o.Max <= 0 {
		o.Max = 8
	}
	if o.Words <= 0 {
		o.Words = 40
	}
	if o.Shrink <= 0 {
		o.Shrink = 3
	}
	return o
}

// Terms holds the candidates of every record of a data set.
type Terms struct {
	names  []string
	source Source
	start  []int32 // candidates of a rated record r are cells[start[r]:start[r+1]]
	cells  []cell

	// Of pairs that nobody rated there may be millions: what is said of them is said when it is asked for.
	records []dataset.Record
	rest    *model // knows everything visible; nil when all records are rated
}

// cell is a candidate in store: words are indexes into TasteWords and OpinionWords, -1 for no verdict.
type cell struct {
	term           int32
	taste, opinion float32
	tasteWord      int8
	opinionWord    int8
}

// Names lists the vocabulary: the union of the folds' where it is mined from reviews. The caller must not change it.
func (t *Terms) Names() []string { return t.names }

// Source says what the vocabulary was made of: Metadata, Reviews or Aspects.
func (t *Terms) Source() Source { return t.source }

// For returns the candidate terms of record rec's item, most characteristic first. It is empty for an item that nothing describes.
func (t *Terms) For(rec int32) []Candidate {
	var cells []cell
	if int(rec) < len(t.start)-1 {
		cells = t.cells[t.start[rec]:t.start[rec+1]]
	} else {
		cells = t.rest.describe(t.records[rec])
	}
	out := make([]Candidate, len(cells))
	for i, c := range cells {
		out[i] = Candidate{Term: c.term, Name: t.names[c.term], Taste: c.taste, Opinion: c.opinion, TasteWord: NewTaste, OpinionWord: NewOpinion}
		if c.tasteWord >= 0 {
			out[i].TasteWord = TasteWords[c.tasteWord]
		}
		if c.opinionWord >= 0 {
			out[i].OpinionWord = OpinionWords[c.opinionWord]
		}
	}
	return out
}

// vocabulary gives the terms of items, as far as they are known without the records of one fold.
type vocabulary interface {
	names() []string
	// itemTerms returns per item its candidate terms with fold left out; fold = K leaves nothing out.
	itemTerms(fold int) [][]int32
	// spoken says whether reviews tell who speaks of which term; else every record speaks of every term of its item.
	spoken() bool
	// mentions lists the terms that a visible record's review names, where they are spoken, as known with a fold left out.
	mentions(rec int32, fold int) []int32
}

// Build makes the terms of every record. All outcomes are read through the view; those of a visible record's fold are left out of
// everything that is said about it.
func Build(view *dataset.View, opts Options) (*Terms, error) {
	opts = opts.withDefaults()
	ds := view.Dataset()
	fold := view.Folds(opts.Folds, opts.FoldSeed)
	var voc vocabulary
	source := opts.Source
	meta := newMetadata(ds, opts)
	if source == Auto {
		source = Metadata
		if ds.Spec.Review != "" && meta.perItem() < 1.5 {
			source = Reviews
		}
	}
	voc = meta
	switch source {
	case Reviews:
		voc = mine(view, fold, opts)
	case Aspects:
		var err error
		if voc, err = newJudged(view, opts); err != nil {
			return nil, err
		}
	}

	t := &Terms{names: voc.names(), source: source, start: make([]int32, ds.Rated()+1), records: ds.Records}
	perRecord := make([][]cell, ds.Rated())
	members := make([][]int32, opts.Folds+1)
	for r := range perRecord {
		members[fold[r]] = append(members[fold[r]], int32(r))
	}
	for f, recs := range members {
		candidates := f == opts.Folds && len(ds.Records) > ds.Rated()
		if len(recs) == 0 && !candidates {
			continue
		}
		m := fitModel(view, voc, fold, f, opts)
		if candidates {
			t.rest = m
		}
		for _, r := range recs {
			perRecord[r] = m.describe(ds.Records[r])
		}
	}
	for r, cells := range perRecord {
		t.cells = append(t.cells, cells...)
		t.start[r+1] = int32(len(t.cells))
	}
	return t, nil
}

var nan = float32(math.NaN())
