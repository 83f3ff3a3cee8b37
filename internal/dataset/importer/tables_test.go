package importer

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

func TestIDsAreNumberedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table, want := newIDs(), make(map[string]int32)
		for _, s := range rapid.SliceOfN(rapid.StringN(0, 3, -1), 0, 3000).Draw(t, "ids") {
			n, err := table.number(s)
			if err != nil {
				t.Fatal(err)
			}
			if first, seen := want[s]; seen && first != n || !seen && int(n) != len(want) {
				t.Fatalf("%q is %d, before %d (%v)", s, n, first, seen)
			}
			want[s] = n
		}
		for s, n := range want {
			if found, known := table.find(s); !known || found != n || string(table.at(n)) != s {
				t.Fatalf("%d is %q, not %q", n, table.at(n), s)
			}
		}
		if _, known := table.find("four"); known {
			t.Fatal("a string that is longer than all was found")
		}
		order := table.sorted(func(n int32) bool { return n%3 != 0 })
		if !slices.IsSortedFunc(order, func(a, b int32) int { return slices.Compare(table.at(a), table.at(b)) }) {
			t.Fatal("not sorted")
		}
	})
}

func TestManyIDsGrowTheTable(t *testing.T) {
	table := newIDs()
	for round := range 2 {
		for i := range 50_000 {
			if n, err := table.number(fmt.Sprint("id", i)); err != nil || int(n) != i {
				t.Fatalf("round %d: id %d is %d, %v", round, i, n, err)
			}
		}
	}
}

func TestSpoolGivesBackWhatItGot(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		streams := rapid.IntRange(1, 5).Draw(rt, "streams")
		s, err := newSpool(dir, streams, rapid.IntRange(1, 64).Draw(rt, "chunk"))
		if err != nil {
			rt.Fatal(err)
		}
		defer s.close()
		want := make([][]byte, streams)
		for _, r := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 1, 40)).Draw(rt, "records") {
			k := int(r[0]) % streams
			want[k] = append(want[k], r...)
			if err := s.add(k, r); err != nil {
				rt.Fatal(err)
			}
		}
		if err := s.done(); err != nil {
			rt.Fatal(err)
		}
		for k := range streams {
			var got []byte
			if err := s.each(k, func(chunk []byte) error { got = append(got, chunk...); return nil }); err != nil {
				rt.Fatal(err)
			}
			if !slices.Equal(got, want[k]) {
				rt.Fatalf("stream %d: other bytes", k)
			}
		}
	})
	if left := names(t, dir); len(left) > 0 {
		t.Errorf("named files are left: %q", left)
	}
}

func TestRecordsSurviveTheirEncoding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := record{user: rapid.Int32Min(0).Draw(t, "user"), item: rapid.Int32Min(0).Draw(t, "item"), rating: rapid.Float64().Draw(t, "rating"),
			time: rapid.Int64().Draw(t, "time"), hasTime: rapid.Bool().Draw(t, "timed"), row: rapid.Int64Min(0).Draw(t, "row"), outcomes: []byte{}}
		texts := rapid.SliceOfN(rapid.String(), 0, 5).Draw(t, "texts")
		for i, s := range texts {
			want.outcomes = appendOutcome(want.outcomes, i*100, s)
		}
		var got record
		if rest := got.cut(append(want.append(nil), 7)); !slices.Equal(rest, []byte{7}) || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v and %v, want %+v", got, rest, want)
		}
		i := 0
		eachOutcome(got.outcomes, func(column int, text []byte) {
			if column != i*100 || string(text) != texts[i] {
				t.Fatalf("outcome %d: column %d, %q", i, column, text)
			}
			i++
		})
		if i != len(texts) {
			t.Fatalf("%d of %d outcomes", i, len(texts))
		}
	})
}

func TestItemsSurviveTheirEncoding(t *testing.T) {
	want := dataset.Item{Title: "Ü\n", Year: -3, Categories: []string{"", "Drama"}, Profile: "p", Price: "€ 3", Extra: []dataset.Field{{Name: "a", Value: "b"}, {Name: "c", Value: ""}}}
	if got := cutItem(appendItem(nil, &want)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}
