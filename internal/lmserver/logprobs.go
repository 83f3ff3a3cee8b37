package lmserver

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"
)

// piece is a token's text in log-probability lists: "" inside a multi-byte character, "token_id:N" when ids were asked for.
func (s *Server) piece(id int32, asIDs bool) string {
	if asIDs {
		return fmt.Sprintf("token_id:%d", id)
	}
	if b := s.opt.Model.Tok.TokenBytes(id); utf8.Valid(b) {
		return string(b)
	}
	return ""
}

// alternatives is the list at position i: the token alone where the model gave no list, as when none were asked for.
func alternatives(tops [][]lm.TokenLogprob, i int, self lm.TokenLogprob) []lm.TokenLogprob {
	if i < len(tops) && len(tops[i]) > 0 {
		return tops[i]
	}
	return []lm.TokenLogprob{self}
}

// kept drops alternatives beyond rank k: the first entry is the token itself, whatever its rank.
func kept(top []lm.TokenLogprob, k int) []lm.TokenLogprob {
	out := make([]lm.TokenLogprob, 0, len(top))
	for i, t := range top {
		if i == 0 || t.Rank <= k {
			out = append(out, t)
		}
	}
	return out
}

// completionLogprobs lists the prompt's tokens (with echo) and the choice's, k alternatives each. Offsets count characters of the pieces.
func (s *Server) completionLogprobs(res *lm.GenResult, c *lm.Choice, prompt []int32, echo bool, k int, asIDs bool) *openai.CompletionLogprobs {
	out := &openai.CompletionLogprobs{TextOffset: []int{}, TokenLogprobs: []*float64{}, Tokens: []string{}, TopLogprobs: []map[string]float64{}}
	offset := 0
	add := func(id int32, lp *float64, top []lm.TokenLogprob) {
		text := s.piece(id, asIDs)
		out.Tokens = append(out.Tokens, text)
		out.TokenLogprobs = append(out.TokenLogprobs, lp)
		out.TextOffset = append(out.TextOffset, offset)
		offset += utf8.RuneCountInString(text)
		var entry map[string]float64
		if lp != nil {
			entry = map[string]float64{}
			for _, t := range kept(top, k) {
				entry[s.piece(t.ID, asIDs)] = float64(t.Logprob)
			}
		}
		out.TopLogprobs = append(out.TopLogprobs, entry)
	}
	if echo {
		for i, id := range prompt {
			if i == 0 || i >= len(res.PromptLogprobs) {
				add(id, nil, nil)
				continue
			}
			lp := float64(res.PromptLogprobs[i].Logprob)
			add(id, &lp, alternatives(res.PromptTop, i, res.PromptLogprobs[i]))
		}
	}
	if c != nil {
		for i, id := range c.Tokens {
			lp := float64(c.Logprobs[i])
			add(id, &lp, alternatives(c.Top, i, lm.TokenLogprob{ID: id, Logprob: c.Logprobs[i]}))
		}
	}
	return out
}

// promptLogprobs is the prompt_logprobs list: null first, then id → entry with k alternatives.
func (s *Server) promptLogprobs(res *lm.GenResult, k int) []map[string]openai.Logprob {
	out := make([]map[string]openai.Logprob, len(res.PromptLogprobs))
	for i := 1; i < len(out); i++ {
		out[i] = map[string]openai.Logprob{}
		for _, t := range kept(alternatives(res.PromptTop, i, res.PromptLogprobs[i]), k) {
			out[i][strconv.Itoa(int(t.ID))] = openai.Logprob{Logprob: float64(t.Logprob), Rank: t.Rank, DecodedToken: s.piece(t.ID, false)}
		}
	}
	return out
}

// chatLogprobs lists the choice's tokens with their bytes and k alternatives, itself among them.
func (s *Server) chatLogprobs(c *lm.Choice, k int, asIDs bool) *openai.ChatLogprobs {
	out := &openai.ChatLogprobs{Content: []openai.ChatTokenLogprob{}}
	for i, id := range c.Tokens {
		entry := openai.ChatTokenLogprob{Token: s.piece(id, asIDs), Logprob: float64(c.Logprobs[i]), Bytes: s.bytesOf(id), TopLogprobs: []openai.ChatTopLogprob{}}
		top := alternatives(c.Top, i, lm.TokenLogprob{ID: id, Logprob: c.Logprobs[i]})
		for _, t := range top[:min(k, len(top))] {
			entry.TopLogprobs = append(entry.TopLogprobs, openai.ChatTopLogprob{Token: s.piece(t.ID, asIDs), Logprob: float64(t.Logprob), Bytes: s.bytesOf(t.ID)})
		}
		out.Content = append(out.Content, entry)
	}
	return out
}

func (s *Server) bytesOf(id int32) []int {
	b := s.opt.Model.Tok.TokenBytes(id)
	out := make([]int, len(b))
	for i, v := range b {
		out[i] = int(v)
	}
	return out
}
