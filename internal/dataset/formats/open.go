package formats

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

// Info describes a format.
type Info struct {
	Name  string       `json:"name"`
	Title string       `json:"title"`
	Files string       `json:"files"`           // which files it takes
	Where []string     `json:"where,omitempty"` // names that Options.Where may hold
	Spec  dataset.Spec `json:"spec"`
}

type entry struct {
	Info
	items []string // parts of the names of files that describe items
	json  func(Options) *jsonSet
	table func(Options, []string) (*tableSet, error)
}

var formats = []entry{
	{Info: Info{Name: "amazon-2014", Title: "Amazon product data, release of 2014", Files: "reviews_*.json.gz and meta_*.json.gz"}, items: []string{"meta"}, json: amazon2014},
	{Info: Info{Name: "amazon-2018", Title: "Amazon review data, release of 2018", Files: "*.json.gz of reviews and meta_*.json.gz"}, items: []string{"meta"}, json: amazon2018},
	{Info: Info{Name: "amazon-2023", Title: "Amazon reviews, release of 2023", Files: "*.jsonl.gz of reviews and meta_*.jsonl.gz"}, items: []string{"meta"}, json: amazon2023},
	{Info: Info{Name: "yelp", Title: "Yelp open dataset, restaurants", Files: "yelp_academic_dataset_business.json and yelp_academic_dataset_review.json", Where: []string{"category", "city", "state"}}, items: []string{"business"}, json: yelp},
	{Info: Info{Name: "google-local", Title: "Google Local reviews, release of 2021", Files: "review-*.json.gz and meta-*.json.gz", Where: []string{"postcode", "category"}}, items: []string{"meta"}, json: google},
	{Info: Info{Name: "tripadvisor-peter", Title: "TripAdvisor reviews in the form of NETE and PETER", Files: "reviews.jsonl, converted as docs/formats.md says, and perhaps items.jsonl"}, items: []string{"item"}, json: tripadvisor},
	{Info: Info{Name: "movielens", Title: "MovieLens 100K, 1M, and the releases of CSV files", Files: "u.data and u.item, ratings.dat and movies.dat, or ratings.csv and movies.csv"}, table: movielens},
	{Info: Info{Name: "recbole", Title: "RecBole's atomic files", Files: "NAME.inter and NAME.item"}, table: recboleSet},
	{Info: Info{Name: "csv", Title: "CSV with a header", Files: "interactions.csv, and perhaps items.csv"}, table: func(o Options, f []string) (*tableSet, error) { return csvSet(o, f), nil }},
	{Info: Info{Name: "jsonl", Title: "JSON lines", Files: "interactions.jsonl, and perhaps items.jsonl", Where: []string{"user", "item", "rating", "time", "review"}}, items: []string{"item", "meta"}, json: lines},
}

// List describes the formats.
func List() []Info {
	var out []Info
	for _, e := range formats {
		info := e.Info
		if e.json != nil {
			info.Spec = e.json(Options{}).spec
		} else if s, err := e.table(Options{}, nil); err == nil {
			info.Spec = s.spec
		}
		out = append(out, info)
	}
	return out
}

// Open prepares files of a format for reading. Which of them describe items is told from their names.
func Open(format string, files []string, opts Options) (Source, error) {
	at := slices.IndexFunc(formats, func(e entry) bool { return e.Name == format })
	if at < 0 {
		var names []string
		for _, e := range formats {
			names = append(names, e.Name)
		}
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "there is no format %q", format), "the formats are "+strings.Join(names, ", "))
	}
	e := formats[at]
	for name := range opts.Where {
		if !slices.Contains(e.Where, name) {
			hint := "this format picks nothing"
			if len(e.Where) > 0 {
				hint = "it knows " + strings.Join(e.Where, ", ")
			}
			return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s knows no %q", format, name), hint)
		}
	}
	none := fault.WithHint(fault.Newf(fault.Fatal, "", "no file of records for %s", format), fmt.Sprintf("name %s", e.Files))
	if e.table != nil {
		s, err := e.table(opts, files)
		if err != nil {
			return nil, err
		}
		if len(s.reviews) == 0 {
			return nil, none
		}
		return s, nil
	}
	s := e.json(opts)
	for _, path := range files {
		name := strings.ToLower(filepath.Base(path))
		if slices.ContainsFunc(e.items, func(part string) bool { return strings.Contains(name, part) }) {
			s.itemFiles = append(s.itemFiles, path)
		} else {
			s.reviewFiles = append(s.reviewFiles, path)
		}
	}
	if len(s.reviewFiles) == 0 {
		return nil, none
	}
	if s.byItem && len(s.itemFiles) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "", "%s picks records by their items, and no file describes items", format), "name "+e.Files)
	}
	return s, nil
}
