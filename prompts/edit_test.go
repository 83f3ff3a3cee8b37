package prompts

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"recpie/internal/dataset/terms"
)

func editor(t testing.TB) *Renderer {
	t.Helper()
	return withTerms(t, fakeTerms{names: []string{"comedy", "drama", "war", "1990s era", "film noir"}})
}

const (
	did    = "The user watched this movie because the user "
	didNot = "The user did not watch this movie because the user "
)

func TestNegate(t *testing.T) {
	r := editor(t)
	for _, c := range []struct{ name, in, want string }{
		{"our own words", did + "loves comedy, is not keen on drama and likes the 1990s era and the movie is widely loved for comedy and is criticised for drama.",
			did + "dislikes comedy, likes drama and is not keen on the 1990s era and the movie is criticised for comedy and is widely loved for drama."},
		{"an opinion on the whole", didNot + "dislikes war and the movie is found weak.", didNot + "loves war and the movie is praised."},
		{"no taste in the prompt", did + "may care for comedy and drama and the movie offers comedy and drama.", did + "may not care for comedy and drama and the movie offers comedy and drama."},
		{"free text", "The user watched this movie because the user loves jazz.", "The user watched this movie because the user does not love jazz."},
		{"two clauses", did + "enjoys fast stories and the movie is a thriller.", did + "does not enjoy fast stories and the movie is not a thriller."},
		{"a verb that joins", did + "loves puzzles and hates gore, and the movie has neither.", did + "does not love puzzles and does not hate gore, and the movie does not have neither."},
		{"an adverb", did + "usually prefers short films.", did + "usually does not prefer short films."},
		{"past", did + "wanted a laugh.", did + "never wanted a laugh."},
		{"perfect", did + "has shown a taste for westerns and the movie had a big cast.", did + "has not shown a taste for westerns and the movie did not have a big cast."},
		{"a modal", "The consumer might like it because the item can be washed.", "The consumer might like it because the item cannot be washed."},
		{"a negation goes", did + "does not like gore and the movie isn't bloody.", did + "likes gore and the movie is bloody."},
		{"it", did + "wants live music and the movie has it.", did + "does not want live music and the movie does not have it."},
		{"endings", did + "watches what she tries.", did + "does not watch what she does not try."},
		{"nothing the rules know", did[:len(did)-len("the user ")] + "nothing stands out.", did[:len(did)-len("the user ")] + "it is not true that nothing stands out."},
		{"without a because", "A film for nobody at all.", "It is not true that a film for nobody at all."},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := strings.ReplaceAll(c.want, "cannot", "can not")
			got, changed := r.Negate(c.in)
			if got != want || !changed {
				t.Errorf("%q\nbecomes %q\nwant    %q", c.in, got, want)
			}
		})
	}
	for _, s := range []string{did + "is indifferent to comedy and the movie is found fair for comedy.", did + noTastes + " and the movie " + noOpinions + "."} {
		if got, changed := r.Negate(s); changed || got != s {
			t.Errorf("%q has no opposite and becomes %q", s, got)
		}
	}
	if got, changed := r.Negate(""); changed || got != "" {
		t.Errorf("no sentence becomes %q", got)
	}
}

func TestWithout(t *testing.T) {
	r := editor(t)
	for _, c := range []struct {
		name, in string
		gone     []string
		want     string
	}{
		{"one of three", did + "loves comedy, likes drama and likes the 1990s era and the movie is praised for comedy and drama and is found fair for the 1990s era.", []string{"1990s era"},
			did + "loves comedy and likes drama and the movie is praised for comedy and drama."},
		{"the first", did + "loves comedy and likes drama and the movie is praised.", []string{"comedy"}, did + "likes drama and the movie is praised."},
		{"all", did + "loves comedy and the movie is praised for comedy.", []string{"comedy"}, ""},
		{"all but the whole", did + "loves comedy and the movie is praised.", []string{"comedy"}, "The user watched this movie because the movie is praised."},
		{"the item's part", did + "loves comedy and likes war and the movie is praised for comedy.", []string{"comedy"}, did + "likes war."},
		{"none of it", did + "loves comedy and the movie is praised.", []string{"war"}, did + "loves comedy and the movie is praised."},
		{"free text", did + "wants a comedy, or film noir; Comedy is what it is.", []string{"comedy"}, did + "wants something, or film noir; something is what it is."},
		{"two words", did + "wants the film noir.", []string{"film noir"}, did + "wants something."},
		{"part of a word", did + "wants a dramatic war.", []string{"drama"}, did + "wants a dramatic war."},
		{"before because", "A comedy because it is a comedy.", []string{"comedy"}, "A comedy because it is something."},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := r.Without(c.in, c.gone...); got != c.want {
				t.Errorf("%q\nbecomes %q\nwant    %q", c.in, got, c.want)
			}
		})
	}
}

func TestAspects(t *testing.T) {
	r := editor(t)
	got, pro, con := r.Aspects(did + "loves comedy and is not keen on drama and the movie is praised for drama and is not yet rated for comedy.")
	if want := []Aspect{{"comedy", 1}, {"drama", 0}}; !slices.Equal(got, want) || pro != 1.5 || con != -.5 {
		t.Errorf("%+v, %g, %g", got, pro, con)
	}
	got, pro, con = r.Aspects(did + "loves comedy and the movie is criticised.")
	if want := []Aspect{{"comedy", 1}}; !slices.Equal(got, want) || pro != 1 || con != -1 {
		t.Errorf("an opinion on the whole: %+v, %g, %g", got, pro, con)
	}
	got, pro, con = r.Aspects("Someone who dislikes war and comedy would skip this film noir.")
	if want := []Aspect{{"war", -1}, {"comedy", -1}, {"film noir", -1}}; !slices.Equal(got, want) || pro != 0 || con != -3 {
		t.Errorf("free text: %+v, %g, %g", got, pro, con)
	}
}

// Sentences of ours are taken apart without a loss: the opposite of the opposite is the sentence, it has the same terms with the other sign,
// and each term that is taken out is gone with nothing else.
func TestEditsOfOurSentences(t *testing.T) {
	vocabulary := []string{"comedy", "drama", "film noir", "film", "children's", "1990s era", "room", "customer service", "war", "rock and roll", "is", "praised"}
	rapid.Check(t, func(rt *rapid.T) {
		var cs []terms.Candidate
		common := rapid.IntRange(None-1, 4).Draw(rt, "common")
		for _, term := range rapid.SliceOfNDistinct(rapid.IntRange(0, len(vocabulary)-1), 0, 8, rapid.ID).Draw(rt, "terms") {
			opinion := common
			if common < None {
				opinion = rapid.IntRange(None, 4).Draw(rt, "opinion")
			}
			cs = append(cs, candidate(term, rapid.IntRange(None, 4).Draw(rt, "taste"), opinion, vocabulary[term]))
		}
		set := DefaultSettings()
		set.Taste, set.Opinions = rapid.Bool().Draw(rt, "taste shown"), rapid.Bool().Draw(rt, "opinions shown")
		r, err := New(set, movies(t).view, fakeTerms{vocabulary, cs})
		if err != nil {
			rt.Fatal(err)
		}
		pol := rapid.SampledFrom(Polarities[:]).Draw(rt, "polarity")
		s := r.SampleHeuristic(0, pol, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1)))
		a, ok := r.dissect(s)
		if !ok {
			rt.Fatalf("%q cannot be taken apart", s)
		}
		if again := a.String(); again != s {
			rt.Fatalf("%q becomes %q", s, again)
		}
		opposite, changed := r.Negate(s)
		back, _ := r.Negate(opposite)
		if back != s || changed != (opposite != s) {
			rt.Fatalf("%q, opposite %q, and back %q", s, opposite, back)
		}
		was, pro, con := r.Aspects(s)
		is, turnedPro, turnedCon := r.Aspects(opposite)
		if turnedPro != -con || turnedCon != -pro || len(is) != len(was) {
			rt.Fatalf("%q says %g and %g, %q says %g and %g", s, pro, con, opposite, turnedPro, turnedCon)
		}
		for k, x := range was {
			short := r.Without(s, x.Name)
			left, _, _ := r.Aspects(short)
			if want := slices.Delete(slices.Clone(was), k, k+1); !sameAspects(left, want) {
				rt.Fatalf("%q without %q is %q: %v", s, x.Name, short, left)
			}
			if _, rej := Parse(short, r.Wording(), pol); rej != nil && short != "" {
				rt.Fatalf("%q is no explanation: %v", short, rej)
			}
		}
	})
}

// sameAspects compares without order: a term that only the first list of two led may move.
func sameAspects(a, b []Aspect) bool {
	if len(a) != len(b) {
		return false
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			return false
		}
	}
	return true
}

// Whatever a model wrote, edits return text on one line and never take the sentence away.
func FuzzEdits(f *testing.F) {
	r := editor(f)
	for _, s := range []string{did + "loves comedy and the movie is praised.", did + "wants a comedy.", "because", "It is not true that x", "the user", "the user never", "the movie has", "they ’ do not", "because it is not true that y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		aspects, _, _ := r.Aspects(s)
		for _, x := range aspects {
			if got := r.Without(s, x.Name); utf8.ValidString(s) && !utf8.ValidString(got) {
				t.Fatalf("%q without %q is %q", s, x.Name, got)
			}
		}
		got, changed := r.Negate(s)
		if changed == (got == s) || utf8.ValidString(s) && !utf8.ValidString(got) || strings.Count(got, "\n") > strings.Count(s, "\n") {
			t.Fatalf("the opposite of %q is %q, changed %v", s, got, changed)
		}
	})
}
