package tgitest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"
)

const maxStop = 4

// parameters are those that the client may send.
type parameters struct {
	AdapterID           *string  `json:"adapter_id"`
	BestOf              *int     `json:"best_of"`
	DoSample            bool     `json:"do_sample"`
	Temperature         *float64 `json:"temperature"`
	TopP                *float64 `json:"top_p"`
	TopK                *int     `json:"top_k"`
	Seed                *uint64  `json:"seed"`
	Stop                []string `json:"stop"`
	MaxNewTokens        *int     `json:"max_new_tokens"`
	ReturnFullText      bool     `json:"return_full_text"`
	Details             bool     `json:"details"`
	DecoderInputDetails bool     `json:"decoder_input_details"`

	known string // the adapter that answers
}

func (p *parameters) sampling() bool {
	return p.DoSample || p.Temperature != nil || p.TopP != nil || p.TopK != nil
}

type generateRequest struct {
	Inputs     string     `json:"inputs"`
	Parameters parameters `json:"parameters"`
}

// validate follows router/src/validation.rs, in its order.
func (s *Server) validate(r *generateRequest) ([]int32, *failure) {
	p := &r.Parameters
	refused := func(format string, args ...any) ([]int32, *failure) {
		return nil, &failure{http.StatusUnprocessableEntity, "Input validation error: " + fmt.Sprintf(format, args...), "validation"}
	}
	total := 100
	if p.MaxNewTokens != nil {
		total = *p.MaxNewTokens
	}
	p.MaxNewTokens = &total
	switch {
	case p.Temperature != nil && *p.Temperature <= 0:
		return refused("`temperature` must be strictly positive")
	case p.TopP != nil && (*p.TopP <= 0 || *p.TopP >= 1):
		return refused("`top_p` must be > 0.0 and < 1.0")
	case p.TopK != nil && *p.TopK <= 0:
		return refused("`top_k` must be strictly positive")
	case total <= 0:
		return refused("`max_new_tokens` must be strictly positive")
	case len(p.Stop) > maxStop:
		return refused("`stop` supports up to %d stop sequences. Given: %d", maxStop, len(p.Stop))
	case p.BestOf != nil && *p.BestOf > 1 && p.Seed != nil:
		return refused("`seed` must not be set when `best_of` > 1")
	case r.Inputs == "":
		return refused("`inputs` cannot be empty")
	}
	ids := s.model.tok.Encode(r.Inputs, true)
	switch {
	case len(ids)+total > s.opt.MaxTotal:
		return refused("`inputs` tokens + `max_new_tokens` must be <= %d. Given: %d `inputs` tokens and %d `max_new_tokens`", s.opt.MaxTotal, len(ids), total)
	case len(ids) > s.opt.MaxInput:
		return refused("`inputs` must have less than %d tokens. Given: %d", s.opt.MaxInput, len(ids))
	}
	if p.AdapterID != nil && slices.Contains(s.opt.Adapters, *p.AdapterID) {
		p.known = *p.AdapterID // any other name is answered by the base model
	}
	return ids, nil
}

type wireToken struct {
	ID      int32    `json:"id"`
	Text    string   `json:"text"`
	Logprob *float64 `json:"logprob"`
	Special *bool    `json:"special,omitempty"`
}

func (s *Server) token(id int32, logprob *float64) wireToken {
	special := s.model.tok.Special(id)
	return wireToken{id, s.model.tok.Decode([]int32{id}, false), logprob, &special}
}

// outcome is a finished answer.
type outcome struct {
	text, finish string
	tokens       []wireToken
	seed         *uint64
}

// decode generates until an end is reached; each gets every token but the last.
func (s *Server) decode(ctx context.Context, p *parameters, prompt []int32, each func(wireToken)) (*outcome, error) {
	o := &outcome{}
	var rng *rand.Rand
	if p.sampling() {
		if o.seed = p.Seed; o.seed == nil {
			seed := rand.Uint64()
			o.seed = &seed
		}
		rng = rand.New(rand.NewPCG(*o.seed, 3))
	}
	ids := slices.Clone(prompt)
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(s.opt.TokenTime):
		}
		id, lp := s.model.next(p, ids, rng)
		ids = append(ids, id)
		o.tokens = append(o.tokens, s.token(id, &lp))
		o.text = s.model.tok.Decode(ids[len(prompt):], true)
		switch { // in the order of StoppingCriteria
		case len(o.tokens) >= *p.MaxNewTokens:
			o.finish = "length"
		case id == eos:
			o.finish = "eos_token"
		case slices.ContainsFunc(p.Stop, func(stop string) bool { return strings.HasSuffix(o.text, stop) }):
			o.finish = "stop_sequence"
		default:
			each(o.tokens[len(o.tokens)-1])
			continue
		}
		return o, nil
	}
}

// admit counts the request in, or says that the server is full.
func (s *Server) admit() (leave func(), full *failure) {
	if n := s.running.Add(1); n > int64(s.opt.MaxConcurrent) {
		s.running.Add(-1)
		return nil, &failure{http.StatusTooManyRequests, "Model is overloaded", "overloaded"}
	}
	return func() { s.running.Add(-1) }, nil
}

func (s *Server) generate(w http.ResponseWriter, r *http.Request) {
	var req generateRequest
	if !s.read(w, r, &req) {
		return
	}
	leave, fail := s.admit()
	if fail != nil {
		refuse(w, fail)
		return
	}
	defer leave()
	ids, fail := s.validate(&req)
	if fail != nil {
		refuse(w, fail)
		return
	}
	p := &req.Parameters
	o, err := s.decode(r.Context(), p, ids, func(wireToken) {})
	if err != nil {
		return // nobody listens
	}
	out := map[string]any{"generated_text": o.text}
	if p.Details || p.DecoderInputDetails {
		prefill := []wireToken{}
		if p.DecoderInputDetails && !s.opt.NoPrefill {
			prefill = s.prefill(p.known, ids)
		}
		out["details"] = map[string]any{"finish_reason": o.finish, "generated_tokens": len(o.tokens), "seed": o.seed, "prefill": prefill, "tokens": o.tokens}
	}
	answer(w, out)
}

// prefill gives the log-probabilities of the input, null for the first.
func (s *Server) prefill(adapter string, ids []int32) []wireToken {
	out := make([]wireToken, len(ids))
	for i, id := range ids {
		out[i] = s.token(id, nil)
		out[i].Special = nil
		if i > 0 {
			lp := s.model.logprob(adapter, ids[:i], id)
			out[i].Logprob = &lp
		}
	}
	return out
}

// generateStream answers 200 whatever happens: what is wrong is said in an event.
func (s *Server) generateStream(w http.ResponseWriter, r *http.Request) {
	var req generateRequest
	if !s.read(w, r, &req) {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	event := func(v any) {
		data, _ := json.Marshal(v)
		fmt.Fprintf(w, "data:%s\n\n", data)
		_ = flush.Flush() // the client may be gone
	}
	leave, fail := s.admit()
	if fail != nil {
		event(fail.body())
		return
	}
	defer leave()
	ids, fail := s.validate(&req)
	if fail != nil {
		event(fail.body())
		return
	}
	index := 0
	one := func(t wireToken, text *string, details any) {
		index++
		event(map[string]any{"index": index, "token": t, "generated_text": text, "details": details})
	}
	fmt.Fprint(w, ":\n\n") // a keep-alive
	o, err := s.decode(r.Context(), &req.Parameters, ids, func(t wireToken) { one(t, nil, nil) })
	if err != nil {
		return
	}
	var details any
	if req.Parameters.Details {
		details = map[string]any{"finish_reason": o.finish, "generated_tokens": len(o.tokens), "seed": o.seed, "input_length": len(ids)}
	}
	one(o.tokens[len(o.tokens)-1], &o.text, details)
}
