package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"recpie/clients/transport"
	"recpie/clients/vllm"
)

// vllm examines a server that speaks vLLM's API.
func (c *chart) vllm(ctx context.Context, i Inference, l *link, s transport.Settings) {
	if !c.guarded(ctx, l, "/v1/models", s.Key, i.KeyEnv, "inference.endpoints", "--api-key") {
		return
	}
	if version, ok := vllmVersion(ctx, l); ok {
		c.version(version, i.SoftPrompts)
	} else {
		c.warn("version", "serve vLLM, or set inference.soft_prompts: false and training.frozen: true", "the server does not tell a version as vLLM does: another OpenAI-compatible server may lack soft prompts, prompt scoring and adapters")
	}
	cl, err := vllm.New(vllm.Config{Settings: s, Model: i.Model})
	if err != nil {
		c.failed(Miss, "model", "mend inference.endpoints", err)
		return
	}
	defer cl.Close()
	served, ok := c.model(ctx, i, cl)
	if !ok {
		return
	}
	ids := c.template(ctx, i, cl)
	i.fit(longestOf(served, i.Model))
	c.scoring(ctx, i, cl, ids)
	c.softPrompts(ctx, i, cl)
	before, seen := metricsOf(ctx, l)
	c.adapters(ctx, i, l, cl, before, seen, served)
	words := i.words(len(ids))
	answered := c.canary(ctx, i, i.chats(cl), words)
	c.prefixCache(ctx, l, before, seen, answered)
	c.routes(ctx, l, c.closed())
	if !i.Probe || !answered {
		return
	}
	s.Attempts = 1 // a refusal is an answer to the probe
	once, err := vllm.New(vllm.Config{Settings: s, Model: i.Model})
	if err != nil {
		c.failed(Miss, throughput, "mend inference.endpoints", err)
		return
	}
	defer once.Close()
	c.throughput(ctx, i, i.chats(once), words)
}

// chats asks for greedy answers to a chat. Token ids are asked for where training will need them.
func (i Inference) chats(cl *vllm.Client) generator {
	return func(ctx context.Context, text string, tokens int) (string, error) {
		r, err := cl.Chat(ctx, vllm.ChatRequest{Messages: []vllm.Message{vllm.User(vllm.Soft{}, text)}, Params: vllm.Params{MaxTokens: tokens, TextOnly: !i.Adapters}})
		if err != nil {
			return "", err
		}
		return r.Choices[0].Text, nil
	}
}

// closed tells whether the server was seen to ask for its key.
func (c *chart) closed() bool {
	for _, f := range c.all {
		if f.What == "key" {
			return strings.HasPrefix(f.Detail, "asked for")
		}
	}
	return false
}

func vllmVersion(ctx context.Context, l *link) (string, bool) {
	a, err := l.get(ctx, "/version")
	var v struct {
		Version string `json:"version"`
	}
	if err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, &v) != nil || v.Version == "" {
		return "", false
	}
	return v.Version, true
}

func metricsOf(ctx context.Context, l *link) (page, bool) {
	a, err := l.get(ctx, "/metrics")
	if err != nil || a.status != http.StatusOK {
		return page{}, false
	}
	p := parsePage(a.body)
	return p, len(p.names) > 0
}

// longestOf is the length of a served model, 0 when it is not stated.
func longestOf(served []vllm.Model, name string) int {
	for _, m := range served {
		if m.ID == name {
			return m.MaxLen
		}
	}
	return 0
}

// model finds the served model and holds its length against what the settings need. It returns the list.
func (c *chart) model(ctx context.Context, i Inference, cl *vllm.Client) ([]vllm.Model, bool) {
	const what = "model"
	models, err := cl.Models(ctx)
	if err != nil {
		c.failed(Miss, what, "look at the server's log", err)
		return nil, false
	}
	var names []string
	for _, m := range models {
		if m.ID != i.Model {
			names = append(names, m.ID)
			continue
		}
		if m.MaxLen == 0 {
			c.ok(what, "%s, its length is not stated", m.ID)
			return models, true
		}
		c.ok(what, "%s, %d tokens", m.ID, m.MaxLen)
		need := i.PromptTokens + i.AnswerTokens
		if need > m.MaxLen {
			c.miss("length", fmt.Sprintf("start the server with --max-model-len %d or more, or lower prompts.token_budget or inference.max_tokens", need),
				"prompts of %d and answers of %d tokens do not fit into %d: long prompts are refused, answers cut short", i.PromptTokens, i.AnswerTokens, m.MaxLen)
		} else {
			c.ok("length", "prompts of %d and answers of %d tokens fit", i.PromptTokens, i.AnswerTokens)
		}
		return models, true
	}
	c.miss(what, "set inference.model to a served name", "%q is not among the %d served: %s", i.Model, len(models), listed(names))
	return nil, false
}
