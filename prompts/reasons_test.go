package prompts

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset/terms"
)

// fakeTerms gives every record the same candidates.
type fakeTerms struct {
	names []string
	cs    []terms.Candidate
}

func (f fakeTerms) Names() []string             { return f.names }
func (f fakeTerms) For(int32) []terms.Candidate { return slices.Clone(f.cs) }

func candidate(term, taste, opinion int, name string) terms.Candidate {
	nan := float32(math.NaN())
	c := terms.Candidate{Term: int32(term), Name: name, Taste: nan, Opinion: nan, TasteWord: terms.NewTaste, OpinionWord: terms.NewOpinion}
	if taste != None {
		c.Taste, c.TasteWord = float32(taste-2)/10+float32(term)/1000, terms.TasteWords[taste]
	}
	if opinion != None {
		c.Opinion, c.OpinionWord = float32(opinion-2)/10, terms.OpinionWords[opinion]
	}
	return c
}

func withTerms(t testing.TB, tt Terms) *Renderer {
	t.Helper()
	r, err := New(DefaultSettings(), movies(t).view, tt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestHeuristicNamesTheBestAndTheWorstThree(t *testing.T) {
	names := []string{"comedy", "drama", "war", "1990s era", "horror"}
	r := withTerms(t, fakeTerms{names, []terms.Candidate{
		candidate(0, 4, 4, "comedy"), candidate(1, 3, 4, "drama"), candidate(2, 1, 1, "war"), candidate(3, 3, 3, "1990s era"), candidate(4, 0, None, "horror"),
	}})
	for pol, want := range map[Polarity]string{
		Positive: "The user watched this movie because the user loves comedy, likes drama and likes the 1990s era and the movie is widely loved for comedy and drama and is praised for the 1990s era.",
		Negative: "The user did not watch this movie because the user is not keen on war, dislikes horror and likes the 1990s era and the movie is found weak for war and is not yet rated for horror and is praised for the 1990s era.",
	} {
		if got := r.Heuristic(0, pol); got != want {
			t.Errorf("%v: %s\nwant %s", pol, got, want)
		}
	}
	none := withTerms(t, nil)
	if got := none.Heuristic(0, Positive); got != "The user watched this movie because the user has shown no taste for its kind and the movie has not been described." {
		t.Errorf("without terms: %s", got)
	}
}

// A sentence of ours says exactly one set of (term, taste, opinion), and reading it gives that set back, whatever the vocabulary.
func TestSentencesAreReadBackExactly(t *testing.T) {
	vocabulary := []string{"comedy", "drama", "film noir", "film", "children's", "sci-fi", "1990s era", "1990s", "room", "customer service", "war", "rock and roll", "is", "praised", "user", "movie", "loves"}
	rapid.Check(t, func(rt *rapid.T) {
		var cs []terms.Candidate
		for _, term := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(vocabulary)-1), 0, 8, rapid.ID).Draw(rt, "terms") {
			cs = append(cs, candidate(term, rapid.IntRange(None, 4).Draw(rt, "taste"), rapid.IntRange(None, 4).Draw(rt, "opinion"), vocabulary[term]))
		}
		r := withTerms(t, fakeTerms{vocabulary, cs})
		pol := rapid.SampledFrom(Polarities[:]).Draw(rt, "polarity")
		sentence := r.SampleHeuristic(0, pol, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)))
		if p, rej := Parse(sentence, r.Wording(), pol); rej != nil || !p.Strict || p.Sentence != sentence {
			rt.Fatalf("%q is not in the format: %+v, %v", sentence, p, rej)
		}
		mentions := r.Mentions(sentence)
		if n := len(r.candidates(0)); len(mentions) < min(1, n) || len(mentions) > min(3, n) {
			rt.Fatalf("%q: %d mentions of %d terms: %+v", sentence, len(mentions), n, mentions)
		}
		if fixed := r.Mentions(r.Heuristic(0, pol)); len(fixed) != min(3, len(r.candidates(0))) {
			rt.Fatalf("the fixed sentence of %d terms mentions %+v", len(r.candidates(0)), fixed)
		}
		for _, m := range mentions {
			i := slices.IndexFunc(cs, func(c terms.Candidate) bool { return c.Term == m.Term })
			if i < 0 || cs[i].TasteWord != tasteWord(m.Taste) || cs[i].OpinionWord != opinionWord(m.Opinion) {
				rt.Fatalf("%q: read %+v", sentence, m)
			}
		}
		if right, given := r.Truthful(0, sentence); right != given {
			rt.Fatalf("%q: %d of %d verdicts are right", sentence, right, given)
		}
	})
}

func tasteWord(i int) string {
	if i == None {
		return terms.NewTaste
	}
	return terms.TasteWords[i]
}

func opinionWord(i int) string {
	if i == None {
		return terms.NewOpinion
	}
	return terms.OpinionWords[i]
}

func TestNumbersHoldTheContent(t *testing.T) {
	r := withTerms(t, fakeTerms{names: []string{"comedy", "drama", "war"}})
	got := r.Numbers("The user watched this movie because the user loves comedy and is not keen on war and the movie is criticised for war.")
	want := []float32{1, 1, 0, 0, 0, 0, 1, -.5, -1}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if len(want) != r.NumbersDim() {
		t.Errorf("dimension %d", r.NumbersDim())
	}
	free := r.Numbers("The consumer is looking for a comedy.")
	if free[0] != 1 || free[1] != 0 {
		t.Errorf("free text: %v", free)
	}
}

func TestUntruthfulVerdictsAreCounted(t *testing.T) {
	r := withTerms(t, fakeTerms{[]string{"comedy", "war"}, []terms.Candidate{candidate(0, 4, 3, "comedy")}})
	right, given := r.Truthful(0, "The user watched this movie because the user loves comedy and likes war and the movie is criticised for comedy.")
	if right != 1 || given != 3 {
		t.Errorf("%d of %d verdicts right, want 1 of 3", right, given)
	}
}

// The draw has variety and prefers the strong: the strongest of eight is in most samples, the weakest in few, and many different sentences appear.
func TestSampleHasVarietyAndPreference(t *testing.T) {
	names := []string{"a1", "b1", "c1", "d1", "e1", "f1", "g1", "h1"}
	var cs []terms.Candidate
	for i, n := range names {
		c := candidate(i, 2, 2, n)
		c.Taste = -float32(i)
		cs = append(cs, c)
	}
	r := withTerms(t, fakeTerms{names, cs})
	rng := rand.New(rand.NewPCG(1, 1))
	first, last, seen := 0, 0, map[string]bool{}
	const n = 400
	for range n {
		s := r.SampleHeuristic(0, Positive, rng)
		seen[s] = true
		if strings.Contains(s, "a1") {
			first++
		}
		if strings.Contains(s, "h1") {
			last++
		}
	}
	if first < n*5/10 || last > n/10 || len(seen) < 20 {
		t.Errorf("strongest in %d, weakest in %d of %d; %d different sentences", first, last, n, len(seen))
	}
}
