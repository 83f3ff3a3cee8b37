package batchfile

import (
	"bytes"
	"slices"
)

// jsonSource reads JSON lines: pairs, requests of an OpenAI batch file, or, while kind is "", whichever its first object is.
type jsonSource struct {
	file string
	kind string
	scan *lineScanner
}

func (j *jsonSource) next() (Line, error) {
	for {
		text, long, err := j.scan.next()
		if err != nil {
			return Line{}, err
		}
		no := j.scan.no
		switch {
		case long:
			return Line{}, tooLong().at(j.file, no, "")
		case len(bytes.TrimSpace(text)) == 0:
			continue
		}
		members, body, bad := object(text)
		o := fields{text: text, members: members}
		if bad != nil {
			if i := bytes.IndexByte(text, '['); i >= 0 && len(bytes.TrimSpace(text[:i])) == 0 {
				bad.reason, bad.remedy = "a JSON array", "write one object per line, as jq -c '.[]' does"
			}
			id := ""
			if m, ok := o.find(fieldID); ok {
				id, _ = o.id(m)
			}
			return Line{}, bad.at(j.file, no, id)
		}
		if j.kind == "" {
			j.kind = JSONL
			if slices.ContainsFunc(members, func(m member) bool { return m.key == "url" || m.key == "method" || m.key == "body" }) {
				j.kind = OpenAI
			}
		}
		read := o.pair
		if j.kind == OpenAI {
			read = func() (Line, *flaw) { return o.request(body) }
		}
		line, bad := read()
		if bad != nil {
			return Line{}, bad.at(j.file, no, line.ID)
		}
		line.No = no
		return line, nil
	}
}

// fields are the members of one line.
type fields struct {
	text    []byte
	members []member
}

// find returns the member with the name, when there is one that is not null.
func (o fields) find(name string) (member, bool) {
	for _, m := range o.members {
		if m.key == name {
			return m, string(o.text[m.start:m.end]) != "null"
		}
	}
	return member{}, false
}

func (o fields) value(m member) []byte { return o.text[m.start:m.end] }

// must is find for a field that a line cannot do without.
func (o fields) must(name, remedy string) (member, *flaw) {
	m, ok := o.find(name)
	if !ok {
		return m, &flaw{field: name, reason: "is missing", remedy: remedy}
	}
	return m, nil
}

// id reads an id: a string, or an integer, which is taken as it is written.
func (o fields) id(m member) (string, *flaw) {
	v := o.value(m)
	id := string(v)
	switch {
	case v[0] == '"' && bytes.IndexByte(v, '\\') < 0:
		id = string(v[1 : len(v)-1])
	case v[0] == '"':
		id = unquote(v)
	case (v[0] == '-' || v[0] >= '0' && v[0] <= '9') && !bytes.ContainsAny(v, ".eE"):
	default:
		return "", &flaw{column: m.start + 1, field: m.key, reason: "is neither a string nor an integer", remedy: "write it in quotes"}
	}
	if bad := checkID(id); bad != nil {
		bad.column, bad.field = m.start+1, m.key
		return "", bad
	}
	return id, nil
}

// string reads a field that can be a string only.
func (o fields) string(m member) (string, *flaw) {
	if o.text[m.start] != '"' {
		return "", &flaw{column: m.start + 1, field: m.key, reason: "is not a string", remedy: "write it in quotes"}
	}
	return unquote(o.value(m)), nil
}
