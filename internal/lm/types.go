package lm

import (
	"recpie/internal/tokenizer"
	"recpie/internal/tokenizer/chat"
)

// Bundle is a model with everything that turns text into ids and back.
type Bundle struct {
	Name          string // the folder's base name when loaded; servers may rename it
	Model         *Model
	Tok           *tokenizer.Tokenizer
	Chat          *chat.Template // nil when the model has no chat template
	ChatSource    string         // the template's text, as written to tokenizer_config.json
	BOS, EOS, PAD int32          // -1 where the model has none
	ExtraEOS      []int32        // further ids that end a generation
	MaxLen        int            // positions: prompt and completion together
}

// SoftRows are embeddings that stand in a prompt where its ids are the marker (the vocabulary size).
type SoftRows struct {
	Pos  int       // index of the first marker in the prompt
	Rows int       // consecutive positions replaced
	Data []float32 // [Rows × hidden], row after row
}

// GenRequest asks for N continuations of a prompt, for the log probabilities of the prompt, for its pooled states, or for several of
// these.
type GenRequest struct {
	Prompt         []int32
	Soft           []SoftRows
	Adapter        string // "" is the base model
	N              int    // continuations, 0 means 1 unless MaxTokens is 0
	MaxTokens      int    // shortened to what the model's positions allow
	MinTokens      int    // end tokens and stop strings are ignored before that many tokens
	Temperature    float64
	TopP           float64 // 0 and 1 keep everything
	TopK           int     // ≤ 0 keeps everything
	Seed           *int64  // nil draws one; choice i of a seeded request does not depend on what else is in the batch
	Stop           []string
	StopIDs        []int32
	IgnoreEOS      bool
	Logprobs       int // -1 none, else the number of alternatives per sampled token
	PromptLogprobs int // -1 none, else the number of alternatives per prompt token
	PromptFrom     int // with PromptLogprobs: positions before it are left undefined and cost nothing
	Pool           bool
	// OnToken, when not nil, is called after every token with the continuation so far, by one goroutine at a time, which computes others too: it
	// must return at once. It may keep what it is given only once FinishReason is set.
	OnToken func(*Choice)
}

// TokenLogprob is a token with its natural log probability under the model at temperature 1 and its rank, 1 being the likeliest.
// Rank 0 marks an undefined entry.
type TokenLogprob struct {
	ID      int32
	Logprob float32
	Rank    int
}

// Choice is one continuation.
type Choice struct {
	Index        int
	Tokens       []int32 // the end token is among them
	Text         string  // without special tokens, and cut before a stop string
	Logprobs     []float32
	Top          [][]TokenLogprob // per token: the sampled one first, then the likeliest others; nil without Logprobs
	FinishReason string           // "stop" or "length"
	StopReason   any              // the stop string, the stop id (int32), or nil for the end token
}

// GenResult is the answer to a GenRequest.
type GenResult struct {
	Choices        []Choice
	PromptLogprobs []TokenLogprob   // one per prompt position; entry 0 and those before PromptFrom are undefined
	PromptTop      [][]TokenLogprob // per position: the prompt's token first, then the likeliest others
	Pooled         []float32        // with Pool: the mean of the final hidden states over the prompt's positions
	CachedTokens   int              // prompt positions that were computed for another request
}

// Stats counts what the engine did since it was made, and what it is doing.
type Stats struct {
	Running              int     // requests being computed
	Waiting              int     // requests in the queue
	KVShare              float64 // of the memory for keys and values, what running requests hold or may come to need
	Requests             int64
	Batches              int64 // steps
	PromptTokensSent     int64 // positions of all prompts, once per request
	PromptTokensComputed int64 // positions that passed through the model
	GeneratedTokens      int64
}

// Datum is one training sequence: position i of Tokens predicts Targets[i]. Every non-nil slice of per-token numbers has the length
// of Tokens.
type Datum struct {
	Tokens     []int32
	Targets    []int64
	Weights    []float32 // cross_entropy; nil means 1 everywhere
	Logprobs   []float32 // the sampler's, for importance_sampling and ppo
	Advantages []float32
	Embeds     []float32 // [len(EmbedPos) × hidden], replaces the placeholders' embeddings
	EmbedPos   []int64
}

// PassResult is what one forward or forward_backward returns.
type PassResult struct {
	Logprobs   [][]float32        // per datum, per target
	EmbedGrads [][]float32        // per datum, d(loss:sum)/d(Embeds); nil for a datum without Embeds and for forward-only passes
	Metrics    map[string]float64 // names are "quantity:reduction"
}

// AdamParams are the settings of one optimizer step (AdamW).
type AdamParams struct {
	LearningRate, Beta1, Beta2, Eps, WeightDecay, GradClipNorm float64 // GradClipNorm ≤ 0 is off
}

// Example is one supervised pair: the loss is on Target alone.
type Example struct {
	Prompt []int32
	Soft   *SoftRows
	Target []int32
}
