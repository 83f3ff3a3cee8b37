package prompts

import (
	"strconv"
	"strings"

	"recpie/internal/dataset"
)

// itemText is what prompts show of an item.
type itemText struct{ label, head, profile string }

// maxLabel bounds how an item without a title stands in the history, where terms stand beside its categories, in runes.
const maxLabel = 100

// known returns the texts of an item as record rec's prompt shows them: with the profile that a model wrote, else, for an item that has none of
// its own, with what reviewers speak of. An item without a title is named by them in the history.
func (r *Renderer) known(i, rec int32) itemText {
	t := *r.item(i)
	if r.set.Items != nil {
		titled := r.clean(r.ds.Items[i].Title, maxTitle) != ""
		if written := r.cleanOnce(r.set.Items.Profile(i, rec)); written != "" {
			t.profile = written
			if !titled {
				t.label = cut(written, maxShort)
			}
		} else if t.profile == "" {
			if terms := r.spokenOf(r.set.Items.Terms(i, rec)); terms != "" {
				t.profile = "known for " + terms
				if !titled {
					t.label = cut(t.label+", known for "+terms, maxLabel)
				}
			}
		}
	}
	if t.head == "" && t.profile == "" {
		t.head = "- a " + r.wording.Noun + " without description\n"
	}
	return t
}

// spokenOf writes up to three terms as a list, "sound, fit and price".
func (r *Renderer) spokenOf(terms []string) string {
	var named []string
	for _, t := range terms {
		if t = r.cleanOnce(t); t != "" && len(named) < mostTerms {
			named = append(named, cut(t, maxTerm))
		}
	}
	if n := len(named); n > 1 {
		return strings.Join(named[:n-1], ", ") + " and " + named[n-1]
	}
	return strings.Join(named, "")
}

// cleanOnce cleans a text of Settings.Items, of which there are few that come often.
func (r *Renderer) cleanOnce(s string) string {
	if s == "" {
		return ""
	}
	if c, ok := r.cleaned.Load(s); ok {
		return c.(string)
	}
	c := r.clean(s, maxProfile)
	r.cleaned.Store(s, c)
	return c
}

// item returns the texts of an item. Two goroutines that come first together both make the same ones.
func (r *Renderer) item(i int32) *itemText {
	if t := r.items[i].Load(); t != nil {
		return t
	}
	it := r.ds.Items[i]
	t := &itemText{label: r.label(it)}
	t.head, t.profile = r.candidate(it)
	r.items[i].Store(t)
	return t
}

// label names an item on one line: its title, else the start of its profile, else its categories.
func (r *Renderer) label(it dataset.Item) string {
	for _, s := range []string{r.clean(it.Title, maxTitle), r.clean(it.Profile, maxShort), r.clean(strings.Join(it.Categories, ", "), maxShort)} {
		if s != "" {
			return s
		}
	}
	return "a " + r.wording.Noun + " without description"
}

// candidate writes the item's fields but the profile's text, which is returned apart since the budget may cut it.
func (r *Renderer) candidate(it dataset.Item) (head, profile string) {
	var b strings.Builder
	field := func(name, value string, limit int) {
		if v := r.clean(value, limit); v != "" {
			b.WriteString("- " + name + ": " + v + "\n")
		}
	}
	field("title", it.Title, maxTitle)
	if it.Year > 0 {
		field("year", strconv.Itoa(it.Year), maxTitle)
	}
	field("categories", strings.Join(it.Categories, ", "), maxCategories)
	field("price", it.Price, maxShort)
	for _, f := range it.Extra {
		field(r.clean(f.Name, maxTerm), f.Value, maxShort)
	}
	return b.String(), r.clean(it.Profile, maxProfile)
}
