package fakefleet

import (
	"encoding/binary"
	"hash/fnv"
	"strconv"
	"strings"

	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

// The vocabulary: 256 words that answers are made of, then one id for each other word by its hash. The size marks a soft row.
const (
	firstWord = 4
	words     = 256
	vocab     = 32000
	bos       = 1
)

var (
	word   [words]string
	wordID = map[string]int32{}
)

func init() {
	const syllables = "ba be bi bo da de di do ka ke ki ko ma me mi mo"
	parts := strings.Fields(syllables)
	for i := range word {
		word[i] = parts[i/16] + parts[i%16]
		wordID[word[i]] = int32(firstWord + i)
	}
}

func idOf(w string) int32 {
	if id, ok := wordID[w]; ok {
		return id
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(w)) // it cannot fail
	return int32(firstWord + words + h.Sum32()%(vocab-firstWord-words))
}

func textOf(id int32) string {
	if i := int(id) - firstWord; i >= 0 && i < words {
		return word[i]
	}
	return "<" + strconv.Itoa(int(id)) + ">"
}

// tokens are a text's words, one id each.
func tokens(ids []int32, text string) []int32 {
	for w := range strings.FieldsSeq(text) {
		ids = append(ids, idOf(w))
	}
	return ids
}

// rendered is a chat after the template: a beginning, then for each message its role and its words, with a marker at each soft row.
func rendered(messages []openai.Message) ([]int32, error) {
	ids := []int32{bos}
	for _, m := range messages {
		ids = append(ids, idOf("<"+m.Role+">"))
		if m.Content.Parts == nil {
			ids = tokens(ids, m.Content.Text)
		}
		for _, p := range m.Content.Parts {
			if p.Type != openai.PartEmbeds {
				ids = tokens(ids, p.Text)
				continue
			}
			_, rows, _, err := softprompt.Decode(p.Data, softprompt.Limits{})
			if err != nil {
				return nil, err
			}
			for range rows {
				ids = append(ids, vocab)
			}
		}
	}
	return append(ids, idOf("<assistant>")), nil
}

// mix is splitmix64: one step of a stream, or the hash of a number.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// logprob turns a hash into a log-probability between -8 and 0, with few digits so that every JSON library writes it alike.
func logprob(h uint64) float64 { return -float64(h>>48&0x7fff) / 4096 }

func first8(sum [32]byte) uint64 { return binary.LittleEndian.Uint64(sum[:8]) }
