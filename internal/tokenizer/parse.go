package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds how deeply Sequence components nest.
const maxDepth = 8

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
		m := &wordPiece{first: ids, rest: map[string]int32{}, prefix: str(c.SubPrefix), unk: unk, maxChars: 100, cache: newWordCache()}
		if m.prefix == "" {
			m.prefix = "##"
		}
		if c.MaxChars != nil {
			m.maxChars = *c.MaxChars
		}
		first := make(map[string]int32, len(ids)) // a copy: added tokens enter ids later and are no word pieces
		for tok, id := range ids {
			first[tok] = id
			m.maxBytes = max(m.maxBytes, len(tok))
			if rest, ok := strings.CutPrefix(tok, m.prefix); ok {
				m.rest[rest] = id
			}
		}
		m.first = first
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

// parsePost returns the special tokens that the post-processor puts before and after a text.
func (t *Tokenizer) parsePost(raw json.RawMessage, depth int) (prefix, suffix []int32, err error) {
	typ, err := kind(raw)
	if err != nil || typ == "" {
		return nil, nil, err
	}
	switch typ {
	case "ByteLevel": // offsets only
		return nil, nil, nil
	case "Sequence":
		var c struct {
			Processors []json.RawMessage `json:"processors"`
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, nil, fmt.Errorf("post_processor Sequence: %w", err)
		}
		if depth == 0 {
			return nil, nil, errors.New("post_processor: sequences nested too deeply")
		}
		for _, r := range c.Processors {
			p, s, err := t.parsePost(r, depth-1)
			if err != nil {
				return nil, nil, err
			}
			prefix, suffix = append(p, prefix...), append(suffix, s...)
		}
		return prefix, suffix, nil
	case "BertProcessing", "RobertaProcessing":
		var c struct {
			Sep, Cls []any
		}
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: %w", typ, err)
		}
		cls, err := t.pairID(c.Cls)
		if err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: cls: %w", typ, err)
		}
		sep, err := t.pairID(c.Sep)
		if err != nil {
			return nil, nil, fmt.Errorf("post_processor %s: sep: %w", typ, err)
		}
		return []int32{cls}, []int32{sep}, nil
	case "TemplateProcessing":
		return t.parseTemplate(raw)
	default:
		return nil, nil, fmt.Errorf("post_processor %s is not supported", typ)
	}
}

// pairID reads a pair such as ["[CLS]", 101].
func (t *Tokenizer) pairID(pair []any) (int32, error) {
	if len(pair) == 2 {
		if id, ok := pair[1].(float64); ok {
			return t.checkID(int64(id))
		}
	}
	return 0, fmt.Errorf("%v is not a token and its id", pair)
}

func (t *Tokenizer) checkID(id int64) (int32, error) {
	if id < 0 || id >= int64(len(t.tokens)) {
		return 0, fmt.Errorf("id %d is not in the vocabulary", id)
	}
	return int32(id), nil
}

// parseTemplate reads the form for single texts: special tokens around exactly one "A".
func (t *Tokenizer) parseTemplate(raw json.RawMessage) (prefix, suffix []int32, err error) {
	var c struct {
		Single []struct {
			SpecialToken, Sequence *struct {
				ID string `json:"id"`
			}
		} `json:"single"`
		SpecialTokens map[string]struct {
			IDs []int64 `json:"ids"`
		} `json:"special_tokens"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, nil, fmt.Errorf("post_processor TemplateProcessing: %w", err)
	}
	seen := false
	for _, p := range c.Single {
		switch {
		case p.Sequence != nil && p.Sequence.ID == "A" && !seen:
			seen = true
		case p.SpecialToken != nil:
			for _, n := range c.SpecialTokens[p.SpecialToken.ID].IDs {
				id, err := t.checkID(n)
				if err != nil {
					return nil, nil, fmt.Errorf("post_processor TemplateProcessing: %w", err)
				}
				if seen {
					suffix = append(suffix, id)
				} else {
					prefix = append(prefix, id)
				}
			}
		default:
			return nil, nil, errors.New("post_processor TemplateProcessing: a part is neither a special token nor the first A")
		}
	}
	if !seen {
		return nil, nil, errors.New("post_processor TemplateProcessing: no A")
	}
	return prefix, suffix, nil
}
