package lmserver

import (
	"fmt"
	"net/http"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"
)

type completionRequest struct {
	openai.CompletionRequest
	extras
}

// completions answers POST /v1/completions: prompts as text, ids or soft-prompt rows; echo with max_tokens 0 scores.
// Choices are flattened: index = prompt·n + sample, those of prompt_embeds first.
func (s *Server) completions(w http.ResponseWriter, r *http.Request) {
	var req completionRequest
	err := s.decode(r, &req)
	if err == nil {
		err = s.complete(w, r, &req)
	}
	if err != nil {
		writeError(w, err)
	}
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, req *completionRequest) error {
	q := &req.Sampling
	name, used, err := s.resolve(q.Model)
	if err != nil {
		return err
	}
	defer s.done(used)
	echo := or(req.Echo, false)
	scoring := echo && or(q.MaxTokens, -1) == 0
	if err := s.checkCompletion(req, echo, scoring); err != nil {
		return err
	}
	prompts, err := s.completionPrompts(req)
	if err != nil {
		return err
	}
	limit := or(q.MaxTokens, 16) // vLLM's default for this route
	k, promptK := -1, or(q.PromptLogprobs, -1)
	if req.Logprobs != nil {
		k = *req.Logprobs
		if echo {
			promptK = max(promptK, k)
		}
	}
	reqs := make([]*lm.GenRequest, len(prompts))
	total := 0
	for i := range prompts {
		room, err := prompts[i].fit(s.opt.Model.MaxLen, &limit, scoring)
		if err != nil {
			return err
		}
		total += len(prompts[i].ids)
		reqs[i] = s.request(prompts[i], keyOf(used), q, room, k, promptK)
	}
	results, err := s.generate(r.Context(), reqs)
	if err != nil {
		return err
	}
	mark := fingerprint
	res := openai.CompletionResponse{ID: answerID("cmpl-", q, r), Object: "text_completion", Created: now(), Model: name, SystemFingerprint: &mark}
	sampled := 0
	for i, result := range results {
		choices := result.Choices
		if scoring { // n copies of nothing: the scores are the answer
			choices = make([]lm.Choice, or(q.N, 1))
			sampled += len(choices) // as vLLM counts
		}
		for j := range choices {
			sampled += len(choices[j].Tokens)
			res.Choices = append(res.Choices, s.completionChoice(req, &prompts[i], result, &choices[j], len(res.Choices), k, promptK))
		}
	}
	res.Usage = usage(total, sampled)
	if or(q.Stream, false) {
		return streamCompletion(w, &res, req.StreamOptions != nil && req.StreamOptions.IncludeUsage)
	}
	writeJSON(w, http.StatusOK, res)
	return nil
}

func (s *Server) completionChoice(req *completionRequest, p *prompt, result *lm.GenResult, c *lm.Choice, index, k, promptK int) openai.CompletionChoice {
	echo := or(req.Echo, false)
	out := openai.CompletionChoice{Index: index, Text: s.text(c, &req.Sampling), StopReason: c.StopReason}
	reason := c.FinishReason
	if reason == "" {
		reason = "length"
	}
	out.FinishReason = &reason
	if echo {
		out.Text = p.text + out.Text
	}
	if k >= 0 {
		out.Logprobs = s.completionLogprobs(result, c, p.ids, echo, k, or(req.TokensAsIDs, false))
	}
	if promptK >= 0 {
		out.PromptLogprobs = s.promptLogprobs(result, promptK)
	}
	if or(req.ReturnTokenIDs, false) {
		out.TokenIDs = append([]int32{}, c.Tokens...)
		out.PromptTokenIDs = p.ids
		if p.onlyPE {
			out.PromptTokenIDs = make([]int32, len(p.ids))
		}
	}
	return out
}

func (s *Server) checkCompletion(req *completionRequest, echo, scoring bool) error {
	if req.PromptEmbeds.Get() != nil {
		switch {
		case or(req.Suffix, "") != "":
			return &apiError{http.StatusBadRequest, "BadRequestError", "suffix", "suffix is not supported with prompt_embeds"}
		case echo:
			return badRequest("", "Echo is unsupported with prompt embeds.")
		case req.PromptLogprobs != nil:
			return badRequest("", "prompt_logprobs is not compatible with prompt embeds.")
		}
	}
	if req.Suffix != nil && *req.Suffix != "" {
		return badRequest("", "suffix is not currently supported")
	}
	if err := checkSampling(&req.Sampling, &req.extras); err != nil {
		return err
	}
	if n := req.MaxTokens; n != nil && !scoring && *n < 1 {
		return badValue("max_tokens", *n, "max_tokens must be at least 1, got %d.", *n)
	}
	if req.Logprobs != nil {
		return checkLogprobs("logprobs", *req.Logprobs)
	}
	return nil
}

// completionPrompts turns prompt_embeds and prompt into what the model reads, in this order.
func (s *Server) completionPrompts(req *completionRequest) ([]prompt, error) {
	embeds := req.PromptEmbeds.Get()
	given := req.Prompt
	switch {
	case len(embeds) == 0 && given == nil, len(embeds) == 0 && !given.Batch && len(given.Texts) == 1 && given.Texts[0] == "":
		return nil, badRequest("prompt", "Either prompt or prompt_embeds must be provided and non-empty.")
	case len(embeds) == 0 && given.Len() == 0:
		return nil, badRequest("", "You must pass at least one prompt")
	case len(embeds)+given.Len() > s.opt.MaxData || (len(embeds)+given.Len())*or(req.N, 1) > 4*s.opt.MaxData:
		return nil, badRequest("prompt", "at most %d prompts fit one request", s.opt.MaxData)
	}
	var out []prompt
	for _, data := range embeds {
		rows, n, err := s.softRows(data)
		if err != nil {
			return nil, err
		}
		p := prompt{onlyPE: true, lower: true}
		p.place(rows, n, s.marker())
		out = append(out, p)
	}
	if given == nil {
		return out, nil
	}
	tok := s.opt.Model.Tok
	for _, text := range given.Texts {
		out = append(out, prompt{ids: tok.Encode(text, or(req.AddSpecialToken, true)), text: text, lower: true})
	}
	for _, ids := range given.Tokens {
		for i, id := range ids {
			switch {
			case id < 0:
				return nil, schemaError(fmt.Sprintf("body.prompt.%d", i), "greater_than_equal", "Input should be greater than or equal to 0", fmt.Sprint(id))
			case id >= s.marker():
				return nil, badRequest("", "Token id %d is out of vocabulary", id)
			}
		}
		out = append(out, prompt{ids: ids, text: tok.Decode(ids, false)})
	}
	for i := range out {
		if err := out[i].truncate(req.TruncatePrompt, s.opt.Model.MaxLen); err != nil {
			return nil, err
		}
		if or(req.Echo, false) && out[i].text == "" {
			out[i].text = tok.Decode(out[i].ids, false)
		}
	}
	return out, nil
}

// marker is the id that stands for a soft row: the first one outside the vocabulary.
func (s *Server) marker() int32 { return int32(s.opt.Model.Model.Cfg.VocabSize) }

// place appends n soft rows to the prompt.
func (p *prompt) place(rows []float32, n int, marker int32) {
	if n > 0 {
		p.soft = append(p.soft, lm.SoftRows{Pos: len(p.ids), Rows: n, Data: rows})
	}
	for range n {
		p.ids = append(p.ids, marker)
	}
}
