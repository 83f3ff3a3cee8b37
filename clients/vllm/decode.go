package vllm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"recpie/clients/transport"
	"recpie/internal/wire/strictjson"
)

// generation is what a server generated, with what is missing, or null, told from what is 0 or empty. Its bytes lie in the reply's body,
// so that it is of use as long as that is.
type generation struct {
	r                  strictjson.Reader
	id                 []byte
	model              []byte
	choices            []option
	prompt             []int32
	promptTokens, made int
}

// option is one choice as it came.
type option struct {
	index   int
	indexed bool
	text    []byte // nil: none
	finish  []byte
	ids     []int32
	prompt  []int32
	scored  bool
	scores  []float64 // NaN: null
}

// generations are those that can be used again.
var generations = sync.Pool{New: func() any { return new(generation) }}

func (a *generation) free() {
	a.reset()
	generations.Put(a)
}

func (a *generation) reset() {
	clear(a.choices)
	r := a.r
	r.Reset(nil)
	*a = generation{r: r, choices: a.choices[:0]}
}

// decode reads an answer of n choices, of a chat or a completion, in one pass. It refuses the answer to another request.
func (a *generation) decode(reply *transport.Reply, n int, chat bool) error {
	r := &a.r
	r.Reset(reply.Body)
	r.Object(func(key []byte) {
		switch string(key) {
		case "id":
			a.id = r.Text()
		case "model":
			a.model = r.Text()
		case "choices":
			r.Array(func() {
				if len(a.choices) == n {
					r.Fail(fmt.Errorf("more choices than the %d that were asked for", n))
					return
				}
				a.choices = append(a.choices, option{})
				a.choices[len(a.choices)-1].read(r, chat)
			})
		case "prompt_token_ids":
			a.prompt = readIDs(r)
		case "usage":
			r.Object(func(key []byte) {
				switch string(key) {
				case "prompt_tokens":
					a.promptTokens = r.Int()
				case "completion_tokens":
					a.made = r.Int()
				default:
					r.Skip()
				}
			})
		default:
			r.Skip()
		}
	})
	if err := r.Close(); err != nil {
		return fmt.Errorf("the answer is not the JSON expected: %w", err)
	}
	return transport.CheckID(reply.SentID, string(a.id))
}

func (p *option) read(r *strictjson.Reader, chat bool) {
	r.Object(func(key []byte) {
		switch string(key) {
		case "index":
			if p.indexed = !r.Null(); p.indexed {
				p.index = r.Int()
			}
		case "text":
			if chat {
				r.Skip()
				return
			}
			p.text = r.Text()
		case "message":
			if !chat {
				r.Skip()
				return
			}
			r.Object(func(key []byte) {
				if string(key) == "content" {
					p.text = r.Text()
				} else {
					r.Skip()
				}
			})
		case "finish_reason":
			p.finish = r.Text()
		case "token_ids":
			p.ids = readIDs(r)
		case "prompt_token_ids":
			p.prompt = readIDs(r)
		case "logprobs":
			if !r.Null() {
				p.readScores(r, chat)
			}
		default:
			r.Skip()
		}
	})
}

// readScores reads the log-probabilities: a list of them in a completion, one in each of a chat's tokens.
func (p *option) readScores(r *strictjson.Reader, chat bool) {
	p.scored = true
	r.Object(func(key []byte) {
		switch {
		case chat && string(key) == "content":
			r.Array(func() {
				lp := math.NaN()
				r.Object(func(key []byte) {
					if string(key) == "logprob" {
						lp = readScore(r)
					} else {
						r.Skip()
					}
				})
				p.scores = append(p.scores, lp)
			})
		case !chat && string(key) == "token_logprobs":
			r.Array(func() { p.scores = append(p.scores, readScore(r)) })
		default:
			r.Skip()
		}
	})
}

func readScore(r *strictjson.Reader) float64 {
	if r.Null() {
		return math.NaN()
	}
	return r.Float()
}

// readIDs reads token ids, null as nil.
func readIDs(r *strictjson.Reader) []int32 {
	if r.Null() {
		return nil
	}
	ids := make([]int32, 0, 16)
	r.Array(func() {
		id := r.Int()
		if id > math.MaxInt32 || id < math.MinInt32 {
			r.Fail(fmt.Errorf("%d is no token id", id))
		}
		ids = append(ids, int32(id))
	})
	return ids
}

// result checks an answer against its request and converts it.
func (a *generation) result(p *Params) (*Result, error) {
	res := &Result{Model: p.Model, PromptTokenIDs: a.prompt, PromptTokens: a.promptTokens, CompletionTokens: a.made, Choices: make([]Choice, len(a.choices))}
	if string(a.model) != p.Model {
		res.Model = string(a.model)
	}
	if a.prompt == nil && len(a.choices) > 0 {
		res.PromptTokenIDs = a.choices[0].prompt
	}
	for i := range a.choices {
		ch := &a.choices[i]
		if !ch.indexed {
			return nil, errNoIndex
		}
		if ch.text == nil {
			return nil, fmt.Errorf("choice %d has no text", ch.index)
		}
		res.Choices[i] = Choice{Index: ch.index, Text: string(ch.text), TokenIDs: ch.ids, FinishReason: ch.reason()}
		if !p.Logprobs {
			continue
		}
		if !ch.scored {
			return nil, fmt.Errorf("choice %d has no log-probabilities", ch.index)
		}
		if i := slices.IndexFunc(ch.scores, math.IsNaN); i >= 0 {
			return nil, fmt.Errorf("choice %d: the log-probability of token %d is null", ch.index, i)
		}
		res.Choices[i].Logprobs = ch.scores
	}
	if err := checkResult(res, *p); err != nil {
		return nil, err
	}
	return res, nil
}

// reason is why the choice ended, the usual ones without a copy.
func (p *option) reason() string {
	switch string(p.finish) {
	case "stop":
		return "stop"
	case "length":
		return "length"
	}
	return string(p.finish)
}

// scores reads the log-probabilities of ids[1:] from an echo answer.
func (a *generation) scores(ids []int32) ([]float64, error) {
	if len(a.choices) != 1 {
		return nil, fmt.Errorf("%d choices where 1 was asked for", len(a.choices))
	}
	ch := &a.choices[0]
	if !ch.indexed || ch.index != 0 || ch.text == nil {
		return nil, errors.New("the only choice has no text or is not number 0")
	}
	if err := checkFinish(0, ch.reason()); err != nil {
		return nil, err
	}
	if len(ch.scores) != len(ids) {
		return nil, fmt.Errorf("no log-probability for each of the %d prompt tokens", len(ids))
	}
	if ch.prompt != nil && !slices.Equal(ch.prompt, ids) {
		return nil, errors.New("the server scored other token ids than those sent")
	}
	for i, lp := range ch.scores[1:] {
		if math.IsNaN(lp) {
			return nil, fmt.Errorf("the log-probability of token %d is null", i+1)
		}
		if err := checkLogprob(lp); err != nil {
			return nil, fmt.Errorf("token %d: %w", i+1, err)
		}
	}
	return ch.scores[1:], nil
}
