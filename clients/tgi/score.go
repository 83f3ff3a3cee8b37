package tgi

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"recpie/internal/fault"
)

// Prompt is a text ready to be sent, and the ids that the server makes of it.
type Prompt struct {
	Text string
	IDs  []int32
}

// simpleToken is a token of /tokenize; Start and Stop count characters.
type simpleToken struct {
	ID    *int32 `json:"id"`
	Start int    `json:"start"`
	Stop  int    `json:"stop"`
}

// Tokenize returns the ids that /generate makes of a text, with those that it adds.
func (c *Client) Tokenize(ctx context.Context, text string) ([]int32, error) {
	var tokens []simpleToken
	var ids []int32
	err := c.http.Post(ctx, "tgi: tokenize", "/tokenize", map[string]string{"inputs": text}, &tokens, func() (err error) {
		ids, err = idsOf(tokens)
		return err
	})
	return ids, err
}

func idsOf(tokens []simpleToken) ([]int32, error) {
	if len(tokens) == 0 {
		return nil, errors.New("the text has no tokens")
	}
	ids := make([]int32, len(tokens))
	for i, t := range tokens {
		if t.ID == nil || *t.ID < 0 {
			return nil, fmt.Errorf("token %d has id %v", i, deref(t.ID))
		}
		ids[i] = *t.ID
	}
	return ids, nil
}

// maxAdded is how many tokens a tokenizer may put before a text. One is usual.
const maxAdded = 2

// Prompt makes of a text what is to be sent to Generate. Without Config.Chat that is the text itself. With it, it is the server's
// chat template filled with the text as the user's only message, less the beginning that /generate adds again; that the two then give
// the same ids is checked for every prompt.
func (c *Client) Prompt(ctx context.Context, text string) (Prompt, error) {
	const op = "tgi: prompt"
	if !c.chat {
		ids, err := c.Tokenize(ctx, text)
		return Prompt{text, ids}, err
	}
	var chat struct {
		Tokens []simpleToken `json:"tokenize_response"`
		Text   string        `json:"templated_text"`
	}
	var want []int32
	in := map[string]any{"model": "tgi", "messages": []map[string]string{{"role": "user", "content": text}}}
	err := c.http.Post(ctx, op, "/chat_tokenize", in, &chat, func() (err error) {
		want, err = idsOf(chat.Tokens)
		return err
	})
	if err != nil {
		return Prompt{}, err
	}
	full, last := []rune(chat.Text), c.added.Load()
	for i := range int32(maxAdded + 1) {
		skip := (last + i) % (maxAdded + 1) // what fitted last time comes first
		cut := 0
		if skip > 0 && int(skip) < len(chat.Tokens) {
			cut = chat.Tokens[skip-1].Stop
		}
		if cut < 0 || cut >= len(full) {
			continue
		}
		p := Prompt{Text: string(full[cut:])}
		if p.IDs, err = c.Tokenize(ctx, p.Text); err != nil {
			return Prompt{}, err
		}
		if slices.Equal(p.IDs, want) {
			c.added.Store(skip)
			return p, nil
		}
	}
	return Prompt{}, fault.WithHint(fault.Newf(fault.Fatal, op, "what the chat template gives cannot be sent: /generate makes other tokens of it than the chat route"),
		"switch the endpoint's chat off")
}

// Score returns the log-probabilities of the last tail tokens of a text, each given all before it, as the model sees them: without
// temperature. ids is the whole text as the caller means it, with what the server adds; when the server reads other tokens, which
// happens to sampled texts that its tokenizer would not have spelt so, the item is refused. One more token is generated, because TGI
// generates at least one.
func (c *Client) Score(ctx context.Context, model, text string, ids []int32, tail int) ([]float64, error) {
	const op = "tgi: score"
	if text == "" || len(ids) < 2 || tail < 1 || tail > len(ids)-1 {
		return nil, fault.Newf(fault.Item, op, "%d log-probabilities of %d tokens: the first token has none", tail, len(ids))
	}
	id, err := c.adapterID(op, model)
	if err != nil {
		return nil, err
	}
	w := generateRequest{text, parameters{AdapterID: id, MaxNewTokens: 1, Details: true, DecoderInputDetails: true}}
	var a generateResponse
	var out []float64
	err = c.http.Post(ctx, op, "/generate", w, &a, func() (err error) {
		if _, err = a.choice(w.Parameters); err == nil {
			out, err = prefill(op, a.Details.Prefill, ids)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out[len(out)-tail:], nil
}

// prefill reads the log-probabilities of ids[1:]; the first has none and is null.
func prefill(op string, got []token, ids []int32) ([]float64, error) {
	if len(got) == 0 {
		return nil, fault.WithHint(fault.Newf(fault.Fatal, op, "the answer has no log-probabilities of its input"), "start TGI with --enable-prefill-logprobs")
	}
	read := make([]int32, len(got))
	out := make([]float64, len(got))
	for i, t := range got {
		if i == 0 && t.Logprob == nil {
			t.Logprob = new(float64)
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("input token %d: %w", i, err)
		}
		read[i], out[i] = *t.ID, *t.Logprob
	}
	if !slices.Equal(read, ids) {
		return nil, fault.Newf(fault.Item, op, "the server reads the text as %d other tokens than the %d meant", len(read), len(ids))
	}
	return out[1:], nil
}
