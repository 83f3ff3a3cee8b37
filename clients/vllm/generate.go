package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"recpie/clients/transport"
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
	c.resolve(&req.Params)
	if plain, ok := c.asPlain(req); ok {
		return c.chatPlain(ctx, plain, req)
	}
	wire := openai.ChatRequest{Sampling: req.sampling(), Messages: wireMessages(req.Messages)}
	if req.Logprobs {
		wire.Logprobs, wire.TopLogprobs = openai.Ptr(true), openai.Ptr(0)
	}
	size := 200
	for _, m := range req.Messages {
		for _, p := range m.Parts {
			size += len(p.Text) + len(p.Soft.text)
		}
	}
	body, err := wire.AppendJSON(make([]byte, 0, size))
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	return c.generate("/v1/chat/completions", body, req.Params, func() (*Result, error) {
		return c.ask(ctx, op, "/v1/chat/completions", body, &req.Params, true, nil)
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
	c.resolve(&req.Params)
	wire := openai.CompletionRequest{Sampling: req.sampling()}
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
	body, err := wire.AppendJSON(make([]byte, 0, 512+len(req.Text)+len(req.Soft.text)+8*len(req.Tokens)))
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	return c.generate("/v1/completions", body, req.Params, func() (*Result, error) {
		return c.ask(ctx, op, "/v1/completions", body, &req.Params, false, nil)
	})
}

// ask sends a request for generation and checks its answer, of which it keeps the bytes in raw unless that is nil.
func (c *Client) ask(ctx context.Context, op, path string, body []byte, p *Params, chat bool, raw *json.RawMessage) (*Result, error) {
	var res *Result
	err := c.send(ctx, op, path, body, func(r *transport.Reply) error {
		a := generations.Get().(*generation)
		defer a.free()
		err := a.decode(r, p.N, chat)
		if err == nil {
			res, err = a.result(p)
		}
		if raw != nil {
			*raw = bytes.Clone(r.Body) // which is lent
		}
		return err
	})
	return res, c.known(p.Model, err)
}

// send posts a request and has an answer of status 200 read, which must not keep its body; what read complains about is the server's
// fault.
func (c *Client) send(ctx context.Context, op, path string, body []byte, read func(*transport.Reply) error) error {
	return c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodPost, Path: path, ContentType: "application/json", Body: body, Lent: true, Check: func(r *transport.Reply) error {
		if err := statusError(op, r); err != nil {
			return err
		}
		return transport.Suspect(op, read(r))
	}})
}

// generate remembers deterministic answers. The body, which holds all that decides the answer, is part of the cache's key.
func (c *Client) generate(path string, body []byte, p Params, send func() (*Result, error)) (*Result, error) {
	if c.cache == nil || !p.deterministic() {
		return send()
	}
	key := keyOf(path, body)
	if r := c.cache.get(key); r != nil {
		return r, nil
	}
	epoch := c.cache.epoch()
	r, err := send()
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
	body, err := wire.AppendJSON(make([]byte, 0, 256+8*len(ids)))
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	var out []float64
	err = c.send(ctx, op, "/v1/completions", body, func(r *transport.Reply) error {
		a := generations.Get().(*generation)
		defer a.free()
		err := a.decode(r, 1, false)
		if err != nil {
			return err
		}
		if err := checkModel(deref(wire.Model), string(a.model)); err != nil {
			return err
		}
		out, err = a.scores(ids)
		return err
	})
	if err = c.known(deref(wire.Model), err); err != nil {
		return nil, err
	}
	return out[len(out)-tail:], nil
}
