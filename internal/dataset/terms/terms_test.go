package terms

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

// show renders what is said about a record, numbers to the last bit.
func show(t *Terms, rec int32) string {
	var b strings.Builder
	for _, c := range t.For(rec) {
		fmt.Fprintf(&b, "%s %s %x %s %x; ", c.Name, c.TasteWord, math.Float32bits(c.Taste), c.OpinionWord, math.Float32bits(c.Opinion))
	}
	return b.String()
}

func build(t testing.TB, v *dataset.View, opts Options) *Terms {
	t.Helper()
	tm, err := Build(v, opts)
	if err != nil {
		t.Fatal(err)
	}
	return tm
}

func split(t testing.TB, ds *dataset.Dataset) *dataset.Split {
	t.Helper()
	s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var genres = []string{"Comedy", "Drama", "War", "Sci-Fi"}

// drawn makes random records with reviews made of a few nouns.
func drawn(t *rapid.T) *dataset.Dataset {
	items := make([]dataset.Item, 12)
	for i := range items {
		items[i].ID = fmt.Sprintf("i%02d", i)
		for _, g := range genres {
			if rapid.Bool().Draw(t, g) {
				items[i].Categories = append(items[i].Categories, g)
			}
		}
	}
	review := rapid.SliceOfN(rapid.SampledFrom([]string{"the breakfast was fine", "great staff", "their staff is slow", "a pool for", "the lobby of"}), 0, 3)
	var events []dataset.Event
	for u := range rapid.IntRange(3, 6).Draw(t, "users") {
		perm := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}).Draw(t, "items")
		for k, i := range perm[:rapid.IntRange(5, 12).Draw(t, "n")] {
			events = append(events, dataset.Event{User: fmt.Sprint("u", u), Item: items[i].ID, Rating: float64(rapid.IntRange(1, 5).Draw(t, "rating")),
				Time: int64(k), HasTime: true, Row: len(events), Outcomes: []dataset.Field{{Name: "review", Value: strings.Join(review.Draw(t, "review"), ". ")}}})
		}
	}
	ds, err := dataset.New("drawn", dataset.Spec{Domain: "hotel", Min: 1, Max: 5, Review: "review"}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// The heart of the matter: what is said about a training record does not move when its own outcome does, and nothing moves when
// invisible outcomes do.
func TestOwnOutcomeNeverEnters(t *testing.T) {
	for _, source := range []Source{Metadata, Reviews, Aspects} {
		t.Run(fmt.Sprint(source), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				ds := drawn(t)
				s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
				if err != nil {
					t.Fatal(err)
				}
				opts := Options{Source: source, Folds: 4}
				old, err := Build(s.FinalView(ds), opts)
				if err != nil {
					t.Fatal(err)
				}
				r := rapid.SampledFrom(slices.Concat(s.Train, s.Val)).Draw(t, "record")
				changed, err := ds.WithRatings([]int32{r}, []float64{float64(rapid.IntRange(1, 5).Draw(t, "other rating"))})
				if err != nil {
					t.Fatal(err)
				}
				changed, err = changed.WithColumn("review", []int32{r}, []string{"the spa was with the pool of the spa. a garden is. great spa, bad staff"})
				if err != nil {
					t.Fatal(err)
				}
				now, err := Build(s.FinalView(changed), opts)
				if err != nil {
					t.Fatal(err)
				}
				if a, b := show(old, r), show(now, r); a != b {
					t.Fatalf("record %d\nbefore %s\nafter  %s", r, a, b)
				}
				permuted := ds.PermuteOutcomes(s.Test, rapid.Int64().Draw(t, "seed"))
				now, err = Build(s.FinalView(permuted), opts)
				if err != nil {
					t.Fatal(err)
				}
				for r := range ds.Records {
					if a, b := show(old, int32(r)), show(now, int32(r)); a != b {
						t.Fatalf("a test outcome moved record %d\nbefore %s\nafter  %s", r, a, b)
					}
				}
			})
		})
	}
}

// On the public sets all outcomes of one fold are changed at once: nothing said about that fold may move, and much elsewhere must.
func TestOwnOutcomeNeverEntersRealData(t *testing.T) {
	for _, name := range []string{"ml-100k", "tripadvisor_lara_u3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ds, _, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			s := split(t, ds)
			v := s.TrainView(ds)
			opts := Options{Folds: 8}.withDefaults()
			fold := v.Folds(opts.Folds, opts.FoldSeed)
			var mine []int32
			for _, r := range v.Records() {
				if fold[r] == 7 {
					mine = append(mine, r)
				}
			}
			changed := ds.PermuteOutcomes(mine, 1).PermuteOutcomes(slices.Concat(s.Val, s.Test), 2)
			old, now := build(t, v, opts), build(t, s.TrainView(changed), opts)
			for _, r := range mine {
				if a, b := show(old, r), show(now, r); a != b {
					t.Fatalf("record %d\nbefore %s\nafter  %s", r, a, b)
				}
			}
			moved := 0
			for _, r := range s.Test {
				if show(old, r) != show(now, r) {
					moved++
				}
			}
			if moved < len(s.Test)/2 {
				t.Errorf("%d changed outcomes moved only %d of %d test records", len(mine), moved, len(s.Test))
			}
		})
	}
}

// fans makes users of whom every other one loves comedies and hates dramas, and the others the reverse; comedies have odd numbers.
func fans(t testing.TB) *dataset.Dataset {
	t.Helper()
	items := make([]dataset.Item, 40)
	for i := range items {
		items[i] = dataset.Item{ID: fmt.Sprintf("i%02d", i), Categories: []string{[]string{"Drama", "Comedy"}[i%2], "(no genres listed)", []string{"War", "Sci-Fi"}[i/2%2]}}
	}
	var events []dataset.Event
	for u := range 30 {
		for k := range 20 {
			i := (u*3 + k) % 40
			rating := 2.0
			if i%2 == u%2 {
				rating = 4
			}
			if k%5 == 0 {
				rating--
			}
			events = append(events, dataset.Event{User: fmt.Sprintf("u%02d", u), Item: items[i].ID, Rating: rating, Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New("fans", dataset.Spec{Domain: "movie", Min: 1, Max: 5}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

func TestTasteOfFans(t *testing.T) {
	ds := fans(t)
	s := split(t, ds)
	tm := build(t, s.FinalView(ds), Options{})
	if d := cmp.Diff([]string{"comedy", "drama", "sci-fi", "war"}, tm.Names()); d != "" {
		t.Fatal(d)
	}
	for _, r := range slices.Concat(s.Train, s.Test) {
		rec := ds.Records[r]
		cs := tm.For(r)
		liked := int(rec.Item)%2 == int(rec.User)%2
		if len(cs) != 2 || liked != (cs[0].Taste > .1) || liked == (cs[0].Taste < -.1) {
			t.Fatalf("user %d, item %d: %+v", rec.User, rec.Item, cs)
		}
		if word := cs[0].TasteWord; liked && word != TasteWords[4] && word != TasteWords[3] || !liked && word != TasteWords[0] && word != TasteWords[1] {
			t.Fatalf("user %d, item %d: %+v", rec.User, rec.Item, cs)
		}
		if side := cs[1].Taste; side < -.1 || side > .1 {
			t.Fatalf("a genre that nobody minds has taste %v", side)
		}
	}
}

// Pairs that nobody rated are described by what everything visible says, and change nothing that is said of the others.
func TestCandidatesAreDescribedToo(t *testing.T) {
	ds := fans(t)
	var pairs []dataset.Pair
	for u := range ds.Users {
		for i := range ds.Items {
			pairs = append(pairs, dataset.Pair{User: int32(u), Item: int32(i)})
		}
	}
	with, recs, err := ds.WithCandidates(pairs)
	if err != nil {
		t.Fatal(err)
	}
	without, tm := build(t, split(t, ds).FinalView(ds), Options{}), build(t, split(t, with).FinalView(with), Options{})
	candidates := 0
	for _, r := range recs {
		if int(r) < ds.Rated() {
			if a, b := show(without, r), show(tm, r); a != b {
				t.Fatalf("record %d\nwithout candidates %s\nwith them          %s", r, a, b)
			}
			continue
		}
		candidates++
		rec := with.Records[r]
		cs := tm.For(r)
		if liked := int(rec.Item)%2 == int(rec.User)%2; len(cs) != 2 || liked != (cs[0].Taste > .1) || liked == (cs[0].Taste < -.1) || cs[0].OpinionWord == NewOpinion {
			t.Fatalf("user %d, item %d: %+v", rec.User, rec.Item, cs)
		}
	}
	if candidates == 0 {
		t.Error("every pair was rated")
	}
}

// Ratings dealt anew among a user's records leave nothing for tastes to know.
func TestShuffledLabelsGiveNoSkill(t *testing.T) {
	ds := fans(t)
	s := split(t, ds)
	visible := slices.Concat(s.Train, s.Val)
	skill := func(ds *dataset.Dataset) float64 { // mean product of taste and the centred rating
		v := s.FinalView(ds)
		tm := build(t, v, Options{})
		total, n := 0.0, 0.0
		for i, y := range ds.Labels(visible) {
			for _, c := range tm.For(visible[i]) {
				if !math.IsNaN(float64(c.Taste)) {
					total += float64(c.Taste) * (float64(y) - v.Mean())
					n++
				}
			}
		}
		return total / n
	}
	real := skill(ds)
	for seed := range int64(3) {
		if got := skill(ds.ShuffleWithinUsers(visible, seed)); got > .1*real {
			t.Errorf("seed %d: tastes know shuffled labels: %v, the true ones %v", seed, got, real)
		}
	}
}

func TestUnknownVerdicts(t *testing.T) {
	var events []dataset.Event
	items := []dataset.Item{}
	for i := range 8 {
		items = append(items, dataset.Item{ID: fmt.Sprint("i", i), Categories: []string{"A b", []string{"War", "Sci-Fi"}[min(1, i/4)]}})
	}
	for u := range 3 {
		for k := range 5 {
			i := k
			if u == 2 {
				i = k + 3
			}
			events = append(events, dataset.Event{User: fmt.Sprint("u", u), Item: fmt.Sprint("i", i), Rating: float64(1 + (u+k)%5), Time: int64(k), HasTime: true, Row: len(events)})
		}
	}
	ds, err := dataset.New("few", dataset.Spec{Domain: "movie", Min: 1, Max: 5}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	s := split(t, ds)
	tm := build(t, s.FinalView(ds), Options{})
	newTaste, newOpinion := 0, 0
	for _, r := range s.Test {
		for _, c := range tm.For(r) {
			if c.TasteWord == NewTaste {
				newTaste++
			}
			if c.OpinionWord == NewOpinion {
				newOpinion++
			}
			if (c.TasteWord == NewTaste) != math.IsNaN(float64(c.Taste)) || (c.OpinionWord == NewOpinion) != math.IsNaN(float64(c.Opinion)) {
				t.Errorf("word and number disagree: %+v", c)
			}
		}
	}
	if newTaste == 0 || newOpinion == 0 {
		t.Errorf("%d unknown tastes, %d unknown opinions", newTaste, newOpinion)
	}
}
