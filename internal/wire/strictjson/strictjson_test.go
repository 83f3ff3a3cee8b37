package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// value reads any value into what encoding/json makes of it.
func value(r *Reader) any {
	switch c := r.space(); c {
	case '{':
		m := map[string]any{}
		r.Object(func(key []byte) { m[string(key)] = value(r) })
		return m
	case '[':
		l := []any{}
		r.Array(func() { l = append(l, value(r)) })
		return l
	case '"':
		return string(r.Text())
	case 'n':
		r.Null()
		return nil
	case 't', 'f':
		r.Skip()
		return c == 't'
	default:
		if c == '-' || c >= '0' && c <= '9' {
			return r.Float()
		}
		r.Skip()
		return nil
	}
}

func read(b []byte) (any, error) {
	r := New(b)
	v := value(r)
	return v, r.Close()
}

func skip(b []byte) error {
	r := New(b)
	r.Skip()
	return r.Close()
}

func TestRefused(t *testing.T) {
	many := map[string]int{}
	for i := range 1000 {
		many[fmt.Sprint(i)] = i
	}
	large, err := json.Marshal(many)
	if err != nil {
		t.Fatal(err)
	}
	nested := func(depth int) string { return strings.Repeat(`{"a":[`, depth/2) + strings.Repeat("]}", depth/2) }
	for text, says := range map[string]string{
		`{}`: "", `[]`: "", ` 1 `: "", `"a"`: "", `null`: "", "\t[ ]\r\n": "",
		`{"a":1,"b":{"a":2},"c":[{"a":1},{"a":1}]}`: "",
		`{"a":1,"A":2}`:                  "",
		`{"a":":","b":"\":\"","c":"\\"}`: "",
		string(large):                    "",
		nested(maxDepth):                 "",
		nested(maxDepth + 2):             "depth",
		`{"a":1,"a":1}`:                  `"a" stands twice`,
		`[{"x":[{"a" : 1, "b" :2,` + "\n\t" + `"a" :3}]}]`: `"a" stands twice`,
		`{"a\n":1,"a\u000a":2}`:                            "stands twice",
		`{"":1,"":2}`:                                      "stands twice",
		`{"a":{},"b":{},"a":{}}`:                           "stands twice",
		"{\"a\":\"\xff\"}":                                 "UTF-8",
		"{\"a\":\"\\n\xff\"}":                              "UTF-8",
		"{\"\xff\":1}":                                     "UTF-8",
		"\ufeff{}":                                         "invalid character '\\ufeff'",
		`{"a":1`:                                           "unexpected end", `["a`: "unexpected end", `"\`: "unexpected end", `-`: "unexpected end", ``: "unexpected end",
		`{} {}`:    "after top-level value",
		`[1,]`:     "invalid character ']'",
		`{"a":1,}`: "invalid character '}'",
		`{a:1}`:    "where a key should begin",
		`{"a" 1}`:  "after object key",
		`[1 2]`:    "after array element",
		`01`:       "after top-level value", `1.`: "unexpected end", `1e+`: "unexpected end", `+1`: "beginning of value", `.5`: "beginning of value", `NaN`: "beginning of value",
		`nul`: "in literal null", `trux`: "in literal true",
		"\"a\nb\"": "in string literal", `"\x"`: "in string escape code", `"\u12g4"`: "hexadecimal", `"\u12`: "hexadecimal",
		string(large[:len(large)-1]) + `,"500":1}`: `"500" stands twice`,
	} {
		for _, err := range []error{skip([]byte(text)), func() error { _, err := read([]byte(text)); return err }()} {
			if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
				t.Errorf("%.60s: %v, want %q", text, err, says)
			}
		}
	}
}

func TestTypes(t *testing.T) {
	for text, read := range map[string]func(*Reader){
		`"1"`: func(r *Reader) { r.Int() }, `1.0`: func(r *Reader) { r.Int() }, `99999999999999999999`: func(r *Reader) { r.Int() },
		`1e999`: func(r *Reader) { r.Float() }, `true`: func(r *Reader) { r.Float() }, `1`: func(r *Reader) { r.Text() },
		`[]`: func(r *Reader) { r.Object(func([]byte) {}) }, `{}`: func(r *Reader) { r.Array(func() {}) }, `{"a":1,"b":2}`: func(r *Reader) { r.Object(func([]byte) { r.Fail(io.ErrShortWrite) }) },
	} {
		r := New([]byte(text))
		if read(r); r.Close() == nil {
			t.Errorf("%s was read", text)
		}
	}
	r := New([]byte(`{"text":null,"int":null,"float":null,"object":null,"array":null,"not":5,"empty":""}`))
	r.Object(func(key []byte) {
		switch string(key) {
		case "text":
			if r.Text() != nil {
				t.Error("a text")
			}
		case "int":
			if r.Int() != 0 {
				t.Error("a number")
			}
		case "float":
			if r.Float() != 0 {
				t.Error("a number")
			}
		case "object":
			r.Object(func([]byte) { t.Error("a key") })
		case "array":
			r.Array(func() { t.Error("an element") })
		case "not":
			if r.Null() || r.Int() != 5 {
				t.Error("5")
			}
		case "empty":
			if b := r.Text(); b == nil || len(b) != 0 {
				t.Error("an empty text is not null")
			}
		}
	})
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	r = New([]byte(`[1]`))
	r.Array(func() { r.Fail(io.ErrShortWrite) })
	if !errors.Is(r.Close(), io.ErrShortWrite) {
		t.Error("the caller's error is lost")
	}
}

// twice looks for a repeated key the slow way, in what encoding/json takes for JSON.
func twice(d *json.Decoder) (bool, error) {
	tok, err := d.Token()
	if err != nil {
		return false, err
	}
	found, seen := false, map[string]bool{}
	if tok != json.Delim('{') && tok != json.Delim('[') {
		return false, nil
	}
	for d.More() {
		if tok == json.Delim('{') {
			key, err := d.Token()
			if err != nil {
				return false, err
			}
			found = found || seen[key.(string)]
			seen[key.(string)] = true
		}
		inner, err := twice(d)
		if err != nil {
			return false, err
		}
		found = found || inner
	}
	_, err = d.Token()
	return found, err
}

// FuzzReader holds the reader against encoding/json: it reads the same values, and refuses what that one refuses, what is no UTF-8 and
// what says a key twice.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		`{"a":1,"a":2}`, `{"a":[{"b":":","b\"":"\\"}]}`, `[1,"x",{"":{"":1}}]`, `{"\u0061":1,"a":2}`, `{"\ud800":1,"\udfff":2}`, `"\ud83d\ude00\ud83d\u0041\/\b"`,
		`[-0.5e-3,1E5,0,-0,1e400]`, "{\"a\":\"\xff\"}", `{"id":"x","choices":[{"index":0,"logprobs":null}],"usage":{"a":true}}`, "[\"é\u2028\", false]", `{"a":1}]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want any
		jerr := json.Unmarshal(b, &want)
		got, err := read(b)
		if serr := skip(b); (serr == nil) != (err == nil) && !strings.Contains(fmt.Sprint(err), "64 bits") {
			t.Fatalf("%q: read says %v, skip says %v", b, err, serr)
		}
		if err == nil {
			if jerr != nil || !utf8.Valid(b) || !reflect.DeepEqual(got, want) {
				t.Fatalf("%q: %v, encoding/json says %v, %v", b, got, want, jerr)
			}
		}
		if jerr != nil {
			return
		}
		repeats, terr := twice(json.NewDecoder(bytes.NewReader(b)))
		if terr != nil {
			t.Skip("not to be read by tokens")
		}
		if (err != nil) != (repeats || !utf8.Valid(b)) && !strings.Contains(fmt.Sprint(err), "depth") {
			t.Fatalf("%q: %v, repeated keys: %v", b, err, repeats)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	var body bytes.Buffer
	body.WriteString(`{"id":"x","model":"tiny","choices":[{"index":0,"message":{"role":"assistant","content":"some words"},"finish_reason":"stop","logprobs":{"content":[`)
	for i := range 32 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"token":" w%d","logprob":-%v,"bytes":null,"top_logprobs":[]}`, i, math.Sqrt(float64(i)))
	}
	body.WriteString(`]}}]}`)
	for name, f := range map[string]func([]byte) error{"skip": skip, "encoding_json": func(b []byte) error { return json.Unmarshal(b, &struct{}{}) }} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(body.Len()))
			b.ReportAllocs()
			for b.Loop() {
				if err := f(body.Bytes()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
