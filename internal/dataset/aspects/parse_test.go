package aspects

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSentencesAndTokens(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string
	}{
		{"", nil},
		{"...!!", nil},
		{"Great sound. Poor fit!", []string{"great sound", "poor fit"}},
		{"It's 4.5 inches, isn't it?", []string{"it's inches , isn't it"}},
		{"The player’s neck; the U.S. model", []string{"the player neck , the u s model"}},
		{"one\ntwo", []string{"one", "two"}},
		{"well-built (and cheap)", []string{"well built , and cheap ,"}},
		{"Überraschend gut - ja", []string{"überraschend gut , ja"}},
		{strings.Repeat("a", 31) + " b", []string{"b"}},
		{"broken \xff\xfe bytes", []string{"broken bytes"}},
	} {
		var got []string
		sentences(c.text, func(at span, tokens []token) {
			if at.from < 0 || int(at.to) > len(c.text) || at.from >= at.to {
				t.Errorf("%q: sentence at %v", c.text, at)
			}
			var words []string
			for _, tok := range tokens {
				words = append(words, tok.word)
			}
			got = append(got, strings.Join(words, " "))
		})
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

func TestSingular(t *testing.T) {
	t.Parallel()
	for plural, want := range map[string]string{"rooms": "room", "batteries": "battery", "dishes": "dish", "boxes": "box", "glasses": "glass", "movies": "movie",
		"bass": "bass", "bus": "bus", "series": "series", "gas": "gas", "chorus": "chorus"} {
		if got := Singular(plural); got != want {
			t.Errorf("%s becomes %s, want %s", plural, got, want)
		}
	}
}

// events shows what a text is read as: phrase/opinion, with ! for a negation, ~ for mere nearness, - for none.
func events(text string) (out []string) {
	p := newParser()
	for _, e := range p.parse(text) {
		phrase, opinion := "-", "-"
		if e.phrase >= 0 {
			phrase = p.phrases.names[e.phrase]
		}
		if e.opinion >= 0 {
			opinion = p.opinions.names[e.opinion]
		}
		if e.negated {
			opinion = "!" + opinion
		}
		if e.weak {
			opinion = "~" + opinion
		}
		out = append(out, phrase+"/"+opinion)
	}
	slices.Sort(out)
	return out
}

func TestRelations(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"Great sound.", "sound/great"},
		{"The rooms were very clean and quiet.", "room/clean room/quiet"},
		{"The room was not clean, but quiet.", "room/!clean room/quiet"},
		{"The staff and the breakfast were excellent.", "breakfast/excellent staff/excellent"},
		{"The quality of the strings is great.", "quality/great string/great"},
		{"I love the tone.", "tone/love"},
		{"I had problems with the jack.", "jack/problems"},
		{"I never had any problems with the jack.", "jack/!problems"},
		{"It sounds really great.", "sound/great"},
		{"A great sounding guitar.", "guitar/- sound/great"},
		{"It is too loud.", "-/too loud"},
		{"A sturdy gig bag.", "gig_bag/sturdy"},
		{"The whole room.", "room/-"},
		{"The price could not be better.", "price/better"},
		{"The lobby is not only large; the pool is cold.", "lobby/large pool/cold"},
		{"The pedal works flawlessly.", "-/flawlessly pedal/-"},
		{"This is a good value.", "value/good"},
		{"The thing was good.", "-/good"},
	} {
		if d := cmp.Diff(strings.Fields(c.want), fields(events(c.text))); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

// fields keeps phrases of two words in one piece.
func fields(events []string) (out []string) {
	for _, e := range events {
		phrase, opinion, _ := strings.Cut(e, "/")
		out = append(out, strings.ReplaceAll(phrase, " ", "_")+"/"+opinion)
	}
	return strings.Fields(strings.Join(out, " "))
}

// Whatever is written, reading it ends, points into the text and numbers sentences in order.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"The room was not clean, but quiet.", "a.b.c...", "’s", "too", "not only", "great and", "\xff", "I love the the", strings.Repeat("good ", 300)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := newParser()
		n, last := 0, int32(0)
		sentences(text, func(at span, tokens []token) {
			if at.from < last || at.to <= at.from || int(at.to) > len(text) {
				t.Fatalf("sentence %d at %v of %d bytes, the last ended at %d", n, at, len(text), last)
			}
			for _, tok := range tokens {
				if tok.raw.from < at.from || tok.raw.to > at.to {
					t.Fatalf("token %v outside its sentence %v", tok, at)
				}
			}
			last = at.to
			n++
		})
		before := uint16(0)
		for _, e := range p.parse(text) {
			if e.sentence < before || int(e.sentence) >= n || e.phrase < 0 && e.opinion < 0 {
				t.Fatal(fmt.Sprint(e, n))
			}
			before = e.sentence
		}
	})
}
