package tgi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/internal/fault"
)

const (
	jsonType  = "application/json"
	eventType = "text/event-stream"
	good      = `{"generated_text":"a","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"prefill":[],"tokens":[{"id":5,"text":"a","logprob":-0.5,"special":false},{"id":1,"text":"</s>","logprob":-0.1,"special":true}]}}`
)

func swap(old, new string) string {
	if !strings.Contains(good, old) {
		panic(old)
	}
	return strings.Replace(good, old, new, 1)
}

func apiError(message, typ string) string {
	b, _ := json.Marshal(map[string]string{"error": message, "error_type": typ})
	return string(b)
}

// TestFaults: what each failure is called, how often it is tried, and what is said.
func TestFaults(t *testing.T) {
	const tries = 3
	for _, tt := range []struct {
		name  string
		opt   tgitest.Options
		class fault.Class
		tries int64
		says  string
	}{
		{"validation", always(422, jsonType, apiError("Input validation error: too long", "validation")), fault.Item, 1, "HTTP 422 validation: Input validation error: too long"},
		{"no JSON for it", always(422, "text/plain", "Failed to deserialize the JSON body"), fault.Item, 1, "Failed to deserialize"},
		{"overloaded", always(429, jsonType, apiError("Model is overloaded", "overloaded")), fault.Transient, tries, "overloaded"},
		{"generation", always(424, jsonType, apiError("Request failed during generation: CUDA", "generation")), fault.Endpoint, 1, "during generation"},
		{"incomplete", always(500, jsonType, apiError("Incomplete generation", "incomplete_generation")), fault.Endpoint, 1, "Incomplete"},
		{"unhealthy", always(503, jsonType, apiError("unhealthy", "healthcheck")), fault.Transient, tries, "unhealthy"},
		{"template", always(422, jsonType, apiError("Template error: template not found", "template_error")), fault.Fatal, 1, "Template error"},
		{"template, server's fault", always(500, jsonType, apiError("Template error: x", "template_error")), fault.Endpoint, 1, "Template error"},
		{"key", always(401, "", ""), fault.Fatal, 1, "HTTP 401: no message"},
		{"no such route", always(404, "", ""), fault.Fatal, 1, "404"},
		{"too large", always(413, "text/plain", "length limit exceeded"), fault.Item, 1, "length limit"},
		{"502", always(502, "text/html", "<html>away</html>"), fault.Endpoint, tries, "away"},
		{"504", always(504, "", ""), fault.Endpoint, tries, "504"},
		{"redirect", always(307, "", ""), fault.Endpoint, 1, "redirects"},
		{"a page as answer", always(200, "text/html", "<html>"), fault.Endpoint, tries, "not the JSON expected"},
		{"reset", raw("", true), fault.Endpoint, tries, ""},
		{"half an answer", raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"gen", false), fault.Endpoint, tries, "unexpected EOF"},

		{"null", always(200, jsonType, "null"), fault.Endpoint, tries, "no generated_text"},
		{"no text", always(200, jsonType, swap(`"generated_text":"a",`, "")), fault.Endpoint, tries, "no generated_text"},
		{"no details", always(200, jsonType, `{"generated_text":"a"}`), fault.Endpoint, tries, "no details"},
		{"unknown end", always(200, jsonType, swap("eos_token", "abort")), fault.Endpoint, tries, `finished with "abort"`},
		{"no end", always(200, jsonType, swap(`"finish_reason":"eos_token",`, "")), fault.Endpoint, tries, "finished with"},
		{"a token too few", always(200, jsonType, swap(`"generated_tokens":2`, `"generated_tokens":3`)), fault.Endpoint, tries, "2 tokens where 3"},
		{"uncounted", always(200, jsonType, swap(`"generated_tokens":2,`, "")), fault.Endpoint, tries, "where none"},
		{"more than asked", always(200, jsonType, strings.Replace(swap(`"tokens":[`, `"tokens":[`+strings.Repeat(`{"id":5,"text":"a","logprob":-1},`, 9)), `_tokens":2`, `_tokens":11`, 1)), fault.Endpoint, tries, "1 to 9"},
		{"none at all", always(200, jsonType, `{"generated_text":"","details":{"finish_reason":"length","generated_tokens":0,"tokens":[]}}`), fault.Endpoint, tries, "0 tokens"},
		{"no id", always(200, jsonType, swap(`"id":5,`, "")), fault.Endpoint, tries, "id none"},
		{"negative id", always(200, jsonType, swap(`"id":5`, `"id":-5`)), fault.Endpoint, tries, "id -5"},
		{"half an id", always(200, jsonType, swap(`"id":5`, `"id":5.5`)), fault.Endpoint, tries, "JSON"},
		{"null log-probability", always(200, jsonType, swap("-0.5", "null")), fault.Endpoint, tries, "none is no log-probability"},
		{"positive log-probability", always(200, jsonType, swap("-0.5", "0.5")), fault.Endpoint, tries, "0.5 is no log-probability"},
		{"infinite log-probability", always(200, jsonType, swap("-0.5", "-1e999")), fault.Endpoint, tries, "JSON"},
		{"one key twice", always(200, jsonType, swap(`"id":5`, `"id":5,"id":6`)), fault.Endpoint, tries, "stands twice"},
		{"no UTF-8", always(200, jsonType, swap(`"a","details"`, "\"\xff\",\"details\"")), fault.Endpoint, tries, "UTF-8"},
		{"another seed", always(200, jsonType, swap(`"seed":null`, `"seed":7`)), fault.Endpoint, tries, "seed 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var n atomic.Int64
			answer := tt.opt.Intercept
			tt.opt.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
				n.Add(1)
				return answer(w, r)
			}
			c, _ := start(t, tt.opt)
			_, err := c.Generate(t.Context(), Request{Text: "a", MaxTokens: 9, Temperature: 1, Seed: seeded(1)})
			if err == nil || fault.ClassOf(err) != tt.class || n.Load() != tt.tries || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%d tries: %v: %v", n.Load(), fault.ClassOf(err), err)
			}
		})
	}
	c, _ := start(t, always(200, jsonType, good))
	if out, err := c.Generate(t.Context(), Request{Text: "a", MaxTokens: 9}); err != nil || out[0].Text != "a" || len(out[0].TokenIDs) != 2 || out[0].FinishReason != "stop" {
		t.Errorf("the answer that the others were made from: %+v, %v", out, err)
	}
}

func TestAFaultThatPasses(t *testing.T) {
	var n atomic.Int64
	c, _ := start(t, tgitest.Options{Intercept: func(w http.ResponseWriter, r *http.Request) bool {
		if n.Add(1) > 2 {
			return false
		}
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}})
	if _, err := c.Generate(t.Context(), Request{Text: "a", MaxTokens: 2}); err != nil || n.Load() != 3 {
		t.Errorf("%d tries: %v", n.Load(), err)
	}
}

func TestBadPrefill(t *testing.T) {
	const head, tail = `{"generated_text":"a","details":{"finish_reason":"length","generated_tokens":1,"tokens":[{"id":5,"text":"a","logprob":-0.5}],"prefill":[`, `]}}`
	for prefill, class := range map[string]fault.Class{
		`{"id":3,"logprob":null},{"id":4,"logprob":-1},{"id":5,"logprob":-2}`:   -1,
		`{"id":3,"logprob":-9.5},{"id":4,"logprob":-1},{"id":5,"logprob":-2}`:   -1, // some versions give the first one too
		`{"id":3,"logprob":null},{"id":4,"logprob":null},{"id":5,"logprob":-2}`: fault.Endpoint,
		`{"id":3,"logprob":null},{"id":4,"logprob":1},{"id":5,"logprob":-2}`:    fault.Endpoint,
		`{"logprob":null},{"id":4,"logprob":-1},{"id":5,"logprob":-2}`:          fault.Endpoint,
		`{"id":3,"logprob":null},{"id":4,"logprob":-1}`:                         fault.Item,
		`{"id":3,"logprob":null},{"id":5,"logprob":-1},{"id":4,"logprob":-2}`:   fault.Item,
		``: fault.Fatal,
	} {
		c, _ := start(t, always(200, jsonType, head+prefill+tail))
		got, err := c.Score(t.Context(), "", "abc", []int32{3, 4, 5}, 2)
		if class < 0 {
			if err != nil || len(got) != 2 || got[0] != -1 || got[1] != -2 {
				t.Errorf("%s: %v, %v", prefill, got, err)
			}
		} else if err == nil || fault.ClassOf(err) != class {
			t.Errorf("%s: %v, %v", prefill, got, err)
		}
	}
}

func TestKeyIsSentAndNotTold(t *testing.T) {
	t.Setenv("RECPIE_TEST_TGI_KEY", "s3cret")
	key, err := transport.SecretFromEnv("RECPIE_TEST_TGI_KEY")
	if err != nil {
		t.Fatal(err)
	}
	with := func(cfg *Config) { cfg.Key = key }
	req := Request{Text: "a", MaxTokens: 2}
	c, _ := start(t, tgitest.Options{Key: "s3cret"}, with)
	if _, err := c.Generate(t.Context(), req); err != nil {
		t.Error(err)
	}
	without, _ := start(t, tgitest.Options{Key: "s3cret"})
	if _, err := without.Generate(t.Context(), req); fault.ClassOf(err) != fault.Fatal || fault.HintOf(err) == "" {
		t.Errorf("without the key: %v", err)
	}
	for _, opt := range []tgitest.Options{always(422, jsonType, apiError("you sent s3cret", "validation")), always(200, eventType, "data:"+apiError("you sent s3cret", "validation")+"\n\n")} {
		c, _ := start(t, opt, with)
		_, err := c.Stream(t.Context(), req, func(Delta) {})
		if err == nil || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "[redacted]") {
			t.Errorf("%v", err)
		}
	}
}

func TestCancelledAtOnce(t *testing.T) {
	c, _ := start(t, tgitest.Options{TokenTime: 50 * time.Millisecond})
	for name, call := range map[string]func(context.Context) error{
		"generate": func(ctx context.Context) error {
			_, err := c.Generate(ctx, Request{Text: "a", N: 4, MaxTokens: 400, Temperature: 1})
			return err
		},
		"stream": func(ctx context.Context) error {
			_, err := c.Stream(ctx, Request{Text: "a", MaxTokens: 400}, func(Delta) {})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
		began := time.Now()
		err := call(ctx)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || fault.ClassOf(err) != fault.Transient || time.Since(began) > 2*time.Second {
			t.Errorf("%s: after %v: %v", name, time.Since(began), err)
		}
	}
}
