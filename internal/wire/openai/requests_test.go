package openai

import (
	"encoding/json"
	"testing"
)

// TestRequestBytes pins what goes over the wire: explicit zeros are sent, unset fields are not.
func TestRequestBytes(t *testing.T) {
	tests := []struct {
		name string
		req  any
		want string
	}{
		{"explicit zeros", CompletionRequest{Sampling: Sampling{Model: Ptr("m"), MaxTokens: Ptr(0), Temperature: Ptr(0.0), Seed: Ptr(int64(0)), MinTokens: Ptr(0), TopK: Ptr(0)},
			Prompt: TokenPrompt([]int32{1, 2}), Echo: Ptr(true), Logprobs: Ptr(0)},
			`{"model":"m","max_tokens":0,"temperature":0,"top_k":0,"seed":0,"min_tokens":0,"prompt":[1,2],"echo":true,"logprobs":0}`},
		{"null model is the base model", CompletionRequest{Prompt: TextPrompt("")}, `{"model":null,"prompt":""}`},
		{"text batch", CompletionRequest{Prompt: TextPrompts([]string{"a"})}, `{"model":null,"prompt":["a"]}`},
		{"token batch", CompletionRequest{Prompt: TokenPrompts([][]int32{{1}, {2, 3}})}, `{"model":null,"prompt":[[1],[2,3]]}`},
		{"empty batch", CompletionRequest{Prompt: &Prompt{Batch: true}}, `{"model":null,"prompt":[]}`},
		{"embeds", CompletionRequest{PromptEmbeds: One("AA==")}, `{"model":null,"prompt_embeds":"AA=="}`},
		{"embeds batch", CompletionRequest{PromptEmbeds: Many("AA==")}, `{"model":null,"prompt_embeds":["AA=="]}`},
		{"chat", ChatRequest{Sampling: Sampling{Model: Ptr("m"), Temperature: Ptr(0.0), Stop: One("\n"), ReturnTokenIDs: Ptr(true)}, Logprobs: Ptr(true), TopLogprobs: Ptr(0),
			Messages: []Message{{"system", Content{Text: "s"}}, {"user", Content{Parts: []Part{{Type: PartEmbeds, Data: "AA=="}, {Type: PartText, Text: ""}}}}}},
			`{"model":"m","temperature":0,"stop":"\n","return_token_ids":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"prompt_embeds","data":"AA=="},{"type":"text","text":""}]}],"logprobs":true,"top_logprobs":0}`},
		{"load", LoadLoRARequest{Name: Ptr("a"), Path: Ptr("/p/a")}, `{"lora_name":"a","lora_path":"/p/a"}`},
		{"unload", UnloadLoRARequest{Name: Ptr("a")}, `{"lora_name":"a"}`},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			got, err := json.Marshal(tc.req)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestMarshalRefusesWhatHasNoForm(t *testing.T) {
	for name, v := range map[string]any{
		"both texts and tokens": Prompt{Texts: []string{"a"}, Tokens: [][]int32{{1}}},
		"two singles":           Prompt{Texts: []string{"a", "b"}},
		"nothing":               Prompt{},
		"part of unknown type":  Part{Type: "image_url"},
	} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("%s: got %s, want an error", name, b)
		}
	}
}

func TestUnmarshalRefusesWrongForms(t *testing.T) {
	for _, in := range []string{`{"prompt":5}`, `{"prompt":{"a":1}}`, `{"prompt":[1,"a"]}`, `{"prompt":["a",1]}`, `{"prompt":[1.5]}`, `{"prompt":[99999999999]}`, `{"prompt":[[1],2]}`, `{"prompt":null,"stop":5}`, `{"prompt_embeds":[0.1]}`} {
		var r CompletionRequest
		if err := json.Unmarshal([]byte(in), &r); err == nil {
			t.Errorf("%s was accepted as %+v", in, r)
		}
	}
	var c ChatRequest
	if err := json.Unmarshal([]byte(`{"messages":[{"role":"user","content":5}]}`), &c); err == nil {
		t.Error("a numeric content was accepted")
	}
	if err := json.Unmarshal([]byte(`{"messages":[{"role":"assistant","content":null}]}`), &c); err != nil {
		t.Errorf("a null content: %v", err)
	}
}

func FuzzRequests(f *testing.F) {
	for _, s := range []string{`{"prompt":"a"}`, `{"prompt":[[1],[2]]}`, `{"prompt":[ 1 ]}`, `{"prompt":[]}`, `{"prompt_embeds":["x"],"stop":["a","b"]}`, `{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var r CompletionRequest
		if json.Unmarshal(data, &r) == nil && r.Prompt != nil {
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatalf("decoded but not encodable: %v", err)
			}
			if err := json.Unmarshal(b, new(CompletionRequest)); err != nil {
				t.Fatalf("our own encoding is refused: %v", err)
			}
		}
		var c ChatRequest
		_ = json.Unmarshal(data, &c)
	})
}
