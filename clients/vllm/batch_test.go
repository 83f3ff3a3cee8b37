package vllm

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// echo answers a chat with the last message's text, after a pause that makes answers overtake each other.
func echo(t *testing.T, inFlight, most *atomic.Int32, fail func(text string) int) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := inFlight.Add(1)
		defer inFlight.Add(-1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		body, _ := io.ReadAll(r.Body)
		var req openai.ChatRequest
		_ = json.Unmarshal(body, &req)
		text := req.Messages[len(req.Messages)-1].Content.Text
		time.Sleep(time.Duration(len(text)%3) * time.Millisecond)
		if code := fail(text); code != 0 {
			w.WriteHeader(code)
			return
		}
		_ = json.NewEncoder(w).Encode(openai.ChatResponse{Model: *req.Model, PromptTokenIDs: []int32{1}, Choices: []openai.ChatChoice{
			{Message: openai.ChatMessage{Content: &text}, FinishReason: openai.Ptr("stop"), TokenIDs: []int32{1}}}})
	}))
	t.Cleanup(s.Close)
	return s
}

func chats(n int) []ChatRequest {
	out := make([]ChatRequest, n)
	for i := range out {
		out[i] = ChatRequest{[]Message{User(Soft{}, strings.Repeat("x", i%5)+fmt.Sprint(i))}, Params{MaxTokens: 4}}
	}
	return out
}

func TestGenerateAllKeepsOrderAndErrorsApart(t *testing.T) {
	var inFlight, most atomic.Int32
	s := echo(t, &inFlight, &most, func(text string) int {
		if strings.HasSuffix(text, "7") {
			return 400
		}
		return 0
	})
	items := newClient(t, s.URL).GenerateAll(context.Background(), chats(60), 5)
	for i, it := range items {
		switch {
		case i%10 == 7:
			if fault.ClassOf(it.Err) != fault.Item || it.Err == nil {
				t.Errorf("item %d: %v", i, it.Err)
			}
		case it.Err != nil || !strings.HasSuffix(it.Value.Choices[0].Text, fmt.Sprint(i)):
			t.Errorf("item %d: %+v, %v", i, it.Value, it.Err)
		}
	}
	if m := most.Load(); m > 5 || m < 2 {
		t.Errorf("%d requests at once, the limit is 5", m)
	}
}

func TestClientLimitHoldsAcrossBatches(t *testing.T) {
	var inFlight, most atomic.Int32
	s := echo(t, &inFlight, &most, func(string) int { return 0 })
	c := newClient(t, s.URL, func(c *Config) { c.MaxConcurrent = 3 })
	done := make(chan []Item[*Result])
	for range 2 {
		go func() { done <- c.GenerateAll(context.Background(), chats(20), 20) }()
	}
	for range 2 {
		for i, it := range <-done {
			if it.Err != nil {
				t.Errorf("item %d: %v", i, it.Err)
			}
		}
	}
	if m := most.Load(); m > 3 {
		t.Errorf("%d requests at once, the client's limit is 3", m)
	}
}

func TestGenerateAllStopsOnFatal(t *testing.T) {
	var inFlight, most, served atomic.Int32
	s := echo(t, &inFlight, &most, func(string) int { served.Add(1); return 401 })
	for i, it := range newClient(t, s.URL).GenerateAll(context.Background(), chats(200), 2) {
		if fault.ClassOf(it.Err) != fault.Fatal || fault.HintOf(it.Err) == "" {
			t.Fatalf("item %d: %v", i, it.Err)
		}
	}
	if n := served.Load(); n > 10 {
		t.Errorf("%d requests after the first refusal", n)
	}
}

func TestCache(t *testing.T) {
	var inFlight, most, served atomic.Int32
	s := echo(t, &inFlight, &most, func(string) int { served.Add(1); return 0 })
	c := newClient(t, s.URL, func(c *Config) { c.CacheSize = 8 })
	ctx := context.Background()
	ask := func(text string, p Params) *Result {
		t.Helper()
		p.MaxTokens = 4
		r, err := c.Chat(ctx, ChatRequest{[]Message{User(Soft{}, text)}, p})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	seed := openai.Ptr(int64(1))
	steps := []struct {
		text   string
		p      Params
		cached bool
	}{
		{"a", Params{}, false}, {"a", Params{}, true}, {"b", Params{}, false}, {"a", Params{Model: "ad-1"}, false}, {"a", Params{Model: "ad-1"}, true},
		{"a", Params{Temperature: 1}, false}, {"a", Params{Temperature: 1}, false}, {"a", Params{Temperature: 1, Seed: seed}, false}, {"a", Params{Temperature: 1, Seed: seed}, true},
		{"a", Params{TopK: 5}, false},
	}
	for i, st := range steps {
		before := served.Load()
		r := ask(st.text, st.p)
		if r.Cached != st.cached || (served.Load() == before) != st.cached || r.Choices[0].Text != st.text {
			t.Errorf("step %d: cached %v, want %v", i, r.Cached, st.cached)
		}
		r.Choices[0].Text = "changed by the caller" // must not reach the next hit
	}
}

func TestCacheIsEmptiedByAdapters(t *testing.T) {
	c, err := newCache(4)
	if err != nil {
		t.Fatal(err)
	}
	key := keyOf("/p", []byte("b"))
	epoch := c.epoch()
	c.put(key, &Result{Model: "m"}, epoch)
	if r := c.get(key); r == nil || !r.Cached {
		t.Fatal("not stored")
	}
	c.purge()
	if c.get(key) != nil {
		t.Error("an answer survived the change of adapters")
	}
	c.put(key, &Result{}, epoch)
	if c.get(key) != nil {
		t.Error("an answer from before the change was stored after it")
	}
	if keyOf("/p", []byte("b")) == keyOf("/pb", nil) {
		t.Error("route and body run into each other")
	}
}

func TestLoadAdapterTwice(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"base","root":"/m"},{"id":"ad","root":"/p/ad","parent":"base"}]}`)
			return
		}
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"error":{"message":"The lora adapter 'ad' has already been loaded.","type":"InvalidUserInput","param":null,"code":400}}`)
	})
	c := newClient(t, f.URL)
	if err := c.LoadAdapter(context.Background(), "ad", "/p/ad"); err != nil {
		t.Errorf("the same version again: %v", err)
	}
	if err := c.LoadAdapter(context.Background(), "ad", "/p/other"); fault.ClassOf(err) != fault.Item || err == nil {
		t.Errorf("another version under the same name: %v", err)
	}
}
