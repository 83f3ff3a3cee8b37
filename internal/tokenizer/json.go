package tokenizer

import (
	"bytes"
	"encoding/json"
)

// byteLevelJSON writes the tokenizer.json of a trained vocabulary, whose first special tokens are special.
func byteLevelJSON(vocab []string, special int, merges [][2]string) ([]byte, error) {
	added := make([]addedToken, special)
	for i := range added {
		added[i] = addedToken{ID: int32(i), Content: vocab[i], Special: true}
	}
	ids := make(map[string]int, len(vocab))
	for i, tok := range vocab {
		ids[tok] = i
	}
	if merges == nil {
		merges = [][2]string{}
	}
	type byteLevel struct {
		Type           string `json:"type"`
		AddPrefixSpace bool   `json:"add_prefix_space"`
		TrimOffsets    bool   `json:"trim_offsets"`
		UseRegex       bool   `json:"use_regex"`
	}
	type bpeModel struct {
		Type         string         `json:"type"`
		Dropout      *float64       `json:"dropout"`
		Unk          *string        `json:"unk_token"`
		SubPrefix    *string        `json:"continuing_subword_prefix"`
		EndSuffix    *string        `json:"end_of_word_suffix"`
		FuseUnk      bool           `json:"fuse_unk"`
		ByteFallback bool           `json:"byte_fallback"`
		IgnoreMerges bool           `json:"ignore_merges"`
		Vocab        map[string]int `json:"vocab"`
		Merges       [][2]string    `json:"merges"`
	}
	stage := byteLevel{Type: "ByteLevel", TrimOffsets: true, UseRegex: true}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(struct {
		Version       string       `json:"version"`
		Truncation    *int         `json:"truncation"`
		Padding       *int         `json:"padding"`
		Added         []addedToken `json:"added_tokens"`
		Normalizer    *int         `json:"normalizer"`
		PreTokenizer  byteLevel    `json:"pre_tokenizer"`
		PostProcessor byteLevel    `json:"post_processor"`
		Decoder       byteLevel    `json:"decoder"`
		Model         bpeModel     `json:"model"`
	}{
		Version: "1.0", Added: added, PreTokenizer: stage, PostProcessor: stage, Decoder: stage,
		Model: bpeModel{Type: "BPE", Vocab: ids, Merges: merges},
	})
	return b.Bytes(), err
}
