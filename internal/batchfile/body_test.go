package batchfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"recpie/internal/fault"
)

// lineOf reads one request whose body is given.
func lineOf(t testing.TB, url, body string) Line {
	t.Helper()
	r, err := newReader("f", strings.NewReader(fmt.Sprintf(`{"custom_id":"a","method":"POST","url":%q,"body":%s}`, url, body)), OpenAI)
	if err != nil {
		t.Fatal(err)
	}
	line, err := r.Next()
	if err != nil {
		t.Fatal(err)
	}
	return line
}

func TestSettle(t *testing.T) {
	const ask = `"messages":[{"role":"user","content":"Hi"}]`
	for _, c := range []struct{ name, url, body, want string }{
		{"no model", Chat, `{` + ask + `}`, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`},
		{"an alias", Chat, `{"model":"gpt",` + ask + `}`, `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`},
		{"order, spaces, nulls", Chat, "{" + ask + ` , "seed" : 7,"temperature":0.70,"stop":null,"model":"m", "max_tokens":5, "stream":false}`,
			`{"model":"m","max_tokens":5,"temperature":0.7,"seed":7,"messages":[{"role":"user","content":"Hi"}]}`},
		{"the newer name", Chat, `{` + ask + `,"max_completion_tokens":5}`, `{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}`},
		{"parts", Chat, `{"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"}]}],"logprobs":true,"top_logprobs":2,"user":"u1"}`,
			`{"model":"m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"a"}]}],"logprobs":true,"top_logprobs":2,"user":"u1"}`},
		{"completion", Completions, `{"prompt":"Once","stop":["\n"],"logprobs":1}`, `{"model":"m","stop":["\n"],"prompt":"Once","logprobs":1}`},
		{"token ids", Completions, `{"prompt":[1,2]}`, `{"model":"m","prompt":[1,2]}`},

		{"unknown", Chat, `{` + ask + `,"tools":[]}`, `f:1:123: body.tools: is not supported`},
		{"unknown to this route", Completions, `{"prompt":"x","echo":true}`, `f:1:86: body.echo: is not supported`},
		{"another model", Chat, `{` + ask + `,"model":"gpt-5"}`, `f:1:123: body.model: "gpt-5" is not the model that is asked, "m"`},
		{"wrong type", Chat, `{` + ask + `,"max_tokens":"many"}`, `f:1:128: body.max_tokens: has the wrong type: a string where a int should stand`},
		{"no token", Chat, `{` + ask + `,"max_tokens":0}`, `body.max_tokens: 0 is less than 1`},
		{"both lengths", Chat, `{` + ask + `,"max_tokens":3,"max_completion_tokens":4}`, `f:1: body.max_completion_tokens: is not max_tokens`},
		{"too hot", Chat, `{` + ask + `,"temperature":2.5}`, `body.temperature: 2.5 is not between 0 and 2`},
		{"greedy twice", Chat, `{` + ask + `,"temperature":0,"n":2}`, `f:1: body.n: several answers`},
		{"min above max", Chat, `{` + ask + `,"max_tokens":3,"min_tokens":4}`, `f:1: body.min_tokens: is more`},
		{"top of nothing", Chat, `{` + ask + `,"top_logprobs":4}`, `f:1: body.top_logprobs: there is no logprobs`},
		{"several prompts", Completions, `{"prompt":["a","b"]}`, `body.prompt: is not one text`},
		{"soft prompt", Completions, `{"prompt_embeds":"AAAA"}`, `body.prompt_embeds: is not supported`},
		{"an image", Chat, `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}]}`,
			`f:1:144: body.messages[0].content[1].type: only text is supported`},
		{"a tool speaks", Chat, `{"messages":[{"role":"user","content":"a"},{"role":"tool","content":"b"}]}`, `f:1:121: body.messages[1].role: is none of`},
		{"a name", Chat, `{"messages":[{"role":"user","content":"a","name":"x"}]}`, `body.messages[0].name: is not supported`},
		{"says nothing", Chat, `{"messages":[{"role":"assistant","content":null}]}`, `f:1:83: body.messages[0].content: is missing`},
		{"no message", Chat, `{"messages":["Hi"]}`, `body.messages: has the wrong type`},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := lineOf(t, c.url, c.body)
			err := line.Settle("f", Model{Name: "m", Aliases: []string{"gpt"}})
			if err == nil {
				if string(line.Body) != c.want {
					t.Fatalf("got  %s\nwant %s", line.Body, c.want)
				}
				again := lineOf(t, c.url, string(line.Body))
				if err := again.Settle("f", Model{Name: "m"}); err != nil || !bytes.Equal(again.Body, line.Body) {
					t.Errorf("settled twice: %s, %v", again.Body, err)
				}
				return
			}
			var bad *LineError
			if !strings.Contains(err.Error(), c.want) || !errors.As(err, &bad) || bad.Remedy == "" || bad.ID != "a" || fault.ClassOf(err) != fault.Item {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestSettleTellsTheUser(t *testing.T) {
	line := lineOf(t, Chat, `{"messages":[{"role":"user","content":"Hi"}],"user":"u7"}`)
	if err := line.Settle("f", Model{Name: "m"}); err != nil || line.User != "u7" {
		t.Errorf("user %q, %v", line.User, err)
	}
}

// What settles is one JSON object that settles to itself; nothing panics.
func FuzzSettle(f *testing.F) {
	for _, s := range []string{`{"messages":[{"role":"user","content":"Hi"}],"seed":3}`, `{"prompt":[1],"stop":"a"}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"\u00e9"}]}],"logit_bias":{}}`} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, body string, chat bool) {
		url := Completions
		if chat {
			url = Chat
		}
		r, err := newReader("f", strings.NewReader(fmt.Sprintf(`{"custom_id":"a","method":"POST","url":%q,"body":%s}`, url, strings.ReplaceAll(body, "\n", " "))), OpenAI)
		if err != nil {
			return
		}
		line, err := r.Next()
		if err != nil || line.Settle("f", Model{Name: "m"}) != nil {
			return
		}
		if !json.Valid(line.Body) {
			t.Fatalf("%s", line.Body)
		}
		again := lineOf(t, url, string(line.Body))
		if err := again.Settle("f", Model{Name: "m"}); err != nil || !bytes.Equal(again.Body, line.Body) {
			t.Fatalf("%s settles to %s, %v", line.Body, again.Body, err)
		}
	})
}
