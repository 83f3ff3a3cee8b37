package formats

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"recpie/internal/dataset"
)

// column maps a key of a JSON object onto an outcome column.
type column struct{ key, name string }

// reviewKeys says under which keys a format keeps a record.
type reviewKeys struct {
	user, item, rating, time string
	unit                     time.Duration // of a numeric time; 0: the time is a date as 2014-07-22 10:00:00
	outcomes                 []column
	python                   bool
}

// badField is the error of one field of a row.
func badField(field string, v value, reason, remedy string) *dataset.RowError {
	text, _ := v.string()
	return &dataset.RowError{Field: field, Value: strings.ToValidUTF8(text, "�"), Reason: reason, Remedy: remedy}
}

// badText is the error of a text that cannot be decoded.
func badText(field string, v value) *dataset.RowError {
	if bytes.IndexByte(v, 0) >= 0 {
		return badField(field, nil, "the text holds a zero byte", "the file is damaged, or not text")
	}
	return badField(field, nil, "the text is not valid UTF-8 or has a broken escape", "convert the file to UTF-8")
}

// parser makes a parser of records. wanted may be nil; it picks records by their item.
func (k reviewKeys) parser(spec dataset.Spec, wanted func(item string) bool) parser[dataset.Event] {
	keys := []string{k.user, k.item, k.rating, k.time}
	for _, c := range k.outcomes {
		keys = append(keys, c.key)
	}
	s, values := newScanner(keys, k.python), make([]value, len(keys))
	var long texts
	var found outcomes
	return func(row []byte, _, ordinal int) (e dataset.Event, st status, bad *dataset.RowError) {
		if bad = s.object(row, values); bad != nil {
			return e, kept, bad
		}
		found.begin()
		e.Row = ordinal
		var id [2][]byte
		for at := range id {
			var ok bool
			if id[at], ok = values[at].bytes(); !ok || len(bytes.TrimSpace(id[at])) == 0 {
				return e, kept, badField(keys[at], values[at], "the id is missing or not valid text", "every record needs a user and an item")
			}
		}
		e.User, e.Item = ids(id[0], id[1])
		var ok bool
		if wanted != nil && !wanted(e.Item) {
			return e, skipped, nil
		}
		if values[2] == nil {
			return e, unrated, nil
		}
		if e.Rating, ok = values[2].float(); !ok {
			return e, kept, badField(k.rating, values[2], "the rating is not a number", "ratings are numbers")
		}
		if spec.Min < spec.Max && (e.Rating < spec.Min || e.Rating > spec.Max) {
			return e, kept, badField(k.rating, values[2], fmt.Sprintf("the rating is outside %g..%g", spec.Min, spec.Max), "is the file of this format?")
		}
		if k.time != "" && values[3] != nil {
			if e.Time, ok = k.seconds(values[3]); !ok {
				return e, kept, badField(k.time, values[3], "the time cannot be read", "see docs/formats.md for the form of times")
			}
			e.HasTime = true
		}
		for at, c := range k.outcomes {
			v := values[4+at]
			if v == nil {
				continue
			}
			text, ok := long.line(v, false)
			if !ok {
				return e, kept, badText(c.key, v)
			}
			if text != "" {
				found.add(c.name, text)
			}
		}
		e.Outcomes = found.take()
		return e, kept, nil
	}
}

// dates are the forms of written times, all read as UTC.
var dates = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05Z07:00", "2006-01-02"}

func (k reviewKeys) seconds(v value) (int64, bool) {
	if k.unit == 0 {
		text, _ := v.string()
		for _, form := range dates {
			if t, err := time.Parse(form, text); err == nil {
				return t.Unix(), true
			}
		}
		return 0, false
	}
	x, ok := v.float()
	x = math.Floor(x * k.unit.Seconds())
	return int64(x), ok && math.Abs(x) < 1<<40
}

// itemKeys says how a format describes items.
type itemKeys struct {
	keys   []string
	python bool
	// item reads the values of keys. It returns skipped for one that is not wanted.
	item func(v []value, text func(at int) string, list func(at int) []string) (dataset.Item, status)
}

func (k itemKeys) parser() parser[dataset.Item] {
	s, values := newScanner(k.keys, k.python), make([]value, len(k.keys))
	return func(row []byte, _, _ int) (it dataset.Item, st status, bad *dataset.RowError) {
		if bad = s.object(row, values); bad != nil {
			return it, kept, bad
		}
		broken := -1
		text := func(at int) string {
			t, ok := values[at].string()
			if !ok {
				broken = at
			}
			return oneLine(t)
		}
		list := func(at int) []string {
			all, ok := values[at].strings(k.python)
			if !ok {
				broken = at
			}
			var out []string
			for _, t := range all {
				if t = oneLine(t); t != "" {
					out = append(out, t)
				}
			}
			return out
		}
		it, st = k.item(values, text, list)
		switch {
		case broken >= 0:
			return it, kept, badText(k.keys[broken], values[broken])
		case it.ID == "":
			return it, kept, badField(k.keys[0], values[0], "the id is missing", "every item needs an id")
		}
		return it, st, nil
	}
}

// jsonSet is a set of JSON lines: files of items, then files of records.
type jsonSet struct {
	opts         Options
	spec         dataset.Spec
	itemFiles    []string
	reviewFiles  []string
	items        itemKeys
	reviews      reviewKeys
	byItem       bool // records of items that Items did not yield are skipped
	chosen       map[string]bool
	itemReport   []dataset.FileReport
	reviewReport []dataset.FileReport
}

func (s *jsonSet) Spec() dataset.Spec { return s.spec }

func (s *jsonSet) Files() []dataset.FileReport {
	return append(append([]dataset.FileReport(nil), s.itemReport...), s.reviewReport...)
}

func (s *jsonSet) Items(ctx context.Context, yield func([]dataset.Item) error) error {
	s.itemReport, s.chosen = nil, map[string]bool{}
	for _, path := range s.itemFiles {
		s.itemReport = append(s.itemReport, dataset.FileReport{})
		err := stream(ctx, path, s.opts, rules{}, s.items.parser, &s.itemReport[len(s.itemReport)-1], func(items []dataset.Item) error {
			if s.byItem {
				for _, it := range items {
					s.chosen[it.ID] = true
				}
			}
			return yield(items)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *jsonSet) Events(ctx context.Context, yield func([]dataset.Event) error) error {
	if s.byItem && s.chosen == nil { // the items were not asked for
		if err := s.Items(ctx, func([]dataset.Item) error { return nil }); err != nil {
			return err
		}
	}
	var wanted func(string) bool
	if s.byItem {
		wanted = func(item string) bool { return s.chosen[item] }
	}
	s.reviewReport = nil
	before := 0
	for _, path := range s.reviewFiles {
		s.reviewReport = append(s.reviewReport, dataset.FileReport{})
		last := before
		err := stream(ctx, path, s.opts, rules{}, func() parser[dataset.Event] { return s.reviews.parser(s.spec, wanted) }, &s.reviewReport[len(s.reviewReport)-1], func(events []dataset.Event) error {
			for k := range events { // rows go on counting from file to file
				events[k].Row += before
				last = max(last, events[k].Row+1)
			}
			return yield(events)
		})
		if err != nil {
			return err
		}
		before = last
	}
	return nil
}
