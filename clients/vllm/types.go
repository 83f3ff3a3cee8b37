package vllm

import (
	"recpie/internal/fault"
	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

// Soft is a soft prompt ready to be sent. It can only be made from finite values: servers do not check them.
type Soft struct {
	text string
	rows int
}

// NewSoft encodes the row-major [rows, hidden] matrix once, for any number of requests. NaN and infinities are refused (class item).
func NewSoft(data []float32, rows, hidden int) (Soft, error) {
	text, err := softprompt.Encode(data, rows, hidden)
	return Soft{text, rows}, fault.New(fault.Item, "soft prompt", err)
}

// Rows returns the number of rows, 0 for the zero value.
func (s Soft) Rows() int { return s.rows }

// Part is a piece of a message: a text or, when Soft holds rows, a soft prompt.
type Part struct {
	Text string
	Soft Soft
}

// Message is one turn of a chat. The server applies its chat template; soft rows stand where their part stands.
type Message struct {
	Role  string
	Parts []Part
}

// User returns a user message: the soft prompt first, when there is one, then the text.
func User(soft Soft, text string) Message {
	m := Message{Role: "user"}
	if soft.rows > 0 {
		m.Parts = append(m.Parts, Part{Soft: soft})
	}
	m.Parts = append(m.Parts, Part{Text: text})
	return m
}

// wireMessages writes a message of one text as a string and every other one as parts.
func wireMessages(messages []Message) []openai.Message {
	out := make([]openai.Message, len(messages))
	for i, m := range messages {
		out[i].Role = m.Role
		if len(m.Parts) == 1 && m.Parts[0].Soft.rows == 0 {
			out[i].Content.Text = m.Parts[0].Text
			continue
		}
		parts := make([]openai.Part, len(m.Parts))
		for j, p := range m.Parts {
			if p.Soft.rows > 0 {
				parts[j] = openai.Part{Type: openai.PartEmbeds, Data: p.Soft.text}
			} else {
				parts[j] = openai.Part{Type: openai.PartText, Text: p.Text}
			}
		}
		out[i].Content.Parts = parts
	}
	return out
}

// Params say how to sample. Temperature, MaxTokens and N are always sent, zero included.
type Params struct {
	Model       string  // base model or adapter; "": the client's
	N           int     // answers; 0 means 1. More than one needs a temperature above 0
	MaxTokens   int     // at least 1
	MinTokens   int     // 0: no minimum
	Temperature float64 // 0: greedy
	TopP        float64 // 0: not sent, the server's default (1)
	TopK        int     // 0: not sent, the server's default (all)
	Seed        *int64  // nil: random
	Stop        []string
	IgnoreEOS   bool
	Logprobs    bool   // of the sampled tokens
	TextOnly    bool   // no token ids wanted: any OpenAI-compatible server will do
	CacheSalt   string // keeps prefix caches of different tenants apart
}

// Choice is one answer. TokenIDs and Logprobs run in step; both are nil when they were not asked for.
type Choice struct {
	Index        int
	Text         string
	TokenIDs     []int32
	Logprobs     []float64 // natural log-probabilities
	FinishReason string    // stop or length
}

// Result is what one prompt gave. PromptTokenIDs are the rendered prompt's ids, with a marker (the vocabulary size) at every soft row
// of a chat: build training data from them. Results may come from the cache; do not change them.
type Result struct {
	Model            string
	Choices          []Choice // ordered by Index
	PromptTokenIDs   []int32
	PromptTokens     int
	CompletionTokens int
	Cached           bool
}

var yes = true

// resolve puts the client's model where none is named, for the answer to be held against it, and 1 where no number of answers is given.
func (c *Client) resolve(p *Params) {
	p.N = max(1, p.N)
	if p.Model == "" {
		p.Model = c.model
	}
}

// sampling turns the parameters into the shared part of a request, which points to them.
func (p *Params) sampling() openai.Sampling {
	s := openai.Sampling{MaxTokens: &p.MaxTokens, Temperature: &p.Temperature, N: &p.N, Seed: p.Seed}
	if p.Model != "" {
		s.Model = &p.Model
	}
	if p.TopP != 0 {
		s.TopP = &p.TopP
	}
	if p.TopK != 0 {
		s.TopK = &p.TopK
	}
	if p.MinTokens != 0 {
		s.MinTokens = &p.MinTokens
	}
	if len(p.Stop) > 0 {
		s.Stop = openai.Many(p.Stop...)
	}
	if p.IgnoreEOS {
		s.IgnoreEOS = &p.IgnoreEOS
	}
	if !p.TextOnly {
		s.ReturnTokenIDs = &yes
	}
	if p.CacheSalt != "" {
		s.CacheSalt = &p.CacheSalt
	}
	return s
}

func (p Params) check() error {
	switch {
	case p.N < 0 || p.MaxTokens < 1 || p.MinTokens < 0 || p.MinTokens > p.MaxTokens:
		return fault.Newf(fault.Item, "vllm", "n %d, max_tokens %d, min_tokens %d", p.N, p.MaxTokens, p.MinTokens)
	case !(p.Temperature >= 0) || !(p.TopP >= 0 && p.TopP <= 1):
		return fault.Newf(fault.Item, "vllm", "temperature %v, top_p %v", p.Temperature, p.TopP)
	case p.N > 1 && p.Temperature == 0:
		return fault.Newf(fault.Item, "vllm", "n %d at temperature 0: greedy answers are all the same", p.N)
	}
	return nil
}

// deterministic tells whether the same request gives the same answer, so that it may come from the cache.
func (p Params) deterministic() bool { return p.Temperature == 0 || p.Seed != nil }
