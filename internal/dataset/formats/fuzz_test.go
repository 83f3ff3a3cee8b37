package formats

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
)

// fuzz reads arbitrary bytes as a file of the format: an error or sound rows, the same ones by one worker and by three, and counts that add up.
func fuzz(f *testing.F, format, file string, others map[string]string) {
	for _, text := range samples[format] {
		f.Add([]byte(text))
	}
	f.Add([]byte("\"\n\""))
	broken, err := filepath.Glob(filepath.Join("testdata/broken", format, "*"))
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range broken {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		dir := t.TempDir()
		files := []string{filepath.Join(dir, file)}
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		for name, text := range others {
			files = append(files, filepath.Join(dir, name))
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		opts := Options{Workers: 1, MaxRecord: 4096, block: 4096, Reject: func(e dataset.RowError, _ []byte) {
			if e.File == "" || e.Line < 1 || e.Reason == "" || e.Remedy == "" {
				t.Errorf("an error that does not help: %+v", e)
			}
		}}
		one, err := readAll(t, format, files, opts)
		opts.Workers = 3
		three, again := readAll(t, format, files, opts)
		if d := cmp.Diff(one, three); (err == nil) != (again == nil) || err == nil && d != "" {
			t.Fatalf("%v and %v: %s", err, again, d)
		}
		for _, e := range one.Events {
			if e.User == "" || e.Item == "" || e.Rating != e.Rating || e.Row < 0 {
				t.Fatalf("an unsound event: %+v", e)
			}
		}
		for _, it := range one.Items {
			if it.ID == "" {
				t.Fatalf("an unsound item: %+v", it)
			}
		}
	})
}

func FuzzAmazon2014Items(f *testing.F) {
	fuzz(f, "amazon-2014", "meta.json", map[string]string{"reviews.json": ""})
}
func FuzzAmazon2014(f *testing.F) { fuzz(f, "amazon-2014", "reviews.json", nil) }
func FuzzAmazon2018(f *testing.F) { fuzz(f, "amazon-2018", "reviews.json", nil) }
func FuzzAmazon2023(f *testing.F) { fuzz(f, "amazon-2023", "reviews.jsonl", nil) }
func FuzzYelp(f *testing.F) {
	fuzz(f, "yelp", "review.json", map[string]string{"business.json": samples["yelp"]["business.json"]})
}
func FuzzYelpBusiness(f *testing.F) {
	fuzz(f, "yelp", "business.json", map[string]string{"review.json": samples["yelp"]["review.json"]})
}
func FuzzGoogle(f *testing.F)      { fuzz(f, "google-local", "review.json", nil) }
func FuzzTripAdvisor(f *testing.F) { fuzz(f, "tripadvisor-peter", "reviews.jsonl", nil) }
func FuzzMovieLens(f *testing.F)   { fuzz(f, "movielens", "ratings.dat", nil) }
func FuzzRecBole(f *testing.F)     { fuzz(f, "recbole", "a.inter", nil) }
func FuzzCSV(f *testing.F)         { fuzz(f, "csv", "interactions.csv", nil) }
func FuzzJSONL(f *testing.F)       { fuzz(f, "jsonl", "interactions.jsonl", nil) }
func FuzzMovieLensItems(f *testing.F) {
	fuzz(f, "movielens", "u.item", map[string]string{"u.data": ""})
}
