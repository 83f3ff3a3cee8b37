package openai

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// AppendJSON appends the request as encoding/json would write it, byte for byte, at a tenth of its price: a batch client writes one
// for every row.
func (r *ChatRequest) AppendJSON(b []byte) (_ []byte, err error) {
	w := writer{b: append(b, '{')}
	w.sampling(&r.Sampling)
	w.key("messages")
	if r.Messages == nil {
		w.b = append(w.b, "null"...)
	} else {
		w.b = append(w.b, '[')
		for i, m := range r.Messages {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			w.b = append(appendString(append(w.b, `{"role":`...), m.Role), `,"content":`...)
			if w.b, err = m.Content.append(w.b); err != nil {
				return nil, err
			}
			w.b = append(w.b, '}')
		}
		w.b = append(w.b, ']')
	}
	w.int("max_completion_tokens", r.MaxCompletionTokens)
	w.bool("logprobs", r.Logprobs)
	w.int("top_logprobs", r.TopLogprobs)
	w.bool("add_generation_prompt", r.AddGenerationPrompt)
	return w.end()
}

// AppendJSON appends the request as encoding/json would write it, byte for byte.
func (r *CompletionRequest) AppendJSON(b []byte) (_ []byte, err error) {
	w := writer{b: append(b, '{')}
	w.sampling(&r.Sampling)
	if r.Prompt != nil {
		w.key("prompt")
		if w.b, err = r.Prompt.append(w.b); err != nil {
			return nil, err
		}
	}
	if r.PromptEmbeds != nil {
		w.key("prompt_embeds")
		w.b = r.PromptEmbeds.append(w.b)
	}
	w.bool("echo", r.Echo)
	w.int("logprobs", r.Logprobs)
	w.string("suffix", r.Suffix)
	return w.end()
}

// writer appends the fields of an object; nil ones are left out.
type writer struct {
	b   []byte
	err error
}

func (w *writer) end() ([]byte, error) { return append(w.b, '}'), w.err }

func (w *writer) sampling(s *Sampling) {
	w.key("model")
	if s.Model == nil {
		w.b = append(w.b, "null"...)
	} else {
		w.b = appendString(w.b, *s.Model)
	}
	w.int("max_tokens", s.MaxTokens)
	w.float("temperature", s.Temperature)
	w.float("top_p", s.TopP)
	w.int("top_k", s.TopK)
	w.int("n", s.N)
	if s.Seed != nil {
		w.key("seed")
		w.b = strconv.AppendInt(w.b, *s.Seed, 10)
	}
	if s.Stop != nil {
		w.key("stop")
		w.b = s.Stop.append(w.b)
	}
	if len(s.StopTokenIDs) > 0 {
		w.key("stop_token_ids")
		w.b = appendIDs(w.b, s.StopTokenIDs)
	}
	w.bool("include_stop_str_in_output", s.IncludeStop)
	w.bool("ignore_eos", s.IgnoreEOS)
	w.int("min_tokens", s.MinTokens)
	w.bool("skip_special_tokens", s.SkipSpecial)
	w.int("prompt_logprobs", s.PromptLogprobs)
	w.bool("return_tokens_as_token_ids", s.TokensAsIDs)
	w.bool("return_token_ids", s.ReturnTokenIDs)
	w.string("cache_salt", s.CacheSalt)
	w.string("request_id", s.RequestID)
	w.bool("stream", s.Stream)
	w.int("truncate_prompt_tokens", s.TruncatePrompt)
	w.float("frequency_penalty", s.FrequencyPen)
	w.float("presence_penalty", s.PresencePen)
	w.float("repetition_penalty", s.RepetitionPen)
	w.float("min_p", s.MinP)
	w.bool("add_special_tokens", s.AddSpecialToken)
}

func (w *writer) key(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(append(append(w.b, '"'), name...), '"', ':')
}

func (w *writer) int(name string, v *int) {
	if v != nil {
		w.key(name)
		w.b = strconv.AppendInt(w.b, int64(*v), 10)
	}
}

func (w *writer) bool(name string, v *bool) {
	if v != nil {
		w.key(name)
		w.b = strconv.AppendBool(w.b, *v)
	}
}

func (w *writer) string(name string, v *string) {
	if v != nil {
		w.key(name)
		w.b = appendString(w.b, *v)
	}
}

func (w *writer) float(name string, v *float64) {
	if v == nil {
		return
	}
	w.key(name)
	if math.IsNaN(*v) || math.IsInf(*v, 0) {
		w.err = fmt.Errorf("%s is %v, which JSON cannot say", name, *v)
		return
	}
	w.b = appendFloat(w.b, *v)
}

// appendFloat writes a number as JavaScript does: without an exponent unless it is very large or small, and that without a zero in front.
func appendFloat(b []byte, v float64) []byte {
	if abs := math.Abs(v); abs == 0 || abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, v, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, v, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1])
	}
	return b
}

func appendIDs(b []byte, ids []int32) []byte {
	return appendList(b, ids, func(b []byte, id int32) []byte { return strconv.AppendInt(b, int64(id), 10) })
}

func appendList[T any](b []byte, all []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

// plain are the bytes that stand in a JSON string as they are. Those that HTML reads otherwise do not.
var plain = func() (is [256]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		is[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return is
}()

const hexDigits = "0123456789abcdef"

// appendString writes a string. What is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(slices.Grow(b, len(s)+2), '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[done:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\b':
				b = append(b, '\\', 'b')
			case '\f':
				b = append(b, '\\', 'f')
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			done = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(append(b, s[done:i]...), `\ufffd`...)
			done = i + size
		case r == '\u2028' || r == '\u2029': // line ends to JavaScript
			b = append(append(b, s[done:i]...), '\\', 'u', '2', '0', '2', hexDigits[r&15])
			done = i + size
		}
		i += size
	}
	return append(append(b, s[done:]...), '"')
}
