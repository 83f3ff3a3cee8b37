package dataset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/parquet-go/parquet-go"
)

const (
	csvRows  = "user_id,item_id,rating,timestamp,review,aspects\nu1,a,5,10,great,plot|cast\nu1,b,4.5,,\"a \"\"b\"\"\",\nu2,a,,3,,\nu2,c,1,-4,x,plot\n"
	jsonRow1 = `{"user_id":"u1","item_id":"a","rating":5,"timestamp":10,"review":"great","aspects":["plot","cast"]}`
	jsonLine = jsonRow1 + "\n" + `{"item_id":"b","user_id":"u1","rating":4.5,"timestamp":null,"review":"a \"b\""}` + "\n\n" + `{"user_id":"u2","item_id":"a","timestamp":3}` + "\n" +
		`{"user_id":"u2","item_id":"c","rating":"1","timestamp":-4,"review":"x","aspects":"plot"}` + "\n"
)

type parquetRow struct {
	User    string   `parquet:"user_id"`
	Item    string   `parquet:"item_id"`
	Rating  *float64 `parquet:"rating,optional"`
	Time    *int64   `parquet:"timestamp,optional,timestamp(millisecond)"`
	Review  string   `parquet:"review"`
	Aspects []string `parquet:"aspects,list"`
}

func parquetBytes[T any](t testing.TB, rows []T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := parquet.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestJSONAndParquetReadAsCSV(t *testing.T) {
	number := func(x float64) *float64 { return &x }
	milli := func(x int64) *int64 { return &x }
	table := string(parquetBytes(t, []parquetRow{{"u1", "a", number(5), milli(10_999), "great", []string{"plot", "cast"}}, {"u1", "b", number(4.5), nil, `a "b"`, nil}, {"u2", "a", nil, milli(3000), "", nil}, {"u2", "c", number(1), milli(-3001), "x", []string{"plot"}}}))
	spec := "domain: movie\nrating: {min: 1, max: 5}\nreview: review\ninteractions: "
	load := func(files map[string]string) (*Dataset, *Report) {
		ds, report, err := Load(t.Context(), folder(t, files), Options{})
		if err != nil {
			t.Fatal(err)
		}
		ds.Name = ""
		return ds, report
	}
	want, _ := load(map[string]string{"dataset.yaml": spec + "i.csv\n", "i.csv": csvRows})
	for format, files := range map[string]map[string]string{
		"jsonl":   {"dataset.yaml": spec + "i.jsonl\n", "i.jsonl": jsonLine},
		"parquet": {"dataset.yaml": spec + "i.parquet\n", "i.parquet": table},
	} {
		got, report := load(files)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s", format, cmp.Diff(want, got, cmp.AllowUnexported(Dataset{})))
		}
		if f := report.Files[0]; report.Format != format || f.Rows != 4 || f.Unrated != 1 || f.Broken != 0 {
			t.Errorf("%s: %+v", format, report)
		}
	}
}

func TestBrokenJSONAndParquet(t *testing.T) {
	jsonl := strings.Repeat(jsonRow1+"\n", 2) + "[1]\n" + `{"user_id":"u1"` + "\n" + `{"user_id":"u1","item_id":"z","rating":"x"}` + "\n"
	_, report, err := Load(t.Context(), filepath.Join(folder(t, map[string]string{"i.jsonl": jsonl}), "i.jsonl"), Options{Spec: Spec{Domain: "movie", Min: 1, Max: 5}})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]int{"not a JSON object": 2, "not a finite number": 1}, report.Files[0].Reasons); d != "" {
		t.Error(d)
	}
	if at := report.Files[0].Examples[0]; at.Line != 3 || report.Files[0].Examples[2].Line != 5 {
		t.Errorf("examples %+v", report.Files[0].Examples)
	}
	type nested struct {
		User struct{ First, Last string } `parquet:"user_id"`
	}
	whole := parquetBytes(t, []parquetRow{{User: "u", Item: "i"}})
	for want, data := range map[string][]byte{
		`the column "user_id" is a group of several`:        parquetBytes(t, []nested{{}}),
		"the end of the Parquet file is damaged or missing": whole[:len(whole)-1],
		"4 bytes are no Parquet file":                       []byte("PAR1"),
		`there is no column "user_id"`:                      parquetBytes(t, []struct{ A string }{{"a"}}),
		"i.jsonl: no line holds a JSON object with keys":    nil,
	} {
		name := "i.parquet"
		if data == nil {
			name, data = "i.jsonl", []byte("{}\n7\n")
		}
		dir := folder(t, map[string]string{name: string(data)})
		if _, _, err := Load(t.Context(), filepath.Join(dir, name), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, _, err := Load(t.Context(), "nowhere.jsonl", Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// FuzzJSONRows: whatever a file holds, there are rows with a field for each column, or an error.
func FuzzJSONRows(f *testing.F) {
	f.Add([]byte(jsonLine))
	f.Add([]byte("{\"a\":{\"b\":[1,[2,\"c\"]]}}\n{\"a\":\"\\ud800\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f.jsonl")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		ds, report, err := Load(t.Context(), path, Options{Spec: Spec{Domain: "movie", Min: 1, Max: 5}})
		if err == nil && (len(ds.Records) == 0 || report.Files[0].Rows != report.Files[0].Kept+report.Files[0].Unrated+report.Files[0].Broken) {
			t.Fatalf("report %+v", report)
		}
	})
}

// FuzzParquetRows: a damaged Parquet file is an error, or what is left of it.
func FuzzParquetRows(f *testing.F) {
	rating := 3.0
	f.Add(parquetBytes(f, []parquetRow{{User: "u", Item: "i", Rating: &rating, Review: "r", Aspects: []string{"a", "b"}}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "f.parquet")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		ds, _, err := Load(t.Context(), path, Options{Spec: Spec{Domain: "movie", Min: 1, Max: 5}})
		if err == nil && len(ds.Records) == 0 {
			t.Fatal("a set without records")
		}
	})
}
