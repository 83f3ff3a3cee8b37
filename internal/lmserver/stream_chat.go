package lmserver

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"
)

// chatOpening is the choice of a chat's first chunk.
type chatOpening struct {
	Index        int                  `json:"index"`
	Delta        map[string]string    `json:"delta"`
	Logprobs     *openai.ChatLogprobs `json:"logprobs"`
	FinishReason *string              `json:"finish_reason"`
}

// chatDelta is the choice of the chunks that follow: one token each.
type chatDelta struct {
	Index        int                  `json:"index"`
	Delta        map[string]string    `json:"delta"`
	Logprobs     *openai.ChatLogprobs `json:"logprobs"`
	FinishReason *string              `json:"finish_reason"`
	StopReason   json.RawMessage      `json:"stop_reason,omitempty"` // of the last chunk, null when an end token stopped it
	TokenIDs     []int32              `json:"token_ids"`
}

// token is what a stream takes from the engine at each token. The choice is set with the last one only.
type token struct {
	index   int
	id      int32
	logprob float32
	top     []lm.TokenLogprob
	last    *lm.Choice
}

// mailbox hands tokens from the goroutine that computes, which must not wait, to the one that writes. It holds at most the tokens
// that were asked for.
type mailbox struct {
	mu     sync.Mutex
	tokens []token
	filled chan struct{}
}

func (b *mailbox) put(c *lm.Choice) {
	n := len(c.Tokens) - 1
	t := token{index: c.Index, id: c.Tokens[n]}
	if c.Logprobs != nil {
		t.logprob, t.top = c.Logprobs[n], c.Top[n]
	}
	if c.FinishReason != "" {
		t.last = c
	}
	b.mu.Lock()
	b.tokens = append(b.tokens, t)
	b.mu.Unlock()
	select {
	case b.filled <- struct{}{}:
	default:
	}
}

func (b *mailbox) take() []token {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.tokens
	b.tokens = nil
	return out
}

// unread is how long a stream's reader may leave its events unread.
const unread = 30 * time.Second

// chatStream is one streamed chat under way.
type chatStream struct {
	s    *Server
	req  *chatRequest
	gen  *lm.GenRequest
	base chunk

	ids     [][]int32 // per choice: tokens so far
	sent    []string  // per choice: text so far
	choices []lm.Choice
	open    bool // the opening chunks are sent
	out     bytes.Buffer
}

// streamChat answers a chat token by token. A failure before the first token is an ordinary error answer; a later one is an event.
func (s *Server) streamChat(w http.ResponseWriter, r *http.Request, req *chatRequest, gen *lm.GenRequest, base chunk) error {
	n := gen.N
	st := &chatStream{s: s, req: req, gen: gen, base: base, ids: make([][]int32, n), sent: make([]string, n)}
	box := &mailbox{filled: make(chan struct{}, 1)}
	gen.OnToken = box.put
	clock := s.meter.begin(gen)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		if _, err := s.gen.Generate(ctx, gen); err != nil {
			failed <- err
		}
	}()
	for len(st.choices) < n {
		var err error
		select {
		case <-box.filled:
		case err = <-failed:
		}
		if err == nil {
			if err = st.add(box.take()); err == nil {
				err = st.flush(w)
			}
		}
		if err != nil {
			clock.fail(r.Context().Err() != nil)
			if !st.open {
				return err
			}
			return st.fail(w, err)
		}
	}
	clock.end(len(gen.Prompt), st.choices)
	if req.wantsUsage() {
		sampled := 0
		for _, c := range st.choices {
			sampled += len(c.Tokens)
		}
		if err := event(&st.out, base.withUsage(usage(len(gen.Prompt), sampled))); err != nil {
			return err
		}
	}
	st.out.Write(doneMark)
	_ = st.flush(w) // the reader may have gone: nothing is left to do for it
	return nil
}

// add turns tokens into chunks.
func (st *chatStream) add(tokens []token) error {
	if !st.open && len(tokens) > 0 {
		st.open = true
		for i := range st.ids {
			first := st.base
			first.Choices = []chatOpening{{Index: i, Delta: map[string]string{"role": "assistant", "content": ""}}}
			first.PromptTokenIDs, first.PromptText = null, null
			if or(st.req.ReturnTokenIDs, false) {
				first.PromptTokenIDs, _ = json.Marshal(st.gen.Prompt) // numbers
			}
			if err := event(&st.out, first); err != nil {
				return err
			}
		}
	}
	for _, t := range tokens {
		if err := event(&st.out, st.chunk(t)); err != nil {
			return err
		}
	}
	return nil
}

func (st *chatStream) chunk(t token) chunk {
	q := &st.req.Sampling
	st.ids[t.index] = append(st.ids[t.index], t.id)
	text := ""
	d := chatDelta{Index: t.index}
	c := st.base
	if t.last == nil {
		text = st.visible(st.ids[t.index])
	} else {
		text = st.s.text(t.last, q)
		reason := t.last.FinishReason
		d.FinishReason, d.StopReason = &reason, null
		if t.last.StopReason != nil {
			d.StopReason, _ = json.Marshal(t.last.StopReason) // a string or a number
		}
		if !st.req.wantsUsage() {
			c.Fingerprint = fingerprint
		}
		st.choices = append(st.choices, *t.last)
	}
	// What is sent stays: a text that does not continue it, as after a decoder that looks back, waits for one that does.
	delta := ""
	if more, ok := strings.CutPrefix(text, st.sent[t.index]); ok {
		delta, st.sent[t.index] = more, text
	}
	d.Delta = map[string]string{"content": delta}
	if st.gen.Logprobs >= 0 {
		one := lm.Choice{Tokens: []int32{t.id}, Logprobs: []float32{t.logprob}, Top: [][]lm.TokenLogprob{t.top}}
		d.Logprobs = st.s.chatLogprobs(&one, st.gen.Logprobs, or(q.TokensAsIDs, false))
	}
	if or(q.ReturnTokenIDs, false) {
		d.TokenIDs = []int32{t.id}
	}
	c.Choices = []chatDelta{d}
	return c
}

// visible is the text of a choice that goes on, without what may still change: half a character, and as much as could turn out to be
// the beginning of a stop string.
func (st *chatStream) visible(ids []int32) string {
	q := &st.req.Sampling
	text := strings.TrimRight(st.s.opt.Model.Tok.Decode(ids, or(q.SkipSpecial, true)), "\uFFFD")
	longest := 0
	for _, stop := range q.Stop.Get() {
		longest = max(longest, len(stop))
	}
	if longest <= 1 {
		return text
	}
	cut := max(0, len(text)-longest+1)
	for cut > 0 && cut < len(text) && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// flush sends what has been written. A reader that takes nothing for too long is given up.
func (st *chatStream) flush(w http.ResponseWriter) error {
	if st.out.Len() == 0 {
		return nil
	}
	streamHeaders(w)
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Now().Add(unread)) // not every writer has one
	_, err := w.Write(st.out.Bytes())
	st.out.Reset()
	if err != nil {
		return err
	}
	return c.Flush()
}

// fail ends a stream whose answer has begun, as vLLM does: the error is an event.
func (st *chatStream) fail(w http.ResponseWriter, err error) error {
	if encodeErr := event(&st.out, errorBody(err)); encodeErr != nil {
		return encodeErr
	}
	st.out.Write(doneMark)
	_ = st.flush(w) // the reader may have gone: nothing is left to do for it
	return nil
}
