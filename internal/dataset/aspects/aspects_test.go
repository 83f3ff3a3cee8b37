package aspects

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

// draw makes records with reviews of a few nouns and judgements.
func draw(t *rapid.T) *dataset.Dataset {
	review := rapid.SliceOfN(rapid.SampledFrom([]string{"the breakfast was fine", "great staff", "a dirty pool", "I love the lobby", "the staff was not helpful", "so purple breakfast"}), 0, 3)
	var events []dataset.Event
	for u := range rapid.IntRange(3, 6).Draw(t, "users") {
		perm := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7, 8}).Draw(t, "items")
		for k, i := range perm[:rapid.IntRange(5, 9).Draw(t, "n")] {
			events = append(events, dataset.Event{User: fmt.Sprint("u", u), Item: fmt.Sprint("i", i), Rating: float64(rapid.IntRange(1, 5).Draw(t, "rating")),
				Time: int64(k), HasTime: true, Row: len(events), Outcomes: []dataset.Field{{Name: "review", Value: strings.Join(review.Draw(t, "review"), ". ")}}})
		}
	}
	ds, err := dataset.New("drawn", dataset.Spec{Domain: "hotel", Min: 1, Max: 5, Review: "review"}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

var few = Options{Folds: 4, MinRecords: 1}

// said is all that may be told to a record as a target, of every item.
func said(a *Aspects, rec int32) string {
	var b strings.Builder
	for i := range a.view.Dataset().Items {
		for _, term := range a.Item(int32(i), a.Fold(rec)) {
			fmt.Fprintf(&b, "%d: %s %d %d %d; ", i, term.Name, term.Records, term.Good, term.Bad)
		}
	}
	return b.String()
}

func TestOwnReviewNeverEnters(t *testing.T) {
	t.Parallel()
	moved := false
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		old := build(t, s.FinalView(ds), few)
		r := rapid.SampledFrom(slices.Concat(s.Train, s.Val)).Draw(t, "record")
		changed, err := ds.WithRatings([]int32{r}, []float64{float64(rapid.IntRange(1, 5).Draw(t, "other rating"))})
		if err != nil {
			t.Fatal(err)
		}
		changed, err = changed.WithColumn("review", []int32{r}, []string{"awful spa. The purple pool was great. I hate the breakfast"})
		if err != nil {
			t.Fatal(err)
		}
		now := build(t, s.FinalView(changed), few)
		if a, b := said(old, r), said(now, r); a != b {
			t.Fatalf("record %d\nbefore %s\nafter  %s", r, a, b)
		}
		moved = moved || said(old, s.Test[0]) != said(now, s.Test[0])
		now = build(t, s.FinalView(ds.PermuteOutcomes(s.Test, rapid.Int64().Draw(t, "seed"))), few)
		for r := range ds.Records {
			a, b := said(old, int32(r))+fmt.Sprint(old.Quads(int32(r)), old.Record(int32(r))), said(now, int32(r))+fmt.Sprint(now.Quads(int32(r)), now.Record(int32(r)))
			if a != b {
				t.Fatalf("a test outcome moved record %d\nbefore %s\nafter  %s", r, a, b)
			}
		}
		for _, r := range s.Test {
			if old.Quads(r) != nil || old.Record(r) != nil || old.Mentions(r, old.Folds()) != nil {
				t.Fatalf("the review of test record %d is read", r)
			}
		}
	})
	if !moved {
		t.Error("a changed review moved nothing anywhere: the test looks at the wrong place")
	}
}

// A record's own rating says nothing of the polarity of its own words.
func TestOwnRatingDoesNotColourOwnWords(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ds := draw(t)
		s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := rapid.SampledFrom(s.Train).Draw(t, "record")
		changed, err := ds.WithRatings([]int32{r}, []float64{float64(rapid.IntRange(1, 5).Draw(t, "other rating"))})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(build(t, s.TrainView(ds), few).Quads(r), build(t, s.TrainView(changed), few).Quads(r)); d != "" {
			t.Error(d)
		}
	})
}

// planted is a set in which a word of its own making, "zorgish", comes with good ratings and "blemish" with bad ones.
func planted(t *testing.T) *dataset.View {
	t.Helper()
	var events []dataset.Event
	for u := range 30 {
		for i := range 10 {
			rating, text := 5.0, "A zorgish keyboard. The display was very zorgish and clear."
			if (u+i)%2 == 0 {
				rating, text = 1, "The keyboard was blemish. I found the display blemish, not zorgish."
			}
			events = append(events, dataset.Event{User: fmt.Sprintf("u%02d", u), Item: fmt.Sprint("i", i), Rating: rating, Time: int64(i), HasTime: true, Row: len(events),
				Outcomes: []dataset.Field{{Name: "review", Value: text}}})
		}
	}
	ds, err := dataset.New("planted", dataset.Spec{Domain: "product", Min: 1, Max: 5, Review: "review"}, nil, events)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return s.TrainView(ds)
}

func TestPolarityIsLearnedFromRatings(t *testing.T) {
	t.Parallel()
	view := planted(t)
	a := build(t, view, Options{})
	want := map[float64][]Quad{
		5: {{Aspect: "keyboard", Opinion: "zorgish", Sentence: "A zorgish keyboard.", Polarity: 1},
			{Aspect: "display", Opinion: "zorgish", Sentence: "The display was very zorgish and clear.", Polarity: 1},
			{Aspect: "display", Opinion: "clear", Sentence: "The display was very zorgish and clear.", Polarity: 1}},
		1: {{Aspect: "keyboard", Opinion: "blemish", Sentence: "The keyboard was blemish.", Polarity: -1},
			{Aspect: "display", Opinion: "blemish", Sentence: "I found the display blemish, not zorgish.", Polarity: -1}},
	}
	for _, rec := range view.Records() {
		rating, _ := view.Rating(rec)
		got := a.Quads(rec)
		for i := range got {
			if (got[i].Strength > 0) != (got[i].Polarity > 0) {
				t.Errorf("%+v", got[i])
			}
			got[i].Strength = 0
		}
		if d := cmp.Diff(want[rating], got); d != "" {
			t.Fatalf("rated %g: %s", rating, d)
		}
		if d := cmp.Diff([]string{"keyboard", "display"}, a.Record(rec)); d != "" {
			t.Fatal(d)
		}
	}
	n := len(view.Records())
	for _, term := range a.Vocabulary(a.Folds()) {
		if term.Records != n || term.Good+term.Bad != n || term.Name != a.Names()[term.ID] {
			t.Errorf("%+v of %d records", term, n)
		}
	}
	whole := a.Item(0, a.Folds())
	for _, rec := range view.Records()[:10] {
		if left := a.Item(view.Dataset().Records[rec].Item, a.Fold(rec)); len(left) != len(whole) || left[0].Records > len(view.OfItem(view.Dataset().Records[rec].Item)) {
			t.Errorf("%+v, of everything %+v", left, whole)
		}
	}
}

// What is said of items needs no reviews any more.
func TestForget(t *testing.T) {
	t.Parallel()
	view := planted(t)
	a, b := build(t, view, Options{}), build(t, view, Options{})
	b.Forget()
	for _, rec := range view.Records() {
		if said(a, rec) != said(b, rec) || a.Fold(rec) != b.Fold(rec) || b.Quads(rec) != nil || b.Record(rec) != nil {
			t.Fatalf("record %d: %s, %v", rec, said(b, rec), b.Quads(rec))
		}
	}
}

// The number of goroutines changes nothing.
func TestSameOnAnyNumberOfCores(t *testing.T) {
	view := realView(t, "tripadvisor_lara_u3")
	before := runtime.GOMAXPROCS(1)
	one := build(t, view, Options{})
	runtime.GOMAXPROCS(7)
	many := build(t, view, Options{})
	runtime.GOMAXPROCS(before)
	if d := cmp.Diff(one.Vocabulary(3), many.Vocabulary(3)); d != "" {
		t.Fatal(d)
	}
	for _, rec := range view.Records()[:500] {
		if d := cmp.Diff(one.Quads(rec), many.Quads(rec)); d != "" {
			t.Fatal(d)
		}
		if said(one, rec) != said(many, rec) {
			t.Fatalf("record %d", rec)
		}
	}
}

// Pairs that nobody rated see everything visible.
func TestCandidatesSeeTheWholeView(t *testing.T) {
	t.Parallel()
	view := planted(t)
	ds, recs, err := view.Dataset().WithCandidates([]dataset.Pair{{User: 0, Item: 0}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	a := build(t, s.TrainView(ds), Options{})
	beyond := int32(len(ds.Records)) + 5
	if a.Quads(beyond) != nil || a.Fold(beyond) != a.Folds() || a.Fold(s.Test[0]) != a.Folds() || len(recs) != 1 {
		t.Errorf("fold %d of a candidate, %d of a test record", a.Fold(beyond), a.Fold(s.Test[0]))
	}
}

// cpu is the time that this process has computed.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBuild reads 100,000 reviews of hotels, 160 words each.
func BenchmarkBuild(b *testing.B) {
	ds, _, err := dataset.Load(b.Context(), realdata.Path(b, "tripadvisor_lara_u3"), dataset.Options{})
	if err != nil {
		b.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		b.Fatal(err)
	}
	small := split.FinalView(ds)
	const reviews, perUser = 100_000, 20
	var events []dataset.Event
	words := 0
	for i := range reviews * 5 / 4 {
		text, _ := small.Review(small.Records()[i%len(small.Records())])
		rating, _ := small.Rating(small.Records()[i%len(small.Records())])
		if i < reviews {
			words += len(strings.Fields(text))
		}
		events = append(events, dataset.Event{User: fmt.Sprintf("u%06d", i/perUser), Item: fmt.Sprintf("i%05d", (i*7919)%20011), Rating: rating, Time: int64(i), HasTime: true, Row: i,
			Outcomes: []dataset.Field{{Name: "review", Value: text}}})
	}
	big, err := dataset.New("big", ds.Spec, nil, events)
	if err != nil {
		b.Fatal(err)
	}
	if split, err = dataset.MakeSplit(big, dataset.SplitOptions{}); err != nil {
		b.Fatal(err)
	}
	view := split.FinalView(big)
	b.ResetTimer()
	before := cpu(b)
	for b.Loop() {
		build(b, view, Options{})
	}
	b.ReportMetric((cpu(b)-before).Seconds()/float64(b.N), "cpu-s/op") // what counts on a machine that others use
	b.ReportMetric(float64(len(view.Records())*b.N)/b.Elapsed().Seconds(), "reviews/s")
	b.ReportMetric(float64(words)/reviews, "words/review")
}
