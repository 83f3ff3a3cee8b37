package formats

import (
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
)

var update = flag.Bool("update", false, "write testdata/broken.txt anew")

// beside are files that a format needs beside the broken one.
var beside = map[string]map[string]string{
	"amazon-2014/meta": {"reviews.json": ""}, "amazon-2023/meta": {"reviews.jsonl": ""}, "movielens/u.item": {"u.data": ""}, "movielens/movies.csv": {"ratings.csv": "userId,movieId,rating\n"},
	"yelp/review": {"business.json": samples["yelp"]["business.json"]}, "yelp/business": {"review.json": ""},
}

// testdata/broken.txt says of every file of testdata/broken how many rows are kept and what exactly is told: of a broken row, or of what
// ends the reading.
func TestBrokenCorpus(t *testing.T) {
	paths, err := filepath.Glob("testdata/broken/*/*")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, path := range paths {
		format := filepath.Base(filepath.Dir(path))
		name := format + "/" + filepath.Base(path)
		files := []string{path}
		for prefix, others := range beside {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			for other, text := range others {
				files = append(files, filepath.Join(t.TempDir(), other))
				if err := os.WriteFile(files[len(files)-1], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		var told []string
		r, err := readAll(t, format, files, Options{MaxRecord: 2000, Reject: func(e dataset.RowError, _ []byte) { told = append(told, e.Error()) }})
		if err != nil {
			told = append(told, "ends: "+err.Error())
		}
		if len(told) == 0 {
			t.Errorf("%s: nothing is told", name)
		}
		b.WriteString(name + ": " + strconv.Itoa(len(r.Items)+len(r.Events)) + " kept\n")
		for _, line := range told {
			b.WriteString("\t" + strings.ReplaceAll(line, filepath.Dir(path)+"/", "") + "\n")
		}
	}
	const golden = "testdata/broken.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if d := cmp.Diff(string(want), b.String()); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}
