package terms

import (
	"fmt"
	"slices"
	"strings"

	"recpie/internal/dataset"
)

// metadata is the vocabulary of categories and, where most items have a year, decades. It depends on no outcome.
type metadata struct {
	terms  []string
	byItem [][]int32
	rated  int // terms summed over the records, for the mean
	recs   int
}

// newMetadata takes the categories that at least three items and .2 % share, and that at most 95 % have.
func newMetadata(ds *dataset.Dataset, opts Options) *metadata {
	m := &metadata{byItem: make([][]int32, len(ds.Items))}
	years := 0
	for _, it := range ds.Items {
		if it.Year > 0 {
			years++
		}
	}
	names := make([][]string, len(ds.Items))
	count := make(map[string]int)
	for i, it := range ds.Items {
		for _, c := range it.Categories {
			if c = categoryName(c); c != "" && !slices.Contains(names[i], c) {
				names[i] = append(names[i], c)
			}
		}
		if it.Year > 0 && 2*years >= len(ds.Items) {
			names[i] = append(names[i], fmt.Sprintf("%d0s era", it.Year/10))
		}
		for _, c := range names[i] {
			count[c]++
		}
	}
	index := make(map[string]int32)
	least, most := max(3, len(ds.Items)/500), len(ds.Items)*95/100
	for c, n := range count {
		if n >= least && n <= most {
			m.terms = append(m.terms, c)
		}
	}
	slices.Sort(m.terms)
	for t, c := range m.terms {
		index[c] = int32(t)
	}
	for i := range ds.Items {
		for _, c := range names[i] {
			if t, ok := index[c]; ok && len(m.byItem[i]) < opts.Max {
				m.byItem[i] = append(m.byItem[i], t)
			}
		}
	}
	for _, rec := range ds.Records[:ds.Rated()] {
		m.rated += len(m.byItem[rec.Item])
		m.recs++
	}
	return m
}

// categoryName is the category as it stands inside a sentence, "" for one that says that nothing is known.
func categoryName(c string) string {
	c = strings.Join(strings.Fields(c), " ")
	switch lower := strings.ToLower(c); {
	case lower == "unknown" || lower == "other" || strings.HasPrefix(c, "("):
		return ""
	case c == strings.ToUpper(c): // an abbreviation, as IMAX
		return c
	default:
		return lower
	}
}

func (m *metadata) perItem() float64 { return float64(m.rated) / max(1, float64(m.recs)) }

func (m *metadata) names() []string { return m.terms }

func (m *metadata) itemTerms(int) [][]int32 { return m.byItem }

func (m *metadata) spoken() bool { return false }

func (m *metadata) mentions(int32, int) []int32 { return nil }
