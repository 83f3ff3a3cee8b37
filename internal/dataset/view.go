package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"math"
	"sort"
	"strings"
)

// View is the gate to outcomes: it answers for visible records and says ok = false for all others.
type View struct {
	ds      *Dataset
	split   *Split
	visible []bool
	recs    []int32   // visible ones, ascending
	byItem  [][]int32 // visible records per item, ascending
	review  int       // outcome column of the review, -1 none
	digest  string
	mean    float64
}

// TrainView shows the training records of all users: what may be seen while anything is chosen on validation.
func (s *Split) TrainView(ds *Dataset) *View { return newView(ds, s, s.whole.Train) }

// FinalView shows training and validation records of all users: what may be seen for the final test run.
func (s *Split) FinalView(ds *Dataset) *View { return newView(ds, s, s.whole.Train, s.whole.Val) }

func newView(ds *Dataset, s *Split, parts ...[]int32) *View {
	v := &View{ds: ds, split: s, visible: make([]bool, len(ds.Records)), byItem: make([][]int32, len(ds.Items)), review: ds.column(ds.Spec.Review)}
	for _, part := range parts {
		for _, r := range part {
			v.visible[r] = true
		}
	}
	sum := 0.0
	for r := range ds.Records {
		if v.visible[r] {
			v.recs = append(v.recs, int32(r))
			v.byItem[ds.Records[r].Item] = append(v.byItem[ds.Records[r].Item], int32(r))
			sum += float64(ds.Spec.Y(ds.ratings[r]))
		}
	}
	v.mean = sum / float64(len(v.recs))
	v.digest = v.hash()
	return v
}

// hash covers the split and all that the view can show.
func (v *View) hash() string {
	h := sha256.New()
	_, _ = io.WriteString(h, "recpie view 1\n"+v.split.Digest)
	for _, r := range v.recs {
		hashInts(h, int64(r))
		hashFloats(h, v.ds.ratings[r])
		for c, name := range v.ds.columns {
			if text := v.ds.outcomes[c][r]; text != "" {
				hashString(h, name)
				hashString(h, text)
			}
		}
	}
	for _, it := range v.ds.Items {
		for _, s := range append([]string{it.ID, it.Title, it.Profile, it.Price}, it.Categories...) {
			hashString(h, s)
		}
		hashInts(h, int64(it.Year), int64(len(it.Extra)))
		for _, f := range it.Extra {
			hashString(h, f.Name)
			hashString(h, f.Value)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Dataset returns the data set that the view looks at.
func (v *View) Dataset() *Dataset { return v.ds }

// Split returns the split that the view was made of.
func (v *View) Split() *Split { return v.split }

// Digest names everything that can be seen through the view: split, visible outcomes, item inputs. It belongs into the key of every
// cache of what was computed from outcomes. Invisible outcomes do not change it.
func (v *View) Digest() string { return v.digest }

// Visible says whether the outcome of record rec may be seen.
func (v *View) Visible(rec int32) bool { return v.visible[rec] }

// Records lists the visible records in ascending order. The caller must not change the list.
func (v *View) Records() []int32 { return v.recs }

// OfUser lists the visible records of user u, oldest first. The caller must not change the list.
func (v *View) OfUser(u int32) []int32 {
	from, to := v.ds.OfUser(u)
	return v.recs[v.before(from):v.before(to)]
}

// OfItem lists the visible records of item i, ascending. The caller must not change the list.
func (v *View) OfItem(i int32) []int32 { return v.byItem[i] }

// History lists the visible records of rec's user that came before rec, oldest first, so that rec itself is never among them.
// For a test record it is the user's history frozen at the cut. The caller must not change the list.
func (v *View) History(rec int32) []int32 {
	from, to := v.ds.OfUser(v.ds.Records[rec].User)
	return v.recs[v.before(from):v.before(min(rec, to))] // a candidate comes after all
}

// before counts the visible records with an index below r.
func (v *View) before(r int32) int {
	return sort.Search(len(v.recs), func(i int) bool { return v.recs[i] >= r })
}

// Y returns the scaled rating of a visible record.
func (v *View) Y(rec int32) (y float32, ok bool) {
	if !v.visible[rec] {
		return 0, false
	}
	return v.ds.Spec.Y(v.ds.ratings[rec]), true
}

// Rating returns the rating of a visible record on its own scale.
func (v *View) Rating(rec int32) (rating float64, ok bool) {
	if !v.visible[rec] {
		return 0, false
	}
	return v.ds.ratings[rec], true
}

// Review returns the review text of a visible record, "" when there is none.
func (v *View) Review(rec int32) (text string, ok bool) {
	if !v.visible[rec] {
		return "", false
	}
	if v.review < 0 {
		return "", true
	}
	return v.ds.outcomes[v.review][rec], true
}

// Column returns a further outcome of a visible record by the name of its column. A column that does not exist is empty.
func (v *View) Column(rec int32, name string) (text string, ok bool) {
	if !v.visible[rec] {
		return "", false
	}
	if c := v.ds.column(name); c >= 0 {
		text = v.ds.outcomes[c][rec]
	}
	return text, true
}

// Aspects returns the aspect terms of a visible record: the column "aspects", separated by bars.
func (v *View) Aspects(rec int32) (terms []string, ok bool) {
	text, ok := v.Column(rec, "aspects")
	if text == "" {
		return nil, ok
	}
	return strings.Split(text, "|"), ok
}

// Mean returns the mean y of the visible records.
func (v *View) Mean() float64 { return v.mean }

func (ds *Dataset) column(name string) int {
	for c, n := range ds.columns {
		if n == name {
			return c
		}
	}
	return -1
}

func hashFloats(h hash.Hash, vs ...float64) {
	for _, x := range vs {
		hashInts(h, int64(math.Float64bits(x)))
	}
}
