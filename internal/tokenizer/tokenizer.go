package tokenizer

import "iter"

// Tokenizer encodes and decodes text.
type Tokenizer struct{}

func Load(path string) (*Tokenizer, error)                       { return nil, nil }
func Parse(b []byte) (*Tokenizer, error)                         { return nil, nil }
func (t *Tokenizer) Encode(text string, addSpecial bool) []int32 { return nil }
func (t *Tokenizer) Decode(ids []int32, skipSpecial bool) string { return "" }
func (t *Tokenizer) VocabSize() int                              { return 0 }
func (t *Tokenizer) ID(token string) (int32, bool)               { return 0, false }
func (t *Tokenizer) Token(id int32) string                       { return "" }
func (t *Tokenizer) Special(id int32) bool                       { return false }
func (t *Tokenizer) TokenBytes(id int32) []byte                  { return nil }
func (t *Tokenizer) SpecialTokens() []string                     { return nil }
func (t *Tokenizer) Save(path string) error                      { return nil }

type TrainOptions struct {
	VocabSize    int
	Special      []string
	MinFrequency int
}

func TrainBPE(texts iter.Seq[string], o TrainOptions) (*Tokenizer, error) { return nil, nil }
