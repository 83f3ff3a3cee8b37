package vllm

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"recpie/clients/transport"
)

// ready is a way to a server that has the answer at hand: what is left is the cost of the client itself.
type ready string

// RoundTrip answers.
func (r ready) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: int64(len(r)), Body: io.NopCloser(strings.NewReader(string(r)))}, nil
}

// BenchmarkChat measures a chat without network and net/http: building the request, deadlines, decoding and checking the answer.
func BenchmarkChat(b *testing.B) {
	const answered = `{"id":"chatcmpl-1","object":"chat.completion","created":1795388479,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"The user would like it for the sea around the lighthouse."},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":23,"total_tokens":35,"completion_tokens":12}}`
	c, err := New(Config{Settings: transport.Settings{BaseURL: "http://h", RoundTripper: ready(answered), Attempts: 1}, Model: "m"})
	if err != nil {
		b.Fatal(err)
	}
	req := ChatRequest{Messages: []Message{User(Soft{}, "The user liked five films about the sea and none about space. Would the user like a film about a lighthouse?")}, Params: Params{MaxTokens: 32, TextOnly: true}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Chat(b.Context(), req); err != nil {
			b.Fatal(err)
		}
	}
}
