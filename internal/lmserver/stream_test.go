package lmserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/openai"
)

// eventsOf reads the chunks of a stream and checks its end mark.
func eventsOf(t *testing.T, body []byte) []object {
	t.Helper()
	events := strings.Split(strings.TrimSuffix(string(body), "\n\n"), "\n\n")
	if events[len(events)-1] != "data: [DONE]" {
		t.Fatalf("no end mark in %s", body)
	}
	var out []object
	for _, e := range events[:len(events)-1] {
		var o object
		if err := json.Unmarshal([]byte(strings.TrimPrefix(e, "data: ")), &o); err != nil {
			t.Fatalf("%v in %s", err, e)
		}
		out = append(out, o)
	}
	return out
}

// TestStreamedChatIsTheWholeChat: the pieces of every choice put together are what the same request gets at once, and every token has
// a chunk of its own.
func TestStreamedChatIsTheWholeChat(t *testing.T) {
	b := bundle(t, "m", 32)
	s, _ := start(t, Options{Model: b})
	var greedy openai.ChatResponse
	post(t, s, "/v1/chat/completions", chatBody(text("x"))).into(t, &greedy)
	stop := (*greedy.Choices[0].Message.Content)[2:5]
	for name, change := range map[string]object{
		"greedy":            {},
		"sampled":           {"n": 3, "temperature": 1.5, "seed": 5, "max_tokens": 40},
		"stop string":       {"stop": []string{stop, "never there, and long"}},
		"stop string shown": {"stop": []string{stop}, "include_stop_str_in_output": true},
		"special tokens":    {"skip_special_tokens": false, "temperature": 2, "seed": 1, "n": 2, "ignore_eos": false},
		"one token":         {"max_tokens": 1},
	} {
		t.Run(name, func(t *testing.T) {
			body := chatBody(text("x"))
			for k, v := range change {
				body[k] = v
			}
			var whole openai.ChatResponse
			post(t, s, "/v1/chat/completions", body).into(t, &whole)
			body["stream"], body["stream_options"] = true, object{"include_usage": true}
			r := post(t, s, "/v1/chat/completions", body)
			if !strings.HasPrefix(r.kind, "text/event-stream") {
				t.Fatalf("%d %s: %s", r.status, r.kind, r.body)
			}
			events := eventsOf(t, r.body)
			n := len(whole.Choices)
			texts, ids, lps, reasons, stops := make([]string, n), make([][]any, n), make([][]float64, n), make([]any, n), make([]any, n)
			for _, e := range events[n : len(events)-1] {
				c := e["choices"].([]any)[0].(object)
				i := int(c["index"].(float64))
				if reasons[i] != nil {
					t.Errorf("choice %d goes on after its end: %v", i, c)
				}
				texts[i] += c["delta"].(object)["content"].(string)
				ids[i] = append(ids[i], c["token_ids"].([]any)...)
				content := c["logprobs"].(object)["content"].([]any)
				if len(content) != 1 {
					t.Errorf("%d log probabilities in a chunk", len(content))
				}
				lps[i] = append(lps[i], content[0].(object)["logprob"].(float64))
				reasons[i], stops[i] = c["finish_reason"], c["stop_reason"]
			}
			for i, c := range whole.Choices {
				if texts[i] != *c.Message.Content || reasons[i] != *c.FinishReason || fmt.Sprint(stops[i]) != fmt.Sprint(c.StopReason) {
					t.Errorf("choice %d: %q, %v, %v; at once %q, %s, %v", i, texts[i], reasons[i], stops[i], *c.Message.Content, *c.FinishReason, c.StopReason)
				}
				if fmt.Sprint(ids[i]...) != fmt.Sprint(anys(c.TokenIDs)...) || len(lps[i]) != len(c.Logprobs.Content) {
					t.Errorf("choice %d: tokens %v with %d log probabilities, at once %v", i, ids[i], len(lps[i]), c.TokenIDs)
				}
			}
			for _, e := range events[:n] {
				if fmt.Sprint(e["prompt_token_ids"].([]any)...) != fmt.Sprint(anys(whole.PromptTokenIDs)...) {
					t.Errorf("prompt ids %v", e["prompt_token_ids"])
				}
			}
			u := events[len(events)-1]["usage"].(object)
			if int(u["completion_tokens"].(float64)) != whole.Usage.CompletionTokens || int(u["prompt_tokens"].(float64)) != whole.Usage.PromptTokens {
				t.Errorf("usage %v, at once %+v", u, whole.Usage)
			}
		})
	}
}

func anys(ids []int32) []any {
	out := make([]any, len(ids))
	for i, id := range ids {
		out[i] = float64(id)
	}
	return out
}

// TestStreamsAreShapedAsRecorded compares every chunk's keys and types with those of vLLM.
func TestStreamsAreShapedAsRecorded(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "tiny-llama", 32)})
	for file, usage := range map[string]bool{"chat": false, "chat_usage": true} {
		want, err := os.ReadFile("../../clients/vllm/testdata/streams/" + file + ".sse")
		if err != nil {
			t.Fatal(err)
		}
		body := object{"model": "tiny-llama", "max_tokens": 3, "temperature": 0, "ignore_eos": true, "messages": []object{{"role": "user", "content": "def main():"}}, "stream": true}
		if usage {
			body["stream_options"] = object{"include_usage": true}
		}
		got, recorded := eventsOf(t, post(t, s, "/v1/chat/completions", body).body), eventsOf(t, want)
		if len(got) != len(recorded) {
			t.Fatalf("%s: %d events, recorded %d", file, len(got), len(recorded))
		}
		for i := range got {
			for _, diff := range shapeDiff(fmt.Sprintf("%s %d", file, i), got[i], recorded[i]) {
				t.Error(diff)
			}
		}
	}
}

// stepped is a generator that gives a token whenever the test says so.
type stepped struct {
	step chan struct{}
	fail int // at this token
	gone chan struct{}
}

func (g *stepped) Generate(ctx context.Context, req *lm.GenRequest) (*lm.GenResult, error) {
	defer close(g.gone)
	c := lm.Choice{}
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-g.step:
		}
		if g.fail == len(c.Tokens)+1 {
			return nil, fault.New(fault.Endpoint, "lm: generate", errors.New("broken"))
		}
		c.Tokens = append(c.Tokens, int32(300+len(c.Tokens)))
		if len(c.Tokens) == req.MaxTokens {
			c.FinishReason = "length"
		}
		req.OnToken(&c)
		if c.FinishReason != "" {
			return &lm.GenResult{Choices: []lm.Choice{c}}, nil
		}
	}
}

func (g *stepped) stream(t *testing.T, s *Server, ctx context.Context) *http.Response {
	t.Helper()
	s.gen = g
	req, err := http.NewRequestWithContext(ctx, "POST", s.URL()+"/v1/chat/completions", strings.NewReader(`{"messages":[{"role":"user","content":"x"}],"max_tokens":3,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", jsonType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// TestTokensArriveOneByOne: the second token is not drawn before the first has been read.
func TestTokensArriveOneByOne(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	g := &stepped{step: make(chan struct{}, 1), gone: make(chan struct{})}
	g.step <- struct{}{}
	in := bufio.NewReader(g.stream(t, s, t.Context()).Body)
	for i := range 4 { // the opening and three tokens
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, "data: {") {
			t.Fatalf("event %d: %q, %v", i, line, err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if i == 1 || i == 2 {
			g.step <- struct{}{}
		}
	}
	<-g.gone
}

// TestStreamFailures: before the first token an error is an answer like any other, after it an event.
func TestStreamFailures(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	g := &stepped{step: make(chan struct{}, 3), fail: 1, gone: make(chan struct{})}
	g.step <- struct{}{}
	if res := g.stream(t, s, t.Context()); res.StatusCode != http.StatusInternalServerError || !strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
		t.Errorf("failure before the first token: %d %s", res.StatusCode, res.Header)
	}
	g = &stepped{step: make(chan struct{}, 3), fail: 3, gone: make(chan struct{})}
	for range 3 {
		g.step <- struct{}{}
	}
	res := g.stream(t, s, t.Context())
	var body bytes.Buffer
	if _, err := body.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	events := eventsOf(t, body.Bytes())
	failed, ok := events[len(events)-1]["error"].(object)
	if res.StatusCode != 200 || !ok || failed["code"] != 500. || !strings.Contains(failed["message"].(string), "broken") {
		t.Errorf("failure after two tokens: %d %s", res.StatusCode, body.Bytes())
	}
	if page := string(get(t, s, "/metrics").body); !strings.Contains(page, `finished_reason="error"} 2`) {
		t.Errorf("failures are not counted: %s", page)
	}
}

// TestStreamEndsWithItsReader: a reader that goes away takes its request out of the batch.
func TestStreamEndsWithItsReader(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32)})
	g := &stepped{step: make(chan struct{}, 1), gone: make(chan struct{})}
	g.step <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	res := g.stream(t, s, ctx)
	if _, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case <-g.gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the request goes on")
	}
	for end := time.Now().Add(5 * time.Second); !strings.Contains(string(get(t, s, "/metrics").body), `finished_reason="abort"} 1`); {
		if time.Now().After(end) {
			t.Fatal("the abandoned request is not counted")
		}
	}
}

// TestVisibleHoldsBack: nothing is shown that may still become part of a stop string or of a character.
func TestVisibleHoldsBack(t *testing.T) {
	b := bundle(t, "m", 32)
	for _, c := range []struct {
		text  string
		stops []string
		want  string
	}{
		{"def abc", nil, "def abc"}, {"def abc", []string{"x"}, "def abc"}, {"def abc", []string{"xyz", "q"}, "def a"}, {"de", []string{"long stop"}, ""},
		{"aé", []string{"xy"}, "a"}, {"a", []string{""}, "a"},
	} {
		st := &chatStream{s: &Server{opt: Options{Model: b}}, req: &chatRequest{}}
		if c.stops != nil {
			st.req.Stop = openai.Many(c.stops...)
		}
		if got := st.visible(b.Tok.Encode(c.text, false)); got != c.want {
			t.Errorf("%q with stops %q shows %q, want %q", c.text, c.stops, got, c.want)
		}
	}
	ids := b.Tok.Encode("€", false)
	st := &chatStream{s: &Server{opt: Options{Model: b}}, req: &chatRequest{}}
	if got := st.visible(slices.Concat(b.Tok.Encode("a", false), ids[:1])); len(ids) > 1 && got != "a" {
		t.Errorf("half a character is shown: %q", got)
	}
}
