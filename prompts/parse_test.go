package prompts

import (
	"strings"
	"testing"
	"unicode"
)

var movieWords = Wording{"watched", "watch", "movie"}

const good = "The user watched this movie because the user loves comedy and the movie is praised for comedy."

func TestParseAccepts(t *testing.T) {
	study := "The consumer is looking for a unique and flavorful dining experience and the restaurant offers a variety of Asian cuisine."
	for name, c := range map[string]struct {
		answer, want string
		strict       bool
	}{
		"exact":             {good, good, true},
		"white space":       {"\n " + good + " \n", good, true},
		"case study":        {study, study, false},
		"quoted":            {`"` + good + `"`, good, false},
		"single quotes":     {"'" + good + "'", good, false},
		"quote and stop":    {"'" + strings.TrimSuffix(good, ".") + "'.", strings.TrimSuffix(good, ".") + "'.", false},
		"answer":            {"Answer: " + good, good, false},
		"sure":              {"Sure! Here is the sentence:\n\n" + good, good, false},
		"bold":              {"**" + good + "**", good, false},
		"bullet":            {"- " + good, good, false},
		"numbered, quoted":  {"1. \"" + good + "\"", good, false},
		"fence":             {"```\n" + good + "\n```", good, false},
		"second sentence":   {good + " It is also short.", good, false},
		"second line":       {good + "\nExplanation: none.", good, false},
		"no full stop":      {strings.TrimSuffix(good, "."), good, false},
		"line break inside": {"The user watched this movie because\nthe user loves comedy and the movie is praised for comedy.", good, false},
		"abbreviation":      {"The user likes films with Dr. Strange and St. Elmo in them. Yes.", "The user likes films with Dr. Strange and St. Elmo in them.", false},
		"decimal":           {"The user gave 4.5 stars to such films. Yes.", "The user gave 4.5 stars to such films.", false},
		"initial":           {"The user likes books by J. R. Tolkien very much. Yes.", "The user likes books by J. R. Tolkien very much.", false},
		"exclamation":       {"The user simply loves such films! And more.", "The user simply loves such films!", false},
	} {
		got, rej := Parse(c.answer, movieWords, Positive)
		if rej != nil || got.Sentence != c.want || got.Strict != c.strict {
			t.Errorf("%s: %+v, %v\nwant %q strict %v", name, got, rej, c.want, c.strict)
		}
	}
	negative := "The user did not watch this movie because the user dislikes war and the movie is criticised."
	if got, rej := Parse(negative, movieWords, Negative); rej != nil || !got.Strict {
		t.Errorf("negative: %+v, %v", got, rej)
	}
}

func TestParseRejectsWithAReason(t *testing.T) {
	for answer, want := range map[string]Reason{
		"":            Empty,
		" \n\t ":      Empty,
		`""`:          Empty,
		"Answer:":     Empty,
		"...":         Empty,
		"It is good.": TooShort,
		"The user watched this movie because the":                                                      Unfinished,
		"The user watched this movie because the user loves comedy,":                                   Unfinished,
		strings.Repeat("word ", 100) + ".":                                                             TooLong,
		"The user <b>loves</b> this kind of movie.":                                                    Markup,
		"The user loves <script>alert(1)</script> in movies.":                                          Markup,
		"The user loves this kind of movie <|im_end|>":                                                 Markup,
		"The user loves tom &amp; jerry very much.":                                                    Markup,
		"The user should visit https://example.org for more movies.":                                   Link,
		"The user should visit www.example.org for more movies.":                                       Link,
		"The user should visit evil.com for more movies.":                                              Link,
		"The user loves \x1b[31mred\x1b[0m movies a lot.":                                              ControlText,
		"The user loves \u202emovies\u202c a lot.":                                                     ControlText,
		"The user loves mov\u200bies a lot.":                                                           ControlText,
		"The user loves \x00 movies a lot.":                                                            ControlText,
		"The user loves \xff\xfe movies a lot.":                                                        ControlText,
		"4 5 3 2 1 4 5 5.":                                                                             NotASentence,
		"The user did not watch this movie because the user dislikes war and the movie is criticised.": WrongPolarity,
	} {
		got, rej := Parse(answer, movieWords, Positive)
		if rej == nil || rej.Reason != want {
			t.Errorf("%q: %+v, %v; want %v", answer, got, rej, want)
		}
	}
	if Reason(0).String() != "unknown" || Reason(99).String() != "unknown" || WrongPolarity.String() != "wrong_polarity" {
		t.Error("reason names")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{good, "Answer: \"" + good + "\"", "", "**a** b. C? 'd'", "Dr. A. b c d e.", "\xff", "1. 2) - > # x", "Here is: here is: the a b c d"} {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, answer string, negative bool) {
		pol := Positive
		if negative {
			pol = Negative
		}
		p, rej := Parse(answer, movieWords, pol)
		if rej != nil {
			if p != (Parsed{}) || rej.Reason.String() == "unknown" {
				t.Fatalf("%q: rejected with %+v, %v", answer, p, rej)
			}
			return
		}
		s := p.Sentence
		if s == "" || strings.TrimSpace(s) != s || strings.Contains(s, "  ") || len(s) > maxBytes+1 || !strings.ContainsRune(".!?", rune(s[len(s)-1])) {
			t.Fatalf("%q became %q", answer, s)
		}
		for _, r := range s {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) {
				t.Fatalf("%q became %q", answer, s)
			}
		}
		again, rej := Parse(s, movieWords, pol)
		if rej != nil || again.Sentence != s {
			t.Fatalf("%q is not stable: %+v, %v", s, again, rej)
		}
		if p.Strict && !movieWords.formatted(s, pol) {
			t.Fatalf("%q is called strict", s)
		}
	})
}
