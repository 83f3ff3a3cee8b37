package lmserver

import (
	"errors"
	"net/http"
	"strings"

	"recpie/internal/lm"
	"recpie/internal/tokenizer/chat"
	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

type chatRequest struct {
	openai.ChatRequest
	extras
}

// reserved is vLLM's own placeholder, refused in texts as vLLM refuses it.
const reserved = "<prompt_embeds>"

// chat answers POST /v1/chat/completions. A prompt_embeds part puts its rows where it stands in the rendered template.
func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
	err := s.decode(r, &req)
	if err == nil {
		err = s.answerChat(w, r, &req)
	}
	if err != nil {
		writeError(w, err)
	}
}

func (s *Server) answerChat(w http.ResponseWriter, r *http.Request, req *chatRequest) error {
	q := &req.Sampling
	if req.Messages == nil {
		return missing("body.messages")
	}
	name, used, err := s.resolve(q.Model)
	if err != nil {
		return err
	}
	defer s.done(used)
	if err := checkSampling(q, &req.extras); err != nil {
		return err
	}
	limit := q.MaxTokens
	if req.MaxCompletionTokens != nil {
		limit = req.MaxCompletionTokens
	}
	if limit != nil && *limit < 1 {
		return badValue("max_tokens", *limit, "max_tokens must be at least 1, got %d.", *limit)
	}
	k := -1
	if or(req.Logprobs, false) {
		k = or(req.TopLogprobs, 0)
		if err := checkLogprobs("top_logprobs", k); err != nil {
			return err
		}
	} else if or(req.TopLogprobs, 0) > 0 {
		return badRequest("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true.")
	}
	p, err := s.chatPrompt(req.Messages, or(req.AddGenerationPrompt, true))
	if err != nil {
		return err
	}
	if err := p.truncate(q.TruncatePrompt, s.opt.Model.MaxLen); err != nil {
		return err
	}
	promptK := or(q.PromptLogprobs, -1)
	if promptK >= 0 && len(p.soft) > 0 {
		return badRequest("", "prompt_logprobs is not compatible with prompt embeds.")
	}
	room, err := p.fit(s.opt.Model.MaxLen, limit, false)
	if err != nil {
		return err
	}
	gen := s.request(*p, keyOf(used), q, room, k, promptK)
	if or(q.Stream, false) {
		return s.streamChat(w, r, req, gen, chunk{ID: answerID("chatcmpl-", q, r), Object: "chat.completion.chunk", Created: now(), Model: name})
	}
	results, err := s.generate(r.Context(), []*lm.GenRequest{gen})
	if err != nil {
		return err
	}
	mark := fingerprint
	res := openai.ChatResponse{ID: answerID("chatcmpl-", q, r), Object: "chat.completion", Created: now(), Model: name, SystemFingerprint: &mark}
	sampled := 0
	for i := range results[0].Choices {
		c := &results[0].Choices[i]
		sampled += len(c.Tokens)
		text := s.text(c, q)
		out := openai.ChatChoice{Index: i, Message: openai.ChatMessage{Role: "assistant", Content: &text}, FinishReason: &c.FinishReason, StopReason: c.StopReason}
		if k >= 0 {
			out.Logprobs = s.chatLogprobs(c, k, or(q.TokensAsIDs, false))
		}
		if or(q.ReturnTokenIDs, false) {
			out.TokenIDs = append([]int32{}, c.Tokens...)
		}
		res.Choices = append(res.Choices, out)
	}
	res.Usage = usage(len(p.ids), sampled)
	if promptK >= 0 {
		res.PromptLogprobs = s.promptLogprobs(results[0], promptK)
	}
	if or(q.ReturnTokenIDs, false) {
		res.PromptTokenIDs = p.ids
	}
	writeJSON(w, http.StatusOK, res)
	return nil
}

// chatPrompt renders the template with a sentinel in the place of each soft-prompt part, then tokenises the text between the
// sentinels piece by piece: so the rows stand exactly where the template puts the part, and no text can imitate one.
func (s *Server) chatPrompt(messages []openai.Message, generation bool) (*prompt, error) {
	if s.opt.Model.Chat == nil {
		return nil, badRequest("", "The model has no chat template.")
	}
	if len(messages) == 0 {
		return nil, badRequest("", "Cannot apply chat template to an empty conversation. Provide at least one message.")
	}
	sentinel := newID("\uE000embeds-") + "\uE001"
	type soft struct {
		rows []float32
		n    int
	}
	var softs []soft
	turns := make([]chat.Message, len(messages))
	for i, m := range messages {
		var text strings.Builder
		text.WriteString(m.Content.Text)
		for _, part := range m.Content.Parts {
			switch part.Type {
			case openai.PartText:
				text.WriteString(part.Text)
			case openai.PartEmbeds:
				if part.Data == "" {
					return nil, badRequest("", "1 validation error: a prompt_embeds part needs data")
				}
				rows, n, err := s.softRows(part.Data)
				if err != nil {
					return nil, err
				}
				softs = append(softs, soft{rows, n})
				text.WriteString(sentinel)
			case "image_url", "input_audio", "audio_url", "video_url":
				return nil, badRequest("", "%s is not a multimodal model", s.base)
			default:
				return nil, badRequest("", "1 validation error: unknown content part type %q", part.Type)
			}
		}
		if strings.Contains(text.String(), reserved) {
			return nil, badRequest("messages", "Text content may not contain the reserved placeholder '%s'. "+
				"This placeholder is used internally to mark `prompt_embeds` splice positions in the tokenized prompt.", reserved)
		}
		turns[i] = chat.Message{Role: m.Role, Content: text.String()}
	}
	rendered, err := s.opt.Model.Chat.Render(turns, generation)
	if err != nil {
		return nil, badRequest("", "the chat template refuses the messages: %v", err)
	}
	pieces := strings.Split(rendered, sentinel)
	if len(pieces) != len(softs)+1 {
		return nil, badRequest("messages", "the chat template does not keep each prompt_embeds part exactly once")
	}
	p := &prompt{}
	for i, piece := range pieces {
		if i > 0 {
			p.place(softs[i-1].rows, softs[i-1].n, s.marker())
		}
		if piece != "" {
			p.ids = append(p.ids, s.opt.Model.Tok.Encode(piece, false)...)
		}
	}
	return p, nil
}

// softRows decodes one soft prompt and checks its width. Its errors are vLLM's, and so is the refusal of NaN that vLLM lacks.
func (s *Server) softRows(data string) ([]float32, int, error) {
	rows, n, width, err := softprompt.Decode(data, softprompt.Limits{Rows: s.opt.MaxRows})
	hidden := s.opt.Model.Model.Cfg.HiddenSize
	switch {
	case errors.Is(err, softprompt.ErrNotBase64):
		return nil, 0, badRequest("", "Non-base64 digit found")
	case errors.Is(err, softprompt.ErrDType):
		return nil, 0, badRequest("prompt_embeds", "`prompt_embeds` is not a floating-point type, cannot safely cast to the model's dtype torch.float32.")
	case err != nil:
		return nil, 0, badRequest("prompt_embeds", "`prompt_embeds` could not be deserialized as a torch tensor: %v", err)
	case width != hidden:
		return nil, 0, badRequest("prompt_embeds", "`prompt_embeds` hidden_size %d does not match the model's hidden_size %d.", width, hidden)
	}
	return rows, n, nil
}
