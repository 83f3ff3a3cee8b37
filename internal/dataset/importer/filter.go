package importer

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// Filters says which records to keep. The zero value keeps all. They work in the order of the fields.
type Filters struct {
	Where      []Condition
	From, To   time.Time // of the first moment kept and the first one not kept; zero: no bound. With a bound, records without a time are left out
	MinRating  float64   // of the scale of the source; NaN or, with both zero, no bound
	MaxRating  float64
	MinUser    int // records that a user must keep, with MinItem iterated until both hold
	MinItem    int // records that an item must keep; 0 keeps items without any
	LimitUsers int // users drawn by Seed among those left; 0 keeps all
	Seed       int64
}

// Condition holds when one of the values of a property is among those that are wanted.
type Condition struct {
	Key    string
	Values []string // texts, compared without regard to case, or ranges of numbers as 94035..94043
}

// ParseWhere reads key=value, with several values divided by bars.
func ParseWhere(text string) (Condition, error) {
	key, values, ok := strings.Cut(text, "=")
	key = strings.TrimSpace(key)
	c := Condition{Key: key}
	for v := range strings.SplitSeq(values, "|") {
		if v = strings.TrimSpace(v); v != "" {
			c.Values = append(c.Values, v)
		}
	}
	if !ok || key == "" || len(c.Values) == 0 {
		return c, fault.WithHint(fault.Newf(fault.Fatal, "import", "%q is not a condition", text), "write key=value, as categories=Restaurants or postcode=94035..94043")
	}
	return c, nil
}

// holds says whether one of have is wanted.
func (c *Condition) holds(have ...string) bool {
	for _, h := range have {
		for _, want := range c.Values {
			if strings.EqualFold(h, want) || inRange(h, want) {
				return true
			}
		}
	}
	return false
}

func inRange(have, want string) bool {
	lo, hi, ok := strings.Cut(want, "..")
	if !ok {
		return false
	}
	a, errA := strconv.ParseFloat(lo, 64)
	b, errB := strconv.ParseFloat(hi, 64)
	x, errX := strconv.ParseFloat(strings.TrimSpace(have), 64)
	return cmp.Or(errA, errB, errX) == nil && a <= x && x <= b
}

// property returns the values of an item's property.
func property(it *dataset.Item, key string) []string {
	switch key {
	case "item_id":
		return []string{it.ID}
	case "title":
		return []string{it.Title}
	case "categories":
		return it.Categories
	case "year":
		return []string{strconv.Itoa(it.Year)}
	case "profile":
		return []string{it.Profile}
	case "price":
		return []string{it.Price}
	}
	for _, f := range it.Extra {
		if f.Name == key {
			return []string{f.Value}
		}
	}
	return nil
}

// check says what is wrong with the filters.
func (f *Filters) check() error {
	bad := func(format string, args ...any) error { return fault.Newf(fault.Fatal, "import", format, args...) }
	switch {
	case f.MinUser < 0 || f.MinItem < 0 || f.LimitUsers < 0:
		return bad("a number of records or users is negative")
	case !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To):
		return bad("the period ends before it begins")
	case f.hasRating() && (math.IsNaN(f.MinRating) || math.IsNaN(f.MaxRating) || f.MinRating > f.MaxRating):
		return bad("the lowest rating is not below the highest")
	}
	return nil
}

func (f *Filters) hasRating() bool { return f.MinRating != 0 || f.MaxRating != 0 }

// options describes the filters that are in use, for the manifest.
func (f *Filters) options() map[string]any {
	o := make(map[string]any)
	for _, c := range f.Where {
		o["where "+c.Key] = c.Values
	}
	if !f.From.IsZero() {
		o["from"] = f.From.UTC().Format(time.RFC3339)
	}
	if !f.To.IsZero() {
		o["before"] = f.To.UTC().Format(time.RFC3339)
	}
	if f.hasRating() {
		o["min_rating"], o["max_rating"] = f.MinRating, f.MaxRating
		if math.IsInf(f.MinRating, 0) {
			delete(o, "min_rating")
		}
		if math.IsInf(f.MaxRating, 0) {
			delete(o, "max_rating")
		}
	}
	for name, n := range map[string]int{"min_user": f.MinUser, "min_item": f.MinItem, "limit_users": f.LimitUsers} {
		if n > 0 {
			o[name] = n
		}
	}
	if f.LimitUsers > 0 {
		o["seed"] = f.Seed
	}
	return o
}

// sieve is the static part of the filters, with what it has seen.
type sieve struct {
	Filters
	spec  dataset.Spec
	items []Condition // on properties of items
	rows  []Condition // on outcomes of records
	met   map[string]bool
}

func newSieve(f Filters, spec dataset.Spec) *sieve {
	s := &sieve{Filters: f, spec: spec, met: make(map[string]bool)}
	for _, c := range f.Where {
		if c.Key == "item_id" || slices.Contains(spec.ItemInputs, c.Key) {
			s.items = append(s.items, c)
		} else {
			s.rows = append(s.rows, c)
		}
	}
	return s
}

// item says whether an item may be kept.
func (s *sieve) item(it *dataset.Item) bool {
	for i := range s.items {
		if !s.items[i].holds(property(it, s.items[i].Key)...) {
			return false
		}
	}
	return true
}

// event names the filter that leaves a record out, "" when none does.
func (s *sieve) event(e *dataset.Event) string {
	for i := range s.rows {
		c, holds := &s.rows[i], false
		for _, o := range e.Outcomes {
			if o.Name == c.Key {
				s.met[c.Key] = true
				holds = holds || c.holds(o.Value)
			}
		}
		if !holds {
			return "where"
		}
	}
	switch {
	case !s.From.IsZero() && (!e.HasTime || e.Time < s.From.Unix()), !s.To.IsZero() && (!e.HasTime || e.Time >= s.To.Unix()):
		return "time"
	case s.hasRating() && (e.Rating < s.MinRating || e.Rating > s.MaxRating):
		return "rating"
	}
	return ""
}

// unmet complains of a condition on something that no record and no item has.
func (s *sieve) unmet(outcomes map[string]int) error {
	for _, c := range s.rows {
		if _, known := outcomes[c.Key]; known || s.met[c.Key] {
			continue
		}
		have := append(slices.Clone(s.spec.ItemInputs), slices.Sorted(maps.Keys(outcomes))...)
		return fault.WithHint(fault.Newf(fault.Fatal, "import", "--where %s: neither items nor records have it", c.Key), fmt.Sprintf("they have %s", strings.Join(have, ", ")))
	}
	return nil
}
