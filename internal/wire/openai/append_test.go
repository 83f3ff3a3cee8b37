package openai

import (
	"encoding/json"
	"math"
	"testing"

	"pgregory.net/rapid"
)

func optional[T any](t *rapid.T, g *rapid.Generator[T], name string) *T {
	if rapid.Bool().Draw(t, name+" is set") {
		return Ptr(g.Draw(t, name))
	}
	return nil
}

func drawSampling(t *rapid.T) Sampling {
	number, text, yes := rapid.Float64(), rapid.String(), rapid.Bool()
	s := Sampling{
		Model: optional(t, text, "model"), MaxTokens: optional(t, rapid.Int(), "max_tokens"), Temperature: optional(t, number, "temperature"), TopP: optional(t, number, "top_p"),
		TopK: optional(t, rapid.Int(), "top_k"), N: optional(t, rapid.Int(), "n"), Seed: optional(t, rapid.Int64(), "seed"), StopTokenIDs: rapid.SliceOfN(rapid.Int32(), 0, 3).Draw(t, "stop ids"),
		IncludeStop: optional(t, yes, "include"), IgnoreEOS: optional(t, yes, "ignore"), MinTokens: optional(t, rapid.Int(), "min"), SkipSpecial: optional(t, yes, "skip"),
		PromptLogprobs: optional(t, rapid.Int(), "prompt logprobs"), TokensAsIDs: optional(t, yes, "as ids"), ReturnTokenIDs: optional(t, yes, "ids"), CacheSalt: optional(t, text, "salt"),
		RequestID: optional(t, text, "id"), Stream: optional(t, yes, "stream"), TruncatePrompt: optional(t, rapid.Int(), "truncate"), FrequencyPen: optional(t, number, "frequency"),
		PresencePen: optional(t, number, "presence"), RepetitionPen: optional(t, number, "repetition"), MinP: optional(t, number, "min_p"), AddSpecialToken: optional(t, yes, "special"),
	}
	if list := rapid.SliceOfN(text, 0, 3).Draw(t, "stop"); len(list) > 0 {
		s.Stop = &Strings{Values: list, List: len(list) > 1 || rapid.Bool().Draw(t, "stop as a list")}
	}
	return s
}

// Requests are written as encoding/json writes them, and refused where it refuses them.
func TestAppendJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chat := ChatRequest{Sampling: drawSampling(t), MaxCompletionTokens: optional(t, rapid.Int(), "completion"), Logprobs: optional(t, rapid.Bool(), "lp"), TopLogprobs: optional(t, rapid.Int(), "top"), AddGenerationPrompt: optional(t, rapid.Bool(), "generation")}
		for range rapid.IntRange(0, 3).Draw(t, "messages") {
			m := Message{Role: rapid.String().Draw(t, "role"), Content: Content{Text: rapid.String().Draw(t, "content")}}
			for i := range rapid.IntRange(0, 3).Draw(t, "parts") {
				m.Content.Parts = append(m.Content.Parts, Part{Type: []string{PartText, PartEmbeds, PartText}[i], Text: rapid.String().Draw(t, "text"), Data: "AA=="})
			}
			chat.Messages = append(chat.Messages, m)
		}
		same(t, &chat, chat.AppendJSON)
		completion := CompletionRequest{Sampling: chat.Sampling, Echo: optional(t, rapid.Bool(), "echo"), Logprobs: optional(t, rapid.Int(), "logprobs"), Suffix: optional(t, rapid.String(), "suffix")}
		texts, ids := rapid.SliceOfN(rapid.String(), 0, 3).Draw(t, "texts"), rapid.SliceOfN(rapid.SliceOfN(rapid.Int32(), 0, 4), 0, 3).Draw(t, "ids")
		switch rapid.IntRange(0, 3).Draw(t, "prompt") {
		case 0:
			completion.PromptEmbeds = Many(texts...)
		case 1:
			completion.Prompt = &Prompt{Texts: texts, Batch: len(texts) != 1}
		case 2:
			completion.Prompt = &Prompt{Tokens: ids, Batch: len(ids) != 1}
		}
		same(t, &completion, completion.AppendJSON)
	})
	bad := ChatRequest{Sampling: Sampling{Temperature: Ptr(math.Inf(1))}}
	if b, err := bad.AppendJSON(nil); err == nil {
		t.Errorf("an infinite temperature is written as %s", b)
	}
	bad = ChatRequest{Messages: []Message{{Content: Content{Parts: []Part{{Type: "image_url"}}}}}}
	if b, err := bad.AppendJSON(nil); err == nil {
		t.Errorf("a part of no known type is written as %s", b)
	}
}

func same(t *rapid.T, request any, appendJSON func([]byte) ([]byte, error)) {
	want, werr := json.Marshal(request)
	got, err := appendJSON([]byte("before"))
	if (err == nil) != (werr == nil) || err == nil && string(got) != "before"+string(want) {
		t.Fatalf("%s, %v\nencoding/json: %s, %v", got, err, want, werr)
	}
}

// FuzzAppendString holds strings, and numbers made of them, against encoding/json.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "<a href=\"x\">&amp;\\</a>", "\x00\b\f\n\r\t\x1f\x7f", "\u2027\u2028\u2029\u202a", "ü€😀", "\xff\xc3", "a\xe2\x80", "\xed\xa0\x80", "\ufffd"} {
		f.Add(s, math.Pi)
	}
	for _, v := range []float64{0, math.Copysign(0, -1), 1e-6, 9.9e-7, 1e-9, 1e20, 1e21, 1e-100, 1.5e300, 5e-324, .1} {
		f.Add("", v)
	}
	f.Fuzz(func(t *testing.T, s string, v float64) {
		if want, err := json.Marshal(s); err != nil || string(appendString(nil, s)) != string(want) {
			t.Errorf("%q: %s, want %s", s, appendString(nil, s), want)
		}
		if want, err := json.Marshal(v); err == nil && string(appendFloat(nil, v)) != string(want) {
			t.Errorf("%v: %s, want %s", v, appendFloat(nil, v), want)
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	r := ChatRequest{Sampling: Sampling{Model: Ptr("m"), MaxTokens: Ptr(32), Temperature: Ptr(0.0), N: Ptr(1)}, Messages: []Message{{"user", Content{Text: "The user liked five films about the sea and none about space. Would the user like a film about a lighthouse?"}}}}
	for name, f := range map[string]func() ([]byte, error){"append": func() ([]byte, error) { return r.AppendJSON(nil) }, "encoding_json": func() ([]byte, error) { return json.Marshal(&r) }} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
