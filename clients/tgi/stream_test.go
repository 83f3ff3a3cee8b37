package tgi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
	"recpie/internal/fault"
)

// A stream gives the same answer as the whole, piece by piece.
func TestStreamIsTheAnswer(t *testing.T) {
	c, _ := start(t, tgitest.Options{})
	for _, r := range []Request{
		{Text: "The film", MaxTokens: 20},
		{Text: "The film", MaxTokens: 1},
		{Text: "The film", Model: "lora", MaxTokens: 200, Temperature: 1, Seed: seeded(3)},
	} {
		want, err := c.Generate(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		pieces, last := 0, time.Time{}
		got, err := c.Stream(t.Context(), r, func(d Delta) {
			text.WriteString(d.Text)
			if pieces++; d.At.Before(last) {
				t.Errorf("piece %d came at %v after %v", pieces, d.At, last)
			}
			last = d.At
		})
		if err != nil || got.Text != want[0].Text || !slices.Equal(got.TokenIDs, want[0].TokenIDs) || !slices.Equal(got.Logprobs, want[0].Logprobs) || got.FinishReason != want[0].FinishReason {
			t.Errorf("%+v: %+v, want %+v: %v", r, got, want[0], err)
		}
		if text.String() != want[0].Text || pieces != len(want[0].TokenIDs) {
			t.Errorf("%d pieces make %q, want %d and %q", pieces, text.String(), len(want[0].TokenIDs), want[0].Text)
		}
	}
	if _, err := c.Stream(t.Context(), Request{Text: "a", MaxTokens: 2, N: 2, Temperature: 1}, func(Delta) {}); fault.ClassOf(err) != fault.Item {
		t.Errorf("two answers in a stream: %v", err)
	}
}

// event is one event of a stream; text "" means that more follows.
func event(id int, text, details string) string {
	if text == "" {
		return fmt.Sprintf("data:{\"index\":1,\"token\":{\"id\":%d,\"text\":\"a\",\"logprob\":-0.5,\"special\":false},\"generated_text\":null,\"details\":null}\n\n", id)
	}
	return fmt.Sprintf("data:{\"index\":1,\"token\":{\"id\":%d,\"text\":\"a\",\"logprob\":-0.5,\"special\":false},\"generated_text\":%q,\"details\":%s}\n\n", id, text, details)
}

func ends(n int) string {
	return fmt.Sprintf(`{"finish_reason":"length","generated_tokens":%d,"seed":null,"input_length":3}`, n)
}

// TestStreamFaults: the errors that a stream carries are those that the other route gives as a status.
func TestStreamFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		body   string
		class  fault.Class
		pieces int
		says   string
	}{
		"validation": {"data:" + apiError("Input validation error: x", "validation") + "\n\n", fault.Item, 0, "HTTP 422 validation"},
		"overloaded": {"data: " + apiError("Model is overloaded", "overloaded") + "\n\n", fault.Transient, 0, "overloaded"},
		"generation": {event(5, "", "") + "data:" + apiError("Request failed during generation: x", "generation") + "\n\n", fault.Endpoint, 1, "during generation"},
		"incomplete": {event(5, "", "") + "data:" + apiError("Incomplete generation", "incomplete_generation_stream") + "\n\n", fault.Endpoint, 1, "HTTP 500"},
		"no JSON":    {"data: hello\n\n", fault.Endpoint, 0, "JSON"},
		"no token":   {"data: {}\n\n", fault.Endpoint, 0, "no token"},
		"bad token":  {event(-5, "", ""), fault.Endpoint, 0, "id -5"},
		"too many":   {event(5, "", "") + event(6, "", "") + event(7, "", "") + event(8, "", ""), fault.Endpoint, 3, "more than the 3"},
		"no details": {event(5, "a", "null"), fault.Endpoint, 0, "no details"},
		"miscounted": {event(5, "", "") + event(5, "aa", ends(3)), fault.Endpoint, 1, "2 tokens where 3"},
		"cut short":  {event(5, "", "") + strings.TrimSuffix(event(5, "aa", ends(2)), "\n"), fault.Endpoint, 1, "before its end mark"},
		"empty":      {"", fault.Endpoint, 0, "before its end mark"},
	} {
		pieces := 0
		c, _ := start(t, always(200, eventType, tt.body))
		got, err := c.Stream(t.Context(), Request{Text: "a", MaxTokens: 3}, func(Delta) { pieces++ })
		if got != nil || fault.ClassOf(err) != tt.class || pieces != tt.pieces || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %d pieces, %+v, %v: %v", name, pieces, got, fault.ClassOf(err), err)
		}
	}
	c, _ := start(t, always(429, jsonType, apiError("Model is overloaded", "overloaded")))
	if _, err := c.Stream(t.Context(), Request{Text: "a", MaxTokens: 3}, func(Delta) {}); fault.ClassOf(err) != fault.Transient {
		t.Errorf("a status: %v", err)
	}
	c, _ = start(t, always(200, eventType, ":\n\n"+event(5, "", "")+event(6, "aa", ends(2))))
	if got, err := c.Stream(t.Context(), Request{Text: "a", MaxTokens: 3}, func(Delta) {}); err != nil || got.Text != "aa" || !slices.Equal(got.TokenIDs, []int32{5, 6}) {
		t.Errorf("the stream that the others were made from: %+v, %v", got, err)
	}
}

// canned answers every request with one body.
type canned struct {
	kind string
	body []byte
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {c.kind}}, Body: io.NopCloser(bytes.NewReader(c.body)), ContentLength: -1}, nil
}

// FuzzStream: whatever a stream holds, it gives an answer that is whole or an error with a class, never both, and never more pieces
// than tokens were asked for.
func FuzzStream(f *testing.F) {
	for _, seed := range []string{
		event(5, "", "") + event(6, "aa", ends(2)), ":\n\n\ufeffdata:\r\ndata: 1\r\r" + event(5, "a", ends(1)), "data:" + apiError("x", "overloaded") + "\n\n",
		"data:{\"token\":null,\"error\":null}\n\n", "event: x\nid: 3\ndata:{\"token\":{\"id\":1,\"logprob\":0}}\n\n", event(5, "a", `{"finish_reason":"eos_token","generated_tokens":1}`),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 4
		c, err := New(Config{Settings: transport.Settings{BaseURL: "http://tgi", Attempts: 1, RoundTripper: canned{eventType, body}}})
		if err != nil {
			t.Fatal(err)
		}
		pieces := 0
		got, err := c.Stream(t.Context(), Request{Text: "a", MaxTokens: most}, func(Delta) { pieces++ })
		whole(t, got, err, most)
		if pieces > most || (got != nil && pieces != len(got.TokenIDs)) {
			t.Errorf("%d pieces for %+v", pieces, got)
		}
	})
}

// FuzzAnswer: whatever an answer holds, what is taken is whole.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{good, "null", "[]", "", `{"generated_text":"","details":{}}`, swap("-0.5", "1e308"), swap(`"id":5`, `"id":2147483648`), apiError("x", "y")} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 4
		c, err := New(Config{Settings: transport.Settings{BaseURL: "http://tgi", Attempts: 1, RoundTripper: canned{jsonType, body}}, Chat: true})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.Generate(t.Context(), Request{Text: "a", MaxTokens: most})
		if err == nil && len(out) != 1 {
			t.Fatalf("%d answers", len(out))
		}
		var got *Choice
		if err == nil {
			got = &out[0]
		}
		whole(t, got, err, most)
		if lps, err := c.Score(t.Context(), "", "abc", []int32{3, 4, 5}, 2); (err == nil) != (len(lps) == 2) {
			t.Errorf("scores %v, %v", lps, err)
		}
		if ids, err := c.Tokenize(t.Context(), "a"); (err == nil) == (len(ids) == 0) {
			t.Errorf("ids %v, %v", ids, err)
		}
		_, _ = c.Prompt(t.Context(), "a")
		if l, err := parseLoad(body); err == nil && !(l.Waiting >= 0 && l.Running >= 0) {
			t.Errorf("load %+v", l)
		}
		_ = parseError(500, body).Error()
	})
}

func whole(t *testing.T, got *Choice, err error, most int) {
	t.Helper()
	if (got == nil) == (err == nil) {
		t.Fatalf("both or neither: %+v, %v", got, err)
	}
	if err != nil {
		var classed *fault.Error
		if !errors.As(err, &classed) || len(err.Error()) > 4<<10 {
			t.Fatalf("the error has no class, or does not end: %.300v", err)
		}
		return
	}
	n := len(got.TokenIDs)
	if n < 1 || n > most || len(got.Logprobs) != n || (got.FinishReason != "stop" && got.FinishReason != "length") {
		t.Fatalf("%+v", got)
	}
	for i, id := range got.TokenIDs {
		if lp := got.Logprobs[i]; id < 0 || !(lp <= 1e-3 && lp >= -1e308*1.7) {
			t.Fatalf("%+v", got)
		}
	}
}
