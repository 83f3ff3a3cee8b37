package vllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// ChatRequest asks for answers to a chat.
type ChatRequest struct {
	Messages []Message
	Params
}

// Chat generates answers to a chat, soft prompts included.
func (c *Client) Chat(ctx context.Context, req ChatRequest) (*Result, error) {
	const op = "vllm: chat"
	if err := req.check(); err != nil {
		return nil, err
	}
	c.name(&req.Params)
	if plain, ok := c.asPlain(req); ok {
		return c.chatPlain(ctx, plain, req)
	}
	wire := openai.ChatRequest{Sampling: c.sampling(req.Params), Messages: wireMessages(req.Messages)}
	if req.Logprobs {
		wire.Logprobs, wire.TopLogprobs = openai.Ptr(true), openai.Ptr(0)
	}
	return c.generate(ctx, op, "/v1/chat/completions", wire, req.Params, func(body []byte) (*Result, error) {
		var r chatAnswer
		var res *Result
		err := c.postBytes(ctx, op, "/v1/chat/completions", body, &r, func() (err error) {
			res, err = chatResult(&r, req.Params)
			return err
		})
		return res, err
	})
}

// CompletionRequest continues a prompt: text, token ids, or a soft prompt alone. Exactly one of the three is set.
type CompletionRequest struct {
	Text   string
	Tokens []int32
	Soft   Soft
	Params
}

// Complete generates continuations of a prompt.
func (c *Client) Complete(ctx context.Context, req CompletionRequest) (*Result, error) {
	const op = "vllm: completion"
	if err := req.check(); err != nil {
		return nil, err
	}
	c.name(&req.Params)
	wire := openai.CompletionRequest{Sampling: c.sampling(req.Params)}
	switch {
	case req.Soft.rows > 0 && req.Text == "" && req.Tokens == nil:
		wire.PromptEmbeds = openai.One(req.Soft.text)
	case req.Soft.rows == 0 && req.Text == "" && len(req.Tokens) > 0:
		wire.Prompt = openai.TokenPrompt(req.Tokens)
	case req.Soft.rows == 0 && req.Text != "" && req.Tokens == nil:
		wire.Prompt = openai.TextPrompt(req.Text)
	default:
		return nil, fault.Newf(fault.Item, op, "exactly one of text, token ids and soft prompt makes a prompt")
	}
	if req.Logprobs {
		wire.Logprobs = openai.Ptr(0)
	}
	return c.generate(ctx, op, "/v1/completions", wire, req.Params, func(body []byte) (*Result, error) {
		var r completionAnswer
		var res *Result
		err := c.postBytes(ctx, op, "/v1/completions", body, &r, func() (err error) {
			res, err = completionResult(&r, req.Params)
			return err
		})
		return res, err
	})
}

// generate marshals the request once, for the wire and for the cache's key, and remembers deterministic answers.
func (c *Client) generate(ctx context.Context, op, path string, wire any, p Params, send func(body []byte) (*Result, error)) (*Result, error) {
	body, err := json.Marshal(wire)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	if c.cache == nil || !p.deterministic() {
		return send(body)
	}
	key := keyOf(path, body)
	if r := c.cache.get(key); r != nil {
		return r, nil
	}
	epoch := c.cache.epoch()
	r, err := send(body)
	if err == nil {
		c.cache.put(key, r, epoch)
	}
	return r, err
}

// Score returns the log-probabilities of the last tail tokens of ids, each given all before it: log p(ids[i] | ids[:i]).
// tail <= 0 means all that have one, which is all but the first. It sends echo with max_tokens 0, so nothing is generated
// (real servers still count one completion token in the usage).
func (c *Client) Score(ctx context.Context, model string, ids []int32, tail int) ([]float64, error) {
	const op = "vllm: score"
	if tail <= 0 {
		tail = len(ids) - 1
	}
	if len(ids) < 2 || tail > len(ids)-1 {
		return nil, fault.Newf(fault.Item, op, "%d log-probabilities of %d tokens: the first token has none", tail, len(ids))
	}
	wire := openai.CompletionRequest{
		Sampling: openai.Sampling{Model: c.modelName(model), MaxTokens: openai.Ptr(0), Temperature: openai.Ptr(0.0), ReturnTokenIDs: openai.Ptr(true)},
		Prompt:   openai.TokenPrompt(ids), Echo: openai.Ptr(true), Logprobs: openai.Ptr(1),
	}
	var r completionAnswer
	var out []float64
	err := c.post(ctx, op, "/v1/completions", wire, &r, func() (err error) {
		if err := checkModel(deref(wire.Model), r.Model); err != nil {
			return err
		}
		out, err = scores(&r, ids)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out[len(out)-tail:], nil
}

// scores reads the log-probabilities of ids[1:] from an echo answer.
func scores(r *completionAnswer, ids []int32) ([]float64, error) {
	if len(r.Choices) != 1 {
		return nil, fmt.Errorf("%d choices where 1 was asked for", len(r.Choices))
	}
	ch := r.Choices[0]
	if ch.Index == nil || *ch.Index != 0 || ch.Text == nil {
		return nil, errors.New("the only choice has no text or is not number 0")
	}
	if err := checkFinish(0, deref(ch.FinishReason)); err != nil {
		return nil, err
	}
	if ch.Logprobs == nil || len(ch.Logprobs.TokenLogprobs) != len(ids) {
		return nil, fmt.Errorf("no log-probability for each of the %d prompt tokens", len(ids))
	}
	if ch.PromptTokenIDs != nil && !equalIDs(ch.PromptTokenIDs, ids) {
		return nil, fmt.Errorf("the server scored other token ids than those sent")
	}
	out := make([]float64, len(ids)-1)
	for i, lp := range ch.Logprobs.TokenLogprobs[1:] {
		if lp == nil {
			return nil, fmt.Errorf("the log-probability of token %d is null", i+1)
		}
		if err := checkLogprob(*lp); err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
		out[i] = *lp
	}
	return out, nil
}
