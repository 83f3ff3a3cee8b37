package tokenizer

import (
	"encoding/json"
	"fmt"
)

// maxDepth bounds how deeply Sequence components nest.
const maxDepth = 8

// parse makes a tokenizer of the bytes of a tokenizer.json, which it keeps.
func parse(raw []byte) (*Tokenizer, error) {
	var f struct {
		Added         []addedToken    `json:"added_tokens"`
		Normalizer    json.RawMessage `json:"normalizer"`
		PreTokenizer  json.RawMessage `json:"pre_tokenizer"`
		PostProcessor json.RawMessage `json:"post_processor"`
		Decoder       json.RawMessage `json:"decoder"`
		Model         json.RawMessage `json:"model"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	t := &Tokenizer{raw: raw, special: map[int32]bool{}}
	var err error
	if t.norm, err = parseNormalizer(f.Normalizer, maxDepth); err != nil {
		return nil, err
	}
	var byteLevel bool
	if t.pre, byteLevel, err = parsePreTokenizer(f.PreTokenizer, maxDepth); err != nil {
		return nil, err
	}
	if t.dec, err = parseDecoder(f.Decoder, maxDepth); err != nil {
		return nil, err
	}
	if t.model, t.ids, err = parseModel(f.Model, byteLevel); err != nil {
		return nil, err
	}
	if err := t.addTokens(f.Added); err != nil {
		return nil, err
	}
	if err := t.indexTokens(); err != nil {
		return nil, err
	}
	if t.prefix, t.suffix, err = t.parsePost(f.PostProcessor, maxDepth); err != nil {
		return nil, err
	}
	return t, nil
}

// addTokens enters the added tokens into the vocabulary and makes the matchers.
func (t *Tokenizer) addTokens(added []addedToken) error {
	var verbatim, normalised []addedToken
	for _, a := range added {
		if id, ok := t.ids[a.Content]; ok && id != a.ID {
			return fmt.Errorf("added token %q has id %d, the vocabulary says %d", a.Content, a.ID, id)
		}
		if a.Content == "" {
			continue
		}
		t.ids[a.Content] = a.ID
		if a.Special {
			t.special[a.ID] = true
		}
		if !a.Normalized {
			verbatim = append(verbatim, a)
			continue
		}
		if t.norm != nil {
			a.Content = t.norm(a.Content)
		}
		if a.Content != "" {
			normalised = append(normalised, a)
		}
	}
	t.verbatim, t.normalised = newMatcher(verbatim), newMatcher(normalised)
	return nil
}

// indexTokens makes the table from id to token. Ids may leave holes, but not so many that a small file takes much memory.
func (t *Tokenizer) indexTokens() error {
	size := int32(0)
	for tok, id := range t.ids {
		if id < 0 || int64(id) > 16*int64(len(t.ids))+1<<16 {
			return fmt.Errorf("token %q: id %d out of range for %d tokens", tok, id, len(t.ids))
		}
		size = max(size, id+1)
	}
	t.tokens = make([]string, size)
	for tok, id := range t.ids {
		if t.tokens[id] != "" {
			return fmt.Errorf("id %d belongs to two tokens", id)
		}
		t.tokens[id] = tok
	}
	return nil
}
