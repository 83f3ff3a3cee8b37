package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// draw makes a small data set of random events, reviews and ties included.
func draw(t *rapid.T) *Dataset {
	var events []Event
	for u := range rapid.IntRange(1, 6).Draw(t, "users") {
		perm := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).Draw(t, "items")
		for _, i := range perm[:rapid.IntRange(1, 12).Draw(t, "n")] {
			e := Event{User: fmt.Sprint("u", u), Item: fmt.Sprint("i", i), Rating: float64(rapid.IntRange(1, 5).Draw(t, "rating")), Row: len(events),
				Outcomes: []Field{{"review", rapid.SampledFrom([]string{"", "a fine plot", "dull"}).Draw(t, "review")}}}
			if e.HasTime = rapid.Bool().Draw(t, "has time"); e.HasTime {
				e.Time = int64(rapid.IntRange(-2, 4).Draw(t, "time"))
			}
			events = append(events, e)
		}
	}
	ds, err := New("drawn", Spec{Domain: "movie", Min: 1, Max: 5, Review: "review"}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestSplitIsTheProtocols(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			for u := range ds.Users {
				if from, to := ds.OfUser(int32(u)); to-from >= 5 {
					t.Fatal(err)
				}
			}
			return
		}
		part := make(map[int32]int)
		for p, recs := range [][]int32{s.Train, s.Val, s.Test} {
			for _, r := range recs {
				part[r] = p + 1
			}
		}
		for u := range ds.Users {
			from, to := ds.OfUser(int32(u))
			n := int(to - from)
			var count [4]int
			for r := from; r < to; r++ {
				count[part[r]]++
				if r > from {
					if part[r] < part[r-1] {
						t.Fatal("a later record is in an earlier part")
					}
					a, b := ds.Records[r-1], ds.Records[r]
					if a.HasTime && !b.HasTime || a.HasTime && b.HasTime && a.Time > b.Time || a.HasTime == b.HasTime && a.Time == b.Time && a.Row > b.Row {
						t.Fatal("records are not in the order of time and row")
					}
				}
			}
			train := n * 8 / 10
			want := [4]int{0, train - max(1, train/10), max(1, train/10), n - train}
			if n < 5 {
				want = [4]int{n}
			}
			if count != want {
				t.Fatalf("%d records: none, train, val, test = %v, want %v", n, count, want)
			}
		}
	})
}

func TestTieSafeSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := MakeSplit(ds, SplitOptions{TieSafe: true})
		if err != nil {
			return
		}
		if n := s.Report(ds).TieCuts; n != 0 {
			t.Fatalf("%d users are cut inside a tie", n)
		}
		all := slices.Concat(s.Train, s.Val, s.Test)
		if slices.Sort(all); len(slices.Compact(all)) != len(s.Train)+len(s.Val)+len(s.Test) {
			t.Fatal("the parts overlap")
		}
	})
}

// setOf makes n users with k records each.
func setOf(t testing.TB, users, k int) *Dataset {
	t.Helper()
	var events []Event
	for u := range users {
		for i := range k {
			events = append(events, Event{User: fmt.Sprintf("u%03d", u), Item: fmt.Sprintf("i%03d", (u+i)%50), Rating: float64(1 + (u*7+i*3)%5),
				Time: int64(i), HasTime: true, Row: len(events), Outcomes: []Field{{"review", fmt.Sprint("text ", u, i)}}})
		}
	}
	ds, err := New("made", Spec{Domain: "movie", Min: 1, Max: 5, Review: "review"}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func mustSplit(t testing.TB, ds *Dataset) *Split {
	t.Helper()
	s, err := MakeSplit(ds, SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSample(t *testing.T) {
	ds := setOf(t, 40, 10)
	s := mustSplit(t, ds)
	a, again, b := s.SampleUsers(ds, Sample{Pairs: 95, Seed: 1}), s.SampleUsers(ds, Sample{Pairs: 95, Seed: 1}), s.SampleUsers(ds, Sample{Pairs: 95, Seed: 2})
	if n := len(a.Train) + len(a.Val) + len(a.Test); n != 100 || a.Sample.Users != 10 {
		t.Errorf("%d records of %d users, want whole users up to 95 records", n, a.Sample.Users)
	}
	if d := cmp.Diff(a.Train, again.Train); d != "" || a.Digest != again.Digest {
		t.Error("one seed gave two samples")
	}
	if a.Digest == b.Digest || a.Digest == s.Digest || slices.Equal(a.Train, b.Train) {
		t.Error("other samples must have other digests")
	}
	if got, want := len(a.TrainView(ds).Records()), len(s.Train); got != want {
		t.Errorf("the sample's view sees %d records, want those of all users, %d", got, want)
	}
	if s.SampleUsers(ds, Sample{Pairs: 1000, Seed: 1}) != s {
		t.Error("a sample of everything is the split itself")
	}
	if c := s.SampleUsers(ds, Sample{MaxRecords: 9}); len(c.Train) != 0 {
		t.Errorf("users with 10 records were drawn although at most 9 are allowed: %d", c.Sample.Users)
	}
	if c := s.SampleUsers(ds, Sample{MaxRecords: 10}); c.Sample.Users != 40 || c.Digest == s.Digest {
		t.Errorf("%d users drawn, want all 40", c.Sample.Users)
	}
	if a.SampleUsers(ds, Sample{Pairs: 95, Seed: 2}).Digest != b.Digest {
		t.Error("a sample of a sample must be drawn from all users")
	}
}

func TestSplitFile(t *testing.T) {
	ds := setOf(t, 30, 10)
	s := mustSplit(t, ds)
	path := filepath.Join(t.TempDir(), "split.json")
	for _, want := range []*Split{s, s.SampleUsers(ds, Sample{Pairs: 60, Seed: 4})} {
		if err := want.SaveFile(path, ds); err != nil {
			t.Fatal(err)
		}
		got, err := LoadFile(path, ds)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([][]int32{want.Train, want.Val, want.Test}, [][]int32{got.Train, got.Val, got.Test}); d != "" || got.Digest != want.Digest {
			t.Error(d)
		}
	}
	if _, err := LoadFile(path, setOf(t, 31, 10)); err == nil {
		t.Error("a split of other data was accepted")
	}
	text, _ := os.ReadFile(path)
	swapped := strings.Replace(string(text), `"val":[`, `"val":[0,`, 1)
	_ = os.WriteFile(path, []byte(swapped), 0o644)
	if _, err := LoadFile(path, ds); err == nil {
		t.Error("a changed list was accepted")
	}
}

func TestDigestIgnoresOutcomesAndLayout(t *testing.T) {
	ds := setOf(t, 10, 10)
	s := mustSplit(t, ds)
	changed, err := ds.WithRatings([]int32{0, 9}, []float64{1, 5})
	if err != nil {
		t.Fatal(err)
	}
	if mustSplit(t, changed).Digest != s.Digest {
		t.Error("ratings are in the split's digest")
	}
	if mustSplit(t, setOf(t, 11, 10)).Digest == s.Digest {
		t.Error("another user is not in the split's digest")
	}
}

// FuzzSplitFile: whatever a split file says, reading it gives the split that it names, or an error.
func FuzzSplitFile(f *testing.F) {
	ds := setOf(f, 12, 8)
	s := mustSplit(f, ds)
	path := filepath.Join(f.TempDir(), "split.json")
	for _, seed := range []*Split{s, s.SampleUsers(ds, Sample{Pairs: 30, Seed: 4})} {
		if err := seed.SaveFile(path, ds); err != nil {
			f.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"version":1,"min_records":-9223372036854775808,"sample":{"pairs":-1,"seed":0}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "split.json")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := LoadFile(path, ds)
		if err != nil {
			return
		}
		again := filepath.Join(t.TempDir(), "again.json")
		if err := got.SaveFile(again, ds); err != nil {
			t.Fatal(err)
		}
		if twice, err := LoadFile(again, ds); err != nil || twice.Digest != got.Digest || !strings.Contains(string(text), got.Digest) {
			t.Fatalf("%s is read as %s: %v", text, got.Digest, err)
		}
	})
}

// Records of users with too few of them train, on request; the parts of the others stay as they are.
func TestTrainSparse(t *testing.T) {
	var events []Event
	for u, n := range []int{3, 10, 1} {
		for k := range n {
			events = append(events, Event{User: fmt.Sprint(u), Item: fmt.Sprint(k), Rating: 1 + float64(k%5), Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	ds, err := New("few", Spec{Min: 1, Max: 5}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := MakeSplit(ds, SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	sparse, err := MakeSplit(ds, SplitOptions{TrainSparse: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(sparse.Train) != len(plain.Train)+4 || !slices.Equal(sparse.Val, plain.Val) || !slices.Equal(sparse.Test, plain.Test) || sparse.Digest == plain.Digest {
		t.Errorf("train %v, validation %v, test %v beside %v, %v, %v", sparse.Train, sparse.Val, sparse.Test, plain.Train, plain.Val, plain.Test)
	}
	for _, r := range sparse.Train {
		if !sparse.TrainView(ds).Visible(r) {
			t.Errorf("record %d is not visible", r)
		}
	}
	file := filepath.Join(t.TempDir(), "split.json")
	if err := sparse.SaveFile(file, ds); err != nil {
		t.Fatal(err)
	}
	if again, err := LoadFile(file, ds); err != nil || again.Digest != sparse.Digest {
		t.Errorf("read back: %v", err)
	}
	if _, err := MakeSplit(ds, SplitOptions{TrainSparse: true, MinRecords: 11}); err == nil {
		t.Error("a split without anyone to judge")
	}
}

// The rehearsal has no test record of the split in any part, and none in sight.
func TestInner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		split, err := MakeSplit(ds, SplitOptions{})
		if err != nil {
			return
		}
		in := split.Inner(ds)
		of, parts := slices.Concat(split.Train, split.Val), slices.Concat(in.Train, in.Val, in.Test)
		slices.Sort(of)
		slices.Sort(parts)
		if !slices.Equal(of, parts) || len(in.Test) == 0 || in.Digest == split.Digest {
			t.Fatalf("parts of %d, %d and %d records of %d", len(in.Train), len(in.Val), len(in.Test), len(of))
		}
		view := in.FinalView(ds)
		for _, r := range slices.Concat(split.Test, in.Test) {
			if view.Visible(r) {
				t.Fatalf("record %d is visible", r)
			}
		}
		for _, part := range [][]int32{in.Train, in.Val, in.Test} {
			if !slices.IsSorted(part) {
				t.Fatal("a part is not in order")
			}
		}
	})
}
