package doctor

import (
	"context"
	"encoding/json"
	"net/http"

	"recpie/clients/tgi"
	"recpie/clients/transport"
)

// isTGI tells whether a server is text-generation-inference: only it describes its model under /info.
func isTGI(ctx context.Context, l *link) bool {
	a, err := l.get(ctx, "/info")
	var v struct {
		Model   string `json:"model_id"`
		Version string `json:"version"`
	}
	return err == nil && a.status == http.StatusOK && json.Unmarshal(a.body, &v) == nil && v.Model != "" && v.Version != ""
}

// tgi examines a text-generation-inference server. It has no routes that change it, and no way to load adapters.
func (c *chart) tgi(ctx context.Context, i Inference, l *link, s transport.Settings) {
	s.BaseURL = i.URL
	cl, err := tgi.New(tgi.Config{Settings: s, Model: i.Model, Chat: i.Chat})
	if err != nil {
		c.failed(Miss, "model", "mend inference.endpoints", err)
		return
	}
	defer cl.Close()
	info, err := cl.Info(ctx)
	if err != nil {
		c.failed(Miss, "model", "look at the server's log", err)
		return
	}
	if s.Key.Empty() {
		c.keyless(l, "inference.endpoints", "--api-key")
	} else {
		c.ok("key", "sent; TGI describes itself without one, so the canary shows whether it is accepted")
	}
	c.warn("version", "plan the move to vLLM: no fixes come any more", "text-generation-inference %s, archived since March 2026", info.Version)
	c.ok("model", "%s serves as %s", info.Model, i.Model)
	switch need := i.PromptTokens + i.AnswerTokens; {
	case info.MaxTotal > 0 && need > info.MaxTotal || info.MaxInput > 0 && i.PromptTokens > info.MaxInput:
		c.miss("length", "start the server with a larger --max-input-tokens and --max-total-tokens, or lower prompts.token_budget or inference.max_tokens",
			"prompts of %d and answers of %d tokens do not fit into %d, %d of them for the prompt: long prompts are refused", i.PromptTokens, i.AnswerTokens, info.MaxTotal, info.MaxInput)
	default:
		c.ok("length", "prompts of %d and answers of %d tokens fit", i.PromptTokens, i.AnswerTokens)
	}
	ids := c.tgiTemplate(ctx, i, cl)
	c.tgiScoring(ctx, i, cl, ids)
	only := i.Adapters && i.Path == pathSoft
	switch {
	case only:
		c.miss("soft prompts", "serve vLLM for training, or set training.frozen: true", "TGI takes no soft prompts, and they alone are to be trained")
	case i.SoftPrompts:
		c.warn("soft prompts", "serve vLLM for them, or set inference.soft_prompts: false", "TGI takes none: the user's taste is told in words instead, and the run says so")
	default:
		c.ok("soft prompts", "not taken; inference.soft_prompts is off")
	}
	if i.Adapters && !only {
		c.miss("run-time adapters", "serve vLLM for training, or set training.frozen: true", "TGI's adapters are those it was started with")
	} else {
		c.ok("run-time adapters", "not needed: the policy is not trained")
	}
	if info.MaxConcurrent > 0 && i.Concurrency > info.MaxConcurrent {
		c.warn("concurrency", "lower inference.concurrency, or start the server with a larger --max-concurrent-requests", "%d requests in flight are set, the server refuses more than %d", i.Concurrency, info.MaxConcurrent)
	}
	words := i.words(len(ids.IDs))
	if c.canary(ctx, i, texts(cl), words) && i.Probe {
		s.Attempts = 1 // a refusal is an answer to the probe
		once, err := tgi.New(tgi.Config{Settings: s, Model: i.Model, Chat: i.Chat})
		if err != nil {
			c.failed(Miss, throughput, "mend inference.endpoints", err)
			return
		}
		defer once.Close()
		c.throughput(ctx, i, texts(once), words)
	}
}

// tgiTemplate puts a text through the chat template, or only through the tokenizer where no template is wanted.
func (c *chart) tgiTemplate(ctx context.Context, i Inference, cl *tgi.Client) tgi.Prompt {
	const what = "chat template"
	p, err := cl.Prompt(ctx, sampleText)
	if err != nil {
		c.failed(Miss, what, "serve a chat model", err)
		return tgi.Prompt{}
	}
	if i.Chat {
		c.ok(what, "%d tokens for %d words", len(p.IDs), sampleWords)
	} else {
		c.ok(what, "not used: texts go as they are, %d tokens for %d words", len(p.IDs), sampleWords)
	}
	return p
}

// tgiScoring asks for the log-probabilities of a prompt.
func (c *chart) tgiScoring(ctx context.Context, i Inference, cl *tgi.Client, p tgi.Prompt) {
	const what = "prompt scoring"
	if len(p.IDs) < 2 {
		return // the template's finding says why
	}
	if _, err := cl.Score(ctx, i.Model, p.Text, p.IDs, 1); err != nil {
		c.lacks(i.Adapters, what, "start the server with --enable-prefill-logprobs", err)
		return
	}
	c.ok(what, "log-probabilities of the input")
}

// texts asks for greedy answers.
func texts(cl *tgi.Client) generator {
	return func(ctx context.Context, text string, tokens int) (string, error) {
		p, err := cl.Prompt(ctx, text)
		if err != nil {
			return "", err
		}
		r, err := cl.Generate(ctx, tgi.Request{Text: p.Text, MaxTokens: tokens})
		if err != nil {
			return "", err
		}
		return r[0].Text, nil
	}
}
