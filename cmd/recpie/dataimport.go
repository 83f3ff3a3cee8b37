package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/dataset/importer"
	"recpie/internal/dataset/layout"
	"recpie/internal/progress"
)

// importFlags are the flags of 'data import' as they are typed.
type importFlags struct {
	format, out          string
	core                 int
	minUser, minItem     int
	from, to             string
	minRating, maxRating float64
	where                []string
	maxBroken            float64
	limitUsers           int
	sample               int64
	workers              int
	domain, scale        string
}

func (a *app) importCmd() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use: "import --format NAME FILE... --out DIR", Short: "Turn raw files of a known form into a data set that loads fast", Args: cobra.MinimumNArgs(1),
		Long: `Import reads the raw files of a public data set, leaves out what is asked, and writes a folder of Parquet files with a manifest: what was read, what
was left out and why, sizes and SHA-256 of all files. The folder appears whole or not at all, and the same files and flags give the same bytes.

Filters work in this order: --where, --from and --to, --min-rating and --max-rating, then of several records of a pair of user and item the last by time
stays, then --min-user and --min-item are iterated until both hold (--k-core sets both), then --limit-users are drawn by --seed.

A condition of --where is KEY=VALUE with an input of the items, a column of the records or what the format knows (below) as KEY. VALUE may be several,
divided by bars, or a range of numbers as 94035..94043; upper and lower case are the same. Several conditions, divided by commas, must all hold. Of jsonl
files --where says how columns are called, as rating=stars.

What the format does not say (csv, jsonl and recbole say neither domain nor scale) comes from --domain and --scale, else from a dataset.yaml beside the
first file.

Broken rows are left out and kept in quarantine.jsonl; more of them than --max-broken are an error. Memory grows with the numbers of different users and
items, not with that of the records; the folder of --out needs room for the records while the import runs.

Formats:
` + formatList(),
		Example: `  recpie data import --format yelp yelp_academic_dataset_business.json yelp_academic_dataset_review.json --where state=PA --out data/yelp
  recpie data import --format amazon-2023 Movies_and_TV.jsonl.gz meta_Movies_and_TV.jsonl.gz --k-core 5 --from 2018-01-01 --out data/movies
  recpie data import --format csv ratings.csv --domain movie --scale 1..5 --min-user 5 --limit-users 1000 --seed 7 --out data/mine`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			o, err := f.options(cmd, args, c.Seed)
			if err != nil {
				return &usageError{err}
			}
			o.Show = progress.New(cmd.ErrOrStderr())
			defer o.Show.Close()
			start := time.Now()
			m, err := importer.Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.print(cmd.OutOrStdout(), struct {
				Out     string  `json:"out"`
				Seconds float64 `json:"seconds"`
				*layout.Manifest
			}{f.out, time.Since(start).Seconds(), m}, func(w io.Writer) { writeImported(w, f.out, m, time.Since(start)) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.format, "format", "", "form of the raw files")
	fl.StringVar(&f.out, "out", "", "folder to write, which must not exist yet")
	fl.IntVar(&f.core, "k-core", 0, "keep users and items with so many records, iterated")
	fl.IntVar(&f.minUser, "min-user", 0, "records that a user must keep")
	fl.IntVar(&f.minItem, "min-item", 0, "records that an item must keep")
	fl.StringVar(&f.from, "from", "", "first day to keep, as 2018-01-31 (UTC)")
	fl.StringVar(&f.to, "to", "", "last day to keep (UTC)")
	fl.Float64Var(&f.minRating, "min-rating", math.Inf(-1), "lowest rating to keep")
	fl.Float64Var(&f.maxRating, "max-rating", math.Inf(1), "highest rating to keep")
	fl.StringSliceVar(&f.where, "where", nil, "conditions to keep records by, as categories=Restaurants,city=Phoenix")
	fl.Float64Var(&f.maxBroken, "max-broken", .05, "share of broken rows of a file that is borne; ten rows always are")
	fl.IntVar(&f.limitUsers, "limit-users", 0, "keep so many users, drawn by --seed")
	fl.Int64Var(&f.sample, "sample", 0, "a try-out: read so many records and no further")
	fl.Lookup("sample").NoOptDefVal = "100000"
	fl.StringVar(&f.domain, "domain", "", "movie, product, hotel, restaurant or place, where the format does not say")
	fl.StringVar(&f.scale, "scale", "", "lowest and highest rating as 1..5, where the format does not say")
	fl.IntVar(&f.workers, "workers", 0, "parsers and writers at work at once, 0 = number of cores")
	return cmd
}

// options checks the flags.
func (f *importFlags) options(cmd *cobra.Command, files []string, seed int64) (importer.Options, error) {
	o := importer.Options{Format: f.format, Files: files, Out: f.out, Program: version()["revision"], Sample: f.sample, MaxBroken: f.maxBroken, Workers: f.workers}
	set := cmd.Flags().Changed
	switch {
	case f.format == "":
		return o, errors.New("name the form of the files with --format; 'recpie data import --help' lists the forms")
	case f.out == "":
		return o, errors.New("name the folder to write with --out")
	case set("k-core") && (set("min-user") || set("min-item")):
		return o, errors.New("--k-core sets --min-user and --min-item: give it or them")
	case !(f.maxBroken > 0 && f.maxBroken <= 1):
		return o, fmt.Errorf("--max-broken is a share above 0 and up to 1, not %v", f.maxBroken)
	case f.sample < 0:
		return o, fmt.Errorf("--sample is a number of records, not %d", f.sample)
	}
	o.Filters = importer.Filters{MinUser: max(f.core, f.minUser), MinItem: max(f.core, f.minItem), LimitUsers: f.limitUsers, Seed: seed}
	if min(f.core, f.minUser, f.minItem, f.limitUsers) < 0 {
		return o, errors.New("a number of records or users cannot be negative")
	}
	if set("min-rating") || set("max-rating") {
		o.Filters.MinRating, o.Filters.MaxRating = f.minRating, f.maxRating
	}
	var err error
	if o.Filters.From, err = day("--from", f.from); err != nil {
		return o, err
	}
	if o.Filters.To, err = day("--to", f.to); err != nil {
		return o, err
	}
	if f.to != "" {
		o.Filters.To = o.Filters.To.AddDate(0, 0, 1)
	}
	where, err := f.conditions(&o)
	if err != nil {
		return o, err
	}
	if o.Spec, err = f.spec(files[0]); err != nil {
		return o, err
	}
	o.Open = func(opts formats.Options) (formats.Source, error) {
		opts.Where = where
		return formats.Open(f.format, files, opts)
	}
	_, err = o.Open(formats.Options{}) // names of formats, files and conditions are errors of usage
	return o, err
}

// spec is what dataset.yaml beside the raw files says, and before it the flags.
func (f *importFlags) spec(file string) (dataset.Spec, error) {
	s, err := dataset.SpecBeside(file)
	if err != nil {
		return s, err
	}
	s.Domain = cmp.Or(f.domain, s.Domain)
	if f.scale == "" {
		return s, nil
	}
	lo, hi, _ := strings.Cut(f.scale, "..")
	var errLo, errHi error
	s.Min, errLo = strconv.ParseFloat(lo, 64)
	s.Max, errHi = strconv.ParseFloat(hi, 64)
	if cmp.Or(errLo, errHi) != nil || !(s.Min < s.Max) {
		return s, fmt.Errorf("--scale is two numbers as 1..5, not %q", f.scale)
	}
	return s, nil
}

// conditions divides the conditions into those that the format itself knows and those of the filters.
func (f *importFlags) conditions(o *importer.Options) (map[string][]string, error) {
	known := formatInfo(f.format).Where
	where := make(map[string][]string)
	o.Extra = make(map[string]any)
	for _, text := range f.where {
		c, err := importer.ParseWhere(text)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(known, c.Key) {
			o.Filters.Where = append(o.Filters.Where, c)
			continue
		}
		for _, v := range c.Values {
			where[c.Key] = append(where[c.Key], strings.Replace(v, "..", "-", 1))
		}
		o.Extra["where "+c.Key] = where[c.Key]
	}
	return where, nil
}

func formatInfo(name string) formats.Info {
	for _, i := range formats.List() {
		if i.Name == name {
			return i
		}
	}
	return formats.Info{}
}

// formatList describes the formats for the help.
func formatList() string {
	var b strings.Builder
	for _, i := range formats.List() {
		fmt.Fprintf(&b, "  %-18s %s: %s", i.Name, i.Title, i.Files)
		if len(i.Where) > 0 {
			fmt.Fprintf(&b, "; --where knows %s too", strings.Join(i.Where, ", "))
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func day(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return d, fmt.Errorf("%s is a day as 2018-01-31, not %q", flag, text)
	}
	return d, nil
}

// writeImported prints what an import did for a person.
func writeImported(w io.Writer, out string, m *layout.Manifest, took time.Duration) {
	n := m.Counts
	var size int64
	for _, f := range m.Files {
		size += f.Bytes
	}
	fmt.Fprintf(w, "%s: %d records of %d users on %d items, %d files, %.1f MB, %s\n", out, n.Kept, n.Users, n.Items, len(m.Files), float64(size)/1e6, took.Round(100*time.Millisecond))
	fmt.Fprintf(w, "  %s\n", n.String())
	fmt.Fprintf(w, "  items: %d rows, %d broken, %d twice, %d described ones left out\n", n.ItemRows, n.ItemBroken, n.ItemTwice, n.ItemLeft)
	for _, why := range slices.SortedFunc(maps.Keys(n.Reasons), func(a, b string) int { return cmp.Or(cmp.Compare(n.Reasons[b], n.Reasons[a]), strings.Compare(a, b)) }) {
		fmt.Fprintf(w, "    %d × %s\n", n.Reasons[why], why)
	}
	if len(m.Outcomes) > 0 {
		fmt.Fprintf(w, "  outcomes: %s; inputs: %s\n", strings.Join(m.Outcomes, ", "), strings.Join(m.ItemInputs, ", "))
	}
	if n.Broken+n.ItemBroken > 0 {
		fmt.Fprintf(w, "  the broken rows are in %s/%s\n", out, layout.QuarantineName)
	}
	fmt.Fprintf(w, "next: recpie data stats %s; recpie train --data %s\n", out, out)
}
