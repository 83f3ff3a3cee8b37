package dataset

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset/layout"
	"recpie/internal/durable"
	"recpie/internal/fault"
)

// YAML returns the dataset.yaml of an imported set. A spec that could not be read back is an error.
func (s Spec) YAML() ([]byte, error) {
	type scale struct{ Min, Max float64 }
	file := struct {
		Format string
		Domain string   `yaml:",omitempty"`
		Verb   string   `yaml:",omitempty"`
		Rating *scale   `yaml:",omitempty,flow"`
		Inputs []string `yaml:"item_inputs,flow"`
		Review string   `yaml:",omitempty"`
	}{"recpie", s.Domain, s.Verb, nil, s.ItemInputs, s.Review}
	if s.Min < s.Max {
		file.Rating = &scale{s.Min, s.Max}
	}
	data, err := yaml.Marshal(file)
	if err != nil {
		return nil, fault.New(fault.Fatal, "dataset", err)
	}
	if _, err := parseSpec("dataset.yaml", data); err != nil {
		return nil, err
	}
	return data, nil
}

// importedLoader reads an imported set straight into the columns of a Dataset: nothing is held twice.
type importedLoader struct {
	dir   string
	m     *layout.Manifest
	ds    *Dataset
	items map[string]int32
	users [][]string // per shard
}

// loadImported reads the folder that src.manifest describes.
func loadImported(ctx context.Context, src *source, spec Spec, opts Options, report *Report) (*Dataset, error) {
	m := src.manifest
	if opts.Verify {
		if err := m.Verify(src.path); err != nil {
			return nil, err
		}
	}
	if opts.Quarantine != "" {
		if err := src.copyQuarantine(opts.Quarantine); err != nil {
			return nil, err
		}
	}
	report.Imported = &Imported{Program: m.Program, Source: m.Source, Options: m.Options, Counts: m.Counts, Verified: opts.Verify}
	if spec.ItemInputs == nil {
		spec.ItemInputs = slices.Clone(m.ItemInputs)
	}
	if err := src.checkColumns(spec); err != nil {
		return nil, err
	}
	for _, name := range m.ItemInputs {
		if !slices.Contains(spec.ItemInputs, name) {
			report.Ignored = append(report.Ignored, name)
		}
	}
	report.Spec.ItemInputs = spec.ItemInputs
	if m.Counts.Kept == 0 {
		return nil, fault.Newf(fault.Fatal, "dataset", "%s holds no rated record", src.name)
	}
	ld := &importedLoader{dir: src.path, m: m, ds: &Dataset{Name: src.name, Spec: spec, columns: m.Outcomes}}
	if err := ld.readItems(ctx); err != nil {
		return nil, err
	}
	if err := ld.readRecords(ctx); err != nil {
		return nil, err
	}
	if m.Counts.Items > m.Counts.Described {
		report.UnknownItems = int(m.Counts.Items - m.Counts.Described)
		report.Warnings = append(report.Warnings, fmt.Sprintf("%d rated items were not described in the raw files", report.UnknownItems))
	}
	if spec.Min == 0 && spec.Max == 0 {
		if err := ld.ds.inferRange(); err != nil {
			return nil, err
		}
	}
	return ld.ds, ld.ds.checkRange(spec)
}

// copyQuarantine writes the broken rows of the import, an empty file when there were none.
func (src *source) copyQuarantine(to string) error {
	return durable.Write(to, 0o644, func(w io.Writer) error {
		if _, any := src.manifest.File(layout.QuarantineName); !any {
			return nil
		}
		f, err := os.Open(filepath.Join(src.path, layout.QuarantineName))
		if err != nil {
			return fault.New(fault.Fatal, "dataset: quarantine", err)
		}
		defer f.Close()
		_, err = io.Copy(w, f)
		return fault.New(fault.Fatal, "dataset: quarantine", err)
	})
}

// checkColumns compares what dataset.yaml asks for with what was imported.
func (src *source) checkColumns(spec Spec) error {
	fail := func(key, name string, have []string) error {
		err := fault.Newf(fault.Fatal, "dataset", "%s: nothing was imported as %q", src.path, name)
		if src.yaml != nil {
			if at, ok := src.yaml.at[key]; ok {
				err = src.yaml.errorAt(at, "nothing was imported as %q", name)
			}
		}
		return fault.WithHint(err, didYouMean(name, have))
	}
	for _, name := range spec.ItemInputs {
		if !slices.Contains(src.manifest.ItemInputs, name) {
			return fail("item_inputs."+name, name, src.manifest.ItemInputs)
		}
	}
	if spec.Review != "" && !slices.Contains(src.manifest.Outcomes, spec.Review) {
		return fail("review", spec.Review, src.manifest.Outcomes)
	}
	return nil
}

func (ld *importedLoader) damaged(name, format string, args ...any) error {
	err := fault.Newf(fault.Fatal, "dataset", "%s: %s", filepath.Join(ld.dir, name), fmt.Sprintf(format, args...))
	return fault.WithHint(err, "import the data again with 'recpie data import'")
}

func (ld *importedLoader) readItems(ctx context.Context) error {
	asked := func(input string) bool { return slices.Contains(ld.ds.Spec.ItemInputs, input) }
	file, _ := ld.m.File(layout.ItemsName)
	ld.items = make(map[string]int32)
	title, categories, year, profile, price := asked("title"), asked("categories"), asked("year"), asked("profile"), asked("price")
	return layout.ReadItems(ctx, filepath.Join(ld.dir, file.Name), file.Rows, ld.m.ItemExtra, func(in layout.Item) error {
		if n := len(ld.ds.Items); n > 0 && in.ID <= ld.ds.Items[n-1].ID {
			return ld.damaged(file.Name, "item %q is not in the order of ids", in.ID)
		}
		it := Item{ID: in.ID}
		if title {
			it.Title = in.Title
		}
		if categories {
			it.Categories = in.Categories
		}
		if year || title { // a title may bring its year along
			it.Year = in.Year
		}
		if profile {
			it.Profile = in.Profile
		}
		if price {
			it.Price = in.Price
		}
		for i, name := range ld.m.ItemExtra {
			if in.Extra[i] != "" && asked(name) {
				it.Extra = append(it.Extra, Field{name, in.Extra[i]})
			}
		}
		ld.items[it.ID] = int32(len(ld.ds.Items))
		ld.ds.Items = append(ld.ds.Items, it)
		return nil
	})
}

// readRecords reads the shards side by side, each into its own part of the columns.
func (ld *importedLoader) readRecords(ctx context.Context) error {
	ds, n, shards := ld.ds, int(ld.m.Counts.Kept), ld.m.Shards()
	ds.Records, ds.ratings = make([]Record, n), make([]float64, n)
	for range ds.columns {
		ds.outcomes = append(ds.outcomes, make([]string, n))
	}
	ld.users = make([][]string, len(shards))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	at, errs := 0, make([]error, len(shards))
	for i, s := range shards {
		from := at
		at += int(s.Rows)
		g.Go(func() error {
			errs[i] = ld.readShard(ctx, i, s, from)
			return nil
		})
	}
	_ = g.Wait() // every shard is read, so that the error is always that of the first damaged one
	if err := cmp.Or(errs...); err != nil {
		return err
	}
	return ld.number(shards)
}

// readShard fills Records[from:from+s.Rows]; users are numbered within the shard.
func (ld *importedLoader) readShard(ctx context.Context, shard int, s layout.File, from int) error {
	ds, at := ld.ds, from
	var users []string
	last := make(map[int32]int32) // item → the user of this shard who rated it last
	err := layout.ReadInteractions(ctx, filepath.Join(ld.dir, s.Name), s.Rows, ld.m.Outcomes, func(b *layout.Batch) error {
		for i := range b.Users {
			if n := len(users); n == 0 || string(b.Users[i]) != users[n-1] {
				if n > 0 && string(b.Users[i]) < users[n-1] {
					return ld.damaged(s.Name, "user %q is not in the order of ids", b.Users[i])
				}
				users = append(users, string(b.Users[i]))
			}
			item, ok := ld.items[string(b.Items[i])]
			if !ok {
				return ld.damaged(s.Name, "item %q is not in %s", b.Items[i], layout.ItemsName)
			}
			u := int32(len(users) - 1)
			if before, ok := last[item]; ok && before == u {
				return ld.damaged(s.Name, "user %q rates item %q twice", b.Users[i], b.Items[i])
			}
			last[item] = u
			rec := Record{User: u, Item: item, Time: b.Times[i], HasTime: b.HasTime[i], Row: int(b.Rows[i])}
			if at > from && ds.Records[at-1].User == u && compareRecords(&ds.Records[at-1], &rec) >= 0 {
				return ld.damaged(s.Name, "the records of user %q are not in the order of time", b.Users[i])
			}
			ds.Records[at], ds.ratings[at] = rec, b.Ratings[i]
			at++
		}
		for k := range b.Outcomes {
			copy(ds.outcomes[k][at-len(b.Users):at], b.Outcomes[k])
		}
		return nil
	})
	ld.users[shard] = users
	return err
}

// compareRecords is the order (time, row) of a user's records.
func compareRecords(a, b *Record) int {
	x, y := Event{Time: a.Time, HasTime: a.HasTime}, Event{Time: b.Time, HasTime: b.HasTime}
	return cmp.Or(compareTime(&x, &y), cmp.Compare(a.Row, b.Row))
}

// number gives the users of all shards their index in the data set.
func (ld *importedLoader) number(shards []layout.File) error {
	ds, at := ld.ds, 0
	for i, users := range ld.users {
		base := int32(len(ds.Users))
		if n := len(ds.Users); n > 0 && len(users) > 0 && strings.Compare(users[0], ds.Users[n-1]) <= 0 {
			return ld.damaged(shards[i].Name, "user %q is not in the order of ids", users[0])
		}
		ds.Users = append(ds.Users, users...)
		for end := at + int(shards[i].Rows); at < end; at++ {
			ds.Records[at].User += base
		}
	}
	ds.byUser = make([]int32, len(ds.Users)+1)
	for r, rec := range ds.Records {
		ds.byUser[rec.User+1] = int32(r + 1)
	}
	return nil
}
