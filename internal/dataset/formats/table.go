package formats

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// tableFile is a file of rows with separated fields.
type tableFile struct {
	path    string
	sep     string
	quotes  bool     // RFC 4180
	typed   bool     // the header's names have RecBole's types
	columns []string // nil: the first row names them
	latin1  bool
}

// tableSet is a set of such files.
type tableSet struct {
	opts    Options
	spec    dataset.Spec
	items   []tableFile
	reviews []tableFile
	joint   string // separates categories in a field
	found   [2][]dataset.FileReport
}

// Names under which columns are known, the first one that the header has counts.
var (
	userNames   = []string{"user_id", "userId", "user", "reviewerID"}
	itemNames   = []string{"item_id", "movieId", "movie_id", "item", "business_id", "parent_asin", "asin"}
	ratingNames = []string{"rating", "stars", "overall", "score"}
	timeNames   = []string{"timestamp", "time", "unixReviewTime"}
	titleNames  = []string{"title", "movie_title", "name"}
	kindNames   = []string{"categories", "genres", "genre", "class", "category"}
	textNames   = []string{"profile", "description"}
)

func (s *tableSet) Spec() dataset.Spec { return s.spec }

func (s *tableSet) Files() []dataset.FileReport { return slices.Concat(s.found[0], s.found[1]) }

func (s *tableSet) Items(ctx context.Context, yield func([]dataset.Item) error) error {
	return readTables(ctx, s, s.items, &s.found[0], s.described, [][]string{itemNames}, func(items []dataset.Item, _ int) error { return yield(items) })
}

func (s *tableSet) Events(ctx context.Context, yield func([]dataset.Event) error) error {
	rows, at := 0, ""
	before := 0
	return readTables(ctx, s, s.reviews, &s.found[1], s.events, [][]string{userNames, itemNames, ratingNames}, func(events []dataset.Event, file int) error {
		if path := s.reviews[file].path; path != at { // rows go on counting from file to file
			at, before = path, rows
		}
		for k := range events {
			events[k].Row += before
			rows = max(rows, events[k].Row+1)
		}
		return yield(events)
	})
}

// header says where the columns are; -1 for one that there is not.
type header struct {
	names                    []string
	user, item, rating, time int
	outcomes                 []int // every other column, for records
	title, kind, text, price int
	genres                   []int // of u.item of ML-100K: one column a genre
}

// set takes the names of the columns.
func (h *header) set(names []string) {
	first := func(known []string) int {
		for _, n := range known {
			if at := slices.Index(names, n); at >= 0 {
				return at
			}
		}
		return -1
	}
	*h = header{names: names, user: first(userNames), item: first(itemNames), rating: first(ratingNames), time: first(timeNames),
		title: first(titleNames), kind: first(kindNames), text: first(textNames), price: first([]string{"price"})}
	for k, n := range names {
		if k != h.user && k != h.item && k != h.rating && k != h.time {
			h.outcomes = append(h.outcomes, k)
		}
		if strings.HasPrefix(n, genrePrefix) {
			h.genres = append(h.genres, k)
		}
	}
}

const genrePrefix = "genre."

// rowReader makes a record or an item of a row's fields.
type rowReader[T any] func(h *header, fields [][]byte, ordinal int) (T, status, *dataset.RowError)

func readTables[T any](ctx context.Context, s *tableSet, files []tableFile, found *[]dataset.FileReport, reader func() rowReader[T], needed [][]string, yield func([]T, int) error) error {
	*found = nil
	for k, f := range files {
		h := &header{}
		if f.columns != nil {
			h.set(f.columns)
		}
		rule := rules{quotes: f.quotes, header: f.columns == nil, latin1: f.latin1, begin: func(row []byte) error { return h.read(f, row, needed) }}
		*found = append(*found, dataset.FileReport{})
		fresh := func() parser[T] {
			cutter, read := f.splitter(), reader()
			return func(row []byte, _, ordinal int) (v T, st status, bad *dataset.RowError) {
				fields, bad := cutter.split(row)
				if bad != nil {
					return v, kept, bad
				}
				if len(fields) != len(h.names) {
					return v, kept, &dataset.RowError{Field: "fields", Value: strconv.Itoa(len(fields)), Reason: fmt.Sprintf("wrong number of fields, %d are expected", len(h.names)),
						Remedy: "quote fields that hold the separator"}
				}
				return read(h, fields, ordinal)
			}
		}
		if err := stream(ctx, f.path, s.opts, rule, fresh, &(*found)[k], func(rows []T) error { return yield(rows, k) }); err != nil {
			return err
		}
		if h.names == nil {
			return fault.WithHint(fault.Newf(fault.Fatal, "", "%s: the file is empty", f.path), "its first row must name the columns")
		}
	}
	return nil
}

func (f tableFile) splitter() *splitter { return &splitter{sep: []byte(f.sep), quotes: f.quotes} }

// read reads the first row.
func (h *header) read(f tableFile, row []byte, needed [][]string) error {
	wrong := func(value, reason, remedy string) error {
		return fault.New(fault.Fatal, "", &dataset.RowError{File: f.path, Line: 1, Field: "header", Value: shorten(value, 80), Reason: reason, Remedy: remedy})
	}
	bad := text(row)
	var fields [][]byte
	if bad == nil {
		fields, bad = f.splitter().split(row)
	}
	if bad != nil {
		bad.File, bad.Line = f.path, 1
		return fault.New(fault.Fatal, "", bad)
	}
	var names []string
	for _, field := range fields {
		n := string(field)
		if f.typed {
			var typed bool
			if n, _, typed = strings.Cut(n, ":"); !typed {
				return wrong(n, "a name with its type is expected", "write as user_id:token")
			}
		}
		if n = strings.TrimSpace(n); slices.Contains(names, n) {
			return wrong(n, "two columns have this name", "rename one of them")
		}
		names = append(names, n)
	}
	for _, any := range needed {
		if !slices.ContainsFunc(any, func(n string) bool { return slices.Contains(names, n) }) {
			return wrong(strings.Join(names, ","), "there is no column "+any[0], "name one of the columns "+strings.Join(any, ", "))
		}
	}
	h.set(names)
	return nil
}

// events makes a reader of records.
func (s *tableSet) events() rowReader[dataset.Event] {
	var long texts
	var found outcomes
	return func(h *header, fields [][]byte, ordinal int) (e dataset.Event, st status, bad *dataset.RowError) {
		wrong := func(column int, reason, remedy string) (dataset.Event, status, *dataset.RowError) {
			return e, kept, &dataset.RowError{Field: h.names[column], Value: string(fields[column]), Reason: reason, Remedy: remedy}
		}
		e.Row = ordinal
		for _, id := range [...]int{h.user, h.item} {
			if len(bytes.TrimSpace(fields[id])) == 0 {
				return wrong(id, "the id is missing", "every record needs a user and an item")
			}
			if bad := text(fields[id]); bad != nil {
				return e, kept, bad
			}
		}
		e.User, e.Item = ids(fields[h.user], fields[h.item])
		rating := bytes.TrimSpace(fields[h.rating])
		if len(rating) == 0 {
			return e, unrated, nil
		}
		var ok bool
		if e.Rating, ok = parseFloat(rating); !ok {
			return wrong(h.rating, "the rating is not a number", "ratings are numbers")
		}
		if s.spec.Min < s.spec.Max && (e.Rating < s.spec.Min || e.Rating > s.spec.Max) {
			return wrong(h.rating, fmt.Sprintf("the rating is outside %g..%g", s.spec.Min, s.spec.Max), "is the file of this format?")
		}
		if h.time >= 0 {
			if word := bytes.TrimSpace(fields[h.time]); len(word) > 0 {
				x, ok := parseFloat(word)
				if !ok || math.Abs(x) >= 1<<40 {
					return wrong(h.time, "the time cannot be read", "times are seconds since 1970, UTC")
				}
				e.Time, e.HasTime = int64(math.Floor(x)), true
			}
		}
		found.begin()
		for _, k := range h.outcomes {
			line, ok := long.line(fields[k], true)
			if !ok {
				return e, kept, text(fields[k])
			}
			if line != "" {
				found.add(h.names[k], line)
			}
		}
		e.Outcomes = found.take()
		return e, kept, nil
	}
}

// described makes a reader of items.
func (s *tableSet) described() rowReader[dataset.Item] {
	return func(h *header, fields [][]byte, _ int) (it dataset.Item, st status, bad *dataset.RowError) {
		line := func(column int) string {
			if column < 0 {
				return ""
			}
			return oneLine(string(fields[column]))
		}
		for _, f := range fields {
			if bad := text(f); bad != nil {
				return it, kept, bad
			}
		}
		if it.ID = strings.TrimSpace(string(fields[h.item])); it.ID == "" {
			return it, kept, &dataset.RowError{Field: h.names[h.item], Reason: "the id is missing", Remedy: "every item needs an id"}
		}
		it.Title, it.Year = dataset.TitleAndYear(line(h.title))
		it.Profile, it.Price = line(h.text), line(h.price)
		for c := range strings.SplitSeq(line(h.kind), s.joint) {
			if c = strings.TrimSpace(c); c != "" && c != "(no genres listed)" && !slices.Contains(it.Categories, c) {
				it.Categories = append(it.Categories, c)
			}
		}
		for _, k := range h.genres {
			if string(fields[k]) == "1" {
				it.Categories = append(it.Categories, strings.TrimPrefix(h.names[k], genrePrefix))
			}
		}
		return it, kept, nil
	}
}
