package vllm

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"recpie/clients/transport"
)

// reference reads an answer by encoding/json, which is slower and forgives more.
type reference struct {
	ID      string
	Model   string
	Choices []struct {
		Index   *int
		Text    *string
		Message struct{ Content *string }
		Finish  *string `json:"finish_reason"`
		IDs     []int32 `json:"token_ids"`
		Prompt  []int32 `json:"prompt_token_ids"`
		Scores  *struct {
			Content []struct{ Logprob *float64 }
			List    []*float64 `json:"token_logprobs"`
		} `json:"logprobs"`
	}
	Prompt []int32 `json:"prompt_token_ids"`
	Usage  struct {
		Prompt int `json:"prompt_tokens"`
		Made   int `json:"completion_tokens"`
	}
}

func (ref *reference) generation(chat bool) *generation {
	a := &generation{id: []byte(ref.ID), model: []byte(ref.Model), prompt: ref.Prompt, promptTokens: ref.Usage.Prompt, made: ref.Usage.Made}
	number := func(lp *float64) float64 {
		if lp == nil {
			return math.NaN()
		}
		return *lp
	}
	for _, ch := range ref.Choices {
		o := option{indexed: ch.Index != nil, finish: []byte(deref(ch.Finish)), ids: ch.IDs, prompt: ch.Prompt, scored: ch.Scores != nil}
		if ch.Index != nil {
			o.index = *ch.Index
		}
		text := ch.Text
		if chat {
			text = ch.Message.Content
		}
		if text != nil {
			o.text = []byte(*text)
		}
		if o.scored && chat {
			for _, t := range ch.Scores.Content {
				o.scores = append(o.scores, number(t.Logprob))
			}
		} else if o.scored {
			for _, lp := range ch.Scores.List {
				o.scores = append(o.scores, number(lp))
			}
		}
		a.choices = append(a.choices, o)
	}
	return a
}

// FuzzDecode holds the one-pass reading of answers against encoding/json: what it accepts it reads as that one does. Nothing is left in
// it from the answer before.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("../../internal/wire/openai/testdata/recorded/*.json")
	if err != nil || len(files) < 20 {
		f.Fatal(len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var x struct {
			Response struct{ JSON json.RawMessage }
		}
		if err := json.Unmarshal(b, &x); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(x.Response.JSON), true)
		f.Add([]byte(x.Response.JSON), false)
	}
	f.Add([]byte(`{"choices":[{"index":null,"logprobs":{"content":[{"logprob":null},{},null]},"token_ids":[],"message":{"content":""}},{}],"usage":null}`), true)
	f.Add([]byte(`{"choices":[{"index":0,"logprobs":{"token_logprobs":[null,-1e-3]},"token_ids":[2147483648],"text":"\u00e9\ud83d"}]}`), false)
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		var a generation
		_ = a.decode(&transport.Reply{Body: []byte(`{"id":"x","model":"m","choices":[{"index":3,"text":"t","finish_reason":"f","token_ids":[1],"logprobs":{"token_logprobs":[-1]}}],"prompt_token_ids":[1],"usage":{"prompt_tokens":7}}`)}, 1, false)
		a.reset()
		if a.decode(&transport.Reply{Body: body}, 8, chat) != nil {
			return
		}
		var whole any
		if err := json.Unmarshal(body, &whole); err != nil || !utf8.Valid(body) {
			t.Fatalf("%q is accepted: %v", body, err)
		}
		var ref reference
		if json.Unmarshal(body, &ref) != nil || !lower(whole) {
			return // of another type where it does not matter here; keys that encoding/json takes for others
		}
		want := ref.generation(chat)
		if !reflect.DeepEqual(printed(&a), printed(want)) {
			t.Fatalf("%q\n%+v\nwant %+v", body, printed(&a), printed(want))
		}
	})
}

// lower tells whether all keys are written as encoding/json compares them.
func lower(v any) bool {
	switch v := v.(type) {
	case []any:
		return !slices.ContainsFunc(v, func(v any) bool { return !lower(v) })
	case map[string]any:
		for key, v := range v {
			if strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" || !lower(v) {
				return false
			}
		}
	}
	return true
}

// printed are the parts that can be compared: NaN as text, empty and missing lists of scores as one.
func printed(a *generation) any {
	var all []any
	for _, ch := range a.choices {
		scores := []any{}
		for _, lp := range ch.scores {
			if math.IsNaN(lp) {
				scores = append(scores, "null")
			} else {
				scores = append(scores, lp)
			}
		}
		all = append(all, ch.index, ch.indexed, ch.text == nil, string(ch.text), string(ch.finish), ch.ids, ch.prompt, ch.scored, scores)
	}
	return []any{string(a.id), string(a.model), a.prompt, a.promptTokens, a.made, all}
}
