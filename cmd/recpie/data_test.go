package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"recpie/internal/dataset/catalog"
	"recpie/internal/dataset/formats"
	"recpie/internal/dataset/layout"
	"recpie/internal/dataset/stats"
)

func TestDataGet(t *testing.T) {
	dir := t.TempDir()
	list := must(t, dir, nil, "data", "get").stdout
	for _, name := range catalog.Names() {
		if !strings.Contains(list, name) {
			t.Errorf("%s is not listed:\n%s", name, list)
		}
	}
	var set catalog.Set
	if err := json.Unmarshal([]byte(must(t, dir, nil, "data", "get", "yelp", "-o", "json").stdout), &set); err != nil || set.Format != "yelp" {
		t.Errorf("%v, %+v", err, set)
	}
	if o := recpie(t, dir, nil, "data", "get", "yelb"); o.code != exitUsage || !strings.Contains(o.stderr, "one of: ml-100k") {
		t.Errorf("code %d, %s", o.code, o.stderr)
	}
}

// The data that import reads: three users of five films, one broken row, a film that is not described.
func rawFiles(t *testing.T, dir string) {
	t.Helper()
	ratings := "userId,movieId,rating,timestamp\n"
	for u := range 3 {
		for m := range 5 + u {
			ratings += fmt.Sprintf("%d,%d,%d,%d\n", u, m, 1+(u+m)%5, 86400*(365+m))
		}
	}
	for name, text := range map[string]string{"ratings.csv": ratings + "9,9,x,9\n", "movies.csv": "movieId,title,genres\n0,Heat (1995),Crime|Drama\n1,\"Big, the film\",Comedy\n2,Up,Drama\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDataImport(t *testing.T) {
	dir := t.TempDir()
	rawFiles(t, dir)
	args := []string{"data", "import", "--format", "movielens", "ratings.csv", "movies.csv"}
	o := must(t, dir, nil, append(args, "--out", "all")...)
	for _, want := range []string{"all: 18 records of 3 users on 7 items", "19 rows, 18 kept, 0 unrated, 1 broken, 0 duplicates", "1 × the rating is not a number", "all/quarantine.jsonl"} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
	var m struct {
		Out string `json:"out"`
		layout.Manifest
	}
	some := must(t, dir, nil, append(args, "--out", "some", "--where", "categories=drama|comedy", "--from", "1971-01-02", "--to", "1971-01-02", "--min-rating", "3", "--sample", "-o", "json")...)
	if err := json.Unmarshal([]byte(some.stdout), &m); err != nil {
		t.Fatal(err)
	}
	if m.Out != "some" || m.Counts.Kept != 2 || m.Counts.Filtered["where"] != 9 || m.Counts.Filtered["time"] != 6 || m.Counts.Filtered["rating"] != 1 || m.Options["sample"] != 1e5 {
		t.Errorf("%+v, %v", m.Counts, m.Options)
	}
	if out := must(t, dir, nil, "data", "check", "all", "--verify").stdout; !strings.Contains(out, "imported from movielens (2 files, SHA-256 compared)") || !strings.Contains(out, "split: 3 users") {
		t.Error(out)
	}
	if out := must(t, dir, nil, "data", "stats", "all").stdout; !strings.Contains(out, "records            18") {
		t.Error(out)
	}
	must(t, dir, nil, "data", "import", "--format", "csv", "ratings.csv", "--domain", "movie", "--scale", "0..5", "--out", "named")
	if out := must(t, dir, nil, "data", "check", "named").stdout; !strings.Contains(out, `domain movie, "watched this movie", ratings 0..5`) {
		t.Error(out)
	}
	if err := os.Truncate(filepath.Join(dir, "all", "items.parquet"), 9); err != nil {
		t.Fatal(err)
	}
	if o := recpie(t, dir, nil, "data", "check", "all"); o.code != exitFailed || !strings.Contains(o.stderr, "items.parquet: 9 bytes, the manifest says") || !strings.Contains(o.stderr, "import the data again") {
		t.Errorf("code %d: %s", o.code, o.stderr)
	}
}

func TestDataImportIsAskedRightly(t *testing.T) {
	dir := t.TempDir()
	rawFiles(t, dir)
	for want, c := range map[string]struct {
		code int
		args []string
	}{
		"--format":                     {exitUsage, []string{"ratings.csv", "--out", "x"}},
		"--out":                        {exitUsage, []string{"ratings.csv", "--format", "csv"}},
		"no format \"movielense\"":     {exitUsage, []string{"ratings.csv", "--format", "movielense", "--out", "x"}},
		"no file of records":           {exitUsage, []string{"movies.csv", "--format", "movielens", "--out", "x"}},
		"--k-core sets":                {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--k-core", "5", "--min-user", "3"}},
		"--from is a day":              {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--from", "2018"}},
		"not a condition":              {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--where", "film"}},
		"--max-broken":                 {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--max-broken", "7"}},
		"cannot be negative":           {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--min-item", "-1"}},
		"--scale is two numbers":       {exitUsage, []string{"ratings.csv", "--format", "csv", "--out", "x", "--scale", "5..1"}},
		"unknown domain \"film\"":      {exitFailed, []string{"ratings.csv", "--format", "csv", "--out", "x", "--domain", "film"}},
		"nowhere.csv":                  {exitFailed, []string{"nowhere.csv", "--format", "csv", "--out", "x"}},
		"is there already":             {exitFailed, []string{"ratings.csv", "--format", "csv", "--out", "."}},
		"neither items nor records":    {exitFailed, []string{"ratings.csv", "--format", "csv", "--out", "x", "--where", "city=Rome"}},
		"no record is left":            {exitFailed, []string{"ratings.csv", "--format", "csv", "--out", "x", "--k-core", "50"}},
		"the rating is not a number":   {exitFailed, []string{"movies.csv", "ratings.csv", "broken.csv", "--format", "csv", "--out", "x"}},
		"the lowest rating is not bel": {exitFailed, []string{"ratings.csv", "--format", "csv", "--out", "x", "--min-rating", "4", "--max-rating", "3"}},
	} {
		broken := "user_id,item_id,rating\n" + strings.Repeat("a,b,c\n", 30)
		if err := os.WriteFile(filepath.Join(dir, "broken.csv"), []byte(broken), 0o644); err != nil {
			t.Fatal(err)
		}
		o := recpie(t, dir, nil, append([]string{"data", "import"}, c.args...)...)
		if o.code != c.code || !strings.Contains(o.stderr, want) {
			t.Errorf("%q: code %d, %s", c.args, o.code, o.stderr)
		}
		if exists(filepath.Join(dir, "x")) {
			t.Fatalf("%q left a folder", c.args)
		}
	}
	// The help names every format that there is.
	help := must(t, dir, nil, "data", "import", "--help").stdout
	for _, f := range formats.List() {
		if !strings.Contains(help, f.Name+" ") {
			t.Errorf("%s is not in the help", f.Name)
		}
	}
}

func TestDataStats(t *testing.T) {
	dir := t.TempDir()
	must(t, dir, nil, "data", "planted", "--out", "p", "--users", "10", "--items", "20", "--per-user", "10")
	var s stats.Stats
	if err := json.Unmarshal([]byte(must(t, dir, nil, "data", "stats", "p", "-o", "json", "--html", "p.html").stdout), &s); err != nil {
		t.Fatal(err)
	}
	if s.Records != 100 || s.Users != 10 || s.PerUser.Min != 10 || s.Split.Test != 20 || s.Seen.Records != 80 {
		t.Errorf("%+v", s)
	}
	page, err := os.ReadFile(filepath.Join(dir, "p.html"))
	if err != nil || !strings.Contains(string(page), "<svg") {
		t.Errorf("page of %d bytes, %v", len(page), err)
	}
	if o := recpie(t, dir, nil, "data", "stats", "nowhere"); o.code != exitFailed || !strings.Contains(o.stderr, "nowhere") {
		t.Errorf("code %d, %s", o.code, o.stderr)
	}
}
