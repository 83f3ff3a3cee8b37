package importer

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/dataset/layout"
	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/fault"
	"recpie/internal/progress"
)

// Failpoints: at import-read the source is read and nothing else is done; at import-written all files are there, under a name that is not the final one.
const (
	failRead    = "import-read"
	failWritten = "import-written"
)

// Options says what to import and how. Format, Files, Out and Open must be set.
type Options struct {
	Format  string   // name of the source's format, for the manifest
	Files   []string // raw files or folders, as Open reads them: the manifest names them
	Out     string   // folder to make; it must not exist
	Program string   // what imports, for the manifest
	Filters Filters
	Spec    dataset.Spec   // stands in for what the source does not say of domain, verb and scale
	Sample  int64          // read so many records and no further, 0 = all; broken rows are not recorded then
	Extra   map[string]any // further options of the source, for the manifest

	Open      func(formats.Options) (formats.Source, error)
	MaxBroken float64 // as formats.Options
	Workers   int     // 0 = GOMAXPROCS
	ShardSize int64   // bytes of memory that the records of one file take, 0 = 128 MiB
	Show      *progress.Reporter
}

// Run imports a data set. Out appears whole, with all that the manifest names, or not at all.
func Run(ctx context.Context, o Options) (*layout.Manifest, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.ShardSize <= 0 {
		o.ShardSize = 128 << 20
	}
	if err := o.Filters.check(); err != nil {
		return nil, err
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return nil, fault.New(fault.Fatal, "import", err)
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, "import", "%s is there already", o.Out), "choose another folder with --out")
	}
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fault.New(fault.Fatal, "import", err)
	}
	if err := sweep(out); err != nil {
		return nil, err
	}
	im := &importing{Options: o, out: out, parent: parent}
	defer im.close()
	if err := im.read(ctx); err != nil {
		return nil, err
	}
	failpoint.Hit(failRead)
	if err := im.write(ctx); err != nil {
		return nil, err
	}
	return im.manifest, nil
}

// importing is one import at work.
type importing struct {
	Options
	out, parent string
	manifest    *layout.Manifest
	rejects     *rejects
	c           *collection
	spec        dataset.Spec
}

func (im *importing) close() {
	if im.rejects != nil {
		im.rejects.close()
	}
	if im.c != nil {
		im.c.close()
	}
}

// read takes the whole source in, and the digests of its files beside it.
func (im *importing) read(ctx context.Context) (err error) {
	if im.rejects, err = newRejects(im.parent); err != nil {
		return err
	}
	files, err := regularFiles(im.Files)
	if err != nil {
		return err
	}
	before, size, err := stamps(files)
	if err != nil {
		return err
	}
	task := im.Show.Start("read "+im.Format, size, 0)
	opts := formats.Options{Workers: im.Workers, MaxBroken: im.MaxBroken, Progress: advance(task)}
	if im.Sample == 0 {
		opts.Reject = im.rejects.add
	}
	src, err := im.Open(opts)
	if err != nil {
		return err
	}
	im.spec = im.complete(src.Spec())
	if _, err = im.spec.YAML(); err != nil {
		return err
	}
	im.manifest = &layout.Manifest{Version: layout.Version, Program: im.Program, Source: layout.Source{Format: im.Format, Files: make([]layout.File, len(files))}, ItemInputs: append([]string{}, im.spec.ItemInputs...)}
	if im.c, err = newCollection(im.parent, newSieve(im.Filters, im.spec)); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		for i, f := range files {
			hashed, err := layout.HashFile(f)
			if err = cmp.Or(err, gctx.Err()); err != nil {
				return err
			}
			im.manifest.Source.Files[i] = hashed
		}
		return nil
	})
	var items, events []dataset.FileReport
	g.Go(func() error {
		watch := watched{Source: src}
		err := im.c.read(gctx, &watch, im.Sample)
		all := src.Files()
		items, events = all[:min(watch.itemFiles, len(all))], all[min(watch.itemFiles, len(all)):]
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	after, _, err := stamps(files)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return fault.Newf(fault.Fatal, "import", "the raw files changed while they were read")
	}
	im.manifest.Counts = im.c.counts(items, events, im.Sample > 0)
	task.Done(fmt.Sprintf("%d records, %d users, %d items", im.c.n, im.c.users.len(), im.c.items.len()))
	for _, name := range im.c.extra {
		if !slices.Contains(im.spec.ItemInputs, name) {
			return fault.Newf(fault.Fatal, "import", "the column %q of items is not among the inputs of the set", name)
		}
	}
	return im.rejects.failed
}

// complete fills in what the source does not say.
func (im *importing) complete(s dataset.Spec) dataset.Spec {
	s.Domain, s.Verb = cmp.Or(s.Domain, im.Spec.Domain), cmp.Or(s.Verb, im.Spec.Verb)
	if s.Min == s.Max {
		s.Min, s.Max = im.Spec.Min, im.Spec.Max
	}
	return s
}

// write filters, sorts and writes what was read.
func (im *importing) write(ctx context.Context) error {
	task := im.Show.Start("filter", im.c.n, 0)
	s, err := im.c.thin(ctx, im.parent)
	if err != nil {
		return err
	}
	task.Add(im.c.n)
	task.Done(fmt.Sprintf("%d records left", s.kept))
	if s.kept == 0 {
		return fault.WithHint(fault.Newf(fault.Fatal, "import", "no record is left: %s", im.manifest.Counts.String()), "ask less of the records, or look at the broken rows with 'recpie data check'")
	}
	d := im.c.arrange(s, im.ShardSize)
	defer func() { d.shards.close() }()
	if err := im.c.distribute(ctx, im.parent, s, d); err != nil {
		return err
	}
	task = im.Show.Start("write", s.kept, 0)
	err = durable.ReplaceDir(im.out, func(dir string) error {
		unlock, err := hold(dir)
		if err != nil {
			return err
		}
		defer unlock()
		if err := im.fill(ctx, dir, s, d, task.Add); err != nil {
			return err
		}
		failpoint.Hit(failWritten)
		return nil
	})
	if err == nil {
		task.Done(fmt.Sprintf("%d files", len(im.manifest.Files)))
	}
	return err
}

// fill writes all files of the folder, the manifest last.
func (im *importing) fill(ctx context.Context, dir string, s *survivors, d *deal, done func(int64)) error {
	m := im.manifest
	shards, err := im.c.writeShards(ctx, dir, d, im.Workers, done)
	if err != nil {
		return err
	}
	n := &m.Counts
	n.Duplicates, n.Kept, n.Users = s.duplicates, s.kept, int64(len(d.users))
	items, err := im.c.writeItems(dir, s, n)
	if err != nil {
		return err
	}
	m.Files = append(shards, items)
	if im.rejects.lines > 0 {
		f, err := im.rejects.write(filepath.Join(dir, layout.QuarantineName))
		if err != nil {
			return err
		}
		m.Files = append(m.Files, f)
	}
	slices.SortFunc(m.Files, func(a, b layout.File) int { return strings.Compare(a.Name, b.Name) })
	m.Outcomes, m.ItemExtra = append([]string{}, d.names...), append([]string{}, im.c.extra...)
	m.Options = im.Filters.options()
	if im.Sample > 0 {
		m.Options["sample"] = im.Sample
	}
	maps.Copy(m.Options, im.Extra)
	data, err := m.Encode()
	if err != nil {
		return err
	}
	if !slices.Contains(m.Outcomes, im.spec.Review) { // no record that is left has a text
		im.spec.Review = ""
	}
	spec, err := im.spec.YAML()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, layout.SpecName), spec, 0o644); err != nil {
		return fault.New(fault.Fatal, "import", err)
	}
	return fault.New(fault.Fatal, "import", os.WriteFile(filepath.Join(dir, layout.ManifestName), data, 0o644))
}
