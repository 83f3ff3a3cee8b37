package dataset

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"recpie/internal/dataset/layout"
	"recpie/internal/fault"
)

// Options says how to load. The zero value is sound.
type Options struct {
	Spec       Spec    // stands in for what dataset.yaml does not say
	MaxBroken  float64 // the share of broken rows of a file that is borne, 0 = .05; ten rows are always borne
	MaxRecord  int     // bytes of one row, 0 = 1 MiB
	Quarantine string  // file for the broken rows, one JSON object a line; "" writes none
	Verify     bool    // compare the SHA-256 of every file of an imported set, not their sizes alone
}

// presets are the known sets that come without a dataset.yaml, by the name of their files.
var presets = map[string]Spec{
	"ml-100k": {Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "year"}},
	"ml-1m":   {Domain: "movie", Verb: "watched this movie", Min: 1, Max: 5, ItemInputs: []string{"title", "categories", "year"}},
}

// source is what to read: one file of interactions, perhaps one of items.
type source struct {
	name, format, path  string
	interactions, items string // full paths, items may be ""
	yaml                *specFile
	manifest            *layout.Manifest // of an imported set, nil else
}

// Load reads a data set from a folder that was imported (package layout), that holds a dataset.yaml beside CSV, JSONL or Parquet files, CSV files
// alone, or RecBole's atomic files (NAME.inter, NAME.item); gzip is recognised. What the files are about comes from dataset.yaml, else opts.Spec, else a preset for
// known sets; a scale that nobody states is that of the training ratings, with a warning.
//
// Broken rows are counted, described in the report and left out; so many of them that the file itself must be in doubt are an error.
// The report comes with an error too, as far as it got.
func Load(ctx context.Context, path string, opts Options) (*Dataset, *Report, error) {
	if opts.MaxBroken <= 0 {
		opts.MaxBroken = .05
	}
	if opts.MaxRecord <= 0 {
		opts.MaxRecord = 1 << 20
	}
	report := &Report{Path: path}
	src, err := locate(path)
	if err != nil {
		return nil, report, err
	}
	report.Name, report.Format = src.name, src.format
	spec, warnings := resolveSpec(src, opts.Spec)
	report.Spec, report.Warnings = spec, warnings

	var ds *Dataset
	if src.manifest != nil {
		ds, err = loadImported(ctx, src, spec, opts, report)
	} else {
		ld := &loader{ctx: ctx, opts: opts, src: src, spec: spec, report: report}
		ds, err = ld.load()
		if opts.Quarantine != "" {
			err = errors.Join(err, ld.writeQuarantine())
		}
	}
	if err != nil {
		return nil, report, err
	}
	report.Spec = ds.Spec
	report.describe(ds)
	return ds, report, nil
}

// Check loads a data set and splits it as the protocol says, for the report alone.
func Check(ctx context.Context, path string, opts Options) (*Report, error) {
	ds, report, err := Load(ctx, path, opts)
	if err != nil {
		return report, err
	}
	split, err := MakeSplit(ds, SplitOptions{})
	if err != nil {
		return report, err
	}
	report.Split = split.Report(ds)
	return report, nil
}

// locate finds the files of a data set.
func locate(path string) (*source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.WithHint(fault.New(fault.Fatal, "dataset", err), "name a folder with dataset.yaml, interactions.csv or NAME.inter")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset", err)
	}
	src := &source{name: filepath.Base(abs), path: path, format: "csv"}
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
		src.name = filepath.Base(filepath.Dir(abs))
	}
	src.yaml, err = readSpecFile(filepath.Join(dir, "dataset.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		src.yaml = nil
	}
	if info.IsDir() && (layout.Is(path) || src.yaml != nil && src.yaml.format == "recpie") {
		src.format = "recpie"
		src.manifest, err = layout.ReadManifest(path)
		return src, err
	}
	switch {
	case !info.IsDir():
		src.interactions = path
	case src.yaml != nil && src.yaml.interactions != "":
		src.interactions = filepath.Join(dir, src.yaml.interactions)
	default:
		if src.interactions, err = findInteractions(dir); err != nil {
			return nil, err
		}
	}
	if ext := filepath.Ext(strings.TrimSuffix(src.interactions, ".gz")); ext == ".jsonl" || ext == ".parquet" {
		src.format = ext[1:]
	}
	stem, recbole := strings.CutSuffix(strings.TrimSuffix(src.interactions, ".gz"), ".inter")
	switch {
	case src.yaml != nil && src.yaml.items != "":
		src.items = filepath.Join(dir, src.yaml.items)
	case recbole:
		src.items = firstExisting(stem+".item", stem+".item.gz")
	case src.yaml == nil:
		src.items = firstExisting(filepath.Join(dir, "items.csv.gz"), filepath.Join(dir, "items.csv"))
	}
	if recbole {
		src.format, src.name = "recbole", filepath.Base(stem)
	}
	return src, nil
}

// SpecBeside reads what a dataset.yaml in the folder of a file says, the zero value when there is none.
func SpecBeside(file string) (Spec, error) {
	yaml, err := readSpecFile(filepath.Join(filepath.Dir(file), "dataset.yaml"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Spec{}, nil
	case err != nil:
		return Spec{}, err
	}
	return yaml.spec, nil
}

func findInteractions(dir string) (string, error) {
	if f := firstExisting(filepath.Join(dir, "interactions.csv.gz"), filepath.Join(dir, "interactions.csv")); f != "" {
		return f, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fault.New(fault.Fatal, "dataset", err)
	}
	var found []string
	for _, e := range entries {
		if strings.HasSuffix(strings.TrimSuffix(e.Name(), ".gz"), ".inter") {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) != 1 {
		err := fault.Newf(fault.Fatal, "dataset", "%s holds %d files named *.inter and no interactions.csv", dir, len(found))
		return "", fault.WithHint(err, "name the file of interactions in dataset.yaml, or give its path")
	}
	return found[0], nil
}

func firstExisting(paths ...string) string {
	for _, p := range paths {
		if info, err := os.Stat(p); err == nil && info.Mode().IsRegular() {
			return p
		}
	}
	return ""
}

// resolveSpec fills the settings in their order: dataset.yaml, the caller's, the preset, what the domain suggests.
func resolveSpec(src *source, asked Spec) (spec Spec, warnings []string) {
	if src.yaml != nil {
		spec = src.yaml.spec
	}
	for _, from := range []Spec{asked, presets[src.name]} {
		if spec.Domain == "" {
			spec.Domain = from.Domain
		}
		if spec.Verb == "" {
			spec.Verb = from.Verb
		}
		if spec.Min == spec.Max {
			spec.Min, spec.Max = from.Min, from.Max
		}
		if spec.ItemInputs == nil {
			spec.ItemInputs = slices.Clone(from.ItemInputs)
		}
		if src.yaml == nil && spec.Review == "" {
			spec.Review = from.Review
		}
	}
	if spec.Domain == "" {
		spec.Domain = "product"
		warnings = append(warnings, `no domain is stated: "product" is assumed`)
	}
	if spec.Verb == "" {
		spec.Verb = defaultVerbs[spec.Domain]
	}
	if spec.Verb == "" {
		spec.Verb = "chose this " + spec.Domain
	}
	if spec.Min == spec.Max {
		warnings = append(warnings, "no rating scale is stated: the smallest and largest training ratings are taken")
	}
	return spec, warnings
}

func (r *Report) describe(ds *Dataset) {
	r.Users, r.Items, r.Records = len(ds.Users), len(ds.Items), len(ds.Records)
	review := ds.column(ds.Spec.Review)
	for i, rec := range ds.Records {
		if rec.HasTime {
			r.WithTime++
		}
		if review >= 0 && ds.outcomes[review][i] != "" {
			r.WithReview++
		}
	}
	for _, it := range ds.Items {
		if it.Title != "" {
			r.WithTitle++
		}
		if it.Profile != "" {
			r.WithProfile++
		}
	}
	if r.Imported != nil {
		return // the import counted them
	}
	if kept := r.Files[len(r.Files)-1].Kept; kept > r.Records {
		r.Files[len(r.Files)-1].Duplicates = kept - r.Records
		r.Warnings = append(r.Warnings, fmt.Sprintf("%d rows repeat a pair of user and item: the last by time counts", kept-r.Records))
	}
}

// Report counts the parts of the split.
func (s *Split) Report(ds *Dataset) *SplitReport {
	out := &SplitReport{Train: len(s.Train), Val: len(s.Val), Test: len(s.Test), Digest: s.Digest}
	test := make(map[int32]bool, len(s.Test))
	for _, r := range s.Test {
		test[r] = true
	}
	last := int32(-1)
	for _, r := range s.Train {
		if u := ds.Records[r].User; u != last {
			last = u
			out.Users++
		}
	}
	for _, part := range [][]int32{s.Train, s.Val} {
		for _, r := range part {
			if next := r + 1; test[next] && groupStart(ds, 0, next) != next {
				out.TieCuts++
			}
		}
	}
	return out
}
