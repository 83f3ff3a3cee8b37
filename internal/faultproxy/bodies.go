package faultproxy

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, nil
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

// body is a fault that changes the bytes of the true answer.
func body(name string, change func(b []byte) []byte) Fault {
	return broken(name, func(x *exchange) { x.say(change(bytes.Clone(x.answer().body.Bytes()))) })
}

// Garbage answers 200 with bytes that are nothing.
func Garbage() Fault {
	return body("garbage", func(b []byte) []byte {
		for i := range b {
			b[i] = byte(mix(uint64(i)))
		}
		return b
	})
}

// HTML answers 200 with a page, as a captive proxy does.
func HTML() Fault {
	return broken("html", func(x *exchange) {
		x.w.Header().Set("Content-Type", "text/html")
		_, _ = x.w.Write([]byte("<!doctype html><html><title>Sign in</title><p>Please sign in to the network.</html>")) // the client may be gone
	})
}

// Truncated ends the JSON in the middle, with a Content-Length that fits.
func Truncated() Fault {
	return body("truncated", func(b []byte) []byte { return b[:len(b)/2] })
}

// ByteOrderMark puts U+FEFF before the JSON.
func ByteOrderMark() Fault {
	return body("byte order mark", func(b []byte) []byte { return append([]byte("\ufeff"), b...) })
}

// InvalidUTF8 puts bytes that are no UTF-8 into the generated text, or into the first string of another answer.
func InvalidUTF8() Fault {
	return body("invalid utf-8", func(b []byte) []byte {
		for _, before := range []string{`"content":"`, `"text":"`, `":"`} {
			if i := bytes.Index(b, []byte(before)); i >= 0 {
				return slices.Insert(b, i+len(before), 0xff, 0xfe)
			}
		}
		return append(b, 0xff)
	})
}

// DuplicateKeys says choices twice, differently: readers disagree about which one counts.
func DuplicateKeys() Fault {
	return choices("duplicate keys", func(m map[string]any, all []map[string]any) ([]byte, error) {
		first, err := json.Marshal(m)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			setText(c, "another text")
		}
		second, err := json.Marshal(m["choices"])
		if err != nil {
			return nil, err
		}
		return slices.Concat(first[:len(first)-1], []byte(`,"choices":`), second, []byte("}")), nil
	})
}

// Nested answers with arrays in arrays, to the given depth.
func Nested(depth int) Fault {
	return body("nested", func([]byte) []byte {
		return []byte(`{"choices":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}")
	})
}

// choices is a fault that changes a decoded answer of generation; change returns nil to have m written.
func choices(name string, change func(m map[string]any, all []map[string]any) ([]byte, error)) Fault {
	f := broken(name, func(x *exchange) {
		var m map[string]any
		d := json.NewDecoder(bytes.NewReader(x.answer().body.Bytes()))
		d.UseNumber() // numbers go out as they came in
		err := d.Decode(&m)
		var all []map[string]any
		list, _ := m["choices"].([]any)
		for _, c := range list {
			if c, ok := c.(map[string]any); ok {
				all = append(all, c)
			}
		}
		var out []byte
		if err == nil {
			out, err = change(m, all)
		}
		if err == nil && out == nil {
			out, err = json.Marshal(m)
		}
		if err != nil {
			x.w.WriteHeader(http.StatusInternalServerError)
			return
		}
		x.say(out)
	})
	f.onlyChoices = true
	return f
}

// edit is a fault that changes the last choice.
func edit(name string, change func(last map[string]any)) Fault {
	return choices(name, func(_ map[string]any, all []map[string]any) ([]byte, error) {
		if len(all) > 0 {
			change(all[len(all)-1])
		}
		return nil, nil
	})
}

func setText(choice map[string]any, text any) {
	if m, ok := choice["message"].(map[string]any); ok {
		m["content"] = text
		return
	}
	choice["text"] = text
}

// FewerChoices drops the last choice.
func FewerChoices() Fault {
	return choices("fewer choices", func(m map[string]any, all []map[string]any) ([]byte, error) {
		m["choices"] = all[:len(all)-1]
		return nil, nil
	})
}

// MoreChoices adds a choice that was not asked for.
func MoreChoices() Fault {
	return choices("more choices", func(m map[string]any, all []map[string]any) ([]byte, error) {
		m["choices"] = append(all, with(all[0], "index", len(all)))
		return nil, nil
	})
}

// DuplicateIndex gives two choices one index; where there is only one choice, it gets index 1.
func DuplicateIndex() Fault {
	return choices("duplicate index", func(_ map[string]any, all []map[string]any) ([]byte, error) {
		all[len(all)-1]["index"] = 1
		if len(all) > 1 {
			all[len(all)-1]["index"] = all[0]["index"]
		}
		return nil, nil
	})
}

// MissingIndex leaves the index of the first choice out: a reader that takes 0 for it does not notice.
func MissingIndex() Fault {
	return choices("missing index", func(_ map[string]any, all []map[string]any) ([]byte, error) {
		delete(all[0], "index")
		return nil, nil
	})
}

// NullContent gives null for the text.
func NullContent() Fault { return edit("null content", func(c map[string]any) { setText(c, nil) }) }

// FinishMissing leaves the reason of the end out.
func FinishMissing() Fault {
	return edit("finish_reason missing", func(c map[string]any) { delete(c, "finish_reason") })
}

// FinishAbort says that the generation was aborted.
func FinishAbort() Fault {
	return edit("finish_reason abort", func(c map[string]any) { c["finish_reason"] = "abort" })
}

// LogprobsShort drops the last log-probability. An answer without any passes as it is.
func LogprobsShort() Fault {
	return edit("logprobs short", func(c map[string]any) {
		lp, _ := c["logprobs"].(map[string]any)
		for _, key := range []string{"content", "token_logprobs"} {
			if list, _ := lp[key].([]any); len(list) > 0 {
				lp[key] = list[:len(list)-1]
			}
		}
	})
}

// OtherModel names another model than was asked for.
func OtherModel() Fault {
	return choices("other model", func(m map[string]any, _ []map[string]any) ([]byte, error) {
		m["model"] = "another-model"
		return nil, nil
	})
}

// OtherRequest answers under the id of another request, as the second of two answers on a connection would look to the request after it.
// The request must have an X-Request-Id that the backend repeats.
func OtherRequest() Fault {
	f := broken("other request", func(x *exchange) {
		id := []byte(x.r.Header.Get("X-Request-Id"))
		other := bytes.Clone(id)
		if n := len(other); n > 0 && other[n-1] == '0' {
			other[n-1] = '1'
		} else if n > 0 {
			other[n-1] = '0'
		}
		x.say(bytes.Replace(x.answer().body.Bytes(), id, other, 1))
	})
	f.onlyChoices = true
	return f
}

func with(c map[string]any, key string, value any) map[string]any {
	out := map[string]any{}
	for k, v := range c {
		out[k] = v
	}
	out[key] = value
	return out
}
