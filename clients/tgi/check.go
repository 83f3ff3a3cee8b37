package tgi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"recpie/clients/transport"
)

// token is a token of an answer. What must be there is a pointer: nothing that is missing becomes 0.
type token struct {
	ID      *int32   `json:"id"`
	Text    string   `json:"text"`
	Logprob *float64 `json:"logprob"`
	Special bool     `json:"special"`
}

// details stand in an answer, and without prefill and tokens in the last event of a stream.
type details struct {
	FinishReason    string  `json:"finish_reason"`
	GeneratedTokens *int    `json:"generated_tokens"`
	Seed            *uint64 `json:"seed"`
	Prefill         []token `json:"prefill"`
	Tokens          []token `json:"tokens"`
}

type generateResponse struct {
	Text    *string  `json:"generated_text"`
	Details *details `json:"details"`
}

// choice checks an answer against its request and converts it.
func (r *generateResponse) choice(p parameters) (Choice, error) {
	if r.Text == nil || r.Details == nil {
		return Choice{}, errors.New("the answer has no generated_text or no details")
	}
	return newChoice(*r.Text, r.Details, r.Details.Tokens, p)
}

// finished maps TGI's finish reasons to the house's.
var finished = map[string]string{"length": "length", "eos_token": "stop", "stop_sequence": "stop"}

func newChoice(text string, d *details, tokens []token, p parameters) (Choice, error) {
	c := Choice{Text: text, TokenIDs: make([]int32, len(tokens)), Logprobs: make([]float64, len(tokens)), FinishReason: finished[d.FinishReason]}
	switch {
	case c.FinishReason == "":
		return Choice{}, fmt.Errorf("the answer finished with %.40q", d.FinishReason)
	case d.GeneratedTokens == nil || *d.GeneratedTokens != len(tokens):
		return Choice{}, fmt.Errorf("%d tokens where %v are announced", len(tokens), deref(d.GeneratedTokens))
	case len(tokens) < 1 || len(tokens) > p.MaxNewTokens:
		return Choice{}, fmt.Errorf("%d tokens, 1 to %d were asked for", len(tokens), p.MaxNewTokens)
	case p.Seed != nil && d.Seed != nil && *d.Seed != *p.Seed:
		return Choice{}, fmt.Errorf("the answer was sampled with seed %d, %d was asked", *d.Seed, *p.Seed)
	}
	for i, t := range tokens {
		if err := t.check(); err != nil {
			return Choice{}, fmt.Errorf("token %d: %w", i, err)
		}
		c.TokenIDs[i], c.Logprobs[i] = *t.ID, *t.Logprob
	}
	return c, nil
}

// check allows a rounding error above 0.
func (t *token) check() error {
	if t.ID == nil || *t.ID < 0 {
		return fmt.Errorf("id %v", deref(t.ID))
	}
	if t.Logprob == nil || math.IsNaN(*t.Logprob) || math.IsInf(*t.Logprob, 0) || *t.Logprob > 1e-3 {
		return fmt.Errorf("%v is no log-probability", deref(t.Logprob))
	}
	return nil
}

// deref is for messages.
func deref[T any](p *T) any {
	if p == nil {
		return "none"
	}
	return *p
}

// streamEvent is one token, with text and details beside the last; or an error.
type streamEvent struct {
	Token   *token          `json:"token"`
	Text    *string         `json:"generated_text"`
	Details *details        `json:"details"`
	Error   json.RawMessage `json:"error"`
}

// assembly puts the events of a stream together.
type assembly struct {
	p      parameters
	tokens []token
	choice Choice
}

// event takes one event. What goes wrong after the server had begun to answer 200 it says in the stream, even a refusal.
func (c *Client) event(op string, a *assembly, data []byte, at time.Time, each func(Delta)) error {
	var e streamEvent
	if err := transport.Unmarshal(data, &e); err != nil {
		return transport.Suspect(op, fmt.Errorf("an event is not the JSON expected: %w", err))
	}
	if len(e.Error) > 0 && !bytes.Equal(e.Error, []byte("null")) {
		return c.eventError(op, data)
	}
	if e.Token == nil {
		return transport.Suspect(op, errors.New("an event has no token"))
	}
	if err := e.Token.check(); err != nil {
		return transport.Suspect(op, fmt.Errorf("token %d: %w", len(a.tokens), err))
	}
	if a.tokens = append(a.tokens, *e.Token); len(a.tokens) > a.p.MaxNewTokens {
		return transport.Suspect(op, fmt.Errorf("more than the %d tokens asked for", a.p.MaxNewTokens))
	}
	d := Delta{Text: e.Token.Text, At: at}
	if e.Token.Special {
		d.Text = ""
	}
	if e.Text == nil {
		each(d)
		return nil
	}
	if e.Details == nil {
		return transport.Suspect(op, errors.New("the last event has no details"))
	}
	var err error
	if a.choice, err = newChoice(*e.Text, e.Details, a.tokens, a.p); err != nil {
		return transport.Suspect(op, err)
	}
	each(d)
	return transport.ErrStop
}
