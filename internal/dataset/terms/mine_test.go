package terms

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

func TestTokenize(t *testing.T) {
	for text, want := range map[string]string{
		"The Rooms were BIG, batteries' life!":   "the room were big . battery life .",
		"guest's 3 dishes...  and glasses":       "guest . dish . and glass",
		"it's  don't—series movies":              "it don't . series movie",
		"":                                       "",
		"Café was this bus, tennis & its status": "café was this bus . tennis . its status",
	} {
		if got := strings.Join(tokenize(text), " "); got != want {
			t.Errorf("%q → %q, want %q", text, got, want)
		}
	}
}

func TestNounsAreFoundAndJudgementsAreNot(t *testing.T) {
	for name, want := range map[string][]string{
		"tripadvisor_lara_u3":          {"breakfast", "location", "staff", "bathroom"},
		"amazon_musical_instruments_5": {"string", "tone", "pedal", "guitar"},
	} {
		t.Run(name, func(t *testing.T) {
			ds, _, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := split(t, ds)
			tm := build(t, s.FinalView(ds), Options{})
			if tm.Source() != Reviews || len(tm.Names()) < 40 || len(tm.Names()) > 60 {
				t.Errorf("source %v, %d terms", tm.Source(), len(tm.Names()))
			}
			for _, w := range want {
				if !slices.Contains(tm.Names(), w) {
					t.Errorf("%q is missing of %v", w, tm.Names())
				}
			}
			for _, w := range []string{"great", "good", "very", "friendly", "hotel", "terrible"} {
				if slices.Contains(tm.Names(), w) {
					t.Errorf("%q is a term", w)
				}
			}
			for _, r := range s.Test {
				if n := len(tm.For(r)); n < fill || n > 8 {
					t.Fatalf("record %d has %d terms", r, n)
				}
			}
		})
	}
}

func TestChooseLeavesTheFoldOut(t *testing.T) {
	count := map[string][]uses{
		"pool":  {{docs: 9, all: 9, noun: 9}, {docs: 9, all: 9, noun: 9}},
		"spa":   {{docs: 9, all: 9, noun: 9}, {docs: 1, all: 1, noun: 1}},
		"quiet": {{docs: 9, all: 9, noun: 9, degree: 5}, {docs: 9, all: 9, noun: 9, degree: 5}},
		"eat":   {{docs: 9, all: 9}, {docs: 9, all: 9}},
	}
	docs := []int32{20, 20, 0}
	for left, want := range [][]string{{"pool"}, {"pool", "spa"}, {"pool", "spa"}} {
		if d := cmp.Diff(want, choose(count, docs, left, 5)); d != "" {
			t.Errorf("fold %d left out: %s", left, d)
		}
	}
}

func TestQuantileWords(t *testing.T) {
	var xs []float64
	for i := range 101 {
		xs = append(xs, float64(100-i))
	}
	cuts := quantiles(xs)
	if d := cmp.Diff([]float64{10, 30, 70, 90}, cuts); d != "" {
		t.Error(d)
	}
	for x, want := range map[float64]int8{5: 0, 10: 1, 29: 1, 30: 2, 69: 2, 75: 3, 90: 4} {
		if got := word(x, cuts); got != want {
			t.Errorf("%v earns word %d, want %d", x, got, want)
		}
	}
	if word(1, quantiles(nil)) != 2 {
		t.Error("without a scale the middle word is due")
	}
}

func FuzzTokenize(f *testing.F) {
	f.Add("The room's fine.")
	f.Add("''' \xff ... s ies")
	f.Fuzz(func(t *testing.T, s string) {
		for _, w := range tokenize(s) {
			if w == "" || strings.ContainsAny(w, " \n\t") {
				t.Fatalf("token %q of %q", w, s)
			}
		}
	})
}
