package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// LoadAdapter makes the server serve the adapter at path (as the server sees it) under a name. Loading the same name from the same
// path again is no error, so that a lost answer can be repeated. Servers key their prefix cache by (name, path): every version needs a
// new name and a new path. Weights of the wrong size may be accepted silently; ask the adapter something before relying on it.
func (c *Client) LoadAdapter(ctx context.Context, name, path string) error {
	const op = "vllm: load adapter"
	if name == "" || path == "" {
		return fault.Newf(fault.Item, op, "name %q, path %q: both are needed", name, path)
	}
	c.cache.purge()
	err := c.postText(ctx, op, "/v1/load_lora_adapter", openai.LoadLoRARequest{Name: &name, Path: &path})
	var e *openai.APIError
	if !errors.As(err, &e) || e.Status != http.StatusBadRequest || !strings.Contains(e.Message, "already been loaded") {
		return err
	}
	models, listErr := c.Models(ctx)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, m := range models {
		if m.ID == name && m.Parent != "" && m.Root == path {
			return nil
		}
	}
	return err
}

// UnloadAdapter removes an adapter. One that is not there is no error.
func (c *Client) UnloadAdapter(ctx context.Context, name string) error {
	const op = "vllm: unload adapter"
	c.cache.purge()
	c.served.Delete(name)
	err := c.postText(ctx, op, "/v1/unload_lora_adapter", openai.UnloadLoRARequest{Name: &name})
	var e *openai.APIError
	if errors.As(err, &e) && e.Status == http.StatusNotFound && e.Type == openai.TypeNotFound {
		return nil
	}
	return err
}

// postText sends JSON to routes that answer with a line of text, without a content type. A page that something between here and the
// server puts in its place is told from it by its words.
func (c *Client) postText(ctx context.Context, op, path string, in any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fault.New(fault.Fatal, op, err)
	}
	return c.http.Call(ctx, transport.Call{Op: op, Method: http.MethodPost, Path: path, ContentType: "application/json", Body: body,
		Check: func(r *transport.Reply) error {
			if err := statusError(op, r); err != nil {
				return err
			}
			if !utf8.Valid(r.Body) || !bytes.HasPrefix(r.Body, []byte("Success")) || !bytes.HasSuffix(r.Body, []byte("successfully.")) {
				return transport.Suspect(op, fmt.Errorf("the server answers %.100q where it should say that it succeeded", r.Body))
			}
			return nil
		}})
}
