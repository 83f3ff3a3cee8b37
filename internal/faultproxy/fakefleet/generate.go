package fakefleet

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"recpie/internal/wire/openai"
)

// created is the same on every server, for answers to be the same.
const created = 1_790_000_000

// continuation is what was generated for one choice.
type continuation struct {
	ids    []int32
	lps    []float64
	text   string
	finish string
}

// generate makes up to 24 words from a seed. min and most count tokens; all asks for exactly most.
func generate(seed uint64, min, most int, all bool) continuation {
	n := max(1+int(mix(seed)%24), min)
	c := continuation{finish: "stop"}
	if all || n >= most {
		n, c.finish = most, "length"
	}
	c.ids, c.lps = make([]int32, n), make([]float64, n)
	var text strings.Builder
	for i := range n {
		seed = mix(seed)
		c.ids[i] = firstWord + int32(seed%words)
		c.lps[i] = logprob(seed)
		text.WriteByte(' ')
		text.WriteString(word[seed%words])
	}
	c.text = text.String()
	return c
}

// job is a generation request after its checks.
type job struct {
	model        string
	seed         uint64 // what the choices depend on
	weights      uint64 // what scores depend on: weights and adapter
	id           string
	n, most, min int
	all, ids     bool
}

// begin checks what completions and chats share, counts the request, and waits for a place and the service time. When it returns
// false the request has been answered, or its client is gone.
func (s *Server) begin(w http.ResponseWriter, r *http.Request, p *openai.Sampling, body []byte) (job, bool) {
	sum := first8(sha256.Sum256(body))
	if p.MaxTokens == nil || *p.MaxTokens > 0 {
		s.note(sum)
	}
	model, root, weights, ok := s.served(p.Model)
	if !ok {
		s.unknown(w, *p.Model)
		return job{}, false
	}
	j := job{model: model, n: 1, most: 16, weights: mix(weights)}
	if root != "" {
		j.weights = first8(sha256.Sum256(binary.LittleEndian.AppendUint64([]byte(root), weights)))
	}
	j.seed = mix(sum ^ j.weights)
	if j.id = r.Header.Get("X-Request-Id"); j.id == "" {
		j.id = strconv.FormatUint(j.seed, 16)
	}
	set(&j.n, p.N)
	set(&j.most, p.MaxTokens)
	set(&j.min, p.MinTokens)
	set(&j.all, p.IgnoreEOS)
	set(&j.ids, p.ReturnTokenIDs)
	if j.n < 1 || j.most < 0 || j.min > j.most {
		refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "", fmt.Sprintf("n %d, max_tokens %d, min_tokens %d", j.n, j.most, j.min))
		return job{}, false
	}
	if j.n > 1 && p.Temperature != nil && *p.Temperature == 0 {
		refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "", fmt.Sprintf("n must be 1 when using greedy sampling, got %d.", j.n))
		return job{}, false
	}
	if !s.gate.enter(r.Context()) {
		return job{}, false
	}
	defer s.gate.leave()
	if d := time.Duration(s.service.Load()); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return job{}, false
		}
	}
	return j, true
}

func set[T any](v *T, p *T) {
	if p != nil {
		*v = *p
	}
}

// fits refuses a prompt that is too long and shortens what may be generated after it.
func (s *Server) fits(w http.ResponseWriter, prompt int, most *int) bool {
	if prompt >= s.maxLen {
		refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "input_tokens", fmt.Sprintf("This model's maximum context length is %d tokens. However, your prompt contains %d input tokens.", s.maxLen, prompt))
		return false
	}
	*most = min(*most, s.maxLen-prompt)
	return true
}

func (s *Server) serveChat(w http.ResponseWriter, r *http.Request) {
	var req openai.ChatRequest
	body, ok := read(w, r, &req)
	if !ok {
		return
	}
	j, ok := s.begin(w, r, &req.Sampling, body)
	if !ok {
		return
	}
	set(&j.most, req.MaxCompletionTokens)
	prompt, err := rendered(req.Messages)
	if err != nil {
		refuse(w, http.StatusBadRequest, openai.TypeBadRequest, "prompt_embeds", err.Error())
		return
	}
	if !s.fits(w, len(prompt), &j.most) {
		return
	}
	out := openai.ChatResponse{ID: "chatcmpl-" + j.id, Object: "chat.completion", Created: created, Model: j.model, Choices: make([]openai.ChatChoice, j.n)}
	total := 0
	for i := range out.Choices {
		c := generate(j.seed+uint64(i), j.min, j.most, j.all)
		text := strings.TrimPrefix(c.text, " ")
		ch := &out.Choices[i]
		*ch = openai.ChatChoice{Index: i, Message: openai.ChatMessage{Role: "assistant", Content: &text}, FinishReason: &c.finish}
		if j.ids {
			ch.TokenIDs = c.ids
		}
		if req.Logprobs != nil && *req.Logprobs {
			ch.Logprobs = &openai.ChatLogprobs{Content: make([]openai.ChatTokenLogprob, len(c.ids))}
			for k, id := range c.ids {
				ch.Logprobs.Content[k] = openai.ChatTokenLogprob{Token: " " + textOf(id), Logprob: c.lps[k], TopLogprobs: []openai.ChatTopLogprob{}}
			}
		}
		total += len(c.ids)
	}
	if j.ids {
		out.PromptTokenIDs = prompt
	}
	out.Usage = &openai.Usage{PromptTokens: len(prompt), CompletionTokens: total, TotalTokens: len(prompt) + total}
	s.finish(w, r, out, total)
}

// finish answers and counts what was answered to a client that is still there.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, out any, tokens int) {
	reply(w, http.StatusOK, out)
	if r.Context().Err() == nil {
		s.answered.Add(1)
		s.tokens.Add(int64(tokens))
	}
}
