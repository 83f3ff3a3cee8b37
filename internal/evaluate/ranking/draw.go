// Package ranking draws the lists that rankings are measured on: each holds one liked test record of a user among items that the user has
// no record of. They are drawn once per split and kept in a file, so that every model ranks the same items.
package ranking

import (
	"math"
	"math/rand/v2"
	"slices"

	"recpie/internal/dataset"
	"recpie/internal/evaluate"
	"recpie/internal/fault"
)

// Draws are the ways in which the other items of a list are drawn: each item alike, or in proportion to its training records, which
// makes a harder list. Items that nobody has a record of are never drawn.
var Draws = [...]string{"uniform", "popular"}

// Settings say how many lists there are and how long.
type Settings struct {
	Users     int   `json:"users"`     // drawn from those who like a test record, at most; 0 takes all
	Positives int   `json:"positives"` // liked test records of a user, at most, each of which makes a list; 0 takes all
	Negatives int   `json:"negatives"` // other items of a list; fewer where the user has a record of all others
	Seed      int64 `json:"seed"`
}

// List is one liked test record and, by draw, the items beside it.
type List struct {
	Record    int32 // index of the test record
	Negatives [len(Draws)][]int32
}

// Lists are the lists of a split, in the order of its test records.
type Lists struct {
	Settings Settings
	Split    string // digest of the split
	Digest   string // of the lists
	All      []List
}

// Draw draws the lists for the split of a view that shows its training records: what is popular is read through it. Whether a test record
// is liked (evaluate.LabelAt) is asked of the answer key.
func Draw(view *dataset.View, s Settings) (*Lists, error) {
	if s.Users < 0 || s.Positives < 0 || s.Negatives < 1 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "ranking", "%d users with %d liked records and %d other items each", s.Users, s.Positives, s.Negatives), "numbers are not negative, and a list needs at least one other item")
	}
	ds := view.Dataset()
	p := newPool(view)
	out := &Lists{Settings: s, Split: view.Split().Digest}
	for _, r := range chosen(view, s) {
		rng := rand.New(rand.NewPCG(uint64(s.Seed), 0x11571<<32|uint64(r)))
		l := List{Record: r, Negatives: p.draw(ds.Records[r].User, s.Negatives, rng)}
		if !slices.ContainsFunc(l.Negatives[:], func(items []int32) bool { return len(items) == 0 }) {
			out.All = append(out.All, l)
		}
	}
	if len(out.All) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Item, "ranking", "no test record is liked (%v of the scale or more) by a user who leaves an item unrated", evaluate.LabelAt), "set evaluate.ranking: off")
	}
	out.Digest = out.digest(ds)
	return out, nil
}

// chosen draws the users and their liked test records.
func chosen(view *dataset.View, s Settings) []int32 {
	ds, test := view.Dataset(), view.Split().Test
	liked := map[int32][]int32{}
	var users []int32
	for k, y := range ds.Labels(test) {
		if u := ds.Records[test[k]].User; y >= evaluate.LabelAt {
			if liked[u] == nil {
				users = append(users, u)
			}
			liked[u] = append(liked[u], test[k])
		}
	}
	rng := rand.New(rand.NewPCG(uint64(s.Seed), 0xca4d))
	rng.Shuffle(len(users), func(i, j int) { users[i], users[j] = users[j], users[i] })
	if s.Users > 0 {
		users = users[:min(len(users), s.Users)]
	}
	var out []int32
	for _, u := range users {
		recs := liked[u]
		rng.Shuffle(len(recs), func(i, j int) { recs[i], recs[j] = recs[j], recs[i] })
		if s.Positives > 0 {
			recs = recs[:min(len(recs), s.Positives)]
		}
		out = append(out, recs...)
	}
	slices.Sort(out)
	return out
}

// pool is what negatives are drawn from.
type pool struct {
	ds    *dataset.Dataset
	items [len(Draws)][]int32   // that may be drawn, ascending
	upTo  [len(Draws)][]float64 // sum of the weights up to and including each
	held  map[int32]bool        // items that the user of the list at hand has a record of, or that were drawn
}

func newPool(view *dataset.View) *pool {
	ds := view.Dataset()
	p := &pool{ds: ds}
	known := make([]bool, len(ds.Items))
	for _, rec := range ds.Records[:ds.Rated()] {
		known[rec.Item] = true
	}
	for i := range ds.Items {
		for d, weight := range [len(Draws)]float64{1, float64(len(view.OfItem(int32(i))))} {
			if known[i] && weight > 0 {
				sum := weight
				if n := len(p.upTo[d]); n > 0 {
					sum += p.upTo[d][n-1]
				}
				p.items[d], p.upTo[d] = append(p.items[d], int32(i)), append(p.upTo[d], sum)
			}
		}
	}
	return p
}

// draw draws n different items of each kind that user u has no record of.
func (p *pool) draw(u int32, n int, rng *rand.Rand) (out [len(Draws)][]int32) {
	for d := range Draws {
		p.held = map[int32]bool{}
		from, to := p.ds.OfUser(u)
		for _, rec := range p.ds.Records[from:to] {
			p.held[rec.Item] = true
		}
		out[d] = p.fresh(d, n, rng)
		slices.Sort(out[d])
	}
	return out
}

// fresh draws items one after the other, without replacement, by weight: by trial as long as trials succeed, then by sorting what is left
// (the largest of log(u)/weight are such a draw: Efraimidis and Spirakis 2006).
func (p *pool) fresh(d, n int, rng *rand.Rand) []int32 {
	items, upTo := p.items[d], p.upTo[d]
	out := make([]int32, 0, n)
	for trial := 0; trial < 20*n && len(out) < n && len(items) > 0; trial++ {
		at, _ := slices.BinarySearch(upTo, rng.Float64()*upTo[len(upTo)-1])
		if i := items[min(at, len(items)-1)]; !p.held[i] {
			p.held[i] = true
			out = append(out, i)
		}
	}
	if len(out) == n {
		return out
	}
	type key struct {
		item int32
		log  float64
	}
	var rest []key
	for k, i := range items {
		if !p.held[i] {
			weight := upTo[k]
			if k > 0 {
				weight -= upTo[k-1]
			}
			rest = append(rest, key{i, math.Log(1-rng.Float64()) / weight})
		}
	}
	slices.SortFunc(rest, func(a, b key) int {
		switch {
		case a.log > b.log:
			return -1
		case a.log < b.log:
			return 1
		}
		return int(a.item - b.item)
	})
	for _, k := range rest[:min(len(rest), n-len(out))] {
		out = append(out, k.item)
	}
	return out
}
