package tgi

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/internal/fault"
)

func TestInfoHealthLoad(t *testing.T) {
	c, _ := start(t, tgitest.Options{})
	info, err := c.Info(t.Context())
	if want := (Info{Model: "imitation", Version: "3.3.4", MaxInput: 512, MaxTotal: 1024, MaxConcurrent: 128}); err != nil || info != want {
		t.Errorf("%+v, %v", info, err)
	}
	if err := c.Health(t.Context()); err != nil {
		t.Error(err)
	}
	if l, err := c.Load(t.Context()); err != nil || l != (Load{}) {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestParseLoad(t *testing.T) {
	for _, c := range []struct {
		text string
		want Load
		ok   bool
	}{
		{"", Load{}, true},
		{"# HELP tgi_queue_size waiting\n# TYPE tgi_queue_size gauge\ntgi_queue_size 3\ntgi_batch_current_size 12\n", Load{3, 12}, true},
		{"tgi_queue_size{shard=\"a b}\"} 2\r\ntgi_queue_size{shard=\"b\"} 1.5 1700000000\n", Load{Waiting: 3.5}, true},
		{"tgi_queue_size_total 9\ntgi_batch_current_size_x{} 9\n", Load{}, true},
		{"tgi_queue_size\n", Load{}, true},
		{"tgi_queue_size \n", Load{}, true},
		{"tgi_queue_size{a=\"b\"}\n", Load{}, false},
		{"tgi_queue_size NaN\n", Load{}, false},
		{"tgi_queue_size -1\n", Load{}, false},
		{"tgi_batch_current_size +Inf\n", Load{}, false},
		{"tgi_batch_current_size x\n", Load{}, false},
	} {
		if got, err := parseLoad([]byte(c.text)); (err == nil) != c.ok || got != c.want {
			t.Errorf("%q: %+v, %v", c.text, got, err)
		}
	}
}

// What is sent, word for word: nothing that the server refuses, nothing that it would read as another wish.
func TestWire(t *testing.T) {
	const common = `"return_full_text":false,"details":true,"decoder_input_details":false`
	for name, c := range map[string]struct {
		req  Request
		want string
	}{
		"greedy":  {Request{Text: "a", MaxTokens: 4, Seed: seeded(1)}, `"do_sample":false,"max_new_tokens":4,` + common},
		"by name": {Request{Text: "a", Model: "base", MaxTokens: 4}, `"do_sample":false,"max_new_tokens":4,` + common},
		"adapter": {Request{Text: "a", Model: "lora", MaxTokens: 4, Stop: []string{"\n"}}, `"adapter_id":"lora","do_sample":false,"stop":["\n"],"max_new_tokens":4,` + common},
		"sampled": {Request{Text: "a", MaxTokens: 4, Temperature: 1, TopP: 1}, `"do_sample":true,"temperature":1,"max_new_tokens":4,` + common},
		"warped":  {Request{Text: "a", MaxTokens: 4, Temperature: .5, TopP: .9, TopK: 3}, `"do_sample":true,"temperature":0.5,"top_p":0.9,"top_k":3,"max_new_tokens":4,` + common},
	} {
		client, server := start(t, tgitest.Options{})
		if _, err := client.Generate(t.Context(), c.req); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, want := server.Bodies("/generate"), `{"inputs":"a","parameters":{`+c.want+`}}`; len(got) != 1 || got[0] != want {
			t.Errorf("%s: sent %q, want %s", name, got, want)
		}
	}
}

func TestSeedsAreApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Int64().Draw(t, "seed")
		seen := map[uint64]bool{}
		for _, s := range []int64{seed, seed + 1} {
			for i := range 16 {
				v := seedOf(s, i)
				if v < 1 || v > 1<<31 || v != seedOf(s, i) {
					t.Fatalf("seed %d of %d is %d", i, s, v)
				}
				seen[v] = true
			}
		}
		if len(seen) < 31 { // one accident in 2^31 pairs
			t.Fatalf("%d of 32 seeds are distinct", len(seen))
		}
	})
}

// Several answers are several requests, each with its seed, and the whole can be repeated.
func TestSeveralAnswers(t *testing.T) {
	c, s := start(t, tgitest.Options{})
	ask := func(seed *int64) []Choice {
		out, err := c.Generate(t.Context(), Request{Text: "The film", N: 5, MaxTokens: 12, Temperature: 1, Seed: seed})
		if err != nil || len(out) != 5 {
			t.Fatal(len(out), err)
		}
		return out
	}
	a, b, other := ask(seeded(3)), ask(seeded(3)), ask(seeded(4))
	texts := map[string]bool{}
	for i := range a {
		texts[a[i].Text], texts[other[i].Text] = true, true
		if a[i].Text != b[i].Text || !slices.Equal(a[i].TokenIDs, b[i].TokenIDs) || !slices.Equal(a[i].Logprobs, b[i].Logprobs) {
			t.Errorf("answer %d is %q and %q", i, a[i].Text, b[i].Text)
		}
	}
	if len(texts) < 9 {
		t.Errorf("%d of 10 texts are distinct", len(texts))
	}
	ask(nil)
	seeds := map[uint64]int{}
	for _, body := range s.Bodies("/generate") {
		var r generateRequest
		if err := json.Unmarshal([]byte(body), &r); err != nil {
			t.Fatal(err)
		}
		if r.Parameters.Seed != nil {
			seeds[*r.Parameters.Seed]++
		}
	}
	if len(seeds) != 10 {
		t.Errorf("seeds %v", seeds)
	}
}

func TestFinishReasons(t *testing.T) {
	c, s := start(t, tgitest.Options{})
	long, err := c.Generate(t.Context(), Request{Text: "The film", N: 8, MaxTokens: 200, Temperature: 1, Seed: seeded(1)})
	if err != nil {
		t.Fatal(err)
	}
	ended := 0
	for _, ch := range long {
		last := ch.TokenIDs[len(ch.TokenIDs)-1]
		if eos, _ := s.Tokenizer.ID("</s>"); ch.FinishReason == "stop" && last == eos {
			ended++
		}
		if strings.Contains(ch.Text, "</s>") {
			t.Errorf("%q shows the end token", ch.Text)
		}
	}
	if ended == 0 {
		t.Error("no answer ended by itself")
	}
	first, err := c.Generate(t.Context(), Request{Text: "The film", MaxTokens: 6})
	if err != nil || first[0].FinishReason != "length" || len(first[0].TokenIDs) != 6 {
		t.Fatalf("%+v, %v", first, err)
	}
	stop := first[0].Text[2:3]
	if got, err := c.Generate(t.Context(), Request{Text: "The film", MaxTokens: 6, Stop: []string{stop}}); err != nil || got[0].FinishReason != "stop" || !strings.HasSuffix(got[0].Text, stop) {
		t.Errorf("stop at %q: %+v, %v", stop, got, err)
	}
}

// A sampled text is scored as it was sampled; under the adapter it is another matter.
func TestScore(t *testing.T) {
	c, s := start(t, tgitest.Options{})
	for name, model := range map[string]string{"base": "", "adapter": "lora"} {
		p, err := c.Prompt(t.Context(), "The film")
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Generate(t.Context(), Request{Text: p.Text, Model: model, MaxTokens: 20, Temperature: 1, Seed: seeded(2)})
		if err != nil {
			t.Fatal(err)
		}
		text := p.Text + s.Tokenizer.Decode(out[0].TokenIDs, false)
		ids := slices.Concat(p.IDs, out[0].TokenIDs)
		got, err := c.Score(t.Context(), model, text, ids, len(out[0].TokenIDs))
		if err != nil || !slices.Equal(got, out[0].Logprobs) {
			t.Errorf("%s: %v, want %v: %v", name, got, out[0].Logprobs, err)
		}
		other, err := c.Score(t.Context(), map[string]string{"": "lora", "lora": ""}[model], text, ids, len(out[0].TokenIDs))
		if err != nil || slices.Equal(other, got) {
			t.Errorf("%s: the other model gives %v, %v", name, other, err)
		}
		ids[3]++
		if _, err := c.Score(t.Context(), model, text, ids, 1); fault.ClassOf(err) != fault.Item || !strings.Contains(err.Error(), "other tokens") {
			t.Errorf("%s: other ids: %v", name, err)
		}
	}
}

// The log-probabilities of an answer are those of the warped distribution: at a low temperature the sampled tokens look likelier.
func TestLogprobsAreOfTheSampledDistribution(t *testing.T) {
	c, _ := start(t, tgitest.Options{})
	mean := func(temperature float64) float64 {
		out, err := c.Generate(t.Context(), Request{Text: "The film", N: 4, MaxTokens: 30, Temperature: temperature, Seed: seeded(2)})
		if err != nil {
			t.Fatal(err)
		}
		sum, n := 0.0, 0
		for _, ch := range out {
			for _, lp := range ch.Logprobs {
				sum, n = sum+math.Exp(lp), n+1
			}
		}
		return sum / float64(n)
	}
	if cold, warm := mean(.1), mean(1); cold < 2*warm {
		t.Errorf("mean probability %.2f cold and %.2f warm", cold, warm)
	}
}

func TestPrompt(t *testing.T) {
	const text = "Ein Satz, größer als ASCII."
	c, _ := start(t, tgitest.Options{Chat: true})
	p, err := c.Prompt(t.Context(), text)
	if err != nil || p.Text != text {
		t.Errorf("%+v, %v", p, err)
	}
	chat, s := start(t, tgitest.Options{Chat: true}, func(cfg *Config) { cfg.Chat = true })
	for range 2 {
		p, err = chat.Prompt(t.Context(), text)
		if err != nil || p.Text != "[INST] "+text+" [/INST]" || !slices.Equal(p.IDs, s.Tokenizer.Encode("<s>"+p.Text, false)) {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if n := len(s.Bodies("/tokenize")); n != 3 {
		t.Errorf("%d texts tokenized for two prompts: what fitted was not remembered", n)
	}
	bare, _ := start(t, tgitest.Options{}, func(cfg *Config) { cfg.Chat = true })
	if _, err := bare.Prompt(t.Context(), text); fault.ClassOf(err) != fault.Fatal || fault.HintOf(err) == "" {
		t.Errorf("without a template: %v", err)
	}
}

func TestPrefillMustBeOn(t *testing.T) {
	c, s := start(t, tgitest.Options{NoPrefill: true})
	_, err := c.Score(t.Context(), "", "abc", s.Tokenizer.Encode("abc", true), 2)
	if fault.ClassOf(err) != fault.Fatal || !strings.Contains(fault.HintOf(err), "--enable-prefill-logprobs") {
		t.Errorf("%v (%s)", err, fault.HintOf(err))
	}
}

// The server would answer with its base model: nothing may be sent.
func TestUnknownModel(t *testing.T) {
	c, s := start(t, tgitest.Options{})
	_, gen := c.Generate(t.Context(), Request{Text: "a", Model: "lora-2", MaxTokens: 1})
	_, stream := c.Stream(t.Context(), Request{Text: "a", Model: "lora-2", MaxTokens: 1}, func(Delta) {})
	_, score := c.Score(t.Context(), "lora-2", "abc", []int32{0, 1}, 1)
	for _, err := range []error{gen, stream, score} {
		if fault.ClassOf(err) != fault.Item || fault.HintOf(err) == "" {
			t.Error(err)
		}
	}
	if n := len(s.Bodies("/generate")) + len(s.Bodies("/generate_stream")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	for _, names := range [][]string{{""}, {"base"}} {
		cfg := Config{Settings: transport.Settings{BaseURL: "http://localhost"}, Model: "base", Adapters: names}
		if _, err := New(cfg); err == nil {
			t.Errorf("adapters %q were accepted", names)
		}
	}
}

func TestImpossibleRequestsAreNotSent(t *testing.T) {
	c, s := start(t, tgitest.Options{})
	for _, r := range []Request{
		{MaxTokens: 1}, {Text: "a"}, {Text: "a", MaxTokens: 1, N: -1}, {Text: "a", MaxTokens: 1, N: 2},
		{Text: "a", MaxTokens: 1, Temperature: math.NaN()}, {Text: "a", MaxTokens: 1, Temperature: -1}, {Text: "a", MaxTokens: 1, Temperature: math.Inf(1)},
		{Text: "a", MaxTokens: 1, TopP: 1.1}, {Text: "a", MaxTokens: 1, TopK: -1},
	} {
		_, err := c.Generate(t.Context(), r)
		_, serr := c.Stream(t.Context(), r, func(Delta) {})
		if fault.ClassOf(err) != fault.Item || fault.ClassOf(serr) != fault.Item {
			t.Errorf("%+v: %v, %v", r, err, serr)
		}
	}
	for _, tail := range []int{-1, 0, 2} {
		if _, err := c.Score(t.Context(), "", "abc", []int32{0, 1}, tail); fault.ClassOf(err) != fault.Item {
			t.Errorf("tail %d: %v", tail, err)
		}
	}
	if n := len(s.Bodies("/generate")) + len(s.Bodies("/generate_stream")); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}
