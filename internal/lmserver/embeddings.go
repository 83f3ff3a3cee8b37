package lmserver

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"net/http"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/openai"
)

// embeddingRequest is the body of POST /v1/embeddings. The input is a text, a list of texts, token ids, or a list of these.
type embeddingRequest struct {
	Model          *string        `json:"model"`
	Input          *openai.Prompt `json:"input"`
	EncodingFormat *string        `json:"encoding_format"`
	Dimensions     *int           `json:"dimensions"`
	TruncatePrompt *int           `json:"truncate_prompt_tokens"`
	AddSpecial     *bool          `json:"add_special_tokens"`
}

type embedding struct {
	Index     int    `json:"index"`
	Object    string `json:"object"` // embedding
	Embedding any    `json:"embedding"`
}

type embeddingResponse struct {
	ID      string        `json:"id"`
	Object  string        `json:"object"` // list
	Created int64         `json:"created"`
	Model   string        `json:"model"`
	Data    []embedding   `json:"data"`
	Usage   *openai.Usage `json:"usage"`
}

// embeddings answers POST /v1/embeddings: for each input the mean of the model's final hidden states (after the last layer norm) over
// its tokens, scaled to length 1. They are the states of a model trained to continue texts, not to compare them: they tell apart what
// the model tells apart, and a sentence encoder will find similar texts better. encoding_format base64 gives float32, little-endian.
func (s *Server) embeddings(w http.ResponseWriter, r *http.Request) {
	var req embeddingRequest
	err := s.decode(r, &req)
	var res *embeddingResponse
	if err == nil {
		res, err = s.embed(r, &req)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	writeJSON(w, http.StatusOK, res)
}

func (s *Server) embed(r *http.Request, req *embeddingRequest) (*embeddingResponse, error) {
	name, used, err := s.resolve(req.Model)
	if err != nil {
		return nil, err
	}
	defer s.done(used)
	format := or(req.EncodingFormat, "float")
	hidden := s.opt.Model.Model.Cfg.HiddenSize
	switch {
	case req.Input == nil:
		return nil, missing("body.input")
	case req.Input.Len() == 0:
		return nil, badRequest("input", "the input is empty")
	case format != "float" && format != "base64":
		return nil, schemaError("body.encoding_format", "literal_error", "Input should be 'float' or 'base64'", format)
	case req.Dimensions != nil && *req.Dimensions != hidden:
		return nil, badRequest("dimensions", "the embeddings of %s have %d dimensions", s.base, hidden)
	}
	prompts, err := s.completionPrompts(&completionRequest{CompletionRequest: openai.CompletionRequest{Prompt: req.Input,
		Sampling: openai.Sampling{TruncatePrompt: req.TruncatePrompt, AddSpecialToken: req.AddSpecial}}})
	if err != nil {
		return nil, err
	}
	reqs := make([]*lm.GenRequest, len(prompts))
	total := 0
	for i := range prompts {
		if _, err := prompts[i].fit(s.opt.Model.MaxLen, nil, true); err != nil {
			return nil, err
		}
		total += len(prompts[i].ids)
		reqs[i] = &lm.GenRequest{Prompt: prompts[i].ids, Adapter: keyOf(used), Logprobs: -1, PromptLogprobs: -1, Pool: true}
	}
	results, err := s.generate(r.Context(), reqs)
	if err != nil {
		return nil, err
	}
	res := &embeddingResponse{ID: newID("embd-"), Object: "list", Created: now(), Model: name, Usage: usage(total, 0)}
	for i, result := range results {
		v := result.Pooled
		if err := normalize(v); err != nil {
			return nil, fault.New(fault.Item, fmt.Sprintf("input %d", i), err)
		}
		e := embedding{Index: i, Object: "embedding", Embedding: v}
		if format == "base64" {
			raw := make([]byte, 0, 4*len(v))
			for _, x := range v {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			e.Embedding = base64.StdEncoding.EncodeToString(raw)
		}
		res.Data = append(res.Data, e)
	}
	return res, nil
}

// normalize scales v to length 1.
func normalize(v []float32) error {
	sum := 0.0
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if !(sum > 0) || math.IsInf(sum, 0) {
		return fmt.Errorf("its states have length %g", math.Sqrt(sum))
	}
	for i := range v {
		v[i] = float32(float64(v[i]) / math.Sqrt(sum))
	}
	return nil
}
