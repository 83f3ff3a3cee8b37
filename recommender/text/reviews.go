package text

import (
	"strings"

	"recpie/internal/dataset"
)

// Dims of the vectors, and how many reviews the directions are learned from at most.
const (
	ItemDim   = 24
	ReviewDim = 24
	learnFrom = 60000
	prior     = 3 // reviews' worth of the mean review in a mean
)

// Table holds the text vectors of a view.
type Table struct {
	Items   []float32 // per item: ItemDim numbers of its title, categories and profile; nil when items have none
	ds      *dataset.Dataset
	view    *dataset.View
	reviews []float32 // per record: ReviewDim numbers, zero for no review or an invisible one; nil when there are no reviews
	has     []bool    // per record: it has a visible review
	users   sums
	items   sums
}

// sums of review vectors per user or item.
type sums struct {
	total []float32
	n     []float32
}

// Build fits vocabularies and directions on the view's reviews and on all items' metadata.
func Build(view *dataset.View) *Table {
	ds := view.Dataset()
	t := &Table{ds: ds, view: view}
	t.buildItems()
	t.buildReviews()
	return t
}

// With returns the table for a view with candidates behind the records, which have no review.
func (t *Table) With(view *dataset.View) *Table {
	c := *t
	c.ds, c.view = view.Dataset(), view
	return &c
}

func (t *Table) buildItems() {
	docs := make([]string, len(t.ds.Items))
	for i, it := range t.ds.Items {
		parts := []string{it.Title, strings.Join(it.Categories, " "), it.Profile}
		for _, f := range it.Extra {
			parts = append(parts, f.Value)
		}
		docs[i] = strings.Join(parts, " ")
	}
	lsa := FitLSA(docs, ItemDim)
	if lsa == nil {
		return
	}
	t.Items = make([]float32, len(docs)*ItemDim)
	for i, d := range docs {
		lsa.Vector(t.Items[i*ItemDim:i*ItemDim+lsa.Dim], d)
	}
}

func (t *Table) buildReviews() {
	recs := t.view.Records()
	step := len(recs)/learnFrom + 1
	var docs []string
	for k := 0; k < len(recs); k += step {
		if text, _ := t.view.Review(recs[k]); text != "" {
			docs = append(docs, text)
		}
	}
	lsa := FitLSA(docs, ReviewDim)
	if lsa == nil {
		return
	}
	n := len(t.ds.Records)
	t.reviews, t.has = make([]float32, n*ReviewDim), make([]bool, n)
	t.users = sums{make([]float32, len(t.ds.Users)*ReviewDim), make([]float32, len(t.ds.Users))}
	t.items = sums{make([]float32, len(t.ds.Items)*ReviewDim), make([]float32, len(t.ds.Items))}
	for _, r := range recs {
		text, _ := t.view.Review(r)
		if text == "" {
			continue
		}
		v := t.reviews[int(r)*ReviewDim : (int(r)+1)*ReviewDim]
		lsa.Vector(v[:lsa.Dim], text)
		t.has[r] = true
		t.users.add(int(t.ds.Records[r].User), v)
		t.items.add(int(t.ds.Records[r].Item), v)
	}
}

func (s sums) add(at int, v []float32) {
	s.n[at]++
	for k, x := range v {
		s.total[at*ReviewDim+k] += x
	}
}

// mean writes the mean of the vectors at, own left out when it is not nil, shrunken towards zero.
func (s sums) mean(dst []float32, at int, own []float32) {
	n := s.n[at]
	copy(dst, s.total[at*ReviewDim:(at+1)*ReviewDim])
	if own != nil {
		n--
		for k, x := range own {
			dst[k] -= x
		}
	}
	for k := range dst {
		dst[k] /= n + prior
	}
}

// Dim is the length of a record's row: reviews of its user, reviews of its item, and the item's own text, as far as there are any.
func (t *Table) Dim() int {
	d := 0
	if t.reviews != nil {
		d += 2 * ReviewDim
	}
	if t.Items != nil {
		d += ItemDim
	}
	return d
}

// Row writes what is said around record rec, its own review left out.
func (t *Table) Row(dst []float32, rec int32) {
	r := t.ds.Records[rec]
	if t.reviews != nil {
		var own []float32
		if int(rec) < len(t.has) && t.has[rec] {
			own = t.reviews[int(rec)*ReviewDim : (int(rec)+1)*ReviewDim]
		}
		t.users.mean(dst[:ReviewDim], int(r.User), own)
		t.items.mean(dst[ReviewDim:2*ReviewDim], int(r.Item), own)
		dst = dst[2*ReviewDim:]
	}
	if t.Items != nil {
		copy(dst, t.Items[int(r.Item)*ItemDim:(int(r.Item)+1)*ItemDim])
	}
}
