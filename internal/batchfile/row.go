package batchfile

import (
	"unicode/utf8"

	"recpie/internal/fault"
)

// Row is one sentence of a batch. It has a Text or, as a dead letter, a Reason. Written rows can be read again as pairs.
type Row struct {
	Row        int64 // position in the batch, which puts rows written as completed in order
	ID         string
	User, Item string
	Polarity   int8   // Positive or Negative
	Text       string // the sentence
	Reason     string // why there is none
	Tokens     int64  // generated tokens
	Model      string
	Adapter    string // name of the version, "" for the base model
	SoftPrompt string // digest of the soft prompts' table, "" without
}

// Pair is both sentences of a pair.
type Pair struct {
	Row            int64  `json:"row" parquet:"row"` // position of the pair in the batch
	ID             string `json:"custom_id,omitempty" parquet:"custom_id,optional"`
	User           string `json:"user_id" parquet:"user_id,dict"`
	Item           string `json:"item_id" parquet:"item_id,dict"`
	Positive       string `json:"positive,omitempty" parquet:"positive,optional"` // the sentences
	Negative       string `json:"negative,omitempty" parquet:"negative,optional"`
	PositiveReason string `json:"positive_reason,omitempty" parquet:"positive_reason,optional"` // why there is none
	NegativeReason string `json:"negative_reason,omitempty" parquet:"negative_reason,optional"`
	PositiveTokens int64  `json:"positive_tokens" parquet:"positive_tokens"` // generated tokens
	NegativeTokens int64  `json:"negative_tokens" parquet:"negative_tokens"`
	Model          string `json:"model" parquet:"model,dict"`
	Adapter        string `json:"adapter,omitempty" parquet:"adapter,optional,dict"`
	SoftPrompt     string `json:"soft_prompt,omitempty" parquet:"soft_prompt,optional,dict"`
}

// Reply is what became of one request. It has a Text, which may be empty, or as a dead letter a Reason.
type Reply struct {
	Row          int64  `json:"row" parquet:"row"`
	ID           string `json:"custom_id" parquet:"custom_id"`
	Text         string `json:"text,omitempty" parquet:"text,optional"` // of the first choice
	Reason       string `json:"reason,omitempty" parquet:"reason,optional"`
	Finish       string `json:"finish_reason,omitempty" parquet:"finish_reason,optional,dict"` // of the first choice
	PromptTokens int64  `json:"prompt_tokens" parquet:"prompt_tokens"`
	Tokens       int64  `json:"tokens" parquet:"tokens"` // generated tokens
	Model        string `json:"model" parquet:"model,dict"`
}

// rowRecord is a Row as it is written.
type rowRecord struct {
	Row        int64  `json:"row" parquet:"row"`
	ID         string `json:"custom_id,omitempty" parquet:"custom_id,optional"`
	User       string `json:"user_id" parquet:"user_id,dict"`
	Item       string `json:"item_id" parquet:"item_id,dict"`
	Polarity   string `json:"polarity" parquet:"polarity,dict"`
	Text       string `json:"text,omitempty" parquet:"text,optional"`
	Reason     string `json:"reason,omitempty" parquet:"reason,optional"`
	Tokens     int64  `json:"tokens" parquet:"tokens"`
	Model      string `json:"model" parquet:"model,dict"`
	Adapter    string `json:"adapter,omitempty" parquet:"adapter,optional,dict"`
	SoftPrompt string `json:"soft_prompt,omitempty" parquet:"soft_prompt,optional,dict"`
}

func (r Row) record() (rowRecord, error) {
	name := "positive"
	switch r.Polarity {
	case Positive:
	case Negative:
		name = "negative"
	default:
		return rowRecord{}, fault.Newf(fault.Item, "batchfile", "row %d: a sentence is positive or negative, not %d", r.Row, r.Polarity)
	}
	return rowRecord{
		Row: r.Row, ID: r.ID, User: r.User, Item: r.Item, Polarity: name, Text: r.Text, Reason: r.Reason, Tokens: r.Tokens,
		Model: r.Model, Adapter: r.Adapter, SoftPrompt: r.SoftPrompt,
	}, checkText(r.Row, r.ID, r.User, r.Item, r.Text, r.Reason, r.Model, r.Adapter, r.SoftPrompt)
}

func (p Pair) check() error {
	return checkText(p.Row, p.ID, p.User, p.Item, p.Positive, p.Negative, p.PositiveReason, p.NegativeReason, p.Model, p.Adapter, p.SoftPrompt)
}

// checkText refuses what would not be read back as it was written.
func checkText(row int64, texts ...string) error {
	for _, s := range texts {
		if !utf8.ValidString(s) {
			return fault.Newf(fault.Item, "batchfile", "row %d: %q is not valid UTF-8", row, clip(s))
		}
	}
	return nil
}

// size is roughly what the record takes in memory, which bounds a row group.
func (r rowRecord) size() int {
	return 64 + len(r.ID) + len(r.User) + len(r.Item) + len(r.Text) + len(r.Reason)
}

func (p Pair) size() int {
	return 64 + len(p.ID) + len(p.User) + len(p.Item) + len(p.Positive) + len(p.Negative) + len(p.PositiveReason) + len(p.NegativeReason)
}

func (r Reply) size() int { return 64 + len(r.ID) + len(r.Text) + len(r.Reason) }
