package formats

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"recpie/internal/dataset"
	"recpie/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// samples are a few rows of each format, in words of our own.
var samples = map[string]map[string]string{
	"amazon-2014": {
		"meta_x.json":    `{'asin': 'A1', 'title': 'Reed\'s "best" clip', 'price': 3.5, 'categories': [['Music', 'Clips'], ['Music', 'Oboe']], 'brand': None, 'related': {'also_bought': ['A2']}, 'salesRank': {}}` + "\n" + `{"asin": "A2", "title": "Stand"}` + "\n",
		"reviews_x.json": `{"reviewerID": "U1", "asin": "A1", "reviewerName": "x", "helpful": [1, 2], "reviewText": "Holds\nwell \u2014 \ud83d\ude00", "overall": 5.0, "summary": "fine", "unixReviewTime": 1300000000, "reviewTime": "03 13, 2011"}` + "\n",
	},
	"amazon-2018": {
		"meta_x.json": `{"category": ["Films", "Drama"], "description": ["Slow.", "Long."], "title": "Rain", "asin": "B1", "price": "$4.99", "brand": "Rainhouse"}` + "\n",
		"films.json":  `{"overall": 2.0, "verified": true, "reviewTime": "01 2, 2015", "reviewerID": "U2", "asin": "B1", "reviewText": "wet", "summary": "no", "unixReviewTime": 1420156800, "vote": "3"}` + "\r\n\r\n" + `{"reviewerID": "U3", "asin": "B1", "unixReviewTime": 1420156801}` + "\n",
	},
	"amazon-2023": {
		"meta_x.jsonl": `{"main_category": "Films", "title": "Rain", "average_rating": 4.9, "rating_number": 12, "features": [], "description": ["Wet"], "price": null, "store": "House", "categories": ["Drama"], "parent_asin": "C1"}` + "\n",
		"films.jsonl":  `{"rating": 4.0, "title": "ok", "text": "quiet film", "images": [], "asin": "C9", "parent_asin": "C1", "user_id": "U4", "timestamp": 1588615855070, "helpful_vote": 0, "verified_purchase": true}`,
	},
	"yelp": {
		"business.json": `{"business_id": "b1", "name": "Soup", "city": "Tampa", "state": "FL", "categories": "Restaurants, Soup", "stars": 4.5, "hours": {"Monday": "1:0-2:0"}}` + "\n" + `{"business_id": "b2", "name": "Nails", "city": "Tampa", "state": "FL", "categories": "Beauty"}` + "\n" + `{"business_id": "b3", "name": "Bar", "city": "Reno", "state": "NV", "categories": null}` + "\n",
		"review.json":   `{"review_id": "r", "user_id": "u1", "business_id": "b1", "stars": 3.0, "useful": 1, "text": "warm", "date": "2018-07-07 22:09:11"}` + "\n" + `{"user_id": "u1", "business_id": "b2", "stars": 1.0, "date": "2018-07-08 22:09:11"}` + "\n",
	},
	"google-local": {
		"meta-x.json":   `{"name": "Cafe", "address": "Cafe, 1 Road, Mountain View, CA 94040", "gmap_id": "g1", "description": null, "category": ["Cafe"], "avg_rating": 4.4, "price": "$"}` + "\n" + `{"name": "Far", "address": "2 Road, Reno, NV 89501", "gmap_id": "g2", "category": null}` + "\n",
		"review-x.json": `{"user_id": "1", "name": "n", "time": 1609909927056, "rating": 5, "text": "good", "pics": null, "gmap_id": "g1"}` + "\n" + `{"user_id": "2", "time": 1609909927056, "rating": 1, "text": null, "gmap_id": "g2"}` + "\n",
	},
	"tripadvisor-peter": {
		"reviews.jsonl": `{"user": "u", "item": "h", "rating": 4, "aspect": "pool", "opinion": "blue", "sentence": "the pool was blue", "score": 1}` + "\n",
	},
	"movielens": {
		"u.data": "1\t2\t3\t880000000\n", "u.item": "2|Caf\xe9 (1995)|01-Jan-1995||http://x|0|1|0|0|0|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n",
	},
	"recbole": {
		"a.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ti\t4\t12.0\n", "a.item": "item_id:token\tmovie_title:token_seq\tclass:token_seq\ni\tRain\tDrama War\n",
	},
	"csv": {
		"interactions.csv": "\xef\xbb\xbfuser_id,item_id,rating,timestamp,review\nu,i,4,12,\"a \"\"b\"\",\nc\"\nu,j,,13,none\n", "items.csv": "item_id,title,categories,price\ni,Rain (1999),Drama|War,$3\n",
	},
	"jsonl": {
		"interactions.jsonl": `{"user_id": 7, "item_id": "i", "rating": "4.5", "timestamp": 12, "review": "x"}` + "\n",
	},
}

// write puts a sample into a folder and names its files, items first.
func write(t testing.TB, format string, change func(name string, b []byte) []byte) []string {
	t.Helper()
	dir, out := t.TempDir(), []string{}
	for name, text := range samples[format] {
		b := []byte(text)
		if change != nil {
			b = change(name, b)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		out = append(out, path)
	}
	return out
}

type read struct {
	Items  []dataset.Item
	Events []dataset.Event
	Counts [5]int // rows, kept, unrated, skipped, broken
}

func readAll(t testing.TB, format string, files []string, opts Options) (r read, err error) {
	t.Helper()
	src, err := Open(format, files, opts)
	if err != nil {
		return r, err
	}
	if err = src.Items(t.Context(), func(items []dataset.Item) error { r.Items = append(r.Items, items...); return nil }); err != nil {
		return r, err
	}
	err = src.Events(t.Context(), func(events []dataset.Event) error { r.Events = append(r.Events, events...); return nil })
	for _, f := range src.Files() {
		for k, n := range []int{f.Rows, f.Kept, f.Unrated, f.Skipped, f.Broken} {
			r.Counts[k] += n
		}
		if f.Rows != f.Kept+f.Unrated+f.Skipped+f.Broken {
			t.Errorf("%+v does not add up", f)
		}
	}
	return r, err
}

func out(pairs ...string) (f []dataset.Field) { return fields(pairs...) }

func TestFormats(t *testing.T) {
	want := map[string]read{
		"amazon-2014": {[]dataset.Item{{ID: "A1", Title: `Reed's "best" clip`, Categories: []string{"Music", "Clips", "Oboe"}, Price: "3.5"}, {ID: "A2", Title: "Stand"}},
			[]dataset.Event{{User: "U1", Item: "A1", Rating: 5, Time: 1300000000, HasTime: true, Outcomes: out("review", "Holds well — 😀", "summary", "fine")}}, [5]int{3, 3, 0, 0, 0}},
		"amazon-2018": {[]dataset.Item{{ID: "B1", Title: "Rain", Categories: []string{"Films", "Drama"}, Profile: "Slow. Long.", Price: "$4.99", Extra: out("brand", "Rainhouse")}},
			[]dataset.Event{{User: "U2", Item: "B1", Rating: 2, Time: 1420156800, HasTime: true, Outcomes: out("review", "wet", "summary", "no", "votes", "3", "verified", "true")}}, [5]int{3, 2, 1, 0, 0}},
		"amazon-2023": {[]dataset.Item{{ID: "C1", Title: "Rain", Categories: []string{"Drama"}, Profile: "Wet", Extra: out("brand", "House")}},
			[]dataset.Event{{User: "U4", Item: "C1", Rating: 4, Time: 1588615855, HasTime: true, Outcomes: out("review", "quiet film", "summary", "ok", "votes", "0", "verified", "true")}}, [5]int{2, 2, 0, 0, 0}},
		"yelp": {[]dataset.Item{{ID: "b1", Title: "Soup", Categories: []string{"Restaurants", "Soup"}, Extra: out("city", "Tampa", "state", "FL")}},
			[]dataset.Event{{User: "u1", Item: "b1", Rating: 3, Time: 1531001351, HasTime: true, Outcomes: out("review", "warm", "votes", "1")}}, [5]int{5, 2, 0, 3, 0}},
		"google-local": {[]dataset.Item{{ID: "g1", Title: "Cafe", Categories: []string{"Cafe"}, Price: "$", Extra: out("address", "Cafe, 1 Road, Mountain View, CA 94040")}, {ID: "g2", Title: "Far", Extra: out("address", "2 Road, Reno, NV 89501")}},
			[]dataset.Event{{User: "1", Item: "g1", Rating: 5, Time: 1609909927, HasTime: true, Outcomes: out("review", "good")}, {User: "2", Item: "g2", Rating: 1, Time: 1609909927, HasTime: true, Row: 1}}, [5]int{4, 4, 0, 0, 0}},
		"tripadvisor-peter": {nil, []dataset.Event{{User: "u", Item: "h", Rating: 4, Outcomes: out("aspects", "pool", "opinion", "blue", "sentence", "the pool was blue", "polarity", "1")}}, [5]int{1, 1, 0, 0, 0}},
		"movielens": {[]dataset.Item{{ID: "2", Title: "Café", Year: 1995, Categories: []string{"Action", "Comedy"}}},
			[]dataset.Event{{User: "1", Item: "2", Rating: 3, Time: 880000000, HasTime: true}}, [5]int{2, 2, 0, 0, 0}},
		"recbole": {[]dataset.Item{{ID: "i", Title: "Rain", Categories: []string{"Drama", "War"}}}, []dataset.Event{{User: "u", Item: "i", Rating: 4, Time: 12, HasTime: true}}, [5]int{2, 2, 0, 0, 0}},
		"csv": {[]dataset.Item{{ID: "i", Title: "Rain", Year: 1999, Categories: []string{"Drama", "War"}, Price: "$3"}},
			[]dataset.Event{{User: "u", Item: "i", Rating: 4, Time: 12, HasTime: true, Outcomes: out("review", `a "b", c`)}}, [5]int{3, 2, 1, 0, 0}},
		"jsonl": {nil, []dataset.Event{{User: "7", Item: "i", Rating: 4.5, Time: 12, HasTime: true, Outcomes: out("review", "x")}}, [5]int{1, 1, 0, 0, 0}},
	}
	for _, info := range List() {
		plain, err := readAll(t, info.Name, write(t, info.Name, nil), Options{Workers: 2})
		if err != nil {
			t.Errorf("%s: %v", info.Name, err)
			continue
		}
		if d := cmp.Diff(want[info.Name], plain); d != "" {
			t.Errorf("%s: %s", info.Name, d)
		}
		for name, pack := range map[string]func(string, []byte) []byte{"gzip": gzipped, "zstd": zstdEncoded} {
			packed, err := readAll(t, info.Name, write(t, info.Name, pack), Options{})
			if d := cmp.Diff(plain, packed); err != nil || d != "" {
				t.Errorf("%s by %s: %v %s", info.Name, name, err, d)
			}
		}
	}
}

func gzipped(_ string, b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	_, _ = z.Write(b)
	_ = z.Close()
	return buf.Bytes()
}

func zstdEncoded(_ string, b []byte) []byte {
	z, _ := zstd.NewWriter(nil)
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func TestWhere(t *testing.T) {
	for _, c := range []struct {
		format string
		where  map[string][]string
		items  int
		events int
	}{
		{"google-local", map[string][]string{"postcode": {"94035-94043"}}, 1, 1},
		{"google-local", map[string][]string{"postcode": {"89501"}}, 1, 1},
		{"yelp", map[string][]string{"category": {"*"}, "city": {"tampa"}}, 2, 2},
		{"yelp", map[string][]string{"state": {"NV"}}, 0, 0},
		{"jsonl", map[string][]string{"item": {"user_id"}}, 0, 1},
	} {
		r, err := readAll(t, c.format, write(t, c.format, nil), Options{Where: c.where})
		if err != nil || len(r.Items) != c.items || len(r.Events) != c.events {
			t.Errorf("%s %v: %d items, %d events, %v", c.format, c.where, len(r.Items), len(r.Events), err)
		}
	}
	if _, err := Open("yelp", []string{"business.json", "review.json"}, Options{Where: map[string][]string{"town": {"x"}}}); err == nil || !strings.Contains(fault.HintOf(err), "city") {
		t.Errorf("an unknown choice: %v", err)
	}
}

// Broken rows and files, with the exact words of each error.
func TestBroken(t *testing.T) {
	const good = `{"user_id": "u", "item_id": "i", "rating": 3, "timestamp": 5}`
	for _, c := range []struct{ format, file, text, want string }{
		{"jsonl", "x.jsonl", `{"user_id": "u", "item_id": "i", "rating": 3`, `x.jsonl:1:45: the row ends inside the object; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", good + "\n[1]", `x.jsonl:2:1: the row is not an object; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", good + " x", `x.jsonl:1:63: there is text after the object; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{"user_id": "u" "item_id": "i"}`, `x.jsonl:1:17: a comma or } is expected; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{"user_id": "u", "user_id": "v"}`, `x.jsonl:1:18: the key "user_id" occurs twice; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{'user_id': 'u'}`, `x.jsonl:1:2: a string in quotes is expected; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{"user_id": NaN}`, `x.jsonl:1:13: a value is expected; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{"a": ` + strings.Repeat("[", 70), `x.jsonl:1:72: nested deeper than 64; one object of valid JSON per line is expected`},
		{"jsonl", "x.jsonl", `{"user_id": "u", "rating": 3}`, `x.jsonl:1: item_id "": the id is missing or not valid text; every record needs a user and an item`},
		{"jsonl", "x.jsonl", `{"user_id": "\ud800", "item_id": "i"}`, `x.jsonl:1: user_id "": the id is missing or not valid text; every record needs a user and an item`},
		{"jsonl", "x.jsonl", `{"user_id": "u", "item_id": "i", "rating": "good"}`, `x.jsonl:1: rating "good": the rating is not a number; ratings are numbers`},
		{"jsonl", "x.jsonl", `{"user_id": "u", "item_id": "i", "rating": 3, "timestamp": "May"}`, `x.jsonl:1: timestamp "May": the time cannot be read; see docs/formats.md for the form of times`},
		{"jsonl", "x.jsonl", "{\"user_id\": \"u\", \"item_id\": \"i\", \"rating\": 3, \"review\": \"\xff\"}", `x.jsonl:1: review "": the text is not valid UTF-8 or has a broken escape; convert the file to UTF-8`},
		{"jsonl", "x.jsonl", good + "\n" + `{"user_id": "` + strings.Repeat("u", 3000) + `"}`, `x.jsonl:2: the row is longer than 2000 bytes; split the row, or allow longer rows`},
		{"yelp", "review.json", `{"user_id": "u1", "business_id": "b1", "stars": 9, "date": "2018-07-07"}`, `review.json:1: stars "9": the rating is outside 1..5; is the file of this format?`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,i", `x.csv:2: fields "2": wrong number of fields, 3 are expected; quote fields that hold the separator`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,i\"j,3", `x.csv:2:3: a quote inside a field that does not begin with one; quote the whole field and double the quotes in it`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,\"i\"j,3", `x.csv:2:6: text after the closing quote; double the quotes inside a quoted field`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,\"i,3", `x.csv:2:3: a quoted field does not end; close the quote`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,\xff,3", `x.csv:2: not valid UTF-8; convert the file to UTF-8`},
		{"csv", "x.csv", "user_id,item_id,rating\nu,\x00,3", `x.csv:2: the row holds a zero byte; the file is damaged, or not text`},
		{"csv", "x.csv", "user_id,item_id,rating\n\"a\nb\",i,3\nu,,3", `x.csv:4: item_id "": the id is missing; every record needs a user and an item`},
		{"csv", "x.csv", "user_id,item_id,rating,time\nu,i,3,x", `x.csv:2: time "x": the time cannot be read; times are seconds since 1970, UTC`},
		{"movielens", "u.data", "1\t2\t6\t8\n", `u.data:1: rating "6": the rating is outside 1..5; is the file of this format?`},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		files := []string{path}
		if c.format == "yelp" {
			files = append(files, filepath.Join(dir, "business.json"))
			if err := os.WriteFile(files[1], []byte(samples["yelp"]["business.json"]), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		_, err := readAll(t, c.format, files, Options{MaxRecord: 2000, Reject: func(e dataset.RowError, raw []byte) {
			if len(raw) == 0 {
				t.Errorf("%v without its row", &e)
			}
			got = append(got, strings.TrimPrefix(e.Error(), dir+"/"))
		}})
		if d := cmp.Diff([]string{c.want}, got); err != nil || d != "" {
			t.Errorf("%s: %v %s", c.text[:min(len(c.text), 60)], err, d)
		}
	}
}

// What is wrong with a whole file ends the reading, with the way out.
func TestBrokenFiles(t *testing.T) {
	whole := gzipped("", bytes.Repeat([]byte(`{"user_id": "u", "item_id": "i", "rating": 3}`+"\n"), 5000))
	tar := make([]byte, 1024)
	copy(tar[257:], "ustar")
	for _, c := range []struct {
		name string
		text []byte
		want string
		hint string
	}{
		{"x.jsonl.gz", whole[:len(whole)/2], "unexpected EOF", "fetch it again"},
		{"x.jsonl.gz", append(bytes.Clone(whole[:40]), whole[60:]...), "x.jsonl.gz", "fetch it again"},
		{"x.zip", []byte("PK\x03\x04 and more"), "is a zip archive", "unzip"},
		{"x.tar", tar, "is a tar archive", "tar xf"},
		{"reviews.pickle", []byte("\x80\x04\x95"), "is a Python pickle", "docs/formats.md"},
		{"x.jsonl", bytes.Repeat([]byte("no\n"), 30), "30 of 30 rows are broken; the first: ", "is it a file of this format?"},
	} {
		path := filepath.Join(t.TempDir(), c.name)
		if err := os.WriteFile(path, c.text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := readAll(t, "jsonl", []string{path}, Options{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.HintOf(err), c.hint) || fault.ClassOf(err) != fault.Fatal {
			t.Errorf("%s: %v (%s)", c.name, err, fault.HintOf(err))
		}
	}
	for _, c := range []struct{ format, file, text, want string }{
		{"csv", "x.csv", "", "the file is empty"},
		{"csv", "x.csv", "a,b\n1,2", `header "a,b": there is no column user_id; name one of the columns user_id, userId, user, reviewerID`},
		{"recbole", "x.inter", "user_id\titem_id\n", `header "user_id": a name with its type is expected; write as user_id:token`},
	} {
		path := filepath.Join(t.TempDir(), c.file)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readAll(t, c.format, []string{path}, Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for _, c := range [][2]string{{"nothing", "a"}, {"yelp", "review.json"}, {"movielens", "x.txt"}, {"recbole", "a.csv"}, {"amazon-2023", "meta_a.jsonl"}} {
		if _, err := Open(c[0], []string{c[1]}, Options{}); err == nil || fault.HintOf(err) == "" {
			t.Errorf("%s of %s: %v", c[0], c[1], err)
		}
	}
}

// endless writes n lines of reviews.
func endless(w io.Writer, n int) error {
	for k := range n {
		if _, err := fmt.Fprintf(w, "{\"rating\": %d.0, \"title\": \"no %d\", \"text\": \"%s\", \"parent_asin\": \"I%05d\", \"user_id\": \"U%07d\", \"timestamp\": %d}\n",
			1+k%5, k, strings.Repeat("fine words ", 20+k%40), k%50000, k%1000000, 1500000000000+int64(k)*1000); err != nil {
			return err
		}
	}
	return nil
}

// Any number of workers gives the same rows in the same order, whatever the blocks' bounds.
func TestWorkers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "films.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(endless(f, 9000), f.Close()); err != nil {
		t.Fatal(err)
	}
	one, err := readAll(t, "amazon-2023", []string{path}, Options{Workers: 1})
	if err != nil || len(one.Events) != 9000 {
		t.Fatalf("%d events, %v", len(one.Events), err)
	}
	for k, e := range one.Events {
		if e.Row != k || e.User != fmt.Sprintf("U%07d", k) {
			t.Fatalf("event %d is %+v", k, e)
		}
	}
	many, err := readAll(t, "amazon-2023", []string{path}, Options{Workers: 7})
	if d := cmp.Diff(one, many); err != nil || d != "" {
		t.Errorf("%v %s", err, d)
	}
}

// Who stops taking rows, or gives up, gets the error back, and no goroutine stays.
func TestStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "films.jsonl")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(endless(f, 9000), f.Close()); err != nil {
		t.Fatal(err)
	}
	src, err := Open("amazon-2023", []string{path}, Options{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	enough := errors.New("enough")
	if err := src.Events(t.Context(), func([]dataset.Event) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("stopped by %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := src.Events(ctx, func([]dataset.Event) error { cancel(); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A gzip stream of any length is read in the same memory. RECPIE_LONG=1 reads ten gigabytes.
func TestFlatMemory(t *testing.T) {
	rows := 400_000 // some 200 MB
	if os.Getenv("RECPIE_LONG") != "" {
		rows = 20_000_000
	}
	path := filepath.Join(t.TempDir(), "films.jsonl.gz")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Skip("no named pipes here")
	}
	var wrote error
	done := make(chan struct{})
	go func() {
		defer close(done)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			wrote = err
			return
		}
		z, _ := gzip.NewWriterLevel(f, gzip.BestSpeed)
		wrote = errors.Join(endless(z, rows), z.Close(), f.Close())
	}()
	src, err := Open("amazon-2023", []string{path}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var peak uint64
	n, blocks := 0, 0
	err = src.Events(t.Context(), func(events []dataset.Event) error {
		n += len(events)
		if blocks++; blocks%50 == 0 {
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
		return nil
	})
	<-done
	if err := errors.Join(err, wrote); err != nil || n != rows {
		t.Fatalf("%d of %d rows, %v", n, rows, err)
	}
	if peak > 96<<20 {
		t.Errorf("%d MB are held", peak>>20)
	}
	t.Logf("%d rows, at most %d MB held", n, peak>>20)
}
