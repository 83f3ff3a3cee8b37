package tgi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"recpie/clients/transport"
	"recpie/internal/fault"
)

// Config describes one server.
type Config struct {
	transport.Settings          // BaseURL is http://host:port
	Model              string   // name by which requests may call the base model; "" always means it
	Adapters           []string // ids of the LoRA adapters that the server was started with
	Chat               bool     // Prompt puts texts through the server's chat template, as one message of the user
}

// Client talks to one server. It is safe for concurrent use.
type Client struct {
	http     transport.JSON
	key      transport.Secret
	model    string
	adapters []string
	chat     bool
	added    atomic.Int32 // how many tokens /generate was last seen to put before a text
}

// New makes a client. Nothing is sent yet.
func New(cfg Config) (*Client, error) {
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	for _, a := range cfg.Adapters {
		if a == "" || a == cfg.Model {
			return nil, fault.Newf(fault.Fatal, "tgi", "adapter %q needs a name of its own", a)
		}
	}
	t, err := transport.New(cfg.Settings)
	if err != nil {
		return nil, err
	}
	return &Client{http: transport.JSON{Client: t, Status: statusError}, key: cfg.Key, model: cfg.Model, adapters: slices.Clone(cfg.Adapters), chat: cfg.Chat}, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.http.Close() }

// Info is what a server says of itself.
type Info struct {
	Model         string // base model: an id, or a path at the server
	Version       string
	MaxInput      int // tokens of a prompt; 0: not stated
	MaxTotal      int // tokens of prompt and answer together; 0: not stated
	MaxConcurrent int // requests served at a time, more get 429; 0: not stated
}

// Info asks for the served model and its limits.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var w struct {
		Model          string `json:"model_id"`
		Version        string `json:"version"`
		MaxInputTokens int    `json:"max_input_tokens"`
		MaxInputLength int    `json:"max_input_length"` // its name before version 2
		MaxTotal       int    `json:"max_total_tokens"`
		MaxConcurrent  int    `json:"max_concurrent_requests"`
	}
	err := c.http.Get(ctx, "tgi: info", "/info", &w, func() error {
		if w.Model == "" || w.Version == "" {
			return errors.New("the answer has no model_id or no version: this is no TGI")
		}
		return nil
	})
	return Info{Model: w.Model, Version: w.Version, MaxInput: max(w.MaxInputTokens, w.MaxInputLength), MaxTotal: w.MaxTotal, MaxConcurrent: w.MaxConcurrent}, err
}

// Health asks whether the server can generate. An unhealthy one gives a transient error.
func (c *Client) Health(ctx context.Context) error {
	const op = "tgi: health"
	return c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodGet, Path: "/health", Aside: true, Check: func(r *transport.Reply) error { return statusError(op, r) }})
}

// Load is how busy a server is, in requests.
type Load struct{ Waiting, Running float64 }

// Load reads the server's own gauges tgi_queue_size and tgi_batch_current_size. A gauge that is not there is 0: they appear with the
// first request.
func (c *Client) Load(ctx context.Context) (Load, error) {
	const op = "tgi: metrics"
	var l Load
	err := c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodGet, Path: "/metrics", Aside: true, Check: func(r *transport.Reply) error {
		if err := statusError(op, r); err != nil {
			return err
		}
		var err error
		l, err = parseLoad(r.Body)
		return transport.Suspect(op, err)
	}})
	return l, err
}

// parseLoad finds the two gauges in Prometheus' text format. With labels, their sum over the labels counts.
func parseLoad(text []byte) (Load, error) {
	var l Load
	for line := range bytes.Lines(text) {
		for name, to := range map[string]*float64{"tgi_queue_size": &l.Waiting, "tgi_batch_current_size": &l.Running} {
			rest, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte(name))
			if !ok || len(rest) == 0 || (rest[0] != ' ' && rest[0] != '{') {
				continue
			}
			fields := bytes.Fields(rest[bytes.LastIndexByte(rest, '}')+1:])
			if len(fields) == 0 {
				return Load{}, fmt.Errorf("%s has no value", name)
			}
			v, err := strconv.ParseFloat(string(fields[0]), 64)
			if err != nil || !(v >= 0 && v < 1e15) {
				return Load{}, fmt.Errorf("%s is %.40q", name, fields[0])
			}
			*to += v
		}
	}
	return l, nil
}

// Serves tells whether requests may name the model: the base, or an adapter that the server is said to have been started with.
func (c *Client) Serves(name string) bool {
	return name == "" || name == c.model || slices.Contains(c.adapters, name)
}

// adapterID returns what to send for a model's name: null for the base model, else the adapter. Unknown names are refused, because
// the server would answer with its base model.
func (c *Client) adapterID(op, name string) (*string, error) {
	if name == "" || name == c.model {
		return nil, nil
	}
	if !slices.Contains(c.adapters, name) {
		return nil, fault.WithHint(fault.Newf(fault.Item, op, "model %q is neither the base model nor one of the %d adapters known", name, len(c.adapters)),
			"start TGI with the adapter (--lora-adapters) and name it among the endpoint's adapters")
	}
	return &name, nil
}
