package vllm

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// What is asked for to see whether adapters are loaded: nothing lies there.
const (
	probeName = "recpie-probe"
	probePath = "/does-not-exist"
)

// RefusesAdapters says why the server cannot load adapters while it runs, "" when it can, or when its answer leaves that open. It asks for
// one that is not there: a server that loads adapters does not find it, one without LoRA says that, one without the route has none. (vLLM
// has the route whenever VLLM_ALLOW_RUNTIME_LORA_UPDATING is set; with GPT-2, which has no LoRA there, loading then fails with HTTP 500.)
// The error is one of reaching the server.
func (c *Client) RefusesAdapters(ctx context.Context) (why string, err error) {
	err = c.LoadAdapter(ctx, probeName, probePath)
	var e *openai.APIError
	switch {
	case err == nil: // whatever it took for an adapter
		return "", c.UnloadAdapter(ctx, probeName)
	case !errors.As(err, &e):
		return "", err
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden || e.Status == http.StatusTooManyRequests:
		return "", err
	case strings.Contains(e.Message, "LoRA is not enabled"):
		return "LoRA is off: it was not asked for, or the model has none there", nil
	case strings.Contains(e.Message, "No adapter found"):
		return "", nil
	case e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed || e.Status == http.StatusNotImplemented:
		return "the server has no route to load adapters: " + e.Error(), nil
	default:
		return "", nil
	}
}

var modelHidden = regexp.MustCompile(`model's hidden_size (\d+)`)

// SoftWidth sends a row of a width that no model has and reads the right one out of the refusal. Servers that know soft prompts in
// a chat check their width (vLLM brought both at once); older ones refuse the part itself, and others have none: their refusal is the error.
func (c *Client) SoftWidth(ctx context.Context) (int, error) {
	row, err := NewSoft([]float32{0, 0, 0}, 1, 3)
	if err != nil {
		return 0, err
	}
	_, err = c.Chat(ctx, ChatRequest{Messages: []Message{User(row, "hello")}, Params: Params{MaxTokens: 1}})
	if err == nil {
		return 0, fault.Newf(fault.Endpoint, "soft prompt", "the server took a row of width 3: it does not look at it")
	}
	if m := modelHidden.FindStringSubmatch(err.Error()); m != nil {
		return strconv.Atoi(m[1])
	}
	return 0, err
}
