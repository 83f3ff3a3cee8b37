package fakefleet

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"recpie/internal/wire/openai"
	"recpie/internal/wire/softprompt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func ask(t rapid.TB, s *Server, method, path, body string) (int, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.Bytes()
}

func decode[T any](t rapid.TB, body []byte) (v T) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return v
}

const chatPath, completionsPath = "/v1/chat/completions", "/v1/completions"

// TestAnswersDependOnTheRequestAlone: any server, any order, the same bytes; other weights, other bytes.
func TestAnswersDependOnTheRequestAlone(t *testing.T) {
	a, b, other := New(Config{}), New(Config{}), New(Config{Weights: 1})
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(t, "n")
		most := rapid.IntRange(1, 40).Draw(t, "max_tokens")
		least := rapid.IntRange(0, most).Draw(t, "min_tokens")
		body := fmt.Sprintf(`{"messages":[{"role":"user","content":"%d"}],"n":%d,"max_tokens":%d,"min_tokens":%d,"temperature":1,"logprobs":true,"return_token_ids":true}`,
			rapid.Int().Draw(t, "text"), n, most, least)
		status, one := ask(t, a, "POST", chatPath, body)
		_, two := ask(t, b, "POST", chatPath, body)
		_, three := ask(t, other, "POST", chatPath, body)
		if status != 200 || !bytes.Equal(one, two) || bytes.Equal(one, three) {
			t.Fatalf("%d\n%s\n%s\n%s", status, one, two, three)
		}
		r := decode[openai.ChatResponse](t, one)
		total := 0
		for i, c := range r.Choices {
			k := len(c.TokenIDs)
			total += k
			if c.Index != i || k < max(1, least) || k > most || len(c.Logprobs.Content) != k || len(strings.Fields(*c.Message.Content)) != k ||
				(*c.FinishReason == "length") != (k == most) {
				t.Fatalf("choice %d: %+v", i, c)
			}
			_, text := ask(t, a, "POST", "/detokenize", string(must(json.Marshal(openai.DetokenizeRequest{Tokens: c.TokenIDs}))))
			if got := decode[openai.DetokenizeResponse](t, text).Prompt; got != *c.Message.Content {
				t.Fatalf("%q are the tokens of %q", got, *c.Message.Content)
			}
			for _, lp := range c.Logprobs.Content {
				if lp.Logprob > 0 || lp.Logprob < -8 {
					t.Fatalf("log-probability %v", lp.Logprob)
				}
			}
		}
		if len(r.Choices) != n || r.Usage.CompletionTokens != total || r.Usage.PromptTokens != len(r.PromptTokenIDs) {
			t.Fatalf("%d choices, usage %+v", len(r.Choices), r.Usage)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A token's score depends on the weights, the adapter's path and what comes before it, and on nothing after it.
func TestScores(t *testing.T) {
	s := New(Config{})
	score := func(model string, ids ...int32) []*float64 {
		t.Helper()
		body := fmt.Sprintf(`{"model":%s,"prompt":%s,"echo":true,"max_tokens":0,"logprobs":1,"return_token_ids":true}`, model, must(json.Marshal(ids)))
		status, out := ask(t, s, "POST", completionsPath, body)
		r := decode[openai.CompletionResponse](t, out)
		if status != 200 || len(r.Choices) != 1 || len(r.Choices[0].Logprobs.TokenLogprobs) != len(ids) || r.Choices[0].Logprobs.TokenLogprobs[0] != nil {
			t.Fatalf("%d %s", status, out)
		}
		return r.Choices[0].Logprobs.TokenLogprobs[1:]
	}
	same := func(a, b []*float64) bool {
		for i := range min(len(a), len(b)) {
			if *a[i] != *b[i] {
				return false
			}
		}
		return true
	}
	base := score("null", 5, 6, 7, 8)
	if !same(base, score("null", 5, 6, 7)) || same(base[2:], score("null", 5, 6, 9, 8)[2:]) || *base[2] >= 0 {
		t.Error("scores do not depend on what comes before")
	}
	load := func(path string, inplace bool) {
		t.Helper()
		if status, out := ask(t, s, "POST", "/v1/load_lora_adapter", fmt.Sprintf(`{"lora_name":"ad","lora_path":%q,"load_inplace":%v}`, path, inplace)); status != 200 {
			t.Fatalf("%d %s", status, out)
		}
	}
	load("/p/1", false)
	one := score(`"ad"`, 5, 6, 7, 8)
	load("/p/2", true)
	two := score(`"ad"`, 5, 6, 7, 8)
	load("/p/1", true)
	if same(one, base) || same(one, two) || !same(one, score(`"ad"`, 5, 6, 7, 8)) {
		t.Error("an adapter's scores are not those of its path")
	}
	s.Restart(7)
	if same(base, score("null", 5, 6, 7, 8)) {
		t.Error("other weights, same scores")
	}
	if status, _ := ask(t, s, "POST", completionsPath, `{"model":"ad","prompt":"x"}`); status != 404 {
		t.Errorf("an adapter survived the restart: %d", status)
	}
}

// The forms of answers and errors are those of the recordings in internal/wire/openai.
func TestForms(t *testing.T) {
	soft := must(softprompt.Encode(make([]float32, 6), 3, 2))
	s := New(Config{MaxModelLen: 12, Key: "k"})
	for _, c := range []struct {
		name, path, body string
		status           int
		says             string
	}{
		{"unknown model", chatPath, `{"model":"x","messages":[]}`, 404, `"type":"NotFoundError","param":"model","code":404`},
		{"greedy of two", chatPath, `{"messages":[],"n":2,"temperature":0}`, 400, "greedy"},
		{"no JSON", chatPath, `{`, 400, `"Bad Request"`},
		{"too long", chatPath, `{"messages":[{"role":"user","content":"1 2 3 4 5 6 7 8 9 10 11"}]}`, 400, `"param":"input_tokens"`},
		{"shortened", completionsPath, `{"prompt":"1 2 3 4 5 6 7 8 9","ignore_eos":true,"max_tokens":100}`, 200, `"completion_tokens":2`},
		{"soft prompt in a chat", chatPath, `{"messages":[{"role":"user","content":[{"type":"prompt_embeds","data":"` + soft + `"},{"type":"text","text":"baba"}]}],"return_token_ids":true}`, 200, `32000,32000,32000,4,`},
		{"soft prompt alone", completionsPath, `{"prompt_embeds":"` + soft + `","return_token_ids":true}`, 200, `"prompt_token_ids":[0,0,0]`},
		{"no soft prompt", completionsPath, `{"prompt_embeds":"AAAA"}`, 400, "soft prompt"},
		{"no prompt", completionsPath, `{}`, 400, "Either prompt"},
		{"batch", completionsPath, `{"prompt":["ba","be"],"n":2,"temperature":1}`, 200, `"index":3`},
		{"outside the vocabulary", completionsPath, `{"prompt":[40000]}`, 400, "vocabulary"},
		{"tokenize", "/tokenize", `{"prompt":"ba unknown","add_special_tokens":true}`, 200, `"count":3`},
		{"tokenize a chat", "/tokenize", `{"messages":[{"role":"user","content":"ba"}]}`, 200, `"count":4`},
		{"load", "/v1/load_lora_adapter", `{"lora_name":"ad","lora_path":"/p"}`, 200, `Success: LoRA adapter 'ad' added successfully.`},
		{"load again", "/v1/load_lora_adapter", `{"lora_name":"ad","lora_path":"/p"}`, 400, `"type":"InvalidUserInput"`},
		{"load nothing", "/v1/load_lora_adapter", `{"lora_name":"b","lora_path":"/does-not-exist"}`, 404, "No adapter found"},
		{"load nameless", "/v1/load_lora_adapter", `{"lora_path":"/p"}`, 400, "must be provided"},
		{"unload", "/v1/unload_lora_adapter", `{"lora_name":"ad"}`, 200, `Success: LoRA adapter 'ad' removed successfully.`},
		{"unload again", "/v1/unload_lora_adapter", `{"lora_name":"ad"}`, 404, "cannot be found"},
		{"unload nameless", "/v1/unload_lora_adapter", `{}`, 400, "needs to be provided"},
		{"elsewhere", "/v1/elsewhere", `{}`, 404, `{"detail":"Not Found"}`},
		{"models", "GET /v1/models", "", 200, `"id":"tiny"`},
		{"version", "GET /version", "", 200, `{"version":"0.32.0"}`},
		{"health", "GET /health", "", 200, ``},
	} {
		method, path, ok := strings.Cut(c.path, " ")
		if !ok {
			method, path = "POST", c.path
		}
		for _, key := range []string{"k", ""} {
			status, says := c.status, c.says
			if key == "" && strings.HasPrefix(path, "/v1") {
				status, says = 401, "Unauthorized"
			} else if key == "" {
				continue
			}
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, path, strings.NewReader(c.body))
			r.Header.Set("Authorization", "Bearer "+key)
			s.ServeHTTP(w, r)
			if w.Code != status || !strings.Contains(w.Body.String(), says) {
				t.Errorf("%s, key %q: %d %s, want %d with %s", c.name, key, w.Code, w.Body, status, says)
			}
		}
	}
}

// TestQueue: requests beyond the capacity wait in order, leave when their client leaves, and are let in when the capacity grows.
func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Service: time.Second, Capacity: 2, Count: true})
		begin := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ends []time.Duration
		for i := range 6 {
			wg.Go(func() {
				if status, _ := ask(t, s, "POST", chatPath, fmt.Sprintf(`{"messages":[],"seed":%d}`, i%5)); status != 200 {
					t.Error(status)
				}
				mu.Lock()
				defer mu.Unlock()
				ends = append(ends, time.Since(begin))
			})
		}
		ctx, leave := context.WithCancel(t.Context())
		wg.Go(func() {
			s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, "POST", chatPath, strings.NewReader(`{"messages":[]}`)))
		})
		synctest.Wait()
		_, page := ask(t, s, "GET", "/metrics", "")
		for _, line := range []string{`vllm:num_requests_running{engine="0",model_name="tiny"} 2`, `vllm:num_requests_waiting{engine="0",model_name="tiny"} 5`, `vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 1`} {
			if !strings.Contains(string(page), line+"\n") {
				t.Errorf("no line %q in %s", line, page)
			}
		}
		leave()
		synctest.Wait()
		if st := s.Stats(); st.Waiting > 4 || st.Requests != 7 {
			t.Errorf("after one left: %+v", st)
		}
		time.Sleep(1500 * time.Millisecond)
		s.SetCapacity(0)
		wg.Wait()
		for i, want := range []time.Duration{1, 1, 2, 2, 2.5e9, 2.5e9} {
			if want < 10 {
				want *= time.Second
			}
			if ends[i] != want {
				t.Errorf("request %d ended after %v, want %v", i, ends[i], want)
			}
		}
		if st := s.Stats(); st.Distinct != 6 || st.Repeated != 1 || st.Answered != 6 || st.Running != 0 || st.Waiting != 0 {
			t.Errorf("at the end: %+v", st)
		}
	})
}

const tiny = `{"model":"tiny","messages":[{"role":"user","content":"hi"}],"max_tokens":8,"temperature":1,"seed":1}`

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// cpu is the processor time of this process so far, which a busy machine does not distort as it does the rate.
func cpu(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func report(b *testing.B, before time.Duration) {
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N)/1e3, "cpu-µs/request")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

// BenchmarkHandler is the cost of an answer without the network.
func BenchmarkHandler(b *testing.B) {
	s := New(Config{})
	before := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		w := discard{http.Header{}}
		for pb.Next() {
			s.ServeHTTP(w, httptest.NewRequest("POST", chatPath, strings.NewReader(tiny)))
		}
	})
	report(b, before)
}

// BenchmarkLoopback is the same over connections, from a client that does nothing but send and read.
func BenchmarkLoopback(b *testing.B) {
	srv := httptest.NewServer(New(Config{}))
	defer srv.Close()
	request := []byte(fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(tiny), tiny))
	b.SetParallelism(16)
	before := cpu(b)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 64<<10)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			for n := 0; !bytes.HasSuffix(buf[:n], []byte("}")); { // the answer's last byte
				k, err := c.Read(buf[n:])
				if err != nil && err != io.EOF {
					b.Error(err)
					return
				}
				n += k
			}
		}
	})
	report(b, before)
}
