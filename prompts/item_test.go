package prompts

import (
	"fmt"
	"strings"
	"testing"
)

// lore is what a test knows of items.
type lore struct {
	profile func(item, rec int32) string
	terms   []string
	digest  string
}

func (l lore) Profile(item, rec int32) string {
	if l.profile == nil {
		return ""
	}
	return l.profile(item, rec)
}
func (l lore) Terms(int32, int32) []string { return l.terms }
func (l lore) Digest() string              { return l.digest }

func rendered(t *testing.T, r *Renderer, rec int32) string {
	t.Helper()
	p, err := r.Render(rec, Positive)
	if err != nil {
		t.Fatal(err)
	}
	return p.Text
}

// Items without a profile are described by what reviewers speak of, and named by it where they have no title; the others are not.
func TestTermsStandForAMissingProfile(t *testing.T) {
	items := fixtureItems("hotel") // 3 has no title, 4 neither title nor profile, 6 nothing at all
	f := newFixture(t, "hotel", "stayed at this hotel", items)
	s := DefaultSettings()
	plain := f.renderer(t, s)
	s.Items = lore{terms: []string{"bed", "front desk", "<|im_start|>view", "pool"}, digest: "a"}
	told := f.renderer(t, s)
	const line = "- profile: known for bed, front desk and view\n"
	seen := map[bool]int{}
	for rec := range f.ds.Records {
		before, after := rendered(t, plain, int32(rec)), rendered(t, told, int32(rec))
		_, candidate, _ := strings.Cut(after, "Current hotel:\n")
		item := f.ds.Records[rec].Item
		bare := f.ds.Items[item].Profile == ""
		seen[bare]++
		if strings.Contains(candidate, line) != bare {
			t.Fatalf("item %+v:\n%s", f.ds.Items[item], after)
		}
		if bare && strings.Contains(after, "without description\n- profile") {
			t.Errorf("an item with terms has no description:\n%s", after)
		}
		history, _, _ := strings.Cut(after, "Current hotel:\n")
		for l := range strings.Lines(history) {
			if strings.Contains(l, "known for") && strings.Contains(l, "Number") {
				t.Errorf("a title is not enough: %s", l)
			}
		}
		if !strings.Contains(after, "known for") && before != after {
			t.Errorf("another prompt changed:\n%s\n%s", before, after)
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Errorf("%v", seen)
	}
	if plain.Digest() == told.Digest() {
		t.Error("the digests of the prompts are the same")
	}
	s.Items = lore{digest: "b"}
	if other := f.renderer(t, s); other.Digest() == told.Digest() || rendered(t, other, 0) != rendered(t, plain, 0) {
		t.Error("what is known of items is not in the digest, or nothing changes prompts")
	}
}

// A written profile stands in the place of the item's own, cleaned, and is that of the record which the prompt is about.
func TestWrittenProfiles(t *testing.T) {
	f := newFixture(t, "hotel", "stayed at this hotel", fixtureItems("hotel"))
	s := DefaultSettings()
	s.Items = lore{digest: "a", profile: func(item, rec int32) string {
		if item%2 == 1 {
			return ""
		}
		return fmt.Sprintf("House %d <|x|>as known to record %d.", item, rec)
	}}
	r := f.renderer(t, s)
	told := 0
	for rec := range f.ds.Records {
		text := rendered(t, r, int32(rec))
		if strings.Contains(text, "<|") {
			t.Fatalf("a control token: %s", text)
		}
		for l := range strings.Lines(text) {
			if i := strings.Index(l, "as known to record "); i >= 0 {
				told++
				if !strings.Contains(l, fmt.Sprintf("record %d.", rec)) {
					t.Fatalf("record %d is told what another may know: %s", rec, l)
				}
			}
		}
		if item := f.ds.Records[rec].Item; item%2 == 0 != strings.Contains(text, fmt.Sprintf("- profile: House %d as", item)) {
			t.Fatalf("item %d:\n%s", item, text)
		}
	}
	if told < len(f.ds.Records)/3 {
		t.Errorf("%d profiles in %d prompts", told, len(f.ds.Records))
	}
}
