package lmserver

import (
	"bytes"
	"encoding/json"
	"net/http"

	"recpie/internal/wire/openai"
)

// The sampler answers whole choices, so a stream carries each choice in one chunk, between the frames that vLLM sends.

type streamUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

type chunk struct {
	ID          string       `json:"id"`
	Object      string       `json:"object"`
	Created     int64        `json:"created"`
	Model       string       `json:"model"`
	Choices     any          `json:"choices"`
	Usage       *streamUsage `json:"usage,omitempty"`
	Fingerprint *string      `json:"system_fingerprint,omitempty"`
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

type chatDelta struct {
	Index        int                  `json:"index"`
	Delta        map[string]string    `json:"delta"`
	Logprobs     *openai.ChatLogprobs `json:"logprobs"`
	FinishReason *string              `json:"finish_reason"`
	StopReason   any                  `json:"stop_reason,omitempty"`
	TokenIDs     []int32              `json:"token_ids"`
}

func streamCompletion(w http.ResponseWriter, res *openai.CompletionResponse, withUsage bool) error {
	var chunks []chunk
	base := chunk{ID: res.ID, Object: res.Object, Created: res.Created, Model: res.Model}
	for _, c := range res.Choices {
		one := base
		one.Choices = []completionDelta{{Index: c.Index, Text: c.Text, Logprobs: c.Logprobs, FinishReason: c.FinishReason,
			StopReason: c.StopReason, PromptTokenIDs: c.PromptTokenIDs, TokenIDs: c.TokenIDs}}
		chunks = append(chunks, one)
	}
	return sendChunks(w, chunks, base, res.SystemFingerprint, res.Usage, withUsage)
}

func streamChat(w http.ResponseWriter, res *openai.ChatResponse, withUsage bool) error {
	var chunks []chunk
	base := chunk{ID: res.ID, Object: "chat.completion.chunk", Created: res.Created, Model: res.Model}
	for _, c := range res.Choices {
		first, one := base, base
		first.Choices = []chatDelta{{Index: c.Index, Delta: map[string]string{"role": "assistant", "content": ""}}}
		one.Choices = []chatDelta{{Index: c.Index, Delta: map[string]string{"content": *c.Message.Content}, Logprobs: c.Logprobs,
			FinishReason: c.FinishReason, StopReason: c.StopReason, TokenIDs: c.TokenIDs}}
		chunks = append(chunks, first, one)
	}
	return sendChunks(w, chunks, base, res.SystemFingerprint, res.Usage, withUsage)
}

// sendChunks writes server-sent events: the chunks, the usage when asked for, and [DONE]. The last chunk carries the fingerprint.
func sendChunks(w http.ResponseWriter, chunks []chunk, base chunk, mark *string, u *openai.Usage, withUsage bool) error {
	if withUsage {
		base.Choices = []any{}
		base.Usage = &streamUsage{u.PromptTokens, u.TotalTokens, u.CompletionTokens}
		chunks = append(chunks, base)
	}
	chunks[len(chunks)-1].Fingerprint = mark
	var out bytes.Buffer
	for _, c := range chunks {
		data, err := json.Marshal(c)
		if err != nil {
			return err
		}
		out.WriteString("data: ")
		out.Write(data)
		out.WriteString("\n\n")
	}
	out.WriteString("data: [DONE]\n\n")
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(out.Bytes())
	return nil
}
