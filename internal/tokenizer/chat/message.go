package chat

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Message is one turn of a conversation. Content is a string or a list of parts, each a map such as {"type": "text", "text": "…"};
// templates see the parts as they are.
type Message struct {
	Role    string
	Content any // string, []any or []map[string]any

	keys keyOrder // of the maps inside Content, when it was read from JSON
	swap bool     // content came before role
}

// keyOrder remembers the order in which the keys of a map were written, by the map's address. Go's maps forget it and tojson needs it.
type keyOrder map[uintptr][]string

func (k keyOrder) set(m map[string]any, keys []string) { k[reflect.ValueOf(m).Pointer()] = keys }

// maxDepth bounds the nesting of a message's content.
const maxDepth = 64

// UnmarshalJSON reads {"role": …, "content": …}; other fields are ignored. Unlike a map it keeps the order of keys, which templates
// show when they print a part as JSON.
func (m *Message) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	keys := keyOrder{}
	v, err := decodeOrdered(dec, keys, maxDepth)
	if err != nil {
		return err
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return errors.New("chat message is not an object")
	}
	if *m = (Message{Content: obj["content"], keys: keys}); obj["role"] != nil {
		if m.Role, ok = obj["role"].(string); !ok {
			return errors.New("chat message: role is not a string")
		}
	}
	for _, k := range keys[reflect.ValueOf(obj).Pointer()] {
		if k == "role" || k == "content" {
			m.swap = k == "content"
			break
		}
	}
	return m.check()
}

func (m *Message) check() error {
	switch c := m.Content.(type) {
	case string, []map[string]any:
		return nil
	case []any:
		for i, p := range c {
			if _, ok := p.(map[string]any); !ok {
				return fmt.Errorf("chat message: part %d is not an object", i)
			}
		}
		return nil
	default:
		return fmt.Errorf("chat message: content is a %T, want a string or a list of parts", c)
	}
}

// value returns the map that templates see and adds the orders of keys that it knows.
func (m *Message) value(keys keyOrder) (map[string]any, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	for at, ks := range m.keys {
		keys[at] = ks
	}
	v := map[string]any{"role": m.Role, "content": m.Content}
	switch c := m.Content.(type) {
	case []any:
		v["content"] = list(c)
	case []map[string]any:
		parts := make(list, len(c))
		for i, p := range c {
			parts[i] = p
		}
		v["content"] = parts
	}
	if m.swap {
		keys.set(v, []string{"content", "role"})
	} else {
		keys.set(v, []string{"role", "content"})
	}
	return v, nil
}

// decodeOrdered reads one JSON value into the types of encoding/json, integers as int, and notes the order of every object's keys.
func decodeOrdered(dec *json.Decoder, keys keyOrder, depth int) (any, error) {
	if depth == 0 {
		return nil, errors.New("JSON is nested too deeply")
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch t := tok.(type) {
	case json.Number:
		if n, err := t.Int64(); err == nil && !strings.HasPrefix(t.String(), "-0") {
			return int(n), nil
		}
		return t.Float64()
	case json.Delim:
		if t == '[' {
			values := []any{}
			for dec.More() {
				v, err := decodeOrdered(dec, keys, depth-1)
				if err != nil {
					return nil, err
				}
				values = append(values, v)
			}
			_, err := dec.Token()
			return values, err
		}
		obj := map[string]any{}
		var order []string
		for dec.More() {
			k, err := dec.Token()
			if err != nil {
				return nil, err
			}
			key := k.(string) // the decoder allows nothing else here
			v, err := decodeOrdered(dec, keys, depth-1)
			if err != nil {
				return nil, err
			}
			if _, again := obj[key]; !again {
				order = append(order, key)
			}
			obj[key] = v
		}
		keys.set(obj, order)
		_, err := dec.Token()
		return obj, err
	default:
		return tok, nil
	}
}
