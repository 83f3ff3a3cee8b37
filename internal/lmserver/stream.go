package lmserver

import (
	"bytes"
	"encoding/json"
	"net/http"

	"recpie/internal/wire/openai"
)

type streamUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// chunk is one event of a stream. The last one carries the fingerprint.
type chunk struct {
	ID             string          `json:"id"`
	Object         string          `json:"object"`
	Created        int64           `json:"created"`
	Model          string          `json:"model"`
	Choices        any             `json:"choices"`
	PromptTokenIDs json.RawMessage `json:"prompt_token_ids,omitempty"` // of a chat's first chunk, null when not asked for
	PromptText     json.RawMessage `json:"prompt_text,omitempty"`      // of a chat's first chunk, null
	Usage          *streamUsage    `json:"usage,omitempty"`
	Fingerprint    string          `json:"system_fingerprint,omitempty"`
}

var null = json.RawMessage("null")

// withUsage makes the chunk that counts the tokens.
func (c chunk) withUsage(u *openai.Usage) chunk {
	c.Choices, c.Usage, c.Fingerprint = []any{}, &streamUsage{u.PromptTokens, u.TotalTokens, u.CompletionTokens}, fingerprint
	return c
}

func (x *extras) wantsUsage() bool { return x.StreamOptions != nil && x.StreamOptions.IncludeUsage }

var doneMark = []byte("data: [DONE]\n\n")

// event appends a server-sent event.
func event(out *bytes.Buffer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	out.WriteString("data: ")
	out.Write(data)
	out.WriteString("\n\n")
	return nil
}

func streamHeaders(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
}

type completionDelta struct {
	Index          int                        `json:"index"`
	Text           string                     `json:"text"`
	Logprobs       *openai.CompletionLogprobs `json:"logprobs"`
	FinishReason   *string                    `json:"finish_reason"`
	StopReason     any                        `json:"stop_reason"`
	PromptTokenIDs []int32                    `json:"prompt_token_ids"`
	TokenIDs       []int32                    `json:"token_ids"`
}

// streamCompletion sends completions as a stream in which every choice is one chunk. Chats are streamed token by token.
func streamCompletion(w http.ResponseWriter, res *openai.CompletionResponse, withUsage bool) error {
	base := chunk{ID: res.ID, Object: res.Object, Created: res.Created, Model: res.Model}
	var out bytes.Buffer
	for _, c := range res.Choices {
		one := base
		one.Choices = []completionDelta{{Index: c.Index, Text: c.Text, Logprobs: c.Logprobs, FinishReason: c.FinishReason,
			StopReason: c.StopReason, PromptTokenIDs: c.PromptTokenIDs, TokenIDs: c.TokenIDs}}
		if !withUsage {
			one.Fingerprint = fingerprint
		}
		if err := event(&out, one); err != nil {
			return err
		}
	}
	if withUsage {
		if err := event(&out, base.withUsage(res.Usage)); err != nil {
			return err
		}
	}
	out.Write(doneMark)
	streamHeaders(w)
	_, _ = w.Write(out.Bytes())
	return nil
}
