package formats

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

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
	return readTables(ctx, s, s.items, &s.found[0], s.item, [][]string{itemNames}, func(items []dataset.Item, _ int) error { return yield(items) })
}

func (s *tableSet) Events(ctx context.Context, yield func([]dataset.Event) error) error {
	rows, at := 0, ""
	before := 0
	return readTables(ctx, s, s.reviews, &s.found[1], s.event, [][]string{userNames, itemNames, ratingNames}, func(events []dataset.Event, file int) error {
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

// header finds columns by name.
type header struct {
	names []string
}

// field returns the first of the names that the row has.
func (h *header) field(names []string, fields []string) (name, text string, ok bool) {
	for _, n := range names {
		if at := slices.Index(h.names, n); at >= 0 && at < len(fields) {
			return n, fields[at], true
		}
	}
	return names[0], "", false
}

type rowReader[T any] func(h *header, fields []string, ordinal int) (T, status, *dataset.RowError)

func readTables[T any](ctx context.Context, s *tableSet, files []tableFile, found *[]dataset.FileReport, read rowReader[T], needed [][]string, yield func([]T, int) error) error {
	*found = nil
	for k, f := range files {
		h := &header{names: f.columns}
		rule := rules{quotes: f.quotes, header: f.columns == nil, latin1: f.latin1, begin: func(row []byte) error { return h.read(f, row, needed) }}
		*found = append(*found, dataset.FileReport{})
		fresh := func() parser[T] {
			var fields []string
			return func(row []byte, _, ordinal int) (v T, st status, bad *dataset.RowError) {
				if fields, bad = f.split(fields[:0], row); bad != nil {
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
			return fault.Newf(fault.Fatal, "", "%s: the file is empty", f.path)
		}
	}
	return nil
}

// read reads the first row.
func (h *header) read(f tableFile, row []byte, needed [][]string) error {
	names, bad := f.split(nil, row)
	if bad != nil {
		bad.File, bad.Line = f.path, 1
		return fault.New(fault.Fatal, "", bad)
	}
	for k, n := range names {
		if f.typed {
			var typed bool
			if n, _, typed = strings.Cut(n, ":"); !typed {
				return fault.New(fault.Fatal, "", &dataset.RowError{File: f.path, Line: 1, Field: "header", Value: n, Reason: "a name with its type is expected", Remedy: "write as user_id:token"})
			}
		}
		names[k] = strings.TrimSpace(n)
	}
	for _, any := range needed {
		if !slices.ContainsFunc(any, func(n string) bool { return slices.Contains(names, n) }) {
			return fault.New(fault.Fatal, "", &dataset.RowError{File: f.path, Line: 1, Field: "header", Value: shorten(strings.Join(names, ","), 80), Reason: "there is no column " + any[0],
				Remedy: "name one of the columns " + strings.Join(any, ", ")})
		}
	}
	h.names = names
	return nil
}

// split cuts a row into fields.
func (f tableFile) split(into []string, row []byte) ([]string, *dataset.RowError) {
	if !utf8.Valid(row) {
		return nil, &dataset.RowError{Reason: "not valid UTF-8", Remedy: "convert the file to UTF-8"}
	}
	if bytes.IndexByte(row, 0) >= 0 {
		return nil, &dataset.RowError{Reason: "the row holds a zero byte", Remedy: "the file is damaged, or not text"}
	}
	text := string(row)
	if !f.quotes || !strings.Contains(text, `"`) {
		for {
			at := strings.Index(text, f.sep)
			if at < 0 {
				return append(into, text), nil
			}
			into, text = append(into, text[:at]), text[at+len(f.sep):]
		}
	}
	for {
		if !strings.HasPrefix(text, `"`) {
			at := strings.Index(text, f.sep)
			if at < 0 {
				at = len(text)
			}
			if strings.Contains(text[:at], `"`) {
				return nil, &dataset.RowError{Column: len(row) - len(text) + 1, Reason: "a quote inside a field that does not begin with one", Remedy: "quote the whole field and double the quotes in it"}
			}
			into = append(into, text[:at])
			if at == len(text) {
				return into, nil
			}
			text = text[at+len(f.sep):]
			continue
		}
		var field strings.Builder
		rest := text[1:]
		for {
			at := strings.IndexByte(rest, '"')
			if at < 0 {
				return nil, &dataset.RowError{Column: len(row) - len(text) + 1, Reason: "a quoted field does not end", Remedy: "close the quote"}
			}
			field.WriteString(rest[:at])
			if rest = rest[at+1:]; !strings.HasPrefix(rest, `"`) {
				break
			}
			field.WriteByte('"')
			rest = rest[1:]
		}
		into = append(into, field.String())
		if rest == "" {
			return into, nil
		}
		if !strings.HasPrefix(rest, f.sep) {
			return nil, &dataset.RowError{Column: len(row) - len(rest) + 1, Reason: "text after the closing quote", Remedy: "double the quotes inside a quoted field"}
		}
		text = rest[len(f.sep):]
	}
}

func (s *tableSet) event(h *header, fields []string, ordinal int) (e dataset.Event, st status, bad *dataset.RowError) {
	e.Row = ordinal
	var uName, iName string
	uName, e.User, _ = h.field(userNames, fields)
	iName, e.Item, _ = h.field(itemNames, fields)
	for _, id := range [][2]string{{uName, e.User}, {iName, e.Item}} {
		if strings.TrimSpace(id[1]) == "" {
			return e, kept, &dataset.RowError{Field: id[0], Value: id[1], Reason: "the id is missing", Remedy: "every record needs a user and an item"}
		}
	}
	rName, text, _ := h.field(ratingNames, fields)
	if strings.TrimSpace(text) == "" {
		return e, unrated, nil
	}
	var err error
	if e.Rating, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil || math.IsNaN(e.Rating) || math.IsInf(e.Rating, 0) {
		return e, kept, &dataset.RowError{Field: rName, Value: text, Reason: "the rating is not a number", Remedy: "ratings are numbers"}
	}
	if s.spec.Min < s.spec.Max && (e.Rating < s.spec.Min || e.Rating > s.spec.Max) {
		return e, kept, &dataset.RowError{Field: rName, Value: text, Reason: fmt.Sprintf("the rating is outside %g..%g", s.spec.Min, s.spec.Max), Remedy: "is the file of this format?"}
	}
	tName, text, _ := h.field(timeNames, fields)
	if text = strings.TrimSpace(text); text != "" {
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || !(math.Abs(x) < 1<<40) {
			return e, kept, &dataset.RowError{Field: tName, Value: text, Reason: "the time cannot be read", Remedy: "times are seconds since 1970, UTC"}
		}
		e.Time, e.HasTime = int64(math.Floor(x)), true
	}
	for k, n := range h.names {
		if n == uName || n == iName || n == rName || n == tName {
			continue
		}
		if text := oneLine(fields[k]); text != "" {
			e.Outcomes = append(e.Outcomes, dataset.Field{Name: n, Value: text})
		}
	}
	return e, kept, nil
}

// yearInTitle is MovieLens' way to tell films of one name apart.
var yearInTitle = regexp.MustCompile(`^(.*\S)\s*\(((?:18|19|20)\d\d)\)$`)

func (s *tableSet) item(h *header, fields []string, _ int) (it dataset.Item, st status, bad *dataset.RowError) {
	name, id, _ := h.field(itemNames, fields)
	if it.ID = strings.TrimSpace(id); it.ID == "" {
		return it, kept, &dataset.RowError{Field: name, Reason: "the id is missing", Remedy: "every item needs an id"}
	}
	_, title, _ := h.field(titleNames, fields)
	it.Title = oneLine(title)
	if m := yearInTitle.FindStringSubmatch(it.Title); m != nil {
		it.Title = m[1]
		it.Year, _ = strconv.Atoi(m[2])
	}
	_, kinds, ok := h.field(kindNames, fields)
	if ok {
		for c := range strings.SplitSeq(kinds, s.joint) {
			if c = strings.TrimSpace(c); c != "" && c != "(no genres listed)" && !slices.Contains(it.Categories, c) {
				it.Categories = append(it.Categories, c)
			}
		}
	}
	for k, n := range h.names { // u.item of ML-100K: one column a genre
		if kind, is := strings.CutPrefix(n, "genre."); is && fields[k] == "1" {
			it.Categories = append(it.Categories, kind)
		}
	}
	_, text, _ := h.field(textNames, fields)
	it.Profile = oneLine(text)
	_, price, _ := h.field([]string{"price"}, fields)
	it.Price = strings.TrimSpace(price)
	return it, kept, nil
}

func csvSet(o Options, files []string) *tableSet {
	s := &tableSet{opts: o, joint: "|", spec: dataset.Spec{ItemInputs: []string{"title", "categories", "profile", "price", "year"}, Review: "review"}}
	for _, path := range files {
		f := tableFile{path: path, sep: ",", quotes: true}
		if name := filepath.Base(path); strings.HasPrefix(name, "items") || strings.HasPrefix(name, "movies") {
			s.items = append(s.items, f)
		} else {
			s.reviews = append(s.reviews, f)
		}
	}
	return s
}

func recboleSet(o Options, files []string) (*tableSet, error) {
	s := &tableSet{opts: o, joint: " ", spec: dataset.Spec{ItemInputs: []string{"title", "categories", "year"}}}
	for _, path := range files {
		f := tableFile{path: path, sep: "\t", typed: true}
		switch name := strings.TrimSuffix(path, ".gz"); {
		case strings.HasSuffix(name, ".item"):
			s.items = append(s.items, f)
		case strings.HasSuffix(name, ".inter"):
			s.reviews = append(s.reviews, f)
		case strings.HasSuffix(name, ".user"): // what users say of themselves is not used
		default:
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is no atomic file", path), "name files that end in .inter, .item or .user")
		}
	}
	return s, nil
}

// genres of u.item, in the order of its columns.
var genres = []string{"unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery",
	"Romance", "Sci-Fi", "Thriller", "War", "Western"}

// movielens tells the releases apart by the names of their files.
func movielens(o Options, files []string) (*tableSet, error) {
	s := &tableSet{opts: o, joint: "|", spec: dataset.Spec{Domain: "movie", Verb: "watched this movie", Min: .5, Max: 5, ItemInputs: []string{"title", "categories", "year"}}}
	for _, path := range files {
		switch name := strings.TrimSuffix(filepath.Base(path), ".gz"); name {
		case "u.data":
			s.spec.Min = 1
			s.reviews = append(s.reviews, tableFile{path: path, sep: "\t", columns: []string{"user_id", "item_id", "rating", "timestamp"}})
		case "u.item":
			columns := []string{"item_id", "title", "released", "released on video", "address"}
			for _, g := range genres {
				columns = append(columns, "genre."+g)
			}
			s.items = append(s.items, tableFile{path: path, sep: "|", latin1: true, columns: columns})
		case "ratings.dat":
			s.spec.Min = 1
			s.reviews = append(s.reviews, tableFile{path: path, sep: "::", latin1: true, columns: []string{"user_id", "item_id", "rating", "timestamp"}})
		case "movies.dat":
			s.items = append(s.items, tableFile{path: path, sep: "::", latin1: true, columns: []string{"item_id", "title", "genres"}})
		case "ratings.csv":
			s.reviews = append(s.reviews, tableFile{path: path, sep: ",", quotes: true})
		case "movies.csv":
			s.items = append(s.items, tableFile{path: path, sep: ",", quotes: true})
		default:
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s is no file of MovieLens that is known", path), "name u.data and u.item, ratings.dat and movies.dat, or ratings.csv and movies.csv")
		}
	}
	return s, nil
}
