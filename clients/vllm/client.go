package vllm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	goopenai "github.com/sashabaranov/go-openai"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// Config describes one server.
type Config struct {
	transport.Settings        // BaseURL is http://host:port, with or without a trailing /v1
	Model              string // used where a request names none; "" lets the server choose its base model
	CacheSize          int    // answers kept for repeated deterministic requests; 0: none
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	http  transport.JSON
	plain *goopenai.Client
	model string
	cache *cache

	served sync.Map // names of models that the server has answered under
}

// New makes a client. Nothing is sent yet.
func New(cfg Config) (*Client, error) {
	cfg.BaseURL = strings.TrimSuffix(strings.TrimRight(cfg.BaseURL, "/"), "/v1")
	t, err := transport.New(cfg.Settings)
	if err != nil {
		return nil, err
	}
	gc := goopenai.DefaultConfig("") // the transport sets the key
	gc.BaseURL, gc.HTTPClient = t.BaseURL()+"/v1", strict{t}
	c := &Client{http: transport.JSON{Client: t, Status: statusError}, plain: goopenai.NewClientWithConfig(gc), model: cfg.Model}
	if cfg.CacheSize > 0 {
		if c.cache, err = newCache(cfg.CacheSize); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.Close() }

// Model is an entry of the server's list: a base model, or an adapter when Parent is not empty.
type Model struct {
	ID, Parent, Root string
	MaxLen           int // tokens of prompt and answer together; 0: not stated (adapters)
}

// Models lists what the server serves. go-openai's Model has no max_model_len, so this goes through the typed layer.
func (c *Client) Models(ctx context.Context) ([]Model, error) {
	var list openai.ModelList
	err := c.http.Get(ctx, "vllm: models", "/v1/models", &list, func() error {
		if list.Data == nil {
			return errors.New("the answer has no list of models")
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := make([]Model, len(list.Data))
	for i, m := range list.Data {
		out[i] = Model{ID: m.ID, Root: m.Root}
		if m.Parent != nil {
			out[i].Parent = *m.Parent
		}
		if m.MaxModelLen != nil {
			out[i].MaxLen = *m.MaxModelLen
		}
	}
	return out, nil
}

// Health asks whether the server's engine is alive. It needs no key.
func (c *Client) Health(ctx context.Context) error {
	const op = "vllm: health"
	return c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodGet, Path: "/health", Aside: true, Check: func(r *transport.Reply) error { return statusError(op, r) }})
}

// Version returns the server's version.
func (c *Client) Version(ctx context.Context) (string, error) {
	var v openai.VersionResponse
	err := c.http.Get(ctx, "vllm: version", "/version", &v, func() error {
		if v.Version == "" {
			return errors.New("the answer has no version")
		}
		return nil
	})
	return v.Version, err
}

// Tokenize returns the token ids of a text. With special, the tokens that the tokenizer adds around a text are included.
func (c *Client) Tokenize(ctx context.Context, text string, special bool) ([]int32, error) {
	return c.tokenize(ctx, openai.TokenizeRequest{Model: c.modelName(""), Prompt: &text, AddSpecialTokens: &special})
}

// TokenizeChat returns the token ids of messages after the server's chat template. Soft prompts cannot be tokenized.
func (c *Client) TokenizeChat(ctx context.Context, messages []Message) ([]int32, error) {
	return c.tokenize(ctx, openai.TokenizeRequest{Model: c.modelName(""), Messages: wireMessages(messages)})
}

func (c *Client) tokenize(ctx context.Context, req openai.TokenizeRequest) ([]int32, error) {
	var r openai.TokenizeResponse
	err := c.http.Post(ctx, "vllm: tokenize", "/tokenize", req, &r, func() error {
		if r.Count != len(r.Tokens) {
			return fmt.Errorf("%d tokens where %d are announced", len(r.Tokens), r.Count)
		}
		return checkIDs(r.Tokens)
	})
	return r.Tokens, err
}

// Detokenize returns the text of token ids.
func (c *Client) Detokenize(ctx context.Context, ids []int32) (string, error) {
	if ids == nil {
		ids = []int32{}
	}
	var r openai.DetokenizeResponse
	err := c.http.Post(ctx, "vllm: detokenize", "/detokenize", openai.DetokenizeRequest{Model: c.modelName(""), Tokens: ids}, &r, nil)
	return r.Prompt, err
}

// modelName returns the name to send: the request's, else the client's, else null (the base model).
func (c *Client) modelName(name string) *string {
	if name == "" {
		name = c.model
	}
	if name == "" {
		return nil
	}
	return &name
}

// statusError classifies an answer that is not 200.
func statusError(op string, r *transport.Reply) error {
	if r.Status == http.StatusOK {
		return nil
	}
	e := openai.ParseError(r.Status, r.Body)
	return transport.StatusError(op, r.Status, e.Class(), e.Hint(), e)
}

// known remembers under which names the server answers. One that it no longer knows is the server's fault, not the item's: it was
// started again, and what had been loaded into it while it ran is gone.
func (c *Client) known(model string, err error) error {
	if model == "" || err != nil && !IsUnknownModel(err) {
		return err
	}
	_, before := c.served.Load(model)
	switch {
	case err == nil && !before:
		c.served.Store(model, true)
	case err != nil && before:
		return &fault.Error{Class: fault.Endpoint, Hint: "the server was started again with another model, or without the adapter: load it again", Err: err}
	}
	return err
}

// IsUnknownModel tells whether err says that the model or adapter is not served (any more): load it again, once.
func IsUnknownModel(err error) bool {
	var e *openai.APIError
	return errors.As(err, &e) && e.UnknownModel()
}
