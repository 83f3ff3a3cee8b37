package vllm

import (
	"context"
	"math"
	"slices"
	"testing"

	"recpie/internal/fault"
)

func TestRecordedGenerations(t *testing.T) {
	user := []Message{{Role: "user", Parts: []Part{{Text: "def main():"}}}}
	soft, err := NewSoft(make([]float32, 4*128), 4, 128)
	if err != nil {
		t.Fatal(err)
	}
	complete := func(p Params) func(*Client) (*Result, error) {
		return func(c *Client) (*Result, error) {
			return c.Complete(context.Background(), CompletionRequest{Text: "def main():", Params: p})
		}
	}
	chat := func(m []Message, p Params) func(*Client) (*Result, error) {
		return func(c *Client) (*Result, error) {
			return c.Chat(context.Background(), ChatRequest{Messages: m, Params: p})
		}
	}
	tests := []struct {
		recording string
		call      func(*Client) (*Result, error)
		texts     []string
		tokens    []int32
		prompt    []int32
		logprobs  []float64
	}{
		{"llama_008", complete(Params{MaxTokens: 8}), []string{"\ufffd descri abscanger\ufffd pFF"}, []int32{170, 1474, 1927, 1393, 703, 233, 322, 1292}, []int32{469, 918, 269, 843}, nil},
		{"llama_012", complete(Params{MaxTokens: 8, N: 2, Temperature: 1, TextOnly: true}), []string{" act statne filesstarts\ufffd warg", "__.__seconFAULT env partpython overriunk"}, nil, nil, nil},
		{"llama_013", complete(Params{MaxTokens: 3, Logprobs: true, TextOnly: true}), []string{"\ufffd descri abs"}, nil, nil, []float64{-2.1769208908081055, -1.5626566410064697, -2.987036943435669}},
		{"llama_035", chat(user, Params{MaxTokens: 2, Logprobs: true, TextOnly: true}), []string{"diffpython"}, nil, nil, []float64{-3.2965495586395264, -1.4227856397628784}},
		{"llama_036", chat(user, Params{MaxTokens: 8, N: 2, Temperature: 1, TextOnly: true}), []string{"FF instanceDecimalil docissingils else", ")):\ufffd <=\ufffd\ufffd repreandlection"}, nil, nil, nil},
		{"llama_039", chat(user, Params{MaxTokens: 3}), []string{"diffpython/."}, []int32{1248, 1668, 1539}, []int32{4, 469, 918, 269, 843, 6, 5}, nil},
		{"llama_093", chat([]Message{User(soft, "x")}, Params{MaxTokens: 2}), []string{" betange"}, []int32{1379, 738}, []int32{4, 2048, 2048, 2048, 2048, 6, 5}, nil},
	}
	for _, tc := range tests {
		t.Run(tc.recording, func(t *testing.T) {
			r, err := tc.call(newClient(t, replay(t, tc.recording).URL))
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Choices) != len(tc.texts) {
				t.Fatalf("%d choices, want %d", len(r.Choices), len(tc.texts))
			}
			for i, c := range r.Choices {
				if c.Text != tc.texts[i] || c.Index != i || c.FinishReason != "length" {
					t.Errorf("choice %d: %+v, want text %q", i, c, tc.texts[i])
				}
			}
			if !slices.Equal(r.Choices[0].TokenIDs, tc.tokens) || !slices.Equal(r.PromptTokenIDs, tc.prompt) || !slices.Equal(r.Choices[0].Logprobs, tc.logprobs) {
				t.Errorf("tokens %v, prompt %v, logprobs %v", r.Choices[0].TokenIDs, r.PromptTokenIDs, r.Choices[0].Logprobs)
			}
			if r.PromptTokens == 0 || r.CompletionTokens == 0 {
				t.Errorf("usage %d, %d", r.PromptTokens, r.CompletionTokens)
			}
		})
	}
}

func TestRecordedScore(t *testing.T) {
	c := newClient(t, replay(t, "llama_018").URL)
	ids := []int32{469, 918, 269, 843}
	for tail, want := range map[int][]float64{0: {-11.241106986999512, -11.469755172729492, -9.773077011108398}, 2: {-11.469755172729492, -9.773077011108398}} {
		got, err := c.Score(context.Background(), "", ids, tail)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("tail %d: %v, %v", tail, got, err)
		}
	}
	if _, err := c.Score(context.Background(), "", ids, 4); fault.ClassOf(err) != fault.Item || err == nil {
		t.Errorf("the first token was scored: %v", err)
	}
	if _, err := c.Score(context.Background(), "", []int32{1, 2, 3}, 0); err == nil {
		t.Error("an answer for four tokens was taken for one of three")
	}
}

func TestRecordedLists(t *testing.T) {
	ctx := context.Background()
	models, err := newClient(t, replay(t, "llama_117").URL).Models(ctx)
	if err != nil || len(models) != 6 || models[0].MaxLen != 512 || models[1].Parent != "tiny-llama" || models[1].ID != "ad-a" || models[1].MaxLen != 0 {
		t.Errorf("models %+v, %v", models, err)
	}
	ids, err := newClient(t, replay(t, "llama_041").URL).Tokenize(ctx, "def main():", true)
	if err != nil || !slices.Equal(ids, []int32{469, 918, 269, 843}) {
		t.Errorf("tokens %v, %v", ids, err)
	}
	ids, err = newClient(t, replay(t, "llama_043").URL).TokenizeChat(ctx, []Message{User(Soft{}, "def main():")})
	if err != nil || len(ids) != 7 {
		t.Errorf("chat tokens %v, %v", ids, err)
	}
	text, err := newClient(t, replay(t, "llama_044").URL).Detokenize(ctx, []int32{300, 301, 302})
	if err != nil || text != " the ' b" {
		t.Errorf("text %q, %v", text, err)
	}
	if err := newClient(t, replay(t, "llama_105").URL).LoadAdapter(ctx, "ad-a", "/x"); err != nil {
		t.Errorf("load: %v", err)
	}
	if err := newClient(t, replay(t, "llama_138").URL).UnloadAdapter(ctx, "ad-b"); err != nil {
		t.Errorf("unloading what is not loaded: %v", err)
	}
}

func TestRecordedErrors(t *testing.T) {
	ctx := context.Background()
	generate := func(c *Client) error {
		_, err := c.Complete(ctx, CompletionRequest{Text: "x", Params: Params{MaxTokens: 1}})
		return err
	}
	load := func(c *Client) error { return c.LoadAdapter(ctx, "ad-x", "/nowhere") }
	for rec, tc := range map[string]struct {
		call  func(*Client) error
		class fault.Class
		hint  bool
	}{
		"auth_001":   {generate, fault.Fatal, true},
		"llama_174":  {generate, fault.Item, false},
		"llama_176":  {generate, fault.Item, false},
		"llama_194":  {generate, fault.Item, false},
		"off_001":    {generate, fault.Fatal, true},
		"off_003":    {load, fault.Fatal, true},
		"llama_125":  {load, fault.Item, false},
		"llama2_013": {load, fault.Endpoint, false},
	} {
		f := replay(t, rec)
		err := tc.call(newClient(t, f.URL))
		if err == nil || fault.ClassOf(err) != tc.class || (fault.HintOf(err) != "") != tc.hint {
			t.Errorf("%s: %v (%v, hint %q)", rec, err, fault.ClassOf(err), fault.HintOf(err))
		}
		if n := len(f.requests()); n != 1 {
			t.Errorf("%s: %d requests, an error that cannot pass must not be retried", rec, n)
		}
		if IsUnknownModel(err) != (rec == "llama_174") {
			t.Errorf("%s: IsUnknownModel = %v", rec, IsUnknownModel(err))
		}
	}
}

func TestNewSoftRefusesNonFinite(t *testing.T) {
	if _, err := NewSoft([]float32{1, float32(math.NaN())}, 1, 2); err == nil || fault.ClassOf(err) != fault.Item {
		t.Errorf("NaN: %v", err)
	}
}
