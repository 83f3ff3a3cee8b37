package orchestrator

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"recpie/internal/dataset"
	"recpie/internal/fault"
	"recpie/prompts"
)

// profiler writes a profile that repeats the question's attributes.
func profiler() *talker {
	return &talker{say: func(text string) (string, error) {
		_, known, ok := strings.Cut(text, "Known attributes: ")
		if !ok || !strings.HasSuffix(text, "Do not invent ratings.") {
			return "", fmt.Errorf("asked %q", text)
		}
		known, _, _ = strings.Cut(known, ". Do not")
		return "Profile: A hotel of which we know " + strings.NewReplacer(":", "", ";", ",").Replace(known) + ". It has 4 stars. And a last", nil
	}}
}

// hotels is a data set of hotels with categories and reviews of a few aspects.
func hotels(t *testing.T) *dataset.Dataset {
	t.Helper()
	plain := restaurants(t)
	words := []string{"service", "breakfast", "location", "bathroom", "staff", "garden"}
	var events []dataset.Event
	all := plain.Labels(indexes(len(plain.Records)))
	for i, r := range plain.Records {
		text := fmt.Sprintf("The %s was great. We had a terrible %s.", words[(i+int(r.Item))%6], words[int(r.Item)%6])
		events = append(events, dataset.Event{User: plain.Users[r.User], Item: plain.Items[r.Item].ID, Rating: plain.Spec.Rating(float64(all[i])), Time: r.Time, HasTime: true, Row: i,
			Outcomes: []dataset.Field{{Name: "review", Value: text}}})
	}
	items := make([]dataset.Item, len(plain.Items))
	for i, it := range plain.Items {
		items[i] = dataset.Item{ID: it.ID, Categories: []string{"Boston"}}
		if i%3 == 0 {
			items[i].Title = fmt.Sprint("Hotel ", i)
		}
	}
	ds, err := dataset.New("hotels", dataset.Spec{Domain: "hotel", Verb: "stayed at this hotel", Min: 1, Max: 5, Review: "review", ItemInputs: []string{"title", "categories"}}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// prompt is what a record's explanations are asked with.
func prompt(t *testing.T, w *Workspace, rec int32) string {
	t.Helper()
	p, err := w.SideOf(rec).Renderer.Render(rec, prompts.Positive)
	if err != nil {
		t.Fatal(err)
	}
	return p.Text
}

// Without a model an item that has no profile is described by its title, its categories and the three terms that reviewers speak of most.
func TestItemsWithoutProfilesAreDescribedByTerms(t *testing.T) {
	w := workspace(t, hotels(t))
	for _, rec := range w.Pairs() {
		side := w.SideOf(rec)
		item := w.Data.Records[rec].Item
		terms := side.Items.Terms(item, rec)
		text := prompt(t, w, rec)
		if len(terms) == 0 {
			continue
		}
		want := "known for " + strings.Join(terms[:len(terms)-1], ", ") + " and " + terms[len(terms)-1]
		if len(terms) == 1 {
			want = "known for " + terms[0]
		}
		if !strings.Contains(text, "- profile: "+want+"\n") || !strings.Contains(text, "- categories: Boston\n") {
			t.Fatalf("%v:\n%s", terms, text)
		}
		if it := side.ItemText(item, rec); !strings.Contains(it, "Boston. Known for "+strings.Join(terms, ", ")+".") {
			t.Errorf("as item text: %s", it)
		}
	}
	redacted, err := PrepareData(t.Context(), w.Data, nil, DataSettings{Seed: 2, Prompts: func() prompts.Settings { s := prompts.DefaultSettings(); s.Redact = true; return s }()})
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range redacted.Pairs() {
		if text := prompt(t, redacted, rec); strings.Contains(text, "known for") {
			t.Fatalf("words of reviews in a redacted prompt:\n%s", text)
		}
	}
}

func TestAugment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	w := workspace(t, hotels(t))
	before := w.Train.Renderer.Digest()
	m := profiler()
	sum, all, err := w.Augment(t.Context(), asking(t, path, m), w.Pairs(), indexes(len(w.Data.Items)))
	if err != nil {
		t.Fatal(err)
	}
	if sum.New != m.calls || sum.Items != len(w.Data.Items) || len(sum.Rejected) != 0 || sum.Questions != sum.New || len(m.asked) >= sum.Questions {
		t.Errorf("%+v after %d calls", sum, m.calls)
	}
	if w.Train.Renderer.Digest() == before {
		t.Error("prompts with other profiles have the digest of those without")
	}
	for _, rec := range w.Pairs() {
		side, item := w.SideOf(rec), w.Data.Records[rec].Item
		terms := slices.Sorted(slices.Values(side.Items.Terms(item, rec)))
		line := "- profile: A hotel of which we know categories Boston"
		if len(terms) > 0 {
			line += ", reviewers speak of " + strings.Join(terms, ", ")
		}
		text := prompt(t, w, rec)
		if !strings.Contains(text, line+".\n") || strings.Contains(text, "stars") || strings.Contains(text, "And a last") {
			t.Fatalf("want %s in\n%s", line, text)
		}
		if got := side.ItemText(item, rec); !strings.Contains(got, "A hotel of which we know") {
			t.Errorf("as item text: %s", got)
		}
	}
	whole := 0
	for _, p := range all {
		if p.Whole && p.Side == "final" {
			whole++
		}
	}
	if whole < len(w.Data.Items) {
		t.Errorf("%d of %d items have a profile for pairs nobody rated", whole, len(w.Data.Items))
	}

	// another process pays nothing and shows the same
	again := workspace(t, hotels(t))
	silent := profiler()
	second, _, err := again.Augment(t.Context(), asking(t, path, silent), again.Pairs(), indexes(len(w.Data.Items)))
	if err != nil || silent.calls != 0 || second.New != 0 || second.Items != sum.Items {
		t.Fatalf("%d calls, %+v: %v", silent.calls, second, err)
	}
	if again.Train.Renderer.Digest() != w.Train.Renderer.Digest() || again.Final.Renderer.Digest() != w.Final.Renderer.Digest() {
		t.Error("the same profiles, other digests")
	}
	for _, rec := range w.Pairs() {
		if prompt(t, w, rec) != prompt(t, again, rec) {
			t.Fatalf("record %d", rec)
		}
	}
}

// What a recommender may encode of an item, with and without what reviewers and models say.
func TestItemText(t *testing.T) {
	plain := workspace(t, restaurants(t)) // titles and categories alone
	if it := plain.Data.Items[3]; plain.Train.Items != nil || plain.Train.ItemText(3, 0) != it.Title+". "+strings.Join(it.Categories, ", ")+"." {
		t.Errorf("%q of %+v", plain.Train.ItemText(3, 0), it)
	}
}

// Profiles travel: another machine with the same data shows the same prompts, and refuses what belongs to other data.
func TestProfilesTravel(t *testing.T) {
	w := workspace(t, hotels(t))
	if w.Profiled() {
		t.Error("nobody wrote profiles yet")
	}
	if _, _, err := w.Augment(t.Context(), asking(t, filepath.Join(t.TempDir(), "x.db"), profiler()), w.Pairs(), nil); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := w.WriteProfiles(&b); err != nil {
		t.Fatal(err)
	}
	there := workspace(t, hotels(t))
	if err := there.ReadProfiles(t.Context(), strings.NewReader(b.String())); err != nil {
		t.Fatal(err)
	}
	if !there.Profiled() || there.Train.Renderer.Digest() != w.Train.Renderer.Digest() || there.Final.Renderer.Digest() != w.Final.Renderer.Digest() {
		t.Error("the prompts have other digests there")
	}
	for _, rec := range w.Pairs() {
		if prompt(t, w, rec) != prompt(t, there, rec) {
			t.Fatalf("record %d", rec)
		}
	}
	for _, bad := range []string{`{"side":"train","item_id":"nowhere","fold":0,"profile":"x"}`, `{"side":"left","item_id":"i00000","fold":0,"profile":"x"}`,
		`{"side":"train","item_id":"i00000","fold":99,"profile":"x"}`, `{"side":"train","item_id":"i00000","fold":0}`, `{"side`} {
		if err := there.ReadProfiles(t.Context(), strings.NewReader(b.String()+bad)); err == nil || fault.HintOf(err) == "" || !strings.Contains(err.Error(), fmt.Sprint(1+strings.Count(b.String(), "\n"))) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// asks is what a model is asked for the profiles that the prompts of some records show, and what the first of these prompts is then.
func asks(t *testing.T, ds *dataset.Dataset, recs ...int32) (questions []string, text string) {
	t.Helper()
	w := workspace(t, ds)
	m := profiler()
	if _, _, err := w.Augment(t.Context(), asking(t, filepath.Join(t.TempDir(), "x.db"), m), recs, nil); err != nil {
		t.Fatal(err)
	}
	return slices.Sorted(maps.Keys(m.asked)), prompt(t, w, recs[0])
}

// No outcome of the test moves a profile or a prompt; a training record's own review moves none that is shown to it.
func TestProfilesKnowNoOutcomeOfTheirRecord(t *testing.T) {
	ds := hotels(t)
	w := workspace(t, ds)
	s := w.Split
	for _, rec := range []int32{s.Train[0], s.Train[len(s.Train)/2], s.Val[0], s.Test[0]} {
		questions, text := asks(t, ds, rec)
		if len(questions) == 0 {
			t.Fatalf("record %d: nothing is asked", rec)
		}
		changed := ds.PermuteOutcomes(s.Test, 5)
		if w.SideOf(rec) == &w.Train {
			changed = changed.PermuteOutcomes(s.Val, 6)
		}
		if w.Train.View.Visible(rec) {
			var err error
			if changed, err = changed.WithColumn("review", []int32{rec}, []string{"A horrible spa. The spa was dirty and the garden great."}); err != nil {
				t.Fatal(err)
			}
			if changed, err = changed.WithRatings([]int32{rec}, []float64{1}); err != nil {
				t.Fatal(err)
			}
		}
		now, after := asks(t, changed, rec)
		if d := cmp.Diff(questions, now); d != "" {
			t.Errorf("record %d asks for other profiles: %s", rec, d)
		}
		if text != after {
			t.Errorf("record %d: before\n%s\nafter\n%s", rec, text, after)
		}
	}
	changed, err := ds.WithColumn("review", s.Train[:1], []string{"A horrible spa. The breakfast was dirty and the garden great."})
	if err != nil {
		t.Fatal(err)
	}
	old, _ := asks(t, ds, w.Pairs()...)
	if now, _ := asks(t, changed, w.Pairs()...); cmp.Equal(old, now) {
		t.Error("a changed review moves no profile at all: the test looks at the wrong place")
	}
}
