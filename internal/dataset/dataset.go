package dataset

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"recpie/internal/fault"
)

// Spec says what the records are about and which columns may be seen before the outcome is known.
type Spec struct {
	Domain     string   `json:"domain"`           // movie, product, hotel, restaurant, place
	Verb       string   `json:"verb"`             // what the user did, as "watched this movie"
	Min        float64  `json:"min"`              // lowest rating of the scale, y = 0
	Max        float64  `json:"max"`              // highest rating of the scale, y = 1
	ItemInputs []string `json:"item_inputs"`      // columns of the items file that are inputs: title, categories, year, profile, price, or others by name
	Review     string   `json:"review,omitempty"` // the outcome column that holds the review text, "" when there is none
}

// Y maps a rating onto [0,1]: (r − Min)/(Max − Min).
func (s Spec) Y(rating float64) float32 { return float32((rating - s.Min) / (s.Max - s.Min)) }

// Rating is the inverse of Y.
func (s Spec) Rating(y float64) float64 { return s.Min + y*(s.Max-s.Min) }

// Field is one named value.
type Field struct{ Name, Value string }

// Item holds the inputs of one item: only what Spec.ItemInputs allows was read.
type Item struct {
	ID         string
	Title      string // without the year in brackets that MovieLens appends
	Year       int    // of release, 0 when unknown
	Categories []string
	Profile    string
	Price      string
	Extra      []Field // further allow-listed columns in the order of the file, empty values left out
}

// Record is one rated pair without its outcome.
type Record struct {
	User, Item int32
	Time       int64 // Unix seconds
	HasTime    bool
	Row        int // ordinal of the data row in the file, from 0, broken and unrated rows counted
}

// Event is a record together with its outcome: what Load reads and New takes.
type Event struct {
	User, Item string
	Rating     float64
	Time       int64
	HasTime    bool
	Row        int
	Outcomes   []Field // further outcomes by column, as {"review", "A quiet film."}
}

// Dataset is a whole file of records, in the order (user, time, row).
type Dataset struct {
	Name    string
	Spec    Spec
	Users   []string // ids in ascending order
	Items   []Item   // by ascending id
	Records []Record

	ratings  []float64
	columns  []string   // names of the outcome columns, ascending
	outcomes [][]string // per column, per record
	byUser   []int32    // Records[byUser[u]:byUser[u+1]] are user u's
}

// New makes a data set of events. An item that no entry of items describes is known by its id alone; an entry without records is
// kept. Of several events for the same pair the last by (time, row) counts. Ratings outside a stated range are errors.
func New(name string, spec Spec, items []Item, events []Event) (*Dataset, error) {
	if len(events) == 0 {
		return nil, fault.Newf(fault.Fatal, "dataset", "%s holds no rated record", name)
	}
	ds := &Dataset{Name: name, Spec: spec}
	itemIndex, err := ds.setItems(items, events)
	if err != nil {
		return nil, err
	}
	userIndex := ds.setUsers(events)
	order, err := arrange(events, userIndex, itemIndex)
	if err != nil {
		return nil, err
	}
	ds.fill(events, order, userIndex, itemIndex)
	if spec.Min == 0 && spec.Max == 0 {
		if err := ds.inferRange(); err != nil {
			return nil, err
		}
	}
	if err := ds.checkRange(spec); err != nil {
		return nil, err
	}
	return ds, nil
}

func (ds *Dataset) setItems(items []Item, events []Event) (map[string]int32, error) {
	index := make(map[string]int32, len(items))
	for _, it := range items {
		if _, twice := index[it.ID]; twice {
			return nil, fault.Newf(fault.Fatal, "dataset", "item %q is described twice", it.ID)
		}
		index[it.ID] = 0
	}
	ds.Items = slices.Clone(items)
	for _, e := range events {
		if _, ok := index[e.Item]; !ok {
			index[e.Item] = 0
			ds.Items = append(ds.Items, Item{ID: e.Item})
		}
	}
	slices.SortFunc(ds.Items, func(a, b Item) int { return strings.Compare(a.ID, b.ID) })
	for i, it := range ds.Items {
		index[it.ID] = int32(i)
	}
	return index, nil
}

func (ds *Dataset) setUsers(events []Event) map[string]int32 {
	index := make(map[string]int32)
	for _, e := range events {
		if _, ok := index[e.User]; !ok {
			index[e.User] = 0
			ds.Users = append(ds.Users, e.User)
		}
	}
	slices.Sort(ds.Users)
	for i, u := range ds.Users {
		index[u] = int32(i)
	}
	return index
}

// arrange returns the positions of the events to keep, in the order (user, time, row).
func arrange(events []Event, users, items map[string]int32) ([]int32, error) {
	order := make([]int32, len(events))
	for i, e := range events {
		if e.User == "" || e.Item == "" || math.IsNaN(e.Rating) || math.IsInf(e.Rating, 0) {
			return nil, fault.Newf(fault.Fatal, "dataset", "event %d (user %q, item %q, rating %v) is not a rated record", i, e.User, e.Item, e.Rating)
		}
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		x, y := &events[a], &events[b]
		return cmp.Or(cmp.Compare(users[x.User], users[y.User]), compareTime(x, y), cmp.Compare(x.Row, y.Row), cmp.Compare(a, b))
	})
	type pair struct{ u, i int32 }
	seen := make(map[pair]bool, len(order))
	kept := make([]int32, 0, len(order))
	for _, k := range slices.Backward(order) { // from the latest: it is the one that counts
		p := pair{users[events[k].User], items[events[k].Item]}
		if !seen[p] {
			seen[p] = true
			kept = append(kept, k)
		}
	}
	slices.Reverse(kept)
	return kept, nil
}

func compareTime(a, b *Event) int {
	switch {
	case a.HasTime && b.HasTime:
		return cmp.Compare(a.Time, b.Time)
	case a.HasTime:
		return 1
	case b.HasTime:
		return -1
	}
	return 0
}

func (ds *Dataset) fill(events []Event, order []int32, users, items map[string]int32) {
	n := len(order)
	ds.Records, ds.ratings = make([]Record, n), make([]float64, n)
	column := make(map[string]int)
	for _, k := range order {
		for _, f := range events[k].Outcomes {
			if _, ok := column[f.Name]; !ok {
				column[f.Name] = 0
				ds.columns = append(ds.columns, f.Name)
			}
		}
	}
	slices.Sort(ds.columns)
	for i, c := range ds.columns {
		column[c] = i
		ds.outcomes = append(ds.outcomes, make([]string, n))
	}
	ds.byUser = make([]int32, len(ds.Users)+1)
	for r, k := range order {
		e := &events[k]
		rec := Record{User: users[e.User], Item: items[e.Item], HasTime: e.HasTime, Row: e.Row}
		if e.HasTime {
			rec.Time = e.Time
		}
		ds.Records[r], ds.ratings[r] = rec, e.Rating
		for _, f := range e.Outcomes {
			ds.outcomes[column[f.Name]][r] = f.Value
		}
		ds.byUser[rec.User+1] = int32(r + 1)
	}
	for u := 1; u < len(ds.byUser); u++ { // a user always has a record, but not after the removal of duplicates of none
		ds.byUser[u] = max(ds.byUser[u], ds.byUser[u-1])
	}
}

// inferRange takes the scale from the training ratings, for a set that does not state it.
func (ds *Dataset) inferRange() error {
	split, err := MakeSplit(ds, SplitOptions{})
	if err != nil {
		return err
	}
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, part := range [][]int32{split.Train, split.Val} {
		for _, r := range part {
			lo, hi = min(lo, ds.ratings[r]), max(hi, ds.ratings[r])
		}
	}
	ds.Spec.Min, ds.Spec.Max = lo, hi
	return nil
}

func (ds *Dataset) checkRange(stated Spec) error {
	if !(ds.Spec.Min < ds.Spec.Max) || math.IsInf(ds.Spec.Max-ds.Spec.Min, 0) {
		return fault.WithHint(fault.New(fault.Fatal, "dataset", fmt.Errorf("%s: the rating scale %v..%v is empty", ds.Name, ds.Spec.Min, ds.Spec.Max)),
			"state the scale as rating: {min: 1, max: 5} in dataset.yaml")
	}
	if stated.Min == stated.Max {
		return nil // inferred from training records: later ones may lie outside
	}
	for r, v := range ds.ratings {
		if v < ds.Spec.Min || v > ds.Spec.Max {
			return fault.Newf(fault.Fatal, "dataset", "%s: row %d has rating %v outside %v..%v", ds.Name, ds.Records[r].Row, v, ds.Spec.Min, ds.Spec.Max)
		}
	}
	return nil
}

// OfUser returns the range [from, to) of user u's records in Records.
func (ds *Dataset) OfUser(u int32) (from, to int32) { return ds.byUser[u], ds.byUser[u+1] }

// Labels is the answer key: y of the records, invisible ones too. It is for training targets and for scoring; whatever else
// reads outcomes takes a View.
func (ds *Dataset) Labels(recs []int32) []float32 {
	ys := make([]float32, len(recs))
	for i, r := range recs {
		ys[i] = ds.Spec.Y(ds.ratings[r])
	}
	return ys
}
