package vllm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"
)

func sse(lines ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		for _, l := range lines {
			fmt.Fprintf(w, "data: %s\n\n", l)
			w.(http.Flusher).Flush()
		}
	}
}

const (
	opening = `{"model":"tiny-llama","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"prompt_token_ids":[1,2]}`
	piece   = `{"model":"tiny-llama","choices":[{"index":0,"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":-0.5}]},"finish_reason":null,"token_ids":[5]}]}`
	last    = `{"model":"tiny-llama","choices":[{"index":0,"delta":{"content":"b"},"logprobs":{"content":[{"token":"b","logprob":-1.5}]},"finish_reason":"length","token_ids":[6]}]}`
	counted = `{"model":"tiny-llama","choices":[],"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}`
	done    = `[DONE]`
)

func TestRecordedStreams(t *testing.T) {
	soft, err := NewSoft(make([]float32, 4*128), 4, 128)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		recording string
		soft      Soft
		model     string
		pieces    []string
		prompt    int
	}{
		{"chat", Soft{}, "tiny-llama", []string{"diff", "python", "/."}, 0},
		{"chat_usage", Soft{}, "tiny-llama", []string{"diff", "python", "/."}, 7},
		{"chat_soft", soft, "tiny-llama", []string{" bet", "ange"}, 0},
		{"chat_lora", Soft{}, "ad-a", []string{" errors", " `"}, 0},
	} {
		t.Run(tc.recording, func(t *testing.T) {
			text, err := os.ReadFile("testdata/streams/" + tc.recording + ".sse")
			if err != nil {
				t.Fatal(err)
			}
			f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
				_, _ = w.Write(text)
			})
			var got []string
			tokens, before := 0, time.Now()
			r, err := newClient(t, f.URL).ChatStream(context.Background(), ChatRequest{[]Message{User(tc.soft, "def main():")}, Params{Model: tc.model, MaxTokens: 3, TextOnly: true}}, func(d Delta) {
				got = append(got, d.Text)
				tokens += d.Tokens
				if d.At.Before(before) || d.At.After(time.Now()) {
					t.Errorf("arrived at %v", d.At)
				}
				before = d.At
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Join(got, "|") != strings.Join(tc.pieces, "|") || tokens != len(tc.pieces) {
				t.Errorf("pieces %q of %d tokens", got, tokens)
			}
			if c := r.Choices[0]; c.Text != strings.Join(tc.pieces, "") || c.FinishReason != "length" || r.Model != tc.model || r.PromptTokens != tc.prompt {
				t.Errorf("%+v", r)
			}
			if body := f.requests()[0].Body; !strings.Contains(body, `"stream":true`) || !strings.Contains(body, `"stream_options":{"include_usage":true}`) || !strings.Contains(body, `"temperature":0`) {
				t.Errorf("request %s", body)
			}
		})
	}
}

func TestStreamFaults(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	change := func(s, old, new string) string { return strings.Replace(s, old, new, 1) }
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc
		class   fault.Class
		says    string
	}{
		{"good", sse(opening, piece, last, counted, done), 0, ""},
		{"an empty piece after the end", sse(opening, piece, last, `{"model":"tiny-llama","choices":[{"index":0,"delta":{}}]}`, counted, done), 0, ""},
		{"400", status(400), fault.Item, "400"},
		{"401", status(401), fault.Fatal, "401"},
		{"429", status(429), fault.Transient, "429"},
		{"500", status(500), fault.Endpoint, "500"},
		{"not a stream", answer(good), fault.Endpoint, "not a stream"},
		{"no end mark", sse(opening, piece, last, counted), fault.Endpoint, "end mark"},
		{"cut in an event", raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 500\r\n\r\ndata: "+piece, false), fault.Endpoint, "unexpected EOF"},
		{"reset", raw("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 500\r\n\r\ndata: "+piece+"\n\n", true), fault.Endpoint, ""},
		{"silent", func(w http.ResponseWriter, r *http.Request) {
			sse(opening, piece)(w, r)
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}, fault.Endpoint, "stopped arriving"},
		{"not finished", sse(opening, piece, done), fault.Endpoint, "finished with"},
		{"garbage", sse(opening, "garbage", last, done), fault.Endpoint, "not the JSON"},
		{"null", sse(`null`, done), fault.Endpoint, "from model"},
		{"another choice", sse(opening, change(piece, `"index":0`, `"index":1`), last, done), fault.Endpoint, "choice 1"},
		{"no index", sse(opening, change(piece, `"index":0,`, ``), last, done), fault.Endpoint, "index"},
		{"a negative choice", sse(opening, change(piece, `"index":0`, `"index":-1`), last, done), fault.Endpoint, "choice -1"},
		{"another model midway", sse(opening, change(piece, "tiny-llama", "other"), last, done), fault.Endpoint, "other"},
		{"another model", sse(change(opening, "tiny-llama", "other"), done), fault.Endpoint, "other"},
		{"goes on after its end", sse(opening, last, piece, counted, done), fault.Endpoint, "after its end"},
		{"too many tokens", sse(opening, piece, piece, piece, last, counted, done), fault.Endpoint, "more than the 3"},
		{"logprobs missing", sse(opening, change(piece, `"logprobs":{"content":[{"token":"a","logprob":-0.5}]},`, ""), last, counted, done), fault.Endpoint, "1 log-probabilities for 2"},
		{"no prompt ids", sse(change(opening, `[1,2]`, `null`), piece, last, counted, done), fault.Endpoint, "no prompt token ids"},
		{"item error in the stream", sse(opening, `{"error":{"message":"too long","type":"BadRequestError","code":400}}`, done), fault.Item, "too long"},
		{"transient error in the stream", sse(opening, `{"error":{"message":"busy","code":503}}`, done), fault.Transient, "busy"},
		{"server's error in the stream", sse(opening, `{"error":{"message":"engine dead","type":"InternalServerError","code":500}}`, done), fault.Endpoint, "engine dead"},
		{"error without a number", sse(opening, `{"error":"lost"}`), fault.Endpoint, "lost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t, tc.handler)
			c := newClient(t, f.URL, func(c *Config) { c.Idle, c.Total = 150*time.Millisecond, 5*time.Second })
			text := ""
			r, err := c.ChatStream(context.Background(), ChatRequest{[]Message{User(Soft{}, "x")}, Params{Model: "tiny-llama", MaxTokens: 3, Logprobs: true}}, func(d Delta) { text += d.Text })
			if n := len(f.requests()); n != 1 {
				t.Errorf("%d attempts", n)
			}
			if tc.class == 0 && tc.says == "" {
				if err != nil || text != "ab" || r.Choices[0].Text != "ab" || len(r.Choices[0].TokenIDs) != 2 || r.Choices[0].Logprobs[1] != -1.5 || r.CompletionTokens != 2 || len(r.PromptTokenIDs) != 2 {
					t.Errorf("%+v, %v, pieces %q", r, err, text)
				}
				return
			}
			if err == nil || fault.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v (%v), want %v with %q", err, fault.ClassOf(err), tc.class, tc.says)
			}
		})
	}
}

func TestStreamOfSeveralChoices(t *testing.T) {
	second := func(s string) string { return strings.Replace(s, `"index":0`, `"index":1`, 1) }
	f := newFake(t, sse(opening, second(opening), second(piece), piece, last, second(last), counted, done))
	texts := make([]string, 2)
	r, err := newClient(t, f.URL).ChatStream(context.Background(), ChatRequest{[]Message{User(Soft{}, "x")}, Params{MaxTokens: 3, N: 2, Temperature: 1}}, func(d Delta) { texts[d.Index] += d.Text })
	if err != nil || r.Choices[0].Text != "ab" || r.Choices[1].Text != "ab" || texts[0] != "ab" || texts[1] != "ab" {
		t.Errorf("%+v, %v, %q", r, err, texts)
	}
}

func TestStreamCancelled(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		sse(opening, piece)(w, r)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(context.Background())
	_, err := newClient(t, f.URL).ChatStream(ctx, ChatRequest{[]Message{User(Soft{}, "x")}, Params{MaxTokens: 3}}, func(Delta) { cancel() })
	if !errors.Is(err, context.Canceled) || fault.ClassOf(err) != fault.Transient {
		t.Errorf("%v (%v)", err, fault.ClassOf(err))
	}
}

// FuzzChatChunk: no event makes the assembly panic, exceed its bounds, or hand out another text than it ends with.
func FuzzChatChunk(f *testing.F) {
	files, _ := filepath.Glob("testdata/streams/*.sse")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("data: " + opening + "\n\ndata: " + piece + "\n\ndata: " + last + "\n\n"))
	f.Add([]byte(`data: {"error":{"code":1e9}}` + "\n\n" + `data: {"choices":[{"index":1e9}]}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		p := Params{MaxTokens: 4, N: 2, Temperature: 1, Logprobs: true}
		a := newAssembly(p)
		texts := make([]string, 2)
		for event := range strings.SplitSeq(string(stream), "\n\n") {
			if err := a.add("fuzz", []byte(strings.TrimPrefix(event, "data: ")), time.Time{}, func(d Delta) { texts[d.Index] += d.Text }); err != nil {
				return
			}
		}
		for i, c := range a.res.Choices {
			if c.FinishReason != "" && c.Text != texts[i] || len(c.TokenIDs) > p.MaxTokens {
				t.Fatalf("choice %+v, handed out %q", c, texts[i])
			}
		}
	})
}
