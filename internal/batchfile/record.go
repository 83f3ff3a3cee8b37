package batchfile

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// pair reads a line of pairs. With a flaw the line still has its ID, when that could be read.
func (o fields) pair() (line Line, bad *flaw) {
	line.Polarity = Both
	if m, ok := o.find(fieldID); ok {
		if line.ID, bad = o.id(m); bad != nil {
			return line, bad
		}
	}
	for _, f := range [...]struct {
		name string
		to   *string
	}{{fieldUser, &line.User}, {fieldItem, &line.Item}} {
		m, bad := o.must(f.name, "name the pair: a line is {"+`"user_id":"…","item_id":"…"`+"}")
		if bad != nil {
			return line, bad
		}
		if *f.to, bad = o.id(m); bad != nil {
			return line, bad
		}
	}
	if m, ok := o.find(fieldPolarity); ok {
		name, bad := o.string(m)
		if bad != nil {
			return line, bad
		}
		if line.Polarity, bad = polarityOf(name); bad != nil {
			bad.column, bad.field = m.start+1, fieldPolarity
			return line, bad
		}
	}
	return line, nil
}

// endpoints are the URLs of an OpenAI batch file that a server of completions answers, with what a body must have one of.
var endpoints = map[string][]string{
	Chat:        {"messages"},
	Completions: {"prompt", "prompt_embeds"},
}

// request reads a line of an OpenAI batch file, whose body has the given members. With a flaw the line still has its ID, when that could
// be read.
func (o fields) request(body []member) (line Line, bad *flaw) {
	line.Polarity = Both
	m, bad := o.must(fieldID, "give every request a custom_id of its own")
	if bad != nil {
		return line, bad
	}
	if o.text[m.start] != '"' {
		_, bad := o.string(m)
		return line, bad
	}
	if line.ID, bad = o.id(m); bad != nil {
		return line, bad
	}
	if m, bad = o.must("method", `write "method":"POST"`); bad != nil {
		return line, bad
	}
	if string(o.value(m)) != `"POST"` {
		return line, &flaw{column: m.start + 1, field: m.key, reason: clip(string(o.value(m))) + " is not supported", remedy: `write "method":"POST"`}
	}
	if m, bad = o.must("url", `write "url":"/v1/chat/completions"`); bad != nil {
		return line, bad
	}
	url, bad := o.string(m)
	if bad != nil {
		return line, bad
	}
	needs, known := endpoints[url]
	if !known {
		return line, &flaw{column: m.start + 1, field: m.key, reason: fmt.Sprintf("%q is not supported", clip(url)), remedy: "use /v1/chat/completions or /v1/completions, without the host"}
	}
	if m, bad = o.must("body", "put the request's parameters there, as an object"); bad != nil {
		return line, bad
	}
	if o.text[m.start] != '{' {
		return line, &flaw{column: m.start + 1, field: m.key, reason: "is not an object", remedy: "put the request's parameters there, as an object"}
	}
	if bad := (fields{o.text, body}).body(needs, m); bad != nil {
		return line, bad
	}
	line.URL, line.Body, line.bodyAt = url, json.RawMessage(bytes.Clone(o.value(m))), m.start
	return line, nil
}

// body checks what every server would refuse, so that it is known before anything is sent. at is the body itself.
func (o fields) body(needs []string, at member) *flaw {
	found := false
	for _, name := range needs {
		m, ok := o.find(name)
		found = found || ok
		if v := o.value(m); ok && (name == "messages" && v[0] != '[' || v[0] == '[' && bytes.HasPrefix(bytes.TrimSpace(v[1:]), []byte("]"))) {
			return &flaw{column: m.start + 1, field: "body." + name, reason: "is not a list with something in it", remedy: "give what the model shall answer"}
		}
	}
	if !found {
		return &flaw{column: at.start + 1, field: "body." + needs[0], reason: "is missing", remedy: "give what the model shall answer"}
	}
	if m, ok := o.find("stream"); ok && string(o.value(m)) != "false" {
		return &flaw{column: m.start + 1, field: "body.stream", reason: "a batch is not streamed", remedy: "leave stream out"}
	}
	return nil
}
