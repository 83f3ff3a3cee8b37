package vllm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recpie/clients/transport"
	"recpie/internal/fault"
)

const good = `{"model":"tiny-llama","choices":[{"index":0,"text":"a","finish_reason":"stop","token_ids":[5],"prompt_token_ids":[1,2],"logprobs":{"token_logprobs":[-0.5],"tokens":["a"]}}],"usage":{"prompt_tokens":2,"completion_tokens":1,"total_tokens":3}}`

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(body)) }
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if len(header) == 2 {
			w.Header().Set(header[0], header[1])
		}
		w.WriteHeader(code)
	}
}

// raw writes bytes on the connection and ends it: with a reset when rst is set.
func raw(text string, rst bool) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = conn.Write([]byte(text))
		if tcp, ok := conn.(*net.TCPConn); ok && rst {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
	}
}

func change(old, new string) string { return strings.Replace(good, old, new, 1) }

// TestFaults: what each failure is called, how often it is tried, and that a fault that passes is survived.
func TestFaults(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	const tries = 3
	tests := []struct {
		name    string
		handler http.HandlerFunc
		class   fault.Class
		tries   int
		says    string
	}{
		{"429", status(429), fault.Transient, tries, "429"},
		{"429 retry-after", status(429, "Retry-After", "0.001"), fault.Transient, tries, "429"},
		{"429 absurd retry-after", status(429, "Retry-After", "1e300"), fault.Transient, tries, "429"},
		{"503", status(503), fault.Transient, tries, "503"},
		{"408", status(408), fault.Transient, tries, "408"},
		{"500", status(500), fault.Endpoint, 1, "500"},
		{"502", status(502), fault.Endpoint, tries, "502"},
		{"504", status(504), fault.Endpoint, tries, "504"},
		{"400", status(400), fault.Item, 1, "400"},
		{"413", status(413), fault.Item, 1, "413"},
		{"422", status(422), fault.Item, 1, "422"},
		{"401", status(401), fault.Fatal, 1, "401"},
		{"403", status(403), fault.Fatal, 1, "403"},
		{"redirect", status(307, "Location", "/v1/completions"), fault.Endpoint, 1, "redirects"},
		{"reset before headers", raw("", true), fault.Endpoint, tries, ""},
		{"reset mid-body", raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choi", true), fault.Endpoint, tries, ""},
		{"half a body", raw("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"choi", false), fault.Endpoint, tries, "unexpected EOF"},
		{"chunked, cut", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":", false), fault.Endpoint, tries, "unexpected EOF"},
		{"garbage", answer("garbage"), fault.Endpoint, tries, "not the JSON"},
		{"html", answer("<html>"), fault.Endpoint, tries, "not the JSON"},
		{"empty", answer(""), fault.Endpoint, tries, "not the JSON"},
		{"truncated", answer(good[:len(good)/2]), fault.Endpoint, tries, "not the JSON"},
		{"byte order mark", answer("\ufeff" + good), fault.Endpoint, tries, "not the JSON"},
		{"deep nesting", answer(`{"choices":` + strings.Repeat("[", 100000)), fault.Endpoint, tries, "not the JSON"},
		{"gzip although not offered", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte(good))
		}, fault.Endpoint, tries, "encoded"},
		{"huge, announced", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1073741824")
			_, _ = w.Write(bytes.Repeat([]byte(" "), 1<<20))
		}, fault.Endpoint, 1, "larger"},
		{"huge, chunked", func(w http.ResponseWriter, _ *http.Request) {
			for range 64 {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<16)); err != nil {
					return
				}
			}
		}, fault.Endpoint, 1, "larger"},
		{"huge headers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat("x", 1<<20))
		}, fault.Endpoint, tries, ""},
		{"hangs before headers", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}, fault.Endpoint, tries, "deadline"},
		{"hangs in the body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(good[:20]))
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}, fault.Endpoint, tries, "stopped arriving"},
		{"no choices", answer(`{"model":"tiny-llama"}`), fault.Endpoint, tries, "0 choices"},
		{"null", answer(`null`), fault.Endpoint, tries, "0 choices"},
		{"wrong index", answer(change(`"index":0`, `"index":1`)), fault.Endpoint, tries, "indexes"},
		{"no finish reason", answer(change(`"stop"`, `null`)), fault.Endpoint, tries, "finished with"},
		{"aborted", answer(change(`"stop"`, `"abort"`)), fault.Endpoint, tries, "abort"},
		{"no token ids", answer(change(`"token_ids":[5],`, ``)), fault.Endpoint, tries, "no token ids"},
		{"too many tokens", answer(change(`"token_ids":[5]`, `"token_ids":[5,5,5,5]`)), fault.Endpoint, tries, "at most 3"},
		{"negative id", answer(change(`[5]`, `[-5]`)), fault.Endpoint, tries, "negative"},
		{"too few logprobs", answer(change(`[-0.5]`, `[]`)), fault.Endpoint, tries, "0 log-probabilities for 1"},
		{"null logprob", answer(change(`[-0.5]`, `[null]`)), fault.Endpoint, tries, "null"},
		{"no logprobs", answer(change(`"logprobs":{"token_logprobs":[-0.5],"tokens":["a"]}`, `"logprobs":null`)), fault.Endpoint, tries, "no log-prob"},
		{"logprob above 0", answer(change(`-0.5`, `0.5`)), fault.Endpoint, tries, "no log-probability"},
		{"other model", answer(change(`tiny-llama`, `other`)), fault.Endpoint, tries, "other"},
		{"no prompt ids", answer(change(`[1,2]`, `[]`)), fault.Endpoint, tries, "no prompt token ids"},
	}
	req := CompletionRequest{Text: "x", Params: Params{Model: "tiny-llama", MaxTokens: 3, Logprobs: true}}
	limits := func(c *Config) {
		c.Total, c.Idle, c.MaxBody = 800*time.Millisecond, 250*time.Millisecond, 1<<20
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, tc.handler)
			_, err := newClient(t, f.URL, limits).Complete(context.Background(), req)
			if err == nil || fault.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v (%v), want %v with %q", err, fault.ClassOf(err), tc.class, tc.says)
			}
			if n := len(f.requests()); n != tc.tries {
				t.Errorf("%d requests, want %d", n, tc.tries)
			}
			if tc.tries == 1 {
				return
			}
			var n atomic.Int32
			passing := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 1 {
					tc.handler(w, r)
					return
				}
				_, _ = w.Write([]byte(good))
			})
			res, err := newClient(t, passing.URL, limits).Complete(context.Background(), req)
			if err != nil || res.Choices[0].Text != "a" || res.Choices[0].Logprobs[0] != -.5 {
				t.Errorf("when the fault passes: %+v, %v", res, err)
			}
		})
	}
}

func TestFewerChoicesThanN(t *testing.T) {
	f := newFake(t, answer(good))
	_, err := newClient(t, f.URL).Complete(context.Background(), CompletionRequest{Text: "x", Params: Params{MaxTokens: 3, N: 2, Temperature: 1}})
	if err == nil || fault.ClassOf(err) != fault.Endpoint || !strings.Contains(err.Error(), "1 choices where 2") {
		t.Errorf("%v", err)
	}
}

func TestRefusedConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	err = newClient(t, "http://"+l.Addr().String()).Health(context.Background())
	if err == nil || fault.ClassOf(err) != fault.Endpoint {
		t.Errorf("%v (%v)", err, fault.ClassOf(err))
	}
}

func TestCancellationIsNotTheServersFault(t *testing.T) {
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	err := newClient(t, f.URL).Health(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || fault.ClassOf(err) != fault.Transient || len(f.requests()) != 1 {
		t.Errorf("%v (%v) after %d requests", err, fault.ClassOf(err), len(f.requests()))
	}
}

func TestParamsAreChecked(t *testing.T) {
	f := newFake(t, answer(good))
	c := newClient(t, f.URL)
	for _, p := range []Params{{}, {MaxTokens: -1}, {MaxTokens: 1, N: -1}, {MaxTokens: 1, MinTokens: 2}, {MaxTokens: 1, Temperature: -1}, {MaxTokens: 1, TopP: 2}, {MaxTokens: 1, N: 2}} {
		if _, err := c.Complete(context.Background(), CompletionRequest{Text: "x", Params: p}); err == nil || fault.ClassOf(err) != fault.Item {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, r := range []CompletionRequest{{}, {Text: "a", Tokens: []int32{1}}} {
		r.Params = Params{MaxTokens: 1}
		if _, err := c.Complete(context.Background(), r); err == nil || fault.ClassOf(err) != fault.Item {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if n := len(f.requests()); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestKeyNeverInErrors(t *testing.T) {
	t.Setenv("RECPIE_TEST_KEY", "very-secret")
	key, err := transport.SecretFromEnv("RECPIE_TEST_KEY")
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, status(401))
	err = newClient(t, f.URL, func(c *Config) { c.Key = key }).Health(context.Background())
	if text := fmt.Sprintf("%v %+v %#v %s", err, err, err, fault.HintOf(err)); strings.Contains(text, "very-secret") {
		t.Errorf("the key is in %s", text)
	}
}
