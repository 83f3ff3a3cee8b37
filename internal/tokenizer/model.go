package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// parseModel reads the model and its vocabulary.
func parseModel(raw json.RawMessage, byteLevel bool) (model, map[string]int32, error) {
	var c struct {
		Type      string          `json:"type"`
		Vocab     json.RawMessage `json:"vocab"`
		Merges    []mergeSpelling `json:"merges"`
		Unk       *string         `json:"unk_token"`
		SubPrefix *string         `json:"continuing_subword_prefix"`
		EndSuffix *string         `json:"end_of_word_suffix"`
		MaxChars  *int            `json:"max_input_chars_per_word"`
		Dropout   *float64        `json:"dropout"`
		FuseUnk   bool            `json:"fuse_unk"`
		Fallback  bool            `json:"byte_fallback"`
		Ignore    bool            `json:"ignore_merges"`
	}
	if len(raw) == 0 {
		return nil, nil, errors.New("no model")
	}
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	if head.Type == "Unigram" || head.Type == "WordLevel" { // their vocab has another form
		return nil, nil, fmt.Errorf("model %s is not supported", head.Type)
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("model: %w", err)
	}
	if c.Type == "" && len(c.Merges) > 0 { // old files leave the type out
		c.Type = "BPE"
	}
	ids, err := parseVocab(c.Vocab)
	if err != nil {
		return nil, nil, fmt.Errorf("model: vocab: %w", err)
	}
	unk := int32(-1)
	if c.Unk != nil {
		id, ok := ids[*c.Unk]
		if !ok {
			return nil, nil, fmt.Errorf("model: unk_token %q is not in the vocabulary", *c.Unk)
		}
		unk = id
	}
	str := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	switch c.Type {
	case "BPE":
		switch {
		case c.Dropout != nil && *c.Dropout != 0:
			return nil, nil, errors.New("model BPE: dropout is not supported")
		case str(c.SubPrefix) != "" || str(c.EndSuffix) != "":
			return nil, nil, errors.New("model BPE: continuing_subword_prefix and end_of_word_suffix are not supported")
		}
		m := &bpe{byteLevel: byteLevel, fallback: c.Fallback && !byteLevel, unk: unk, fuseUnk: c.FuseUnk, cache: newWordCache()}
		if err := m.fill(ids, c.Merges, c.Ignore); err != nil {
			return nil, nil, fmt.Errorf("model BPE: %w", err)
		}
		return m, ids, nil
	case "WordPiece":
		if byteLevel || unk < 0 {
			return nil, nil, errors.New("model WordPiece: needs an unk_token and no ByteLevel pre-tokenizer")
		}
		m := &wordPiece{first: make(map[string]int32, len(ids)), rest: map[string]int32{}, prefix: str(c.SubPrefix), unk: unk, maxChars: 100, cache: newWordCache()}
		if m.prefix == "" {
			m.prefix = "##"
		}
		if c.MaxChars != nil {
			m.maxChars = *c.MaxChars
		}
		for tok, id := range ids { // a copy: added tokens enter ids later and are no word pieces
			m.first[tok] = id
			m.maxBytes = max(m.maxBytes, len(tok))
			if rest, ok := strings.CutPrefix(tok, m.prefix); ok {
				m.rest[rest] = id
			}
		}
		return m, ids, nil
	default:
		return nil, nil, fmt.Errorf("model %q is not supported", c.Type)
	}
}

// parseVocab reads the object of token → id; a repeated token or id is an error.
func parseVocab(raw json.RawMessage) (map[string]int32, error) {
	ids := map[string]int32{}
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, err
	}
	if ids == nil {
		return nil, errors.New("missing")
	}
	if _, ok := ids[""]; ok {
		return nil, errors.New("empty token")
	}
	return ids, nil
}

// mergeSpelling is one merge, which older files write as "a b" and newer ones as ["a", "b"].
type mergeSpelling [2]string

// UnmarshalJSON reads either form.
func (m *mergeSpelling) UnmarshalJSON(b []byte) error {
	if bytes.HasPrefix(b, []byte("[")) {
		var pair []string
		if err := json.Unmarshal(b, &pair); err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("merge %s has not two parts", b)
		}
		*m = mergeSpelling{pair[0], pair[1]}
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	left, right, ok := strings.Cut(s, " ")
	if !ok || strings.Contains(right, " ") {
		return fmt.Errorf("merge %q has not two parts", s)
	}
	*m = mergeSpelling{left, right}
	return nil
}

// fill makes the tables of the model from the vocabulary and the merges.
func (m *bpe) fill(ids map[string]int32, merges []mergeSpelling, ignoreMerges bool) error {
	for b := range 256 {
		m.byteID[b] = -1
		tok := fmt.Sprintf("<0x%02X>", b)
		if m.byteLevel {
			tok = string(byteChar[b])
		}
		if id, ok := ids[tok]; ok {
			m.byteID[b] = id
		}
	}
	if !m.byteLevel {
		m.charID = map[rune]int32{}
		for tok, id := range ids {
			if r, n := utf8.DecodeRuneInString(tok); n == len(tok) {
				m.charID[r] = id
			}
		}
	}
	if ignoreMerges {
		m.whole = make(map[string]int32, len(ids))
		for tok, id := range ids {
			word := tok
			if m.byteLevel {
				b, ok := unspell(tok)
				if !ok {
					continue
				}
				word = string(b)
			}
			m.whole[word] = id
		}
	}
	m.merges = make(map[uint64]merge, len(merges))
	for rank, pair := range merges {
		a, okA := ids[pair[0]]
		b, okB := ids[pair[1]]
		ab, okAB := ids[pair[0]+pair[1]]
		if !okA || !okB || !okAB {
			return fmt.Errorf("merge of %q and %q: a part or the result is not in the vocabulary", pair[0], pair[1])
		}
		m.merges[pairKey(a, b)] = merge{int32(rank), ab}
	}
	return nil
}
