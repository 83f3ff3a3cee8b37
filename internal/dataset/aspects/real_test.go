package aspects

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/csv"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gonum.org/v1/gonum/stat"

	"recpie/internal/dataset"
	"recpie/internal/realdata"
)

// realView is the training view of a public set.
func realView(t testing.TB, name string) *dataset.View {
	t.Helper()
	ds, _, err := dataset.Load(t.Context(), realdata.Path(t, name), dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return split.TrainView(ds)
}

func build(t interface {
	Helper()
	Fatal(...any)
	Context() context.Context
}, view *dataset.View, opts Options) *Aspects {
	t.Helper()
	a, err := Build(t.Context(), view, opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// sentires reads the 325 features that the Sentires toolkit found in the same set, in the singular.
func sentires(t *testing.T) []string {
	t.Helper()
	f, err := os.Open(filepath.Join(realdata.Path(t, "amazon_musical_instruments_5"), "feature_vocabulary.csv.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(z).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range rows[1:] {
		out = append(out, canonical(row[1]))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func canonical(term string) string {
	words := strings.Fields(strings.ToLower(term))
	for i := range words {
		words[i] = Singular(words[i])
	}
	return strings.Join(words, " ")
}

// The vocabulary and the terms of records are held against those of the Sentires toolkit, which read the whole set with a grammar and a
// lexicon; ours reads the training reviews alone.
func TestAgainstSentires(t *testing.T) {
	t.Parallel()
	theirs := sentires(t)
	view := realView(t, "amazon_musical_instruments_5")
	a := build(t, view, Options{})
	voc := a.Vocabulary(a.Folds())
	found := 0
	for i, term := range voc {
		if _, ok := slices.BinarySearch(theirs, term.Name); ok {
			found++
		}
		if n := i + 1; n == 50 || n == 100 || n == 200 || n == 325 || n == len(voc) {
			t.Logf("vocabulary: of the first %d, %.3f are theirs; recall %.3f of %d", n, float64(found)/float64(n), float64(found)/float64(len(theirs)), len(theirs))
		}
	}
	if p := float64(found) / float64(len(theirs)); p < .5 {
		t.Errorf("the vocabulary holds %.3f of theirs", p)
	}
	// per record: their lists are whole-word matches of their vocabulary
	for _, level := range []struct {
		name, column string
		ours         func(rec int32) []string
	}{
		{"three terms against all features", "all_features", a.Record},
		{"three terms against three", "aspects", a.Record},
		{"judged aspects against all features", "all_features", func(rec int32) (out []string) {
			for _, q := range a.Quads(rec) {
				if !slices.Contains(out, q.Aspect) {
					out = append(out, q.Aspect)
				}
			}
			return out
		}},
		{"named aspects against all features", "all_features", func(rec int32) (out []string) {
			for _, id := range a.Mentions(rec, a.Fold(rec)) {
				out = append(out, a.Names()[id])
			}
			return out
		}},
	} {
		hit, given, want, some := 0, 0, 0, 0
		for _, rec := range view.Records() {
			text, _ := view.Column(rec, level.column)
			var theirs []string
			for _, term := range strings.Split(text, "|") {
				if c := canonical(term); c != "" && !slices.Contains(theirs, c) {
					theirs = append(theirs, c)
				}
			}
			ours := level.ours(rec)
			if len(ours) > 0 {
				some++
			}
			given, want = given+len(ours), want+len(theirs)
			for _, term := range ours {
				if slices.Contains(theirs, term) {
					hit++
				}
			}
		}
		p, r := float64(hit)/float64(given), float64(hit)/float64(want)
		t.Logf("%s: precision %.3f, recall %.3f; %d of %d records have some", level.name, p, r, some, len(view.Records()))
	}
	polarity(t, a, .6)
}

// polarity holds the sentiment of reviews against their ratings, of which the model of a record's fold knows nothing.
func polarity(t *testing.T, a *Aspects, least float64) {
	t.Helper()
	var y []bool
	var score, aspects, resid []float64
	var ya []bool
	judged, right, total := 0, 0, 0
	for _, rec := range a.view.Records() {
		v, _ := a.view.Y(rec)
		s, _ := a.Sentiment(rec)
		y, score = append(y, v >= .75), append(score, s)
		resid = append(resid, float64(v))
		if qs := a.Quads(rec); len(qs) > 0 {
			judged++
			sum := 0.0
			for _, q := range qs {
				sum += q.Strength
				total++
				if (q.Polarity > 0) == (v >= .75) {
					right++
				}
			}
			aspects, ya = append(aspects, sum/float64(len(qs))), append(ya, v >= .75)
		}
	}
	review := auc(score, y)
	t.Logf("sentiment of the review against rating: AUC %.3f, correlation %.3f", review, stat.Correlation(score, resid, nil))
	t.Logf("mean strength of quadruples against rating: AUC %.3f over the %d of %d records that have any; sign agrees for %.3f of %d quadruples", auc(aspects, ya), judged, len(y), float64(right)/float64(total), total)
	if review < least {
		t.Errorf("AUC %.3f, want %.2f", review, least)
	}
}

// laraAspects names, per aspect of the set, words that we may call it by.
var laraAspects = map[string][]string{
	"rooms": strings.Fields("room bed bathroom bath shower furniture suite balcony view carpet pillow mattress"), "location": strings.Fields("location spot area neighborhood"),
	"service": strings.Fields("service staff waiter waitress bellman concierge employee"), "value": strings.Fields("value price rate cost money"),
	"cleanliness": strings.Fields("cleanliness housekeeping smell carpet"), "front_desk": nil, "business_service": nil,
}

// The authors of the hotel reviews graded aspects themselves. Our polarity of the terms of an aspect is held against their grade.
func TestAgainstSubRatings(t *testing.T) {
	t.Parallel()
	view := realView(t, "tripadvisor_lara_u3")
	a := build(t, view, Options{})
	t.Logf("%d aspects: %v", len(a.Vocabulary(a.Folds())), a.Vocabulary(a.Folds())[:30])
	for _, aspect := range []string{"rooms", "location", "service", "value", "cleanliness"} {
		var ours, grade, whole, ratings []float64
		for _, rec := range view.Records() {
			text, _ := view.Column(rec, "aspect_ratings")
			g := 0.0
			for part := range strings.SplitSeq(text, ";") {
				if name, v, _ := strings.Cut(part, ":"); name == aspect {
					g, _ = strconv.ParseFloat(v, 64)
				}
			}
			sum, n := 0.0, 0
			for _, q := range a.Quads(rec) {
				if slices.Contains(laraAspects[aspect], q.Aspect) {
					sum += q.Strength
					n++
				}
			}
			if g > 0 && n > 0 {
				s, _ := a.Sentiment(rec)
				rating, _ := view.Rating(rec)
				ours, grade, whole, ratings = append(ours, sum/float64(n)), append(grade, g), append(whole, s), append(ratings, rating)
			}
		}
		c := stat.Correlation(ours, grade, nil)
		t.Logf("%s: correlation with the author's grade %.3f (that of the whole review %.3f), beyond the overall rating %.3f (%.3f), over %d records", aspect, c, stat.Correlation(whole, grade, nil),
			partial(ours, grade, ratings), partial(whole, grade, ratings), len(ours))
		if c < .2 && aspect != "cleanliness" {
			t.Errorf("%s: correlation %.3f", aspect, c)
		}
	}
	polarity(t, a, .7)
}

// partial is the correlation of a and b with c held fixed.
func partial(a, b, c []float64) float64 {
	ab, ac, bc := stat.Correlation(a, b, nil), stat.Correlation(a, c, nil), stat.Correlation(b, c, nil)
	return (ab - ac*bc) / math.Sqrt((1-ac*ac)*(1-bc*bc))
}

// auc is the share of pairs of a positive and a negative that the score puts in order, ties counted half.
func auc(score []float64, positive []bool) float64 {
	order := make([]int, len(score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score[a], score[b]) })
	rank, n := 0.0, 0.0
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && score[order[j]] == score[order[i]] {
			j++
		}
		for _, k := range order[i:j] {
			if positive[k] {
				rank, n = rank+float64(i+j+1)/2, n+1
			}
		}
		i = j
	}
	return (rank - n*(n+1)/2) / (n * (float64(len(order)) - n))
}
