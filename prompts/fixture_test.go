package prompts

import (
	"fmt"
	"strings"
	"testing"

	"recpie/internal/dataset"
	"recpie/internal/dataset/terms"
)

// fixture is a small data set of one domain: eight users, a dozen items, seven records each.
type fixture struct {
	ds    *dataset.Dataset
	split *dataset.Split
	view  *dataset.View
	terms *terms.Terms
}

var fixtureGenres = []string{"Comedy", "Drama", "War", "Sci-Fi", "Children's"}

func fixtureItems(noun string) []dataset.Item {
	items := make([]dataset.Item, 12)
	for i := range items {
		items[i] = dataset.Item{
			ID: fmt.Sprintf("i%02d", i), Title: fmt.Sprintf("The %s Number %d", strings.ToUpper(noun[:1])+noun[1:], i), Year: 1970 + 3*i,
			Categories: []string{fixtureGenres[i%5], fixtureGenres[(i*2+1)%5]},
			Profile:    fmt.Sprintf("A %s with %d rooms. It is quiet and well kept.", noun, i+1),
		}
	}
	items[3].Title = ""
	items[4].Title, items[4].Profile = "", ""
	items[5].Price = "$120"
	items[6] = dataset.Item{ID: "i06"}
	return items
}

func newFixture(t testing.TB, noun, verb string, items []dataset.Item) fixture {
	t.Helper()
	var events []dataset.Event
	for u := range 8 {
		for k := range 7 {
			events = append(events, dataset.Event{
				User: fmt.Sprintf("u%d", u), Item: items[(u*5+k*7)%len(items)].ID, Rating: float64(1 + (u*k+u+k)%5), Time: int64(1000 + k), HasTime: true, Row: u*7 + k,
				Outcomes: []dataset.Field{{Name: "review", Value: "The room was clean and the staff was friendly."}},
			})
		}
	}
	ds, err := dataset.New("fixture", dataset.Spec{Domain: noun, Verb: verb, Min: 1, Max: 5, Review: "review"}, items, events)
	if err != nil {
		t.Fatal(err)
	}
	return see(t, ds)
}

// see splits a data set and looks at its training records.
func see(t testing.TB, ds *dataset.Dataset) fixture {
	t.Helper()
	split, err := dataset.MakeSplit(ds, dataset.SplitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	view := split.TrainView(ds)
	tt, err := terms.Build(view, terms.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return fixture{ds, split, view, tt}
}

func (f fixture) renderer(t testing.TB, s Settings) *Renderer {
	t.Helper()
	r, err := New(s, f.view, f.terms)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func movies(t testing.TB) fixture {
	return newFixture(t, "movie", "watched this movie", fixtureItems("movie"))
}

// byteCounter counts a token per four bytes.
type byteCounter struct{}

func (byteCounter) Count(text string) int { return (len(text) + 3) / 4 }
