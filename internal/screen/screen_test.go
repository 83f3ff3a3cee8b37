package screen

import (
	"encoding/json"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"The Café, 東京\t1\n2":           "The Café, 東京\t1\n2",
		"\x1b[2Jgone":                  "[2Jgone",
		"\x1b]0;title\x07x":            "]0;titlex",
		"c1\u009b31mred":               "c131mred",
		"over\rwritten\b\x7f":          "overwritten",
		"left\u202eright\u2066":        "leftright",
		"zero\u200bwidth\ufeff":        "zerowidth",
		"tag\U000E0041":                "tag",
		"line\u2028sep":                "linesep",
		"bad\xffbyte":                  "bad\ufffdbyte",
		"\x9b31m raw C1 is no UTF-8":   "\ufffd31m raw C1 is no UTF-8",
		"combining e\u0301 stays here": "combining e\u0301 stays here",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Line(" a\nb\tc\x1b \n"); got != "a b c" {
		t.Errorf("%q", got)
	}
}

// Whatever the text, its JSON shows nothing hidden and means the same.
func TestJSON(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.String().Draw(rt, "text") + rapid.SampledFrom([]string{"", "\u009b", "\u202e", "\U000E0041", "\x7f", "\u2028"}).Draw(rt, "tail")
		doc, err := json.MarshalIndent(map[string]string{"k": s}, "", "  ")
		if err != nil {
			rt.Fatal(err)
		}
		out := JSON(string(doc))
		for _, r := range out {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r)) {
				rt.Fatalf("%q holds %U", out, r)
			}
		}
		var back map[string]string
		if err := json.Unmarshal([]byte(out), &back); err != nil || utf8.ValidString(s) && back["k"] != s {
			rt.Fatalf("%q came back as %q: %v", s, back["k"], err)
		}
	})
}
