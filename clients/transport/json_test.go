package transport

import (
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	for text, says := range map[string]string{
		`{}`: "", ` 1 `: "", `null`: "", `{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`: "",
		`{"a":1,"b":{"c":1,"d":2,"c":3}}`: `"c" stands twice`,
		"{\"a\":\"\xff\"}":                "UTF-8",
		"\ufeff{}":                        "invalid character",
		`{"a":1`:                          "unexpected end",
		`{} {}`:                           "after top-level value",
		strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000): "depth",
	} {
		var v any
		err := Unmarshal([]byte(text), &v)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%.60s: %v, want %q", text, err, says)
		}
	}
	var n int
	if err := Unmarshal([]byte(`"a"`), &n); err == nil {
		t.Error("a string was read as a number")
	}
}

func TestCheckID(t *testing.T) {
	one, two := newRequestID(), newRequestID()
	for _, c := range []struct {
		sent, answered string
		ok             bool
	}{
		{one, "cmpl-" + one, true}, {one, one, true}, {one, "chatcmpl-" + one + "-0", true}, {one, "", true}, {one, "cmpl-1234", true}, {"", "cmpl-" + two, true},
		{one, "cmpl-" + two, false}, {one, two, false}, {one, "cmpl-" + one[:len(one)-1], false},
	} {
		if err := CheckID(c.sent, c.answered); (err == nil) != c.ok {
			t.Errorf("sent %q, answered %q: %v", c.sent, c.answered, err)
		}
	}
}
