package lmserver

import (
	"net/http"

	"recpie/internal/wire/openai"
)

// tokenize answers POST /tokenize: the ids of a text, or of messages in the chat template.
func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	var req openai.TokenizeRequest
	err := s.decode(r, &req)
	if err == nil {
		var res *openai.TokenizeResponse
		if res, err = s.tokens(&req); err == nil {
			writeJSON(w, http.StatusOK, res)
			return
		}
	}
	writeError(w, err)
}

func (s *Server) tokens(req *openai.TokenizeRequest) (*openai.TokenizeResponse, error) {
	_, used, err := s.resolve(req.Model)
	if err != nil {
		return nil, err
	}
	s.done(used)
	res := &openai.TokenizeResponse{MaxModelLen: s.opt.Model.MaxLen}
	switch {
	case req.Messages != nil:
		p, err := s.chatPrompt(req.Messages, or(req.AddGenerationPrompt, true))
		if err != nil {
			return nil, err
		}
		res.Tokens = p.ids
	case req.Prompt != nil:
		res.Tokens = s.opt.Model.Tok.Encode(*req.Prompt, or(req.AddSpecialTokens, true))
	default:
		return nil, missing("body.prompt")
	}
	if res.Tokens == nil {
		res.Tokens = []int32{}
	}
	res.Count = len(res.Tokens)
	if or(req.ReturnTokenStrs, false) {
		res.TokenStrs = make([]string, len(res.Tokens))
		for i, id := range res.Tokens {
			if id < s.marker() {
				res.TokenStrs[i] = s.opt.Model.Tok.Token(id)
			}
		}
	}
	return res, nil
}

// detokenize answers POST /detokenize. Ids outside the vocabulary stand for nothing, as in vLLM.
func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) {
	var req openai.DetokenizeRequest
	if err := s.decode(r, &req); err != nil {
		writeError(w, err)
		return
	}
	if req.Tokens == nil {
		writeError(w, missing("body.tokens"))
		return
	}
	_, used, err := s.resolve(req.Model)
	if err != nil {
		writeError(w, err)
		return
	}
	s.done(used)
	known := make([]int32, 0, len(req.Tokens))
	for _, id := range req.Tokens {
		if id >= 0 && int(id) < s.opt.Model.Tok.VocabSize() {
			known = append(known, id)
		}
	}
	writeJSON(w, http.StatusOK, openai.DetokenizeResponse{Prompt: s.opt.Model.Tok.Decode(known, false)})
}
