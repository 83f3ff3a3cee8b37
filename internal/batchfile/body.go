package batchfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recpie/internal/wire/openai"
)

// The routes of requests.
const (
	Chat        = "/v1/chat/completions"
	Completions = "/v1/completions"
)

// bodyFields are what a body may hold on each route: all that our clients can send and whose answers they can check. Others are
// refused and not passed over: an answer without what the field asked for would be a wrong one.
var bodyFields = map[string]map[string]bool{
	Chat:        set("messages", "max_completion_tokens", "logprobs", "top_logprobs", "add_generation_prompt"),
	Completions: set("prompt", "logprobs"),
}

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, name := range append(names, "model", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed", "stop", "stop_token_ids",
		"include_stop_str_in_output", "ignore_eos", "skip_special_tokens", "frequency_penalty", "presence_penalty", "repetition_penalty", "cache_salt", "user") {
		m[name] = true
	}
	return m
}

// chatBody and completionBody are bodies in their one form: fields in this order, none that says nothing.
type chatBody struct {
	openai.ChatRequest
	User *string `json:"user,omitempty"` // whom the request is about, or for
}

type completionBody struct {
	openai.CompletionRequest
	User *string `json:"user,omitempty"`
}

// Model says how bodies name the model that answers them.
type Model struct {
	Name    string   // as it is served
	Aliases []string // names that mean it as well
}

// Settle checks the body of a request field by field and puts it into the form in which it is sent and stored: the same request has the
// same bytes, however it was written, and names the model as it is served. An error is a *LineError about a field of that file.
func (l *Line) Settle(file string, m Model) error {
	members, _, bad := object(l.Body)
	if bad == nil {
		bad = l.settle(fields{l.Body, members}, m)
	}
	if bad == nil {
		return nil
	}
	if bad.column > 0 {
		bad.column += l.bodyAt
	}
	return bad.at(file, l.No, l.ID)
}

func (l *Line) settle(o fields, m Model) *flaw {
	var chat chatBody
	var completion completionBody
	to, sampling, user := any(&chat), &chat.Sampling, &chat.User
	if l.URL == Completions {
		to, sampling, user = &completion, &completion.Sampling, &completion.User
	}
	for _, f := range o.members {
		at := func(reason, remedy string) *flaw {
			return &flaw{column: f.start + 1, field: "body." + f.key, reason: reason, remedy: remedy}
		}
		if f.key == "stream" { // false: the reader refuses everything else
			continue
		}
		if !bodyFields[l.URL][f.key] {
			return at("is not supported", "leave it out; known are "+strings.Join(slices.Sorted(maps.Keys(bodyFields[l.URL])), ", "))
		}
		if _, ok := o.find(f.key); !ok { // null
			continue
		}
		one, err := json.Marshal(map[string]json.RawMessage{f.key: o.value(f)})
		if err == nil {
			err = json.Unmarshal(one, to)
		}
		if err != nil {
			return at("has the wrong type: "+wrong(err), "write it as the API's reference does")
		}
		if f.key == "messages" {
			if bad := messages(o.value(f)); bad != nil {
				bad.column += f.start
				return bad
			}
		}
		if reason := amiss(f.key, &chat, &completion, sampling, m); reason != "" {
			return at(reason, "see the API's reference")
		}
	}
	if chat.MaxCompletionTokens != nil { // the older name is the one that every server reads
		if sampling.MaxTokens != nil && *sampling.MaxTokens != *chat.MaxCompletionTokens {
			return &flaw{field: "body.max_completion_tokens", reason: "is not max_tokens", remedy: "keep one of them"}
		}
		sampling.MaxTokens, chat.MaxCompletionTokens = chat.MaxCompletionTokens, nil
	}
	if bad := together(&chat, sampling); bad != nil {
		return bad
	}
	sampling.Model = &m.Name
	if l.User = ""; *user != nil {
		l.User = **user
	}
	body, err := json.Marshal(to)
	if err != nil {
		return &flaw{field: "body", reason: err.Error(), remedy: "write it as the API's reference does"}
	}
	l.Body = body
	return nil
}

// wrong shortens what encoding/json says.
func wrong(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) {
		return fmt.Sprintf("a %s where a %s should stand", t.Value, t.Type)
	}
	return err.Error()
}

// amiss says what is wrong with the value of a field, "" when nothing is.
func amiss(key string, chat *chatBody, completion *completionBody, s *openai.Sampling, m Model) string {
	between := func(v *float64, lo, hi float64) string {
		if !(*v >= lo && *v <= hi) {
			return fmt.Sprintf("%v is not between %v and %v", *v, lo, hi)
		}
		return ""
	}
	least := func(v *int, lo int) string {
		if *v < lo {
			return fmt.Sprintf("%d is less than %d", *v, lo)
		}
		return ""
	}
	switch key {
	case "model":
		if *s.Model != m.Name && !slices.Contains(m.Aliases, *s.Model) {
			return fmt.Sprintf("%q is not the model that is asked, %q: leave it out, or say with --model-alias that it means that one", clip(*s.Model), m.Name)
		}
	case "max_tokens":
		return least(s.MaxTokens, 1)
	case "max_completion_tokens":
		return least(chat.MaxCompletionTokens, 1)
	case "min_tokens":
		return least(s.MinTokens, 0)
	case "n":
		return least(s.N, 1)
	case "temperature":
		return between(s.Temperature, 0, 2)
	case "top_p":
		return between(s.TopP, 0, 1)
	case "min_p":
		return between(s.MinP, 0, 1)
	case "top_logprobs":
		return least(chat.TopLogprobs, 0)
	case "logprobs":
		if completion.Logprobs != nil {
			return least(completion.Logprobs, 0)
		}
	case "prompt":
		if p := completion.Prompt; p.Batch || p.Tokens != nil && len(p.Tokens[0]) == 0 {
			return "is not one text or one list of token ids: a line is one request"
		}
	}
	return ""
}

// together holds fields to each other.
func together(chat *chatBody, s *openai.Sampling) *flaw {
	switch {
	case s.N != nil && *s.N > 1 && s.Temperature != nil && *s.Temperature == 0:
		return &flaw{field: "body.n", reason: "several answers at temperature 0 are all the same", remedy: "ask for one, or set a temperature"}
	case s.MinTokens != nil && s.MaxTokens != nil && *s.MinTokens > *s.MaxTokens:
		return &flaw{field: "body.min_tokens", reason: "is more than max_tokens", remedy: "lower it"}
	case chat.TopLogprobs != nil && (chat.Logprobs == nil || !*chat.Logprobs):
		return &flaw{field: "body.top_logprobs", reason: "there is no logprobs", remedy: `add "logprobs":true`}
	}
	return nil
}

// messages checks the turns of a chat beyond what their types say: nothing in them may be passed over.
func messages(text []byte) *flaw {
	s := jsonScanner{data: text}
	turns := s.elements()
	for i, t := range turns {
		field := fmt.Sprintf("body.messages[%d]", i)
		bad := inside(text, t, field, func(o fields) *flaw {
			role, ok := o.find("role")
			if name := unquoteIf(o, role, ok); !slices.Contains([]string{"system", "developer", "user", "assistant"}, name) {
				return &flaw{column: role.start + 1, field: field + ".role", reason: "is none of system, developer, user, assistant", remedy: "name who speaks"}
			}
			content, ok := o.find("content")
			if !ok {
				return &flaw{field: field + ".content", reason: "is missing", remedy: "give what is said"}
			}
			if o.text[content.start] != '[' {
				return nil // a string: its type was checked
			}
			part := jsonScanner{data: o.text, pos: content.start}
			for k, p := range part.elements() {
				field := fmt.Sprintf("%s.content[%d]", field, k)
				if bad := inside(o.text, p, field, func(o fields) *flaw {
					kind, ok := o.find("type")
					if unquoteIf(o, kind, ok) != openai.PartText {
						return &flaw{column: kind.start + 1, field: field + ".type", reason: "only text is supported", remedy: `write {"type":"text","text":"…"}`}
					}
					if m, ok := o.find("text"); !ok || o.text[m.start] != '"' {
						return &flaw{column: m.start + 1, field: field + ".text", reason: "is not a string", remedy: `write {"type":"text","text":"…"}`}
					}
					return o.only(field, "type", "text")
				}); bad != nil {
					return bad
				}
			}
			return nil
		}, "role", "content")
		if bad != nil {
			return bad
		}
	}
	return nil
}

// inside checks the object that stands in text at el, whose members must have one of the names when any are given.
func inside(text []byte, el member, field string, check func(fields) *flaw, names ...string) *flaw {
	members, _, bad := object(text[el.start:el.end])
	o := fields{text[el.start:el.end], members}
	if bad == nil && len(names) > 0 {
		bad = o.only(field, names...)
	}
	if bad == nil {
		bad = check(o)
	}
	if bad != nil {
		if bad.field == "" {
			bad.field = field
		}
		bad.column = max(bad.column, 1) + el.start
	}
	return bad
}

// only refuses members of other names.
func (o fields) only(field string, names ...string) *flaw {
	for _, m := range o.members {
		if !slices.Contains(names, m.key) {
			return &flaw{column: m.start + 1, field: field + "." + m.key, reason: "is not supported", remedy: "leave it out; known are " + strings.Join(names, ", ")}
		}
	}
	return nil
}

// unquoteIf returns the text of a string, "" for anything else.
func unquoteIf(o fields, m member, ok bool) string {
	if !ok || o.text[m.start] != '"' {
		return ""
	}
	return unquote(o.value(m))
}

// elements returns where the elements of the array stand that begins here. The text was scanned before.
func (s *jsonScanner) elements() (all []member) {
	s.space()
	s.pos++
	if s.is(']') {
		return nil
	}
	for {
		s.space()
		start := s.pos
		if s.value(1, nil) != nil {
			return all
		}
		all = append(all, member{start: start, end: s.pos})
		if !s.is(',') {
			return all
		}
	}
}
