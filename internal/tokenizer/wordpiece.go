package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// wordPiece is BERT's greedy longest-match model. A word with a stretch that matches nothing is unknown as a whole.
type wordPiece struct {
	first, rest map[string]int32 // tokens at the start of a word, and inside it without their prefix
	prefix      string
	unk         int32
	maxChars    int
	maxBytes    int // of the longest token
	cache       *wordCache
}

func (m *wordPiece) encode(word string, out []int32) []int32 { return m.cache.get(word, out, m.split) }

func (m *wordPiece) bytesOf(token string) []byte { return []byte(strings.TrimPrefix(token, m.prefix)) }

func (m *wordPiece) split(word string, out []int32) []int32 {
	if utf8.RuneCountInString(word) > m.maxChars {
		return append(out, m.unk)
	}
	from := len(out)
	vocab := m.first
	for i := 0; i < len(word); {
		end := min(len(word), i+m.maxBytes)
		for ; end > i; end-- {
			if id, ok := vocab[word[i:end]]; ok {
				out = append(out, id)
				break
			}
		}
		if end == i {
			return append(out[:from], m.unk)
		}
		i, vocab = end, m.rest
	}
	return out
}
