package openai

// Sampling is the part that completions and chat completions share. Nil means "not sent": the server's default applies.
type Sampling struct {
	Model           *string  `json:"model"` // null: the base model
	MaxTokens       *int     `json:"max_tokens,omitempty"`
	Temperature     *float64 `json:"temperature,omitempty"`
	TopP            *float64 `json:"top_p,omitempty"`
	TopK            *int     `json:"top_k,omitempty"` // 0 or -1: all
	N               *int     `json:"n,omitempty"`
	Seed            *int64   `json:"seed,omitempty"`
	Stop            *Strings `json:"stop,omitempty"`
	StopTokenIDs    []int32  `json:"stop_token_ids,omitempty"`
	IncludeStop     *bool    `json:"include_stop_str_in_output,omitempty"`
	IgnoreEOS       *bool    `json:"ignore_eos,omitempty"`
	MinTokens       *int     `json:"min_tokens,omitempty"`
	SkipSpecial     *bool    `json:"skip_special_tokens,omitempty"`
	PromptLogprobs  *int     `json:"prompt_logprobs,omitempty"`
	TokensAsIDs     *bool    `json:"return_tokens_as_token_ids,omitempty"` // logprob tokens are written "token_id:N", so that equal texts stay apart
	ReturnTokenIDs  *bool    `json:"return_token_ids,omitempty"`
	CacheSalt       *string  `json:"cache_salt,omitempty"`
	RequestID       *string  `json:"request_id,omitempty"`
	Stream          *bool    `json:"stream,omitempty"`
	TruncatePrompt  *int     `json:"truncate_prompt_tokens,omitempty"`
	FrequencyPen    *float64 `json:"frequency_penalty,omitempty"`
	PresencePen     *float64 `json:"presence_penalty,omitempty"`
	RepetitionPen   *float64 `json:"repetition_penalty,omitempty"`
	MinP            *float64 `json:"min_p,omitempty"`
	AddSpecialToken *bool    `json:"add_special_tokens,omitempty"`
}

// CompletionRequest is the body of POST /v1/completions. Echo with MaxTokens 0 and Logprobs scores a prompt.
// PromptEmbeds excludes Echo, PromptLogprobs and Suffix; leave Prompt nil beside it.
type CompletionRequest struct {
	Sampling
	Prompt       *Prompt  `json:"prompt,omitempty"`
	PromptEmbeds *Strings `json:"prompt_embeds,omitempty"`
	Echo         *bool    `json:"echo,omitempty"`
	Logprobs     *int     `json:"logprobs,omitempty"` // top k besides the sampled token; 0: the sampled one alone
	Suffix       *string  `json:"suffix,omitempty"`
}

// ChatRequest is the body of POST /v1/chat/completions.
type ChatRequest struct {
	Sampling
	Messages            []Message `json:"messages"`
	MaxCompletionTokens *int      `json:"max_completion_tokens,omitempty"`
	Logprobs            *bool     `json:"logprobs,omitempty"`
	TopLogprobs         *int      `json:"top_logprobs,omitempty"`
	AddGenerationPrompt *bool     `json:"add_generation_prompt,omitempty"`
}

// Message is one turn of a chat.
type Message struct {
	Role    string  `json:"role"`
	Content Content `json:"content"`
}

// TokenizeRequest is the body of POST /tokenize: Prompt, or Messages to go through the chat template first.
type TokenizeRequest struct {
	Model               *string   `json:"model,omitempty"`
	Prompt              *string   `json:"prompt,omitempty"`
	Messages            []Message `json:"messages,omitempty"`
	AddGenerationPrompt *bool     `json:"add_generation_prompt,omitempty"`
	AddSpecialTokens    *bool     `json:"add_special_tokens,omitempty"`
	ReturnTokenStrs     *bool     `json:"return_token_strs,omitempty"`
}

// DetokenizeRequest is the body of POST /detokenize.
type DetokenizeRequest struct {
	Model  *string `json:"model,omitempty"`
	Tokens []int32 `json:"tokens"`
}

// LoadLoRARequest is the body of POST /v1/load_lora_adapter. The answer is 200 with plain text and no Content-Type.
type LoadLoRARequest struct {
	Name    *string `json:"lora_name,omitempty"` // nil after decoding: the field was missing
	Path    *string `json:"lora_path,omitempty"`
	Inplace *bool   `json:"load_inplace,omitempty"`
}

// UnloadLoRARequest is the body of POST /v1/unload_lora_adapter. The answer is 200 with plain text and no Content-Type.
type UnloadLoRARequest struct {
	Name *string `json:"lora_name,omitempty"`
}
