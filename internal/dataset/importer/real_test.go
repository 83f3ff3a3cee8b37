package importer

import (
	"compress/gzip"
	"context"
	"encoding/csv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"recpie/internal/dataset"
	"recpie/internal/dataset/formats"
	"recpie/internal/realdata"
)

// table is a source of CSV files, read with nothing of the readers under test.
type table struct {
	dir   string
	spec  dataset.Spec
	files []dataset.FileReport
}

func (s *table) Spec() dataset.Spec          { return s.spec }
func (s *table) Files() []dataset.FileReport { return s.files }

// rows reads a packed CSV file as one map per row.
func (s *table) rows(name string) (rows []map[string]string, order []string, err error) {
	f, err := os.Open(filepath.Join(s.dir, name))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, nil, err
	}
	all, err := csv.NewReader(z).ReadAll()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range all[1:] {
		row := make(map[string]string)
		for i, name := range all[0] {
			row[name] = r[i]
		}
		rows = append(rows, row)
	}
	s.files = append(s.files, dataset.FileReport{Path: name, Rows: len(rows), Kept: len(rows)})
	return rows, all[0], nil
}

func (s *table) Items(_ context.Context, yield func([]dataset.Item) error) error {
	rows, _, err := s.rows("items.csv.gz")
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := yield([]dataset.Item{{ID: r["item_id"], Title: r["title"]}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *table) Events(_ context.Context, yield func([]dataset.Event) error) error {
	rows, order, err := s.rows("interactions.csv.gz")
	if err != nil {
		return err
	}
	for i, r := range rows {
		if r["rating"] == "" {
			s.files[1].Unrated++
			s.files[1].Kept--
			continue
		}
		e := dataset.Event{User: r["user_id"], Item: r["item_id"], Row: i}
		if e.Rating, err = strconv.ParseFloat(r["rating"], 64); err != nil {
			return err
		}
		if e.HasTime = r["timestamp"] != ""; e.HasTime {
			if e.Time, err = strconv.ParseInt(r["timestamp"], 10, 64); err != nil {
				return err
			}
		}
		for _, name := range order {
			if !slices.Contains([]string{"user_id", "item_id", "rating", "timestamp"}, name) && r[name] != "" {
				e.Outcomes = append(e.Outcomes, dataset.Field{Name: name, Value: r[name]})
			}
		}
		if err := yield([]dataset.Event{e}); err != nil {
			return err
		}
	}
	return nil
}

// readers are the ways to read a folder of CSV files: one that shares nothing with the readers under test, and these.
func readers(dir string, spec dataset.Spec) map[string]func(formats.Options) (formats.Source, error) {
	return map[string]func(formats.Options) (formats.Source, error){
		"plain": func(formats.Options) (formats.Source, error) { return &table{dir: dir, spec: spec}, nil },
		"csv": func(o formats.Options) (formats.Source, error) {
			return formats.Open("csv", []string{filepath.Join(dir, "interactions.csv.gz"), filepath.Join(dir, "items.csv.gz")}, o)
		},
	}
}

// A set means the same whether it is read from CSV files or imported.
func TestRealSetsKeepTheirDigest(t *testing.T) {
	for _, name := range []string{"amazon_musical_instruments_5", "ml-latest-small", "rottentomatoes_critics_rated5", "tripadvisor_lara_u3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := realdata.Path(t, name)
			want, err := dataset.Check(t.Context(), dir, dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for reader, open := range readers(dir, want.Spec) {
				o := Options{Format: reader, Out: filepath.Join(t.TempDir(), name), Files: []string{dir}, ShardSize: 4 << 20, Open: open, Spec: want.Spec}
				if _, err := Run(t.Context(), o); err != nil {
					t.Fatal(err)
				}
				got, err := dataset.Check(t.Context(), o.Out, dataset.Options{Verify: true})
				if err != nil {
					t.Fatal(err)
				}
				if *got.Split != *want.Split || got.Records != want.Records || got.Users != want.Users || got.Items != want.Items || got.WithReview != want.WithReview || got.WithTime != want.WithTime {
					t.Errorf("%s: imported %+v\n%+v\nread %+v\n%+v", reader, got, got.Split, want, want.Split)
				}
			}
		})
	}
}

func TestMovieLensKeepsItsDigest(t *testing.T) {
	dir := realdata.Path(t, "ml-100k")
	want, err := dataset.Check(t.Context(), dir, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{filepath.Join(dir, "ml-100k.inter"), filepath.Join(dir, "ml-100k.item")}
	o := Options{Format: "recbole", Out: filepath.Join(t.TempDir(), "ml-100k"), Files: files, Spec: want.Spec}
	o.Open = func(opts formats.Options) (formats.Source, error) { return formats.Open("recbole", files, opts) }
	m, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := dataset.Check(t.Context(), o.Out, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if *got.Split != *want.Split || m.Counts.Kept != 100_000 || got.WithTitle != want.WithTitle {
		t.Errorf("imported %+v\n%+v\nread %+v", got, got.Split, want.Split)
	}
}
