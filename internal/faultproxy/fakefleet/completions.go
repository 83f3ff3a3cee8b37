package fakefleet

import (
	"net/http"

	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

func (s *Server) serveCompletions(w http.ResponseWriter, r *http.Request) {
	var req openai.CompletionRequest
	body, ok := read(w, r, &req)
	if !ok {
		return
	}
	prompts, err := promptsOf(&req)
	if err != "" {
		refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "prompt", err)
		return
	}
	j, ok := s.begin(w, r, &req.Sampling, body)
	if !ok {
		return
	}
	out := openai.CompletionResponse{ID: "cmpl-" + j.id, Object: "text_completion", Created: created, Model: j.model}
	echo := req.Echo != nil && *req.Echo
	read, written := 0, 0
	for i, prompt := range prompts {
		most := j.most
		if !s.fits(w, len(prompt), &most) {
			return
		}
		for k := range j.n {
			c := generate(j.seed+uint64(i*j.n+k), min(j.min, most), most, j.all)
			written += len(c.ids)
			ch := openai.CompletionChoice{Index: i*j.n + k, FinishReason: &c.finish}
			ids, lps := c.ids, pointers(c.lps)
			if echo {
				ids = append(append([]int32{}, prompt...), c.ids...)
				lps = append(scores(j.weights, prompt), lps...)
				for _, id := range prompt {
					ch.Text += " " + textOf(id)
				}
			}
			ch.Text += c.text
			if req.Logprobs != nil {
				ch.Logprobs = logprobs(ids, lps)
			}
			if j.ids {
				ch.TokenIDs, ch.PromptTokenIDs = c.ids, prompt
			}
			out.Choices = append(out.Choices, ch)
		}
		read += len(prompt)
	}
	out.Usage = &openai.Usage{PromptTokens: read, CompletionTokens: written, TotalTokens: read + written}
	if j.most == 0 { // a score
		reply(w, http.StatusOK, out)
		return
	}
	s.finish(w, r, out, written)
}

// promptsOf returns the prompts' token ids; a soft prompt's are zeros, as vLLM reports them. err is the reason of a refusal.
func promptsOf(req *openai.CompletionRequest) (prompts [][]int32, err string) {
	for _, data := range req.PromptEmbeds.Get() {
		_, rows, _, err := softprompt.Decode(data, softprompt.Limits{})
		if err != nil {
			return nil, err.Error()
		}
		prompts = append(prompts, make([]int32, rows))
	}
	if req.Prompt != nil {
		for _, text := range req.Prompt.Texts {
			prompts = append(prompts, tokens([]int32{bos}, text))
		}
		prompts = append(prompts, req.Prompt.Tokens...)
	}
	if len(prompts) == 0 {
		return nil, "Either prompt or prompt_embeds must be provided and non-empty."
	}
	for _, p := range prompts {
		for _, id := range p {
			if id < 0 || id >= vocab {
				return nil, "Token id is out of vocabulary"
			}
		}
	}
	return prompts, ""
}

// scores are the log-probabilities of a prompt's tokens, each of which depends on the weights and the tokens up to it. The first has none.
func scores(weights uint64, prompt []int32) []*float64 {
	out := make([]*float64, len(prompt))
	state := weights
	for i, id := range prompt {
		state = mix(state ^ uint64(uint32(id)))
		if i > 0 {
			out[i] = openai.Ptr(logprob(state))
		}
	}
	return out
}

func pointers(v []float64) []*float64 {
	out := make([]*float64, len(v))
	for i := range v {
		out[i] = &v[i]
	}
	return out
}

func logprobs(ids []int32, lps []*float64) *openai.CompletionLogprobs {
	out := &openai.CompletionLogprobs{TokenLogprobs: lps, TextOffset: make([]int, len(ids)), Tokens: make([]string, len(ids)), TopLogprobs: make([]map[string]float64, len(ids))}
	at := 0
	for i, id := range ids {
		out.Tokens[i], out.TextOffset[i] = " "+textOf(id), at
		at += len(out.Tokens[i])
		if lps[i] != nil {
			out.TopLogprobs[i] = map[string]float64{out.Tokens[i]: *lps[i]}
		}
	}
	return out
}
