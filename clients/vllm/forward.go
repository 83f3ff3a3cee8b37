package vllm

import (
	"context"
	"encoding/json"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// Forward sends a body that somebody else wrote to one of the two routes of generation, /v1/chat/completions or /v1/completions, and
// returns the answer as the server wrote it, checked as Chat and Complete check theirs but for token ids, which nobody asked for. It
// does not use the cache. A body without a model is sent without one.
func (c *Client) Forward(ctx context.Context, path string, body []byte) (json.RawMessage, *Result, error) {
	const op = "vllm: forward"
	var asked struct {
		openai.Sampling
		Logprobs json.RawMessage `json:"logprobs"` // true in a chat, a number in a completion
	}
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, nil, fault.New(fault.Item, op, err)
	}
	p := Params{Model: deref(asked.Model), N: 1, TextOnly: true}
	if asked.N != nil {
		p.N = *asked.N
	}
	if text := string(asked.Logprobs); text != "" && text != "null" && text != "false" {
		p.Logprobs = true
	}
	var raw json.RawMessage
	res, err := c.ask(ctx, op, path, body, &p, path != "/v1/completions", &raw)
	if err != nil {
		return nil, nil, err
	}
	return raw, res, nil
}
