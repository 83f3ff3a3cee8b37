package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// Delta is a piece of one choice as it arrives.
type Delta struct {
	Index  int // of the choice
	Text   string
	Tokens int       // tokens that the piece stands for; without token ids 1, and 0 for a piece that only ends the choice
	At     time.Time // when the whole piece had arrived
}

// streamRequest is a chat request with the fields that ask for a stream.
type streamRequest struct {
	openai.ChatRequest
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// chatChunk is one event of a chat stream: a piece of one or more choices, the usage at the end, or an error.
type chatChunk struct {
	Model   string `json:"model"`
	Choices []struct {
		Index *int `json:"index"` // nil: missing, which is not choice 0
		Delta struct {
			Role    string `json:"role"`
			Content string `json:"content"`
		} `json:"delta"`
		Logprobs     *openai.ChatLogprobs `json:"logprobs"`
		FinishReason *string              `json:"finish_reason"`
		TokenIDs     []int32              `json:"token_ids"`
	} `json:"choices"`
	Usage          *openai.Usage   `json:"usage"`
	PromptTokenIDs []int32         `json:"prompt_token_ids"`
	Error          json.RawMessage `json:"error"`
}

var doneMark = []byte("[DONE]")

// ChatStream generates answers to a chat and hands their pieces to each while they arrive, which must not take long. The result is the
// whole answer, checked as Chat checks it. It makes one attempt, because what was handed out cannot be taken back, and does not use
// the cache. From the request sent to the first event Settings.Headers may pass, between two events Settings.Idle.
func (c *Client) ChatStream(ctx context.Context, req ChatRequest, each func(Delta)) (*Result, error) {
	const op = "vllm: chat stream"
	if err := req.check(); err != nil {
		return nil, err
	}
	c.resolve(&req.Params)
	wire := streamRequest{ChatRequest: openai.ChatRequest{Sampling: req.sampling(), Messages: wireMessages(req.Messages)}}
	wire.Stream, wire.StreamOptions.IncludeUsage = openai.Ptr(true), true
	if req.Logprobs {
		wire.Logprobs, wire.TopLogprobs = openai.Ptr(true), openai.Ptr(0)
	}
	body, err := json.Marshal(wire)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	a := newAssembly(req.Params)
	err = c.http.Stream(ctx, transport.Call{
		Op: op, Method: http.MethodPost, Path: "/v1/chat/completions", ContentType: "application/json", Body: body,
		Check: func(r *transport.Reply) error { return statusError(op, r) },
	}, func(data []byte, at time.Time) error {
		if bytes.Equal(data, doneMark) {
			return transport.ErrStop
		}
		return a.add(op, data, at, each)
	})
	if err != nil {
		return nil, err
	}
	if err := checkResult(a.res, req.Params); err != nil {
		return nil, transport.Suspect(op, err)
	}
	return a.res, nil
}

// assembly puts the pieces of a stream together.
type assembly struct {
	p    Params
	res  *Result
	text [][]byte // per choice
}

func newAssembly(p Params) *assembly {
	n := max(1, p.N)
	a := &assembly{p: p, res: &Result{Choices: make([]Choice, n)}, text: make([][]byte, n)}
	for i := range a.res.Choices {
		a.res.Choices[i].Index = i
	}
	return a
}

// add takes one event. A server says in the stream what went wrong after it had begun to answer; such an error is classified by the
// status that it names, as if it had come as one.
func (a *assembly) add(op string, data []byte, at time.Time, each func(Delta)) error {
	var ch chatChunk
	if err := transport.Unmarshal(data, &ch); err != nil {
		return transport.Suspect(op, fmt.Errorf("an event is not the JSON expected: %w", err))
	}
	if len(ch.Error) > 0 && !bytes.Equal(ch.Error, []byte("null")) {
		return streamError(op, ch.Error, data)
	}
	if err := a.merge(&ch, at, each); err != nil {
		return transport.Suspect(op, err)
	}
	return nil
}

func (a *assembly) merge(ch *chatChunk, when time.Time, each func(Delta)) error {
	switch {
	case a.res.Model == "":
		a.res.Model = ch.Model
	case ch.Model != a.res.Model:
		return fmt.Errorf("the stream changes from model %q to %q", a.res.Model, ch.Model)
	}
	if ch.PromptTokenIDs != nil {
		a.res.PromptTokenIDs = ch.PromptTokenIDs
	}
	if u := ch.Usage; u != nil {
		a.res.PromptTokens, a.res.CompletionTokens = u.PromptTokens, u.CompletionTokens
	}
	for _, d := range ch.Choices {
		if d.Index == nil {
			return errNoIndex
		}
		at := *d.Index
		if at < 0 || at >= len(a.res.Choices) {
			return fmt.Errorf("a piece of choice %d where %d were asked for", at, len(a.res.Choices))
		}
		c := &a.res.Choices[at]
		if c.FinishReason != "" {
			if d.Delta.Content != "" || d.TokenIDs != nil || d.FinishReason != nil {
				return fmt.Errorf("choice %d goes on after its end", at)
			}
			continue
		}
		c.FinishReason = deref(d.FinishReason)
		a.text[at] = append(a.text[at], d.Delta.Content...)
		if c.FinishReason != "" {
			c.Text = string(a.text[at])
		}
		if d.TokenIDs != nil {
			if c.TokenIDs = append(c.TokenIDs, d.TokenIDs...); len(c.TokenIDs) > a.p.MaxTokens {
				return fmt.Errorf("choice %d has more than the %d tokens asked for", at, a.p.MaxTokens)
			}
		}
		if a.p.Logprobs && d.Logprobs != nil {
			for _, t := range d.Logprobs.Content {
				c.Logprobs = append(c.Logprobs, t.Logprob)
			}
		}
		if d.Delta.Role != "" && d.Delta.Content == "" && d.FinishReason == nil && d.TokenIDs == nil {
			continue // the choice is opened
		}
		tokens := len(d.TokenIDs)
		if d.TokenIDs == nil && (d.FinishReason == nil || d.Delta.Content != "") {
			tokens = 1
		}
		each(Delta{Index: at, Text: d.Delta.Content, Tokens: tokens, At: when})
	}
	return nil
}

// streamError reads an error event.
func streamError(op string, raw json.RawMessage, event []byte) error {
	var info struct {
		Code int `json:"code"`
	}
	_ = json.Unmarshal(raw, &info) // an error without a number is the server's
	if info.Code < 400 || info.Code > 599 {
		info.Code = http.StatusInternalServerError
	}
	e := openai.ParseError(info.Code, event)
	return transport.StatusError(op, e.Status, e.Class(), e.Hint(), e)
}
