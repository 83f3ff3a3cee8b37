package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Prompt is the prompt of a completion in the four forms the API accepts: a string, a list of strings, a list of token ids,
// a list of lists of token ids. Exactly one of Texts and Tokens is used; Batch says whether the JSON was (or is to be) a list of prompts.
type Prompt struct {
	Texts  []string
	Tokens [][]int32
	Batch  bool
}

// TextPrompt is one text prompt.
func TextPrompt(text string) *Prompt { return &Prompt{Texts: []string{text}} }

// TextPrompts is a batch of text prompts; choices come back flattened, index = i·n+j.
func TextPrompts(texts []string) *Prompt { return &Prompt{Texts: texts, Batch: true} }

// TokenPrompt is one prompt of token ids.
func TokenPrompt(ids []int32) *Prompt { return &Prompt{Tokens: [][]int32{ids}} }

// TokenPrompts is a batch of token id prompts; choices come back flattened, index = i·n+j.
func TokenPrompts(ids [][]int32) *Prompt { return &Prompt{Tokens: ids, Batch: true} }

// Len is the number of prompts.
func (p *Prompt) Len() int {
	if p == nil {
		return 0
	}
	return max(len(p.Texts), len(p.Tokens))
}

// MarshalJSON writes the shortest of the four forms that Batch allows.
func (p Prompt) MarshalJSON() ([]byte, error) { return p.append(nil) }

func (p Prompt) append(b []byte) ([]byte, error) {
	switch {
	case len(p.Texts) > 0 && len(p.Tokens) > 0:
		return nil, errors.New("a prompt is text or token ids, not both")
	case p.Batch && p.Tokens != nil:
		return appendList(b, p.Tokens, appendIDs), nil
	case p.Batch:
		return appendList(b, p.Texts, appendString), nil
	case len(p.Tokens) == 1:
		return appendIDs(b, p.Tokens[0]), nil
	case len(p.Texts) == 1:
		return appendString(b, p.Texts[0]), nil
	}
	return nil, errors.New("a single prompt must hold exactly one text or one list of token ids")
}

// UnmarshalJSON accepts the four forms and refuses every other one.
func (p *Prompt) UnmarshalJSON(data []byte) error {
	*p = Prompt{}
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '[' {
		var s string
		if err := json.Unmarshal(data, &s); err != nil {
			return errors.New("a prompt must be a string, a list of strings, a list of token ids or a list of lists of token ids")
		}
		p.Texts = []string{s}
		return nil
	}
	switch first := firstByte(data[1:]); {
	case first == ']':
		p.Batch = true
		return nil
	case first == '"':
		p.Batch = true
		return json.Unmarshal(data, &p.Texts)
	case first == '[':
		p.Batch = true
		return json.Unmarshal(data, &p.Tokens)
	default:
		var ids []int32
		if err := json.Unmarshal(data, &ids); err != nil {
			return fmt.Errorf("token ids of a prompt: %w", err)
		}
		p.Tokens = [][]int32{ids}
		return nil
	}
}

// Strings is a JSON value that is a string or a list of strings. List says whether it was (or is to be) written as a list.
type Strings struct {
	Values []string
	List   bool
}

// One is a value written as a plain string.
func One(s string) *Strings { return &Strings{Values: []string{s}} }

// Many is a value written as a list.
func Many(s ...string) *Strings { return &Strings{Values: s, List: true} }

// Get returns the values, nil for a nil receiver.
func (s *Strings) Get() []string {
	if s == nil {
		return nil
	}
	return s.Values
}

// MarshalJSON writes a string or a list.
func (s Strings) MarshalJSON() ([]byte, error) { return s.append(nil), nil }

func (s Strings) append(b []byte) []byte {
	if !s.List && len(s.Values) == 1 {
		return appendString(b, s.Values[0])
	}
	return appendList(b, s.Values, appendString)
}

// UnmarshalJSON accepts a string or a list of strings.
func (s *Strings) UnmarshalJSON(data []byte) error {
	*s = Strings{}
	if firstByte(data) == '[' {
		s.List = true
		return json.Unmarshal(data, &s.Values)
	}
	var one string
	if err := json.Unmarshal(data, &one); err != nil {
		return errors.New("want a string or a list of strings")
	}
	s.Values = []string{one}
	return nil
}

// Content is the content of a chat message: a text, or a list of parts.
type Content struct {
	Text  string
	Parts []Part // when not nil, Text is unused
}

// Part is one part of a message: {"type":"text","text":…} or {"type":"prompt_embeds","data":<base64 of a soft prompt>}.
type Part struct {
	Type string
	Text string
	Data string
}

// MarshalJSON writes the field that the type calls for, empty or not: a text part without "text" is refused by the server.
func (p Part) MarshalJSON() ([]byte, error) { return p.append(nil) }

func (p Part) append(b []byte) ([]byte, error) {
	switch p.Type {
	case PartText:
		b = appendString(append(b, `{"type":"text","text":`...), p.Text)
	case PartEmbeds:
		b = appendString(append(b, `{"type":"prompt_embeds","data":`...), p.Data)
	default:
		return nil, fmt.Errorf("unknown content part type %q", p.Type)
	}
	return append(b, '}'), nil
}

// The part types this API knows.
const (
	PartText   = "text"
	PartEmbeds = "prompt_embeds"
)

// MarshalJSON writes a string or a list of parts.
func (c Content) MarshalJSON() ([]byte, error) { return c.append(nil) }

func (c Content) append(b []byte) (_ []byte, err error) {
	if c.Parts == nil {
		return appendString(b, c.Text), nil
	}
	b = append(b, '[')
	for i, p := range c.Parts {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = p.append(b); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

// UnmarshalJSON accepts a string, null (an empty text) or a list of parts.
func (c *Content) UnmarshalJSON(data []byte) error {
	*c = Content{}
	switch firstByte(data) {
	case '[':
		return json.Unmarshal(data, &c.Parts)
	case 'n':
		return nil
	}
	if err := json.Unmarshal(data, &c.Text); err != nil {
		return errors.New("the content of a message must be a string or a list of parts")
	}
	return nil
}

func firstByte(data []byte) byte {
	data = bytes.TrimLeft(data, " \t\r\n")
	if len(data) == 0 {
		return 0
	}
	return data[0]
}
