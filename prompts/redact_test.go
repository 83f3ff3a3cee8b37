package prompts

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/internal/dataset"
)

func redacted() Settings {
	s := DefaultSettings()
	s.Redact = true
	return s
}

// What reaches a person goes out of the texts of items; what only looks like it stays.
func TestRedact(t *testing.T) {
	r := newRedactor([]string{"u02504", "A33H0WC9MI8OVW", "movie", "12", "1984", "1234567", "anna_b"})
	for in, want := range map[string]string{
		"Write to john.doe+x@mail.example.org today":      "Write to (removed) today",
		"john@mail.example.org, jane@b.io":                "(removed) , (removed)",
		"john (at) example.com":                           "(removed)",
		"See https://example.com/a?b=c#d for more":        "See (removed) for more",
		"See www.example.co or booking.com/h/12":          "See (removed) or (removed)",
		"Call +1 (555) 123-4567 or 555-123-4567":          "Call (removed) or (removed)",
		"Call 555-1234, 0171 12 34 56 or (030) 1234 5678": "Call (removed) , (removed) or (removed)",
		"by @some_critic on 42":                           "by (removed) on 42",
		"as u02504 says, A33H0WC9MI8OVW too (1234567).":   "as (removed) says, (removed) too (removed)",
		"anna_b, the movie 12 of 1984":                    "(removed) the movie 12 of 1984",

		"Greatest Hits 1990-1995":                    "Greatest Hits 1990-1995",
		"2001: A Space Odyssey (1968)":               "2001: A Space Odyssey (1968)",
		"Hotel 72572 (Seattle Washington), 173 USD":  "Hotel 72572 (Seattle Washington), 173 USD",
		"1,000,000 dollars; rated 4.5/5; 10.5 hours": "1,000,000 dollars; rated 4.5/5; 10.5 hours",
		"Dr. No. It ends. U.S. vs. Mr. Smith":        "Dr. No. It ends. U.S. vs. Mr. Smith",
		"Se7en, 12 Angry Men, Apollo 13, M*A*S*H":    "Se7en, 12 Angry Men, Apollo 13, M*A*S*H",
		"3 rooms @ 40 USD":                           "3 rooms @ 40 USD",
	} {
		if got := r.redact(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// Wherever an address stands in whatever text of an item, no prompt shows it, not even the part of it that a cut would leave.
func TestRedactedPromptsReachNobody(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		secret := rapid.SampledFrom([]string{"zqx.wvk@kqzv.example.org", "https://kqzv.example/zqx?wvk=1", "+49 30 9017 2245", "zqxwvk99", "@zqxwvk_kqzv"}).Draw(rt, "secret")
		parts := []string{"zqx", "wvk", "kqzv", "9017", "2245"}
		items := fixtureItems("movie")
		pad := strings.Repeat("word ", rapid.IntRange(0, 90).Draw(rt, "words before"))
		text := pad + secret + " and more of it"
		at := rapid.IntRange(0, len(items)-1).Draw(rt, "item")
		switch it := &items[at]; rapid.IntRange(0, 4).Draw(rt, "field") {
		case 0:
			it.Title = text
		case 1:
			it.Profile = text
		case 2:
			it.Price = text
		case 3:
			for i := range items { // a category that many share becomes a term
				items[i].Categories = []string{text, "Drama"}
			}
		case 4:
			it.Extra = []dataset.Field{{Name: secret, Value: text}}
		}
		f := newFixture(t, "movie", "watched this movie", items)
		named, err := f.ds.WithColumn("review", nil, nil)
		if err != nil {
			rt.Fatal(err)
		}
		named.Users = append([]string{}, f.ds.Users...)
		named.Users[3] = "zqxwvk99"
		f = see(t, named)
		r := f.renderer(t, redacted())
		for rec := range f.ds.Records {
			for _, pol := range Polarities {
				p, err := r.Render(int32(rec), pol)
				if err != nil {
					rt.Fatal(err)
				}
				for _, part := range parts {
					if strings.Contains(strings.ToLower(p.Text), part) {
						rt.Fatalf("the prompt shows %q of %q:\n%s", part, secret, p.Text)
					}
				}
			}
		}
	})
}

// A redacted prompt is another prompt: settings and digest say so, and terms mined from reviews are not shown even when they are given.
func TestRedactionIsAnotherPrompt(t *testing.T) {
	f := movies(t)
	open, shut := f.renderer(t, DefaultSettings()), f.renderer(t, redacted())
	if open.Digest() == shut.Digest() {
		t.Error("one digest")
	}
	differ := 0
	for rec := range f.ds.Records {
		a, errA := open.Render(int32(rec), Positive)
		b, errB := shut.Render(int32(rec), Positive)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if a.Text != b.Text {
			differ++
		}
		for _, word := range []string{"others found", "praised", "criticised", "widely loved", "found fair", "found weak", "not yet rated"} {
			if strings.Contains(b.Text, word) {
				t.Errorf("record %d: an opinion of others: %s", rec, b.Text)
			}
		}
	}
	if differ == 0 {
		t.Error("no prompt differs")
	}
}
