package dataset

import (
	"testing"

	"recpie/internal/realdata"
)

// realSets are the public sets that are read when they are present, with their expected counts: kept users, training records
// (validation included), test records, validation records, users whose cut falls inside a tie. The counts were made by an independent script in Python.
var realSets = []struct {
	name                          string
	users, train, test, val, ties int
}{
	{"amazon_musical_instruments_5", 1429, 7722, 2539, 1444, 661},
	{"ml-latest-small", 610, 80419, 20417, 7778, 130},
	{"rottentomatoes_critics_rated5", 1046, 27536, 7399, 2715, 139},
	{"tripadvisor_lara_u3", 1021, 4730, 1566, 1021, 160},
	{"ml-100k", 943, 79619, 20381, 7530, 470},
}

func TestRealSets(t *testing.T) {
	for _, set := range realSets {
		t.Run(set.name, func(t *testing.T) {
			t.Parallel()
			report, err := Check(t.Context(), realdata.Path(t, set.name), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if report.Broken() != 0 {
				t.Errorf("%d broken rows: %+v", report.Broken(), report.Files)
			}
			s := report.Split
			got := [...]int{s.Users, s.Train + s.Val, s.Test, s.Val, s.TieCuts}
			if want := [...]int{set.users, set.train, set.test, set.val, set.ties}; got != want {
				t.Errorf("users, train, test, val, ties = %v, want %v", got, want)
			}
		})
	}
}
