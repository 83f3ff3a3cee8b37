package tokenizer

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"recpie/internal/durable"
)

// Tokenizer encodes and decodes text. Its methods may be called concurrently.
type Tokenizer struct {
	raw   []byte // the tokenizer.json itself
	model model
	pre   preTokenizer // nil: the whole text is one word
	norm  normalizer   // nil: text stays as it is
	dec   decoder      // nil: tokens joined by spaces

	verbatim, normalised *matcher // added tokens cut out before and after the normaliser
	prefix, suffix       []int32  // special tokens around a text

	tokens  []string // by id, "" where the vocabulary has a hole
	ids     map[string]int32
	special map[int32]bool
}

// model splits one word into token ids, appended to out.
type model interface {
	encode(word string, out []int32) []int32
	// bytesOf returns the text that a token stands for inside a word.
	bytesOf(token string) []byte
}

// maxFile bounds what Load reads; the largest vocabularies in use take some 40 MB.
const maxFile = 256 << 20

// Load reads a tokenizer.json.
func Load(path string) (*Tokenizer, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if st.Size() > maxFile {
		return nil, fmt.Errorf("tokenizer: %s: %d bytes are over the limit of %d", path, st.Size(), maxFile)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	t, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w", path, err)
	}
	return t, nil
}

// Parse is Load for the file's bytes.
func Parse(b []byte) (*Tokenizer, error) {
	t, err := parse(bytes.Clone(b))
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return t, nil
}

// Save writes the tokenizer.json at path, whole or not at all; Python's tokenizers library reads it.
func (t *Tokenizer) Save(path string) error { return durable.WriteFile(path, t.raw, 0o644) }

// JSON returns the bytes that Save writes.
func (t *Tokenizer) JSON() []byte { return bytes.Clone(t.raw) }

// Encode returns the ids of text. Special tokens written out in the text are recognised: strip them from data that is not trusted.
// With addSpecial the post-processor's tokens, such as [CLS] and [SEP], stand around the result.
func (t *Tokenizer) Encode(text string, addSpecial bool) []int32 {
	out := make([]int32, 0, len(text)/3+len(t.prefix)+len(t.suffix))
	if addSpecial {
		out = append(out, t.prefix...)
	}
	first := true
	t.verbatim.split(text, func(piece string, id int32) {
		if id >= 0 {
			out, first = append(out, id), false
			return
		}
		if t.norm != nil {
			piece = t.norm(piece)
		}
		t.normalised.split(piece, func(piece string, id int32) {
			switch {
			case id >= 0:
				out = append(out, id)
			case piece != "" && t.pre == nil:
				out = t.model.encode(piece, out)
			case piece != "":
				t.pre(piece, first, func(word string) { out = t.model.encode(word, out) })
			}
			first = false
		})
	})
	if addSpecial {
		out = append(out, t.suffix...)
	}
	return out
}

// Decode returns the text of ids; ids outside the vocabulary are left out, and so are special tokens with skipSpecial. Bytes that
// are no UTF-8, as of a character cut in half, become U+FFFD, one for each maximal broken piece.
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string {
	toks := make([]string, 0, len(ids))
	for _, id := range ids {
		if tok := t.Token(id); tok != "" && (!skipSpecial || !t.special[id]) {
			toks = append(toks, tok)
		}
	}
	if t.dec == nil {
		return strings.Join(toks, " ")
	}
	return strings.Join(t.dec(toks), "")
}

// VocabSize returns the number of ids, added tokens included: every id is below it.
func (t *Tokenizer) VocabSize() int { return len(t.tokens) }

// ID returns the id of a token as it is spelt in the vocabulary.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// Token returns the spelling of id in the vocabulary, "" for an unknown one.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.tokens) {
		return ""
	}
	return t.tokens[id]
}

// TokenBytes returns the bytes that id stands for inside a text, nil for an unknown one.
func (t *Tokenizer) TokenBytes(id int32) []byte {
	tok := t.Token(id)
	if tok == "" {
		return nil
	}
	if t.special[id] {
		return []byte(tok)
	}
	return t.model.bytesOf(tok)
}

// Special says whether id is a special token.
func (t *Tokenizer) Special(id int32) bool { return t.special[id] }

// SpecialTokens returns the special tokens in the order of their ids.
func (t *Tokenizer) SpecialTokens() []string {
	ids := make([]int32, 0, len(t.special))
	for id := range t.special {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = t.tokens[id]
	}
	return out
}
