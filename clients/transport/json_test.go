package transport

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestUnmarshal(t *testing.T) {
	many := make(map[string]int)
	for i := range 1000 {
		many[fmt.Sprint(i)] = i
	}
	large, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		`{}`: "", `[]`: "", ` 1 `: "", `"a"`: "", `null`: "",
		`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`:        "",
		`{"a":"a","b":"a"}`:                                "",
		`["a","a"]`:                                        "",
		`{"a":":","b":"\":\"","c":"\\"}`:                   "",
		string(large):                                      "",
		`{"a":1,"a":1}`:                                    `"a" stands twice`,
		`{"a":1,"b":{"c":1,"d":2,"c":3}}`:                  `"c" stands twice`,
		`[{"x":[{"a" : 1, "b" :2,` + "\n\t" + `"a" :3}]}]`: `"a" stands twice`,
		`{"a\n":1,"a\u000a":2}`:                            "stands twice",
		`{"":1,"":2}`:                                      "stands twice",
		`{"a":{},"b":{},"a":{}}`:                           "stands twice",
		"{\"a\":\"\xff\"}":                                 "UTF-8",
		"\ufeff{}":                                         "invalid character",
		`{"a":1`:                                           "unexpected end",
		`{} {}`:                                            "after top-level value",
		strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000): "depth",
		string(large[:len(large)-1]) + `,"500":1}`:                  `"500" stands twice`,
	} {
		var v any
		err := Unmarshal([]byte(text), &v)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("%.60s: %v, want %q", text, err, says)
		}
	}
}

// twice looks for a repeated key the slow way.
func twice(d *json.Decoder) (bool, error) {
	tok, err := d.Token()
	if err != nil {
		return false, err
	}
	found := false
	switch tok {
	case json.Delim('{'):
		seen := map[string]bool{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return false, err
			}
			found = found || seen[key.(string)]
			seen[key.(string)] = true
			inner, err := twice(d)
			if err != nil {
				return false, err
			}
			found = found || inner
		}
		_, err = d.Token()
	case json.Delim('['):
		for d.More() {
			inner, err := twice(d)
			if err != nil {
				return false, err
			}
			found = found || inner
		}
		_, err = d.Token()
	}
	return found, err
}

func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{`{"a":1,"a":2}`, `{"a":[{"b":":","b\"":"\\"}]}`, `[1,"x",{"":{"":1}}]`, `{"\u0061":1,"a":2}`, `{"\ud800":1,"\udfff":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v any
		err := Unmarshal(b, &v)
		if json.Unmarshal(b, &v) != nil {
			if err == nil {
				t.Fatal("not JSON, and accepted")
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(b))
		want, werr := twice(d)
		if werr != nil && werr != io.EOF {
			t.Skip("too deep for the slow way")
		}
		if err == nil && want {
			t.Fatalf("a key stands twice in %q", b)
		}
		if err != nil && !want && !strings.Contains(err.Error(), "UTF-8") {
			t.Fatalf("%q: %v", b, err)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	var body bytes.Buffer
	body.WriteString(`{"id":"x","model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"some words"},"finish_reason":"stop","logprobs":{"content":[`)
	for i := range 32 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"token":" w%d","logprob":-%d.25,"bytes":null,"top_logprobs":[]}`, i, i)
	}
	body.WriteString(`]}}]}`)
	for name, f := range map[string]func([]byte, any) error{"encoding_json": json.Unmarshal, "checked": Unmarshal, "keys": func(b []byte, _ any) error { return uniqueKeys(b) }} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(body.Len()))
			b.ReportAllocs()
			for b.Loop() {
				var v struct {
					Choices []struct {
						Message  struct{ Content string }
						Logprobs struct {
							Content []struct {
								Token   string
								Logprob float64
							}
						}
					}
				}
				if err := f(body.Bytes(), &v); err != nil {
					b.Fatal(err)
				}
			}
		})
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
