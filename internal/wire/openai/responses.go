package openai

import "encoding/json"

// Usage counts tokens. A scoring request with max_tokens 0 reports one completion token although none is returned.
type Usage struct {
	PromptTokens            int             `json:"prompt_tokens"`
	TotalTokens             int             `json:"total_tokens"`
	CompletionTokens        int             `json:"completion_tokens"`
	PromptTokensDetails     json.RawMessage `json:"prompt_tokens_details"`
	CompletionTokensDetails json.RawMessage `json:"completion_tokens_details"`
}

// Logprob is the entry of one token in prompt_logprobs, keyed there by the token id in decimal.
type Logprob struct {
	Logprob      float64 `json:"logprob"`
	Rank         int     `json:"rank"`
	DecodedToken string  `json:"decoded_token"`
}

// CompletionResponse is the answer of /v1/completions.
type CompletionResponse struct {
	ID                string             `json:"id"`
	Object            string             `json:"object"` // text_completion
	Created           int64              `json:"created"`
	Model             string             `json:"model"`
	Choices           []CompletionChoice `json:"choices"`
	ServiceTier       *string            `json:"service_tier"`
	SystemFingerprint *string            `json:"system_fingerprint"`
	Usage             *Usage             `json:"usage"`
	KVTransferParams  json.RawMessage    `json:"kv_transfer_params"`
	ECTransferParams  json.RawMessage    `json:"ec_transfer_params"`
	Metrics           json.RawMessage    `json:"metrics"`
}

// CompletionChoice is one continuation. Nil slices and pointers are null in JSON.
type CompletionChoice struct {
	Index          int                  `json:"index"`
	Text           string               `json:"text"`
	Logprobs       *CompletionLogprobs  `json:"logprobs"`
	FinishReason   *string              `json:"finish_reason"` // stop, length, abort
	StopReason     any                  `json:"stop_reason"`   // nil, the stop string, or the stop token id
	TokenIDs       []int32              `json:"token_ids"`
	PromptLogprobs []map[string]Logprob `json:"prompt_logprobs"` // the first is null: nothing predicts it
	PromptTokenIDs []int32              `json:"prompt_token_ids"`
	RoutedExperts  json.RawMessage      `json:"routed_experts"`
}

// CompletionLogprobs holds one entry per token of the choice (with echo: of prompt and choice).
// TokenLogprobs[0] is nil (JSON null) when echo makes the first prompt token the first entry: it is not 0.
type CompletionLogprobs struct {
	TextOffset    []int                `json:"text_offset"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	Tokens        []string             `json:"tokens"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
}

// ChatResponse is the answer of /v1/chat/completions. PromptTokenIDs are the template's ids with a marker (the vocabulary size) at each soft row.
type ChatResponse struct {
	ID                string               `json:"id"`
	Object            string               `json:"object"` // chat.completion
	Created           int64                `json:"created"`
	Model             string               `json:"model"`
	Choices           []ChatChoice         `json:"choices"`
	ServiceTier       *string              `json:"service_tier"`
	SystemFingerprint *string              `json:"system_fingerprint"`
	Usage             *Usage               `json:"usage"`
	PromptLogprobs    []map[string]Logprob `json:"prompt_logprobs"`
	PromptTokenIDs    []int32              `json:"prompt_token_ids"`
	PromptText        *string              `json:"prompt_text"`
	KVTransferParams  json.RawMessage      `json:"kv_transfer_params"`
	ECTransferParams  json.RawMessage      `json:"ec_transfer_params"`
	Metrics           json.RawMessage      `json:"metrics"`
}

// ChatChoice is one answer of the assistant.
type ChatChoice struct {
	Index         int             `json:"index"`
	Message       ChatMessage     `json:"message"`
	Logprobs      *ChatLogprobs   `json:"logprobs"`
	FinishReason  *string         `json:"finish_reason"`
	StopReason    any             `json:"stop_reason"`
	TokenIDs      []int32         `json:"token_ids"`
	RoutedExperts json.RawMessage `json:"routed_experts"`
}

// ChatMessage is the assistant's message. Content is nil when the server sent null.
type ChatMessage struct {
	Role         string          `json:"role"`
	Content      *string         `json:"content"`
	Refusal      *string         `json:"refusal"`
	Annotations  json.RawMessage `json:"annotations"`
	Audio        json.RawMessage `json:"audio"`
	FunctionCall json.RawMessage `json:"function_call"`
	Reasoning    *string         `json:"reasoning"`
}

// ChatLogprobs holds one entry per generated token.
type ChatLogprobs struct {
	Content []ChatTokenLogprob `json:"content"`
}

// ChatTokenLogprob is the sampled token with its alternatives. Bytes is the token's UTF-8, as numbers.
type ChatTokenLogprob struct {
	Token       string           `json:"token"`
	Logprob     float64          `json:"logprob"`
	Bytes       []int            `json:"bytes"`
	TopLogprobs []ChatTopLogprob `json:"top_logprobs"`
}

// ChatTopLogprob is one alternative at a position.
type ChatTopLogprob struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

// ModelList is the answer of GET /v1/models.
type ModelList struct {
	Object string  `json:"object"` // list
	Data   []Model `json:"data"`
}

// Model is the base model or, when Parent is set, an adapter whose Root is its path.
type Model struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"` // model
	Created     int64        `json:"created"`
	OwnedBy     string       `json:"owned_by"`
	Root        string       `json:"root"`
	Parent      *string      `json:"parent"`
	MaxModelLen *int         `json:"max_model_len"`
	Permission  []Permission `json:"permission"`
}

// Permission is the constant block that the API repeats for every model.
type Permission struct {
	ID                 string  `json:"id"`
	Object             string  `json:"object"` // model_permission
	Created            int64   `json:"created"`
	AllowCreateEngine  bool    `json:"allow_create_engine"`
	AllowSampling      bool    `json:"allow_sampling"`
	AllowLogprobs      bool    `json:"allow_logprobs"`
	AllowSearchIndices bool    `json:"allow_search_indices"`
	AllowView          bool    `json:"allow_view"`
	AllowFineTuning    bool    `json:"allow_fine_tuning"`
	Organization       string  `json:"organization"`
	Group              *string `json:"group"`
	IsBlocking         bool    `json:"is_blocking"`
}

// TokenizeResponse is the answer of /tokenize.
type TokenizeResponse struct {
	Count       int      `json:"count"`
	MaxModelLen int      `json:"max_model_len"`
	Tokens      []int32  `json:"tokens"`
	TokenStrs   []string `json:"token_strs"`
}

// DetokenizeResponse is the answer of /detokenize.
type DetokenizeResponse struct {
	Prompt string `json:"prompt"`
}

// VersionResponse is the answer of GET /version.
type VersionResponse struct {
	Version string `json:"version"`
}
