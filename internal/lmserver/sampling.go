package lmserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"

	"golang.org/x/sync/errgroup"
)

const maxLogprobs = 20 // alternatives per token, vLLM's own limit

// extras are request fields that only the server reads: they are understood in order to be refused or obeyed, not ignored.
type extras struct {
	StreamOptions *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	LogitBias map[string]float64 `json:"logit_bias"`
}

// checkSampling refuses what vLLM refuses, in its words, and what this sampler does not do.
func checkSampling(q *openai.Sampling, x *extras) error {
	switch n, temperature, topP := or(q.N, 1), or(q.Temperature, 1), or(q.TopP, 1); {
	case n < 1:
		return badRequest("", "n must be at least 1, got %d.", n)
	case n > 1024:
		return badRequest("", "n must be at most 1024, got %d.", n)
	case temperature < 0:
		return badValue("temperature", pyFloat(temperature), "temperature must be non-negative, got %s.", pyFloat(temperature))
	case topP <= 0 || topP > 1:
		return badValue("top_p", pyFloat(topP), "top_p must be in (0, 1], got %s.", pyFloat(topP))
	case n > 1 && temperature == 0:
		return badRequest("", "n must be 1 when using greedy sampling, got %d.", n)
	case or(q.TopK, 0) < -1:
		return badValue("top_k", *q.TopK, "top_k must be 0 (disable), or at least 1, got %d.", *q.TopK)
	case or(q.MinTokens, 0) < 0:
		return badValue("min_tokens", *q.MinTokens, "min_tokens must be greater than or equal to 0, got %d.", *q.MinTokens)
	}
	if p := q.PromptLogprobs; p != nil {
		switch {
		case or(q.Stream, false):
			return badRequest("prompt_logprobs", "`prompt_logprobs` are not available when `stream=True`.")
		case *p < 0 || *p > maxLogprobs:
			return badValue("prompt_logprobs", *p, "Requested prompt logprobs of %d, which is greater than max allowed: %d", *p, maxLogprobs)
		}
	}
	if x.StreamOptions != nil && !or(q.Stream, false) {
		return badRequest("stream_options", "Stream options can only be defined when `stream=True`.")
	}
	for _, f := range []struct {
		name    string
		value   *float64
		neutral float64
	}{{"frequency_penalty", q.FrequencyPen, 0}, {"presence_penalty", q.PresencePen, 0}, {"repetition_penalty", q.RepetitionPen, 1}, {"min_p", q.MinP, 0}} {
		if or(f.value, f.neutral) != f.neutral {
			return badRequest(f.name, "%s is not supported by this server.", f.name)
		}
	}
	if len(x.LogitBias) > 0 {
		return badRequest("logit_bias", "logit_bias is not supported by this server.")
	}
	return nil
}

func checkLogprobs(param string, k int) error {
	switch {
	case k < 0:
		return badValue(param, k, "%s must be a non-negative value, got %d.", param, k)
	case k > maxLogprobs:
		return badValue(param, k, "Requested sample logprobs of %d, which is greater than max allowed: %d", k, maxLogprobs)
	}
	return nil
}

// pyFloat writes a float as Python does, so that messages are the recorded ones.
func pyFloat(f float64) string {
	if f == float64(int64(f)) {
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprint(f)
}

// prompt is one prompt as the model reads it.
type prompt struct {
	ids    []int32 // the marker id at soft rows
	soft   []lm.SoftRows
	text   string // of a text prompt, for echo
	lower  bool   // the count is a lower bound: vLLM stops tokenising a text prompt beyond the limit
	onlyPE bool   // a completion prompt given as rows alone: its ids are reported as zeros
}

// truncate keeps the last n ids, as truncate_prompt_tokens asks; -1 means the model's length.
func (p *prompt) truncate(n *int, maxLen int) error {
	if n == nil || len(p.soft) > 0 {
		return nil
	}
	keep := *n
	if keep == -1 {
		keep = maxLen
	}
	if keep < 1 || keep > maxLen {
		return badValue("truncate_prompt_tokens", *n, "truncate_prompt_tokens must be between 1 and %d, got %d.", maxLen, *n)
	}
	if len(p.ids) > keep {
		p.ids = p.ids[len(p.ids)-keep:]
		p.text = ""
	}
	return nil
}

// fit refuses a prompt that leaves no room and returns the tokens that may follow it: maxTokens, or less. scoring needs no room.
func (p *prompt) fit(maxLen int, maxTokens *int, scoring bool) (int, error) {
	n := len(p.ids)
	if n == 0 {
		return 0, badRequest("", "The decoder prompt cannot be empty")
	}
	if n > maxLen {
		count := fmt.Sprint(n)
		if p.lower {
			n = maxLen + 1
			count = fmt.Sprintf("at least %d", n)
		}
		return 0, badValue("input_tokens", n, "This model's maximum context length is %d tokens. However, your prompt contains %s input tokens, "+
			"which exceeds this limit even without any output tokens. Please reduce the length of the input prompt.", maxLen, count)
	}
	if scoring {
		return 0, nil
	}
	room := maxLen - n
	if maxTokens != nil {
		room = min(room, *maxTokens)
	}
	if room < 1 {
		return 0, badValue("max_tokens", room, "max_tokens must be at least 1, got %d.", room)
	}
	return room, nil
}

func (s *Server) request(p prompt, key string, q *openai.Sampling, maxTokens, logprobs, promptLogprobs int) *lm.GenRequest {
	return &lm.GenRequest{
		Prompt: p.ids, Soft: p.soft, Adapter: key, N: or(q.N, 1), MaxTokens: maxTokens, MinTokens: or(q.MinTokens, 0),
		Temperature: or(q.Temperature, 1), TopP: or(q.TopP, 1), TopK: or(q.TopK, 0), Seed: q.Seed,
		Stop: q.Stop.Get(), StopIDs: q.StopTokenIDs, IgnoreEOS: or(q.IgnoreEOS, false),
		Logprobs: logprobs, PromptLogprobs: promptLogprobs,
	}
}

// resolve returns the public name of the model asked for and the adapter that answers, nil for the base model. The caller releases it.
func (s *Server) resolve(model *string) (string, *adapter, error) {
	name := or(model, s.base)
	if name == s.base || name == "" {
		return s.base, nil, nil
	}
	a, ok := s.adapters.acquire(name)
	if !ok {
		return "", nil, unknownModel(name, s.base)
	}
	return name, a, nil
}

func (s *Server) done(a *adapter) {
	if a != nil {
		s.adapters.release(a)
	}
}

func keyOf(a *adapter) string {
	if a == nil {
		return ""
	}
	return a.key
}

// generate runs the requests together and keeps their order. The first failure ends the others.
func (s *Server) generate(ctx context.Context, reqs []*lm.GenRequest) ([]*lm.GenResult, error) {
	out := make([]*lm.GenResult, len(reqs))
	g, ctx := errgroup.WithContext(ctx)
	for i, req := range reqs {
		g.Go(func() error {
			clock := s.meter.begin(req)
			res, err := s.gen.Generate(ctx, req)
			if err != nil {
				clock.fail(ctx.Err() != nil)
				return err
			}
			clock.end(len(req.Prompt), res.Choices)
			out[i] = res
			return nil
		})
	}
	return out, g.Wait()
}

// answerID is the id of a response: the caller's own request id when there is one.
func answerID(prefix string, q *openai.Sampling, r *http.Request) string {
	id := or(q.RequestID, r.Header.Get("X-Request-Id"))
	if id == "" || len(id) > 256 {
		return newID(prefix)
	}
	return prefix + id
}

// text is a choice's text as the request wants it.
func (s *Server) text(c *lm.Choice, q *openai.Sampling) string {
	text := c.Text
	if !or(q.SkipSpecial, true) && c.StopReason == nil {
		text = s.opt.Model.Tok.Decode(c.Tokens, false)
	}
	stop, cut := c.StopReason.(string)
	if !cut {
		text = strings.TrimRight(text, "\uFFFD") // half a character at the end is held back, as vLLM does
	} else if or(q.IncludeStop, false) {
		text += stop
	}
	return text
}

func usage(promptTokens, sampled int) *openai.Usage {
	return &openai.Usage{PromptTokens: promptTokens, CompletionTokens: sampled, TotalTokens: promptTokens + sampled}
}

func now() int64 { return time.Now().Unix() }
