package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"recpie/internal/durable"
	"recpie/internal/fault"
)

// examples is how many broken rows of a file the report describes.
const examples = 10

// loader reads the files of one data set.
type loader struct {
	ctx    context.Context
	opts   Options
	src    *source
	spec   Spec
	report *Report
	broken []brokenRow // kept only when they are to be written
}

// brokenRow is a line of the quarantine file.
type brokenRow struct {
	RowError
	Raw string `json:"raw"`
}

// table is the header of one file: which field holds which column.
type table struct {
	names []string
	types []string // RecBole's, "" in CSV
	index map[string]int
}

func (ld *loader) load() (*Dataset, error) {
	var items []Item
	if ld.src.items != "" {
		var err error
		if items, err = ld.readItems(); err != nil {
			return nil, err
		}
	}
	events, err := ld.readEvents()
	if err != nil {
		return nil, err
	}
	if ld.src.items != "" {
		ld.countUnknown(items, events)
	}
	return New(ld.src.name, ld.spec, items, events)
}

func (ld *loader) countUnknown(items []Item, events []Event) {
	known := make(map[string]bool, len(items))
	for _, it := range items {
		known[it.ID] = true
	}
	for _, e := range events {
		if !known[e.Item] {
			known[e.Item] = true
			ld.report.UnknownItems++
		}
	}
	if n := ld.report.UnknownItems; n > 0 {
		ld.report.Warnings = append(ld.report.Warnings, fmt.Sprintf("%d rated items are not in %s", n, ld.src.items))
	}
}

// scan reads a file row by row. begin sees the header; each sees the rows and says what is wrong with one (nil when nothing is).
func (ld *loader) scan(path string, begin func(*table) error, each func(row) (unrated bool, bad *RowError)) error {
	f, err := os.Open(path)
	if err != nil {
		return fault.New(fault.Fatal, "dataset", err)
	}
	defer f.Close()
	rows, t, err := ld.openRows(path, f)
	if err != nil {
		return fault.New(fault.Fatal, "dataset", err)
	}
	if err := begin(t); err != nil {
		return err
	}
	ld.report.Files = append(ld.report.Files, FileReport{Path: path, Reasons: make(map[string]int)})
	count := &ld.report.Files[len(ld.report.Files)-1]
	for {
		if count.Rows%4096 == 0 && ld.ctx.Err() != nil {
			return ld.ctx.Err()
		}
		r, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fault.WithHint(fault.New(fault.Fatal, "dataset", err), "the file may be cut short: fetch it again")
		}
		bad := r.bad
		if bad == nil && len(r.fields) != len(t.names) {
			bad = &RowError{File: path, Line: r.line, Reason: fmt.Sprintf("wrong number of fields, the header has %d", len(t.names)), Value: strconv.Itoa(len(r.fields)), Field: "fields",
				Remedy: "quote fields that hold the separator"}
		}
		var unrated bool
		if r.ordinal = count.Rows; bad == nil {
			unrated, bad = each(r)
		}
		count.Rows++
		switch {
		case bad != nil:
			ld.quarantine(count, bad, r.raw)
			if count.Broken >= 1000 && 2*count.Broken > count.Rows {
				return ld.tooBroken(count)
			}
		case unrated:
			count.Unrated++
		default:
			count.Kept++
		}
	}
	if count.Broken > 10 && float64(count.Broken) > ld.opts.MaxBroken*float64(count.Rows) {
		return ld.tooBroken(count)
	}
	return nil
}

func (ld *loader) quarantine(count *FileReport, bad *RowError, raw []byte) {
	count.Broken++
	count.Reasons[bad.Reason]++
	bad.Value = shorten(bad.Value, 80)
	if len(count.Examples) < examples {
		count.Examples = append(count.Examples, *bad)
	}
	if ld.opts.Quarantine != "" {
		ld.broken = append(ld.broken, brokenRow{*bad, shorten(string(raw), 1<<16)})
	}
}

// errTooBroken marks a file with more broken rows than is borne.
var errTooBroken = errors.New("too many broken rows")

func (ld *loader) tooBroken(f *FileReport) error {
	err := fault.Newf(fault.Fatal, "dataset", "%s: %d of %d rows are broken: %w; the first: %v", f.Path, f.Broken, f.Rows, errTooBroken, &f.Examples[0])
	return fault.WithHint(err, "mend the file, or bear more broken rows by a higher share")
}

func (ld *loader) writeQuarantine() error {
	return durable.Write(ld.opts.Quarantine, 0o644, func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		for i := range ld.broken {
			if err := enc.Encode(&ld.broken[i]); err != nil {
				return fmt.Errorf("dataset: quarantine: %w", err)
			}
		}
		return nil
	})
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// rows are the data rows of a file behind its header, io.EOF after the last one.
type rows interface{ next() (row, error) }

// openRows begins to read a file by the ending of its name, as CSV or an atomic file when it says nothing else.
func (ld *loader) openRows(path string, f *os.File) (rows, *table, error) {
	switch filepath.Ext(strings.TrimSuffix(path, ".gz")) {
	case ".jsonl":
		return openJSONRows(path, f, ld.opts.MaxRecord)
	case ".parquet":
		return openParquetRows(path, f)
	}
	r, err := newRowReader(path, f, ld.src.format != "recbole", ld.opts.MaxRecord)
	if err != nil {
		return nil, nil, err
	}
	t, err := readHeader(r)
	return r, t, err
}

// recboleTypes are the types that a header of RecBole's atomic files may name.
var recboleTypes = []string{"token", "token_seq", "float", "float_seq"}

func readHeader(rows *rowReader) (*table, error) {
	r, err := rows.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s: the file is empty", rows.file)
	case err != nil:
		return nil, err
	case r.bad != nil:
		return nil, r.bad
	}
	t := &table{index: make(map[string]int), types: make([]string, len(r.fields))}
	for i, name := range r.fields {
		at := RowError{File: rows.file, Line: r.at[i].line, Column: r.at[i].column, Field: "header", Value: shorten(name, 80)}
		if !rows.quoted {
			var typed bool
			if name, t.types[i], typed = strings.Cut(name, ":"); !typed || !slices.Contains(recboleTypes, t.types[i]) {
				at.Reason, at.Remedy = "a name with its type is expected", "write as user_id:token; the types are "+strings.Join(recboleTypes, ", ")
				return nil, &at
			}
		}
		name = strings.TrimSpace(name)
		if _, twice := t.index[name]; twice || name == "" {
			at.Reason, at.Remedy = "the column is there twice or has no name", "give every column a name of its own"
			return nil, &at
		}
		t.index[name] = i
		t.names = append(t.names, name)
	}
	return t, nil
}

// need returns the index of a column that must be there.
func (t *table) need(file, name string) (int, error) {
	if i, ok := t.index[name]; ok {
		return i, nil
	}
	err := fault.Newf(fault.Fatal, "dataset", "%s:1: there is no column %q", file, name)
	return 0, fault.WithHint(err, didYouMean(name, t.names))
}

// readEvents reads the interactions: user_id, item_id, rating, perhaps timestamp; every other column is an outcome.
func (ld *loader) readEvents() (events []Event, err error) {
	var user, item, rating, stamp int
	var outcomes []int
	var t *table
	begin := func(tab *table) (err error) {
		t = tab
		for i, name := range []string{"user_id", "item_id", "rating"} {
			if *[]*int{&user, &item, &rating}[i], err = t.need(ld.src.interactions, name); err != nil {
				return err
			}
		}
		stamp = -1
		for i, name := range t.names {
			switch {
			case name == "timestamp":
				stamp = i
			case i != user && i != item && i != rating:
				outcomes = append(outcomes, i)
			}
		}
		if _, ok := t.index[ld.spec.Review]; ld.spec.Review != "" && !ok {
			return ld.missing("review", ld.spec.Review, ld.src.interactions, t.names)
		}
		return nil
	}
	each := func(r row) (unrated bool, bad *RowError) {
		e := Event{User: r.fields[user], Item: r.fields[item], Row: r.ordinal}
		fail := func(i int, reason, remedy string) (bool, *RowError) {
			return false, &RowError{File: ld.src.interactions, Line: r.at[i].line, Column: r.at[i].column, Field: t.names[i], Value: r.fields[i], Reason: reason, Remedy: remedy}
		}
		for _, i := range []int{user, item} {
			if reason := badID(r.fields[i]); reason != "" {
				return fail(i, reason, "every record needs a user and an item")
			}
		}
		text := strings.TrimSpace(r.fields[rating])
		if text == "" {
			return true, nil
		}
		v, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil || math.IsNaN(v) || math.IsInf(v, 0):
			return fail(rating, "not a finite number", "write a number, or leave the rating empty")
		case ld.spec.Min < ld.spec.Max && (v < ld.spec.Min || v > ld.spec.Max):
			return fail(rating, fmt.Sprintf("outside the scale %g..%g", ld.spec.Min, ld.spec.Max), "mend the rating, or the scale in dataset.yaml")
		}
		e.Rating = v
		if stamp >= 0 {
			var ok bool
			if e.Time, e.HasTime, ok = parseTime(strings.TrimSpace(r.fields[stamp])); !ok {
				return fail(stamp, "not a time in Unix seconds", "write seconds since 1970, or leave the time empty")
			}
		}
		for _, i := range outcomes {
			if r.fields[i] != "" {
				e.Outcomes = append(e.Outcomes, Field{t.names[i], r.fields[i]})
			}
		}
		events = append(events, e)
		return false, nil
	}
	err = ld.scan(ld.src.interactions, begin, each)
	return events, err
}

func badID(id string) string {
	switch {
	case strings.TrimSpace(id) == "":
		return "empty"
	case len(id) > 512:
		return "longer than 512 bytes"
	case strings.ContainsFunc(id, func(c rune) bool { return c < ' ' }):
		return "holds a control character"
	}
	return ""
}

// parseTime reads whole or fractional Unix seconds; an empty text is a missing time.
func parseTime(text string) (seconds int64, has, ok bool) {
	if text == "" {
		return 0, false, true
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true, true
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(f) < 1<<62) {
		return 0, false, false
	}
	return int64(math.Floor(f)), true, true
}

// itemAliases are the names under which known sets keep the common item columns.
var itemAliases = map[string][]string{
	"title":      {"title", "movie_title"},
	"categories": {"categories", "class", "genres", "genre"},
	"year":       {"year", "release_year"},
	"profile":    {"profile", "description"},
	"price":      {"price"},
}

// readItems reads what the allow-list names of the items file and nothing else.
func (ld *loader) readItems() (items []Item, err error) {
	var id int
	fields := make(map[int]string) // field → input
	var order []int
	var t *table
	begin := func(tab *table) (err error) {
		t = tab
		if id, err = t.need(ld.src.items, "item_id"); err != nil {
			return err
		}
		if ld.spec.ItemInputs == nil {
			ld.spec.ItemInputs = ld.commonInputs(t)
			ld.report.Spec.ItemInputs = ld.spec.ItemInputs
		}
		for _, input := range ld.spec.ItemInputs {
			i, ok := t.input(input)
			if !ok {
				return ld.missing("item_inputs."+input, input, ld.src.items, t.names)
			}
			fields[i] = input
		}
		for i, name := range t.names {
			if _, allowed := fields[i]; allowed {
				order = append(order, i)
			} else if i != id {
				ld.report.Ignored = append(ld.report.Ignored, name)
			}
		}
		return nil
	}
	seen := make(map[string]bool)
	each := func(r row) (bool, *RowError) {
		fail := func(i int, reason, remedy string) (bool, *RowError) {
			return false, &RowError{File: ld.src.items, Line: r.at[i].line, Column: r.at[i].column, Field: t.names[i], Value: r.fields[i], Reason: reason, Remedy: remedy}
		}
		it := Item{ID: r.fields[id]}
		if reason := badID(it.ID); reason != "" {
			return fail(id, reason, "every item needs an id")
		}
		if seen[it.ID] {
			return fail(id, "the item is described twice", "the first row counts: remove this one")
		}
		for _, i := range order {
			if !it.set(fields[i], strings.TrimSpace(r.fields[i]), t.types[i]) {
				ld.report.Warnings = append(ld.report.Warnings, fmt.Sprintf("%s:%d:%d: %s %q is not a year: taken as unknown",
					ld.src.items, r.at[i].line, r.at[i].column, t.names[i], shorten(r.fields[i], 80)))
			}
		}
		seen[it.ID] = true
		items = append(items, it)
		return false, nil
	}
	err = ld.scan(ld.src.items, begin, each)
	return items, err
}

// commonInputs is the allow-list when nobody states one: the item metadata that the protocol names.
func (ld *loader) commonInputs(t *table) []string {
	inputs := []string{}
	for _, name := range []string{"title", "categories", "year", "profile", "price"} {
		if _, ok := t.input(name); ok {
			inputs = append(inputs, name)
		}
	}
	ld.report.Warnings = append(ld.report.Warnings, "no item_inputs are stated: "+strings.Join(inputs, ", ")+" are taken")
	return inputs
}

// input finds the column of an input by its name or one of its aliases.
func (t *table) input(name string) (int, bool) {
	for _, alias := range append([]string{name}, itemAliases[name]...) {
		if i, ok := t.index[alias]; ok {
			return i, true
		}
	}
	return 0, false
}

func (ld *loader) missing(key, name, file string, have []string) error {
	err := fault.Newf(fault.Fatal, "dataset", "%s has no column %q", file, name)
	if ld.src.yaml != nil {
		if at, ok := ld.src.yaml.at[key]; ok {
			err = ld.src.yaml.errorAt(at, "%s has no column %q", file, name)
		}
	}
	return fault.WithHint(err, didYouMean(name, have))
}

// yearInTitle is how MovieLens writes the year of release.
var yearInTitle = regexp.MustCompile(`^(.*\S)\s*\(((?:18|19|20)\d\d)\)$`)

// TitleAndYear takes the year of release in brackets off a title, as MovieLens appends it; year is 0 when there is none.
func TitleAndYear(s string) (title string, year int) {
	m := yearInTitle.FindStringSubmatch(s)
	if m == nil {
		return s, 0
	}
	year, _ = strconv.Atoi(m[2])
	return m[1], year
}

// set stores an input and says whether its form was right; a year that is none stays unknown. kind is the RecBole type of its column.
func (it *Item) set(input, value, kind string) bool {
	if value == "" {
		return true
	}
	switch input {
	case "title":
		title, year := TitleAndYear(value)
		if it.Title = title; year != 0 {
			it.Year = year
		}
	case "categories":
		separator := "|"
		if kind == "token_seq" {
			separator = " "
		}
		for c := range strings.SplitSeq(value, separator) {
			if c = strings.TrimSpace(c); c != "" && !slices.Contains(it.Categories, c) {
				it.Categories = append(it.Categories, c)
			}
		}
	case "year":
		y, err := strconv.ParseFloat(value, 64)
		if err != nil || !(y >= 0 && y <= 9999) {
			return false
		}
		it.Year = int(y)
	case "profile":
		it.Profile = value
	case "price":
		it.Price = value
	default:
		it.Extra = append(it.Extra, Field{input, value})
	}
	return true
}
