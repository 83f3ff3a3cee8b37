package formats

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzScanner holds the scanner to encoding/json: of every valid object it takes the same values, be it the first row or one that looks
// like the row before, unless a key occurs twice or it is nested too deep.
func FuzzScanner(f *testing.F) {
	for _, files := range samples {
		for _, text := range files {
			f.Add([]byte(text))
		}
	}
	f.Add([]byte(`{"a": "\u00e9\ud83d\ude00\n", "b": [1.5e3, {"a": null}], "c": -0.0}`))
	s, values := newScanner([]string{"a", "b", "a"}, false), make([]value, 3)
	f.Fuzz(func(t *testing.T, data []byte) {
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) != nil || want == nil || !utf8.Valid(data) {
			_ = s.object(data, values) // it must come back
			return
		}
		for range 2 {
			if bad := s.object(data, values); bad != nil {
				if !strings.Contains(bad.Reason, "twice") && !strings.Contains(bad.Reason, "deeper") {
					t.Fatalf("%s: %v", data, bad)
				}
				return
			}
			for k, key := range s.keys {
				raw := want[key]
				if escaped := bytes.Contains(data, []byte(`\`)); escaped && raw != nil && values[k] == nil {
					continue // the key itself is written with escapes
				}
				if string(raw) == "null" {
					raw = nil
				}
				if !bytes.Equal(raw, values[k]) {
					t.Fatalf("%s of %s is %s", key, data, values[k])
				}
				var text string
				got, ok := values[k].string()
				if !values[k].isText() || json.Unmarshal(raw, &text) != nil {
					continue
				}
				if ok && got != text || !ok && !strings.Contains(text, "\ufffd") {
					t.Fatalf("%s is read as %q, %v", raw, got, ok)
				}
			}
		}
	})
}

// FuzzShort holds the quick way of reading numbers to the standard library's.
func FuzzShort(f *testing.F) {
	for _, s := range []string{"5.0", "4.35", "0.1", "123456789012345", "1.", ".5", "1e3", "9007199254740993", "00.700000000001"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := short([]byte(s))
		if want, err := strconv.ParseFloat(s, 64); ok && (err != nil || got != want) {
			t.Errorf("%q is %v, not %v, %v", s, got, want, err)
		}
	})
}

// FuzzSpecial holds the search by eight bytes to one byte at a time.
func FuzzSpecial(f *testing.F) {
	for _, s := range []string{"", "plain text of some length", "a back\\slash", "café", "1234567\x7f", "12345678\n", "\x80\xff\x00", "\xff\x1f\x5b\x5d ~!\x7e"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want := bytes.IndexFunc(b, func(r rune) bool { return r < ' ' || r >= 0x7f || r == '\\' })
		if want < 0 {
			want = len(b)
		}
		if got := special(b); got != want {
			t.Errorf("%q: %d, not %d", b, got, want)
		}
	})
}
