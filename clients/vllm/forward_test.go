package vllm

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"recpie/internal/fault"
)

// A body goes out and an answer comes back byte by byte; what is no answer to it is refused.
func TestForward(t *testing.T) {
	const chat = `{"id":"x","model":"tiny-llama","choices":[{"index":0,"message":{"role":"assistant","content":"Hi"},"finish_reason":"stop","logprobs":%s}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"of_its_own":1}`
	const completion = `{"id":"x","model":"tiny-llama","choices":[{"index":0,"text":"Hi","finish_reason":"length"}],"usage":{"completion_tokens":2}}`
	plain, withLogprobs := strings.ReplaceAll(chat, "%s", "null"), strings.ReplaceAll(chat, "%s", `{"content":[{"token":"Hi","logprob":-0.5}]}`)
	for _, c := range []struct {
		name, path, body, answer string
		status                   int
		class                    fault.Class
		ok                       bool
	}{
		{"chat", "/v1/chat/completions", `{"model":"tiny-llama","messages":[]}`, plain, 200, 0, true},
		{"logprobs", "/v1/chat/completions", `{"model":"tiny-llama","logprobs":true}`, withLogprobs, 200, 0, true},
		{"completion", "/v1/completions", `{"model":"tiny-llama","prompt":"x"}`, completion, 200, 0, true},
		{"another model", "/v1/chat/completions", `{"model":"big-llama"}`, plain, 200, fault.Endpoint, false},
		{"too few choices", "/v1/chat/completions", `{"model":"tiny-llama","n":2}`, plain, 200, fault.Endpoint, false},
		{"no logprobs", "/v1/chat/completions", `{"model":"tiny-llama","logprobs":true}`, plain, 200, fault.Endpoint, false},
		{"cut off", "/v1/completions", `{"model":"tiny-llama"}`, completion[:60], 200, fault.Endpoint, false},
		{"refused", "/v1/completions", `{"model":"tiny-llama"}`, `{"error":{"message":"no","type":"BadRequestError","param":null,"code":400}}`, 400, fault.Item, false},
		{"no request", "/v1/completions", `{`, completion, 200, fault.Item, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(c.answer))
			})
			raw, res, err := newClient(t, f.URL).Forward(t.Context(), c.path, []byte(c.body))
			if !c.ok {
				if err == nil || fault.ClassOf(err) != c.class || raw != nil {
					t.Errorf("%s, %v (class %v), want class %v", raw, err, fault.ClassOf(err), c.class)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if sent := f.requests()[0]; sent.Body != c.body || sent.Path != c.path {
				t.Errorf("sent %+v", sent)
			}
			if string(raw) != c.answer || !json.Valid(raw) || res.CompletionTokens != 2 || res.Choices[0].Text != "Hi" {
				t.Errorf("%s, %+v", raw, res)
			}
		})
	}
}
