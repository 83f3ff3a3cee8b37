// Package stats describes a data set as papers do: how many records, users and items, over which time, how ratings, texts and aspect terms are
// spread, and what the split of the protocol makes of it.
//
// What comes from outcomes (ratings, texts, aspect terms) is counted over the records that the final view shows, training and validation: test
// outcomes stay unseen here too.
package stats

import (
	"cmp"
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/dataset/aspects"
)

// topTerms is how many aspect terms are listed.
const topTerms = 20

// maxBins is how many ratings are told apart; more are put into so many bins of equal width.
const maxBins = 20

// Spread summarises whole numbers.
type Spread struct {
	Min    int     `json:"min"`
	Median float64 `json:"median"`
	Mean   float64 `json:"mean"`
	P90    int     `json:"p90"` // nearest rank
	Max    int     `json:"max"`
}

// Bin counts the ratings in [From, To], or (From, To] behind the first bin; From = To is a single value.
type Bin struct {
	From    float64 `json:"from"`
	To      float64 `json:"to"`
	Records int     `json:"records"`
}

// Month counts the records of one month, UTC.
type Month struct {
	Month   string `json:"month"` // 2006-01
	Records int    `json:"records"`
}

// Term is an aspect term and in how many records it stands.
type Term struct {
	Term    string `json:"term"`
	Records int    `json:"records"`
}

// Stats describes a data set.
type Stats struct {
	Name       string  `json:"name"`
	Domain     string  `json:"domain"`
	Records    int     `json:"records"`
	Users      int     `json:"users"`
	Items      int     `json:"items"`       // all that are known
	RatedItems int     `json:"rated_items"` // with a record
	From       string  `json:"from,omitempty"`
	To         string  `json:"to,omitempty"` // dates of the first and last record, UTC
	Untimed    int     `json:"without_time"`
	Min        float64 `json:"rating_min"` // of the scale
	Max        float64 `json:"rating_max"`
	Density    float64 `json:"density"` // records / (users × rated items)
	PerUser    Spread  `json:"records_per_user"`
	PerItem    Spread  `json:"records_per_item"` // of rated items
	Months     []Month `json:"months,omitempty"`
	Split      *Split  `json:"split,omitempty"` // nil when no user has enough records
	Seen       *Seen   `json:"seen,omitempty"`

	userCounts, itemCounts []int // ascending, for plots
}

// Split is what the protocol makes of the set.
type Split struct {
	dataset.SplitReport
	ShortUsers   int     `json:"short_users"`   // users with too few records to take part
	ShortRecords int     `json:"short_records"` // and their records
	History      Spread  `json:"history"`       // visible records of the user, per test record
	TieShare     float64 `json:"tie_share"`     // of the users that are split, cut inside a group of equal times
	TestUsers    int     `json:"test_users"`
	TestItems    int     `json:"test_items"`
	ColdUsers    float64 `json:"cold_users"`        // share of the test users without a visible record
	ColdItems    float64 `json:"cold_items"`        // share of the test items without a visible record
	ColdRecords  float64 `json:"cold_item_records"` // share of the test records of such items
}

// Seen is what the visible outcomes say.
type Seen struct {
	Records     int     `json:"records"` // training and validation
	MeanRating  float64 `json:"mean_rating"`
	Ratings     []Bin   `json:"ratings"`
	TextShare   float64 `json:"text_share"` // of the records, with a review
	Words       Spread  `json:"words"`      // per review, divided at white space
	AspectShare float64 `json:"aspect_share"`
	Aspects     Spread  `json:"aspects"`      // terms per record that has any
	Distinct    int     `json:"aspect_terms"` // different terms
	Top         []Term  `json:"top_aspects,omitempty"`
	Mined       bool    `json:"aspects_mined,omitempty"` // the set has no terms of its own: they were found in the reviews
}

// Of describes a data set. A set that cannot be split is described without its split.
func Of(ds *dataset.Dataset) *Stats {
	s := &Stats{Name: ds.Name, Domain: ds.Spec.Domain, Records: len(ds.Records), Users: len(ds.Users), Items: len(ds.Items), Min: ds.Spec.Min, Max: ds.Spec.Max}
	users, items := make([]int, len(ds.Users)), make([]int, len(ds.Items))
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	months := make(map[string]int)
	for _, r := range ds.Records {
		users[r.User]++
		items[r.Item]++
		if !r.HasTime {
			s.Untimed++
			continue
		}
		first, last = min(first, r.Time), max(last, r.Time)
		months[time.Unix(r.Time, 0).UTC().Format("2006-01")]++
	}
	if first <= last {
		s.From, s.To = date(first), date(last)
	}
	for m, n := range months {
		s.Months = append(s.Months, Month{m, n})
	}
	slices.SortFunc(s.Months, func(a, b Month) int { return strings.Compare(a.Month, b.Month) })
	items = slices.DeleteFunc(items, func(n int) bool { return n == 0 })
	s.RatedItems = len(items)
	s.Density = float64(s.Records) / (float64(s.Users) * float64(s.RatedItems))
	s.PerUser, s.PerItem = spread(users), spread(items)
	s.userCounts, s.itemCounts = users, items
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		return s // too few records of every user: there is nothing to add
	}
	view := split.FinalView(ds)
	s.Split, s.Seen = parts(ds, split, view), seen(ds, view)
	return s
}

func date(seconds int64) string { return time.Unix(seconds, 0).UTC().Format(time.DateOnly) }

// spread sorts ns and summarises them.
func spread(ns []int) Spread {
	if len(ns) == 0 {
		return Spread{}
	}
	slices.Sort(ns)
	sum := 0.0
	for _, n := range ns {
		sum += float64(n)
	}
	k := len(ns)
	return Spread{Min: ns[0], Median: float64(ns[(k-1)/2]+ns[k/2]) / 2, Mean: sum / float64(k), P90: ns[(9*k+9)/10-1], Max: ns[k-1]}
}

func parts(ds *dataset.Dataset, split *dataset.Split, view *dataset.View) *Split {
	p := &Split{SplitReport: *split.Report(ds)}
	for u := range ds.Users {
		if from, to := ds.OfUser(int32(u)); len(view.OfUser(int32(u))) == 0 {
			p.ShortUsers++
			p.ShortRecords += int(to - from)
		}
	}
	p.TieShare = share(p.TieCuts, p.Users)
	users, items := make(map[int32]bool), make(map[int32]bool) // → cold
	var history []int
	cold := 0
	for _, r := range split.Test {
		rec := ds.Records[r]
		users[rec.User] = len(view.OfUser(rec.User)) == 0
		if items[rec.Item] = len(view.OfItem(rec.Item)) == 0; items[rec.Item] {
			cold++
		}
		history = append(history, len(view.History(r)))
	}
	p.TestUsers, p.TestItems, p.History = len(users), len(items), spread(history)
	p.ColdUsers, p.ColdItems, p.ColdRecords = share(count(users), len(users)), share(count(items), len(items)), share(cold, len(split.Test))
	return p
}

func count(m map[int32]bool) (n int) {
	for _, yes := range m {
		if yes {
			n++
		}
	}
	return n
}

func share(n, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func seen(ds *dataset.Dataset, view *dataset.View) *Seen {
	s := &Seen{Records: len(view.Records())}
	terms := termsOf(s, view)
	var words, named []int
	ratings, counts := make(map[float64]int), make(map[string]int)
	sum := 0.0
	for _, r := range view.Records() {
		rating, _ := view.Rating(r)
		ratings[rating]++
		sum += rating
		if text, _ := view.Review(r); text != "" {
			words = append(words, len(strings.Fields(text)))
		}
		said := terms(r)
		slices.Sort(said)
		if said = slices.Compact(said); len(said) > 0 {
			named = append(named, len(said))
		}
		for _, t := range said {
			counts[t]++
		}
	}
	s.MeanRating = sum / float64(s.Records)
	s.Ratings = bins(ratings, ds.Spec.Min, ds.Spec.Max)
	s.TextShare, s.Words = share(len(words), s.Records), spread(words)
	s.AspectShare, s.Aspects, s.Distinct = share(len(named), s.Records), spread(named), len(counts)
	for t, n := range counts {
		s.Top = append(s.Top, Term{t, n})
	}
	slices.SortFunc(s.Top, func(a, b Term) int { return cmp.Or(cmp.Compare(b.Records, a.Records), strings.Compare(a.Term, b.Term)) })
	s.Top = s.Top[:min(len(s.Top), topTerms)]
	return s
}

// termsOf says where the terms of visible records come from: the set's own column, or where it has none, their reviews.
func termsOf(s *Seen, view *dataset.View) func(rec int32) []string {
	own := func(rec int32) []string {
		said, _ := view.Aspects(rec)
		return said
	}
	if view.Dataset().Spec.Review == "" || slices.ContainsFunc(view.Records(), func(r int32) bool { return len(own(r)) > 0 }) {
		return own
	}
	found, err := aspects.Build(context.Background(), view, aspects.Options{})
	if err != nil { // cancelled, which nobody can
		return own
	}
	s.Mined = true
	return found.Record
}

// bins lists the ratings that occur, or bins of the scale when they are many.
func bins(ratings map[float64]int, lo, hi float64) (out []Bin) {
	if len(ratings) <= maxBins {
		for r, n := range ratings {
			out = append(out, Bin{r, r, n})
		}
		slices.SortFunc(out, func(a, b Bin) int { return cmp.Compare(a.From, b.From) })
		return out
	}
	width := (hi - lo) / maxBins
	for i := range maxBins {
		out = append(out, Bin{From: lo + float64(i)*width, To: lo + float64(i+1)*width})
	}
	for r, n := range ratings {
		i := int(math.Ceil((r-lo)/width)) - 1
		out[min(max(i, 0), maxBins-1)].Records += n
	}
	return out
}
