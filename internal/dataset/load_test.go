package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/fault"
)

const goodYAML = `domain: movie
verb: watched this movie
rating: {min: 1, max: 5}
interactions: interactions.csv
items: items.csv
item_inputs: [title, categories]
review: review
`

// folder writes the files of a data set.
func folder(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func csvSet(interactions string) map[string]string {
	return map[string]string{"dataset.yaml": goodYAML, "interactions.csv": interactions,
		"items.csv": "item_id,title,categories,critics_score\na,Heat (1995),Crime|Drama,9\nb,Big,Comedy,7\nc,Up,,8\n"}
}

func TestLoadCSV(t *testing.T) {
	dir := folder(t, csvSet("user_id,item_id,rating,timestamp,review,summary\nu2,b,3,7,,ok\nu1,b,4,20,fine,\nu1,a,5,10,great,s\nu1,c,2,,meh,\n"))
	ds, report, err := Load(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Item{{ID: "a", Title: "Heat", Year: 1995, Categories: []string{"Crime", "Drama"}}, {ID: "b", Title: "Big", Categories: []string{"Comedy"}}, {ID: "c", Title: "Up"}}, ds.Items); d != "" {
		t.Error(d)
	}
	want := []Record{{User: 0, Item: 2, Row: 3}, {User: 0, Item: 0, Time: 10, HasTime: true, Row: 2}, {User: 0, Item: 1, Time: 20, HasTime: true, Row: 1}, {User: 1, Item: 1, Time: 7, HasTime: true, Row: 0}}
	if d := cmp.Diff(want, ds.Records); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]float32{.25, 1, .75, .5}, ds.Labels([]int32{0, 1, 2, 3})); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"critics_score"}, report.Ignored); d != "" {
		t.Error("columns that are not allow-listed:", d)
	}
	if report.WithReview != 3 || report.WithTime != 3 || report.Records != 4 {
		t.Errorf("report %+v", report)
	}
}

func TestBrokenRowsAreSetAside(t *testing.T) {
	body := "user_id,item_id,rating,timestamp,review\nu1,a,5,1,x\n,a,5,1,x\nu1,b,six,1,x\nu1,b,9,1,x\nu1,b,3,noon,x\nu1,b\nu1,b,,1,not rated\nu1,b,2,3,\"y\nz\"\nu1,a,4,9,again\nu2,z,1,1,\n"
	quarantine := filepath.Join(t.TempDir(), "broken.jsonl")
	dir := folder(t, csvSet(body))
	ds, report, err := Load(t.Context(), dir, Options{Quarantine: quarantine})
	if err != nil {
		t.Fatal(err)
	}
	f := report.Files[1]
	if f.Rows != 10 || f.Kept != 4 || f.Unrated != 1 || f.Broken != 5 || f.Duplicates != 1 || report.UnknownItems != 1 {
		t.Errorf("file %+v, unknown items %d", f, report.UnknownItems)
	}
	var got []string
	for _, e := range f.Examples {
		got = append(got, strings.TrimPrefix(e.Error(), filepath.Join(dir, "interactions.csv")))
	}
	want := []string{
		`:3:1: user_id "": empty; every record needs a user and an item`,
		`:4:6: rating "six": not a finite number; write a number, or leave the rating empty`,
		`:5:6: rating "9": outside the scale 1..5; mend the rating, or the scale in dataset.yaml`,
		`:6:8: timestamp "noon": not a time in Unix seconds; write seconds since 1970, or leave the time empty`,
		`:7: fields "2": wrong number of fields, the header has 5; quote fields that hold the separator`,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(ds.Records) != 3 || ds.Labels([]int32{1})[0] != .75 {
		t.Errorf("of a repeated pair the last by time counts: %v %v", ds.Records, ds.Labels([]int32{0, 1, 2}))
	}
	data, err := os.ReadFile(quarantine)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	var first brokenRow
	if err := json.Unmarshal([]byte(lines[1]), &first); err != nil || len(lines) != 5 || first.Raw != "u1,b,six,1,x" || first.Line != 4 {
		t.Errorf("%d lines, %+v, %v", len(lines), first, err)
	}
	if err := report.WriteText(os.NewFile(0, os.DevNull)); err == nil {
		t.Error("a failed write went unnoticed")
	}
}

func TestTooManyBrokenRowsAreFatal(t *testing.T) {
	body := "user_id,item_id,rating,timestamp,review\nu1,a,5,1,x\n" + strings.Repeat("u1,b,x,1,\n", 11)
	_, report, err := Load(t.Context(), folder(t, csvSet(body)), Options{})
	if !errors.Is(err, errTooBroken) || fault.ClassOf(err) != fault.Fatal || !strings.Contains(err.Error(), "interactions.csv:3:6") {
		t.Errorf("err = %v", err)
	}
	if report.Broken() != 11 {
		t.Errorf("the report counts %d", report.Broken())
	}
	if _, _, err := Load(t.Context(), folder(t, csvSet(body)), Options{MaxBroken: .99}); err != nil {
		t.Errorf("borne when asked: %v", err)
	}
}

func TestLoadErrors(t *testing.T) {
	rows := "user_id,item_id,rating,timestamp,review\nu1,a,5,1,x\n"
	edit := func(old, new string) map[string]string {
		files := csvSet(rows)
		files["dataset.yaml"] = strings.Replace(goodYAML, old, new, 1)
		return files
	}
	for _, c := range []struct {
		name       string
		files      map[string]string
		want, hint string
	}{
		{"unknown key", edit("verb:", "verbs:"), `dataset.yaml:2:1: unknown key "verbs"`, `did you mean "verb"?`},
		{"unknown rating key", edit("max:", "mx:"), `dataset.yaml:3:18: unknown key "mx"`, `did you mean "max"?`},
		{"repeated key", edit("review: review", "domain: movie"), `dataset.yaml:7:1: key "domain" is there twice`, ""},
		{"unknown domain", edit("domain: movie", "domain: moive"), `dataset.yaml:1:9: unknown domain "moive"`, `did you mean "movie"?`},
		{"empty scale", edit("max: 5", "max: 1"), "dataset.yaml:3:9: rating needs min and max", ""},
		{"scale that is no number", edit("max: 5", "max: .inf"), "dataset.yaml:3:23: rating max", ""},
		{"an outcome as input", edit("[title, categories]", "[title, rating]"), `dataset.yaml:6:22: item_inputs: "rating" is an outcome`, ""},
		{"an input that is not there", edit("categories]", "catgories]"), `dataset.yaml:6:22: `, `did you mean "categories"?`},
		{"a review column that is not there", edit("review: review", "review: reviw"), `dataset.yaml:7:9: `, `did you mean "review"?`},
		{"a file outside", edit("items: items.csv", "items: ../items.csv"), `dataset.yaml:5:8: "../items.csv" leads out of the folder`, ""},
		{"an alias", edit("verb: watched this movie", "verb: *x"), "unknown anchor", ""},
		{"no column", csvSet("user_id,itemid,rating\nu,a,1\n"), `interactions.csv:1: there is no column "item_id"`, `did you mean "itemid"?`},
		{"a column twice", csvSet("user_id,item_id,rating,rating,review\nu,a,1,1,\n"), `interactions.csv:1:24: header "rating": the column is there twice`, ""},
		{"empty", csvSet(""), "interactions.csv: the file is empty", ""},
		{"no record", csvSet("user_id,item_id,rating,review\n"), "holds no rated record", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Load(t.Context(), folder(t, c.files), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v, want %q", err, c.want)
			}
			if c.hint != "" && !strings.Contains(fault.HintOf(err), c.hint) {
				t.Errorf("hint %q, want %q", fault.HintOf(err), c.hint)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := Load(ctx, folder(t, csvSet(rows)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestLoadRecBole(t *testing.T) {
	files := map[string]string{
		"ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4\t881250949.5\n1\t11\t6\t3\n",
		"ml-100k.item":  "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n10\tToy Story\t1995\tAnimation Children's\n11\tX\tV\t\n",
	}
	ds, report, err := Load(t.Context(), folder(t, files), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Item{{ID: "10", Title: "Toy Story", Year: 1995, Categories: []string{"Animation", "Children's"}}, {ID: "11", Title: "X"}}, ds.Items); d != "" {
		t.Error(d)
	}
	if ds.Spec.Domain != "movie" || ds.Spec.Max != 5 || len(ds.Records) != 1 || ds.Records[0].Time != 881250949 || report.Broken() != 1 {
		t.Errorf("%+v %+v %d", ds.Spec, ds.Records, report.Broken())
	}
	files["ml-100k.inter"] = "user_id:token\titem_id:tokn\trating:float\n"
	if _, _, err := Load(t.Context(), folder(t, files), Options{}); err == nil || !strings.Contains(err.Error(), "ml-100k.inter:1:15") {
		t.Errorf("a wrong type: %v", err)
	}
}

func TestScaleOfTrainingRatings(t *testing.T) {
	body := "user_id,item_id,rating,timestamp\nu,a,2,1\nu,b,4,2\nu,c,3,3\nu,d,6,4\nu,e,10,5\n"
	ds, report, err := Load(t.Context(), folder(t, map[string]string{"interactions.csv": body}), Options{Spec: Spec{Domain: "hotel"}})
	if err != nil {
		t.Fatal(err)
	}
	if ds.Spec.Min != 2 || ds.Spec.Max != 6 || ds.Spec.Verb != "stayed at this hotel" || len(report.Warnings) != 1 {
		t.Errorf("the test rating must not set the scale: %+v, warnings %q", ds.Spec, report.Warnings)
	}
}

func FuzzSpec(f *testing.F) {
	f.Add(goodYAML)
	f.Add("rating: [1")
	f.Add("a: &a [*a]")
	f.Add("item_inputs: {}\nreview: null")
	f.Fuzz(func(t *testing.T, s string) {
		spec, err := parseSpec("dataset.yaml", []byte(s))
		if (err == nil) == (spec == nil) {
			t.Fatalf("spec %v, err %v", spec, err)
		}
	})
}

func FuzzRecBole(f *testing.F) {
	f.Add("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t2\t3\t4\n")
	f.Add("user_id:token\titem_id:token\trating:float\n1\t2\tNaN\n\t\t\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		if err := os.WriteFile(filepath.Join(dir, "x.inter"), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		ds, report, err := Load(context.Background(), dir, Options{Spec: Spec{Min: 0, Max: 5}})
		if err != nil {
			return
		}
		for _, r := range ds.Records {
			if y := ds.Labels([]int32{0})[0]; !(y >= 0 && y <= 1) || ds.Users[r.User] == "" || ds.Items[r.Item].ID == "" {
				t.Fatalf("record %+v, y %v", r, y)
			}
		}
		if f := report.Files[0]; f.Rows != f.Kept+f.Unrated+f.Broken {
			t.Fatalf("rows do not add up: %+v", f)
		}
	})
}
