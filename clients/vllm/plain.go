package vllm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"

	goopenai "github.com/sashabaranov/go-openai"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// asPlain tells whether go-openai can carry a chat without losing anything: text messages, no token ids, no field that it lacks,
// and no zero that it would drop.
func (c *Client) asPlain(req ChatRequest) (goopenai.ChatCompletionRequest, bool) {
	p, name := req.Params, c.modelName(req.Model)
	if !p.TextOnly || p.Logprobs || name == nil || p.Temperature == 0 || !fits32(p.Temperature) || !fits32(p.TopP) || p.TopK != 0 || p.MinTokens != 0 || p.IgnoreEOS || p.CacheSalt != "" {
		return goopenai.ChatCompletionRequest{}, false
	}
	out := goopenai.ChatCompletionRequest{Model: *name, Temperature: float32(p.Temperature), TopP: float32(p.TopP), N: max(1, p.N), Stop: p.Stop}
	//lint:ignore SA1019 max_tokens is the field that every OpenAI-compatible server reads; the newer one is not
	out.MaxTokens = p.MaxTokens
	if p.Seed != nil {
		if *p.Seed > math.MaxInt || *p.Seed < math.MinInt {
			return out, false
		}
		seed := int(*p.Seed)
		out.Seed = &seed
	}
	for _, m := range req.Messages {
		if len(m.Parts) != 1 || m.Parts[0].Soft.rows > 0 || m.Parts[0].Text == "" {
			return out, false
		}
		out.Messages = append(out.Messages, goopenai.ChatCompletionMessage{Role: m.Role, Content: m.Parts[0].Text})
	}
	return out, true
}

// fits32 tells whether a number is written the same as float32, which is how go-openai holds it.
func fits32(v float64) bool {
	return strconv.FormatFloat(v, 'g', -1, 32) == strconv.FormatFloat(v, 'g', -1, 64)
}

// strict reads an answer to its end before go-openai decodes it, and refuses what go-openai would not see: an answer that breaks off
// after its JSON, what transport.Unmarshal refuses, a choice without index or text.
type strict struct{ t *transport.Client }

// Do sends a request.
func (s strict) Do(req *http.Request) (*http.Response, error) {
	resp, err := s.t.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	var r struct {
		ID      string `json:"id"`
		Choices []struct {
			Index   *int `json:"index"`
			Message struct {
				Content *string `json:"content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if err := transport.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("the answer is not the JSON expected: %w", err)
	}
	if err := transport.CheckID(transport.RequestID(resp), r.ID); err != nil {
		return nil, err
	}
	for _, ch := range r.Choices {
		if ch.Index == nil || ch.Message.Content == nil {
			return nil, errors.New("a choice has no index or no content")
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// chatPlain sends a chat through go-openai.
func (c *Client) chatPlain(ctx context.Context, plain goopenai.ChatCompletionRequest, req ChatRequest) (*Result, error) {
	const op = "vllm: chat"
	body, err := json.Marshal(plain)
	if err != nil {
		return nil, fault.New(fault.Item, op, err)
	}
	return c.generate("/v1/chat/completions", body, req.Params, func() (*Result, error) {
		var res *Result
		err := c.http.Retry(ctx, op, func() error {
			r, err := c.plain.CreateChatCompletion(ctx, plain)
			if err != nil {
				return c.plainError(ctx, op, err)
			}
			res = &Result{Model: r.Model, PromptTokens: r.Usage.PromptTokens, CompletionTokens: r.Usage.CompletionTokens}
			for _, ch := range r.Choices {
				res.Choices = append(res.Choices, Choice{Index: ch.Index, Text: ch.Message.Content, FinishReason: string(ch.FinishReason)})
			}
			return transport.Suspect(op, checkResult(res, req.Params))
		})
		if err = c.known(req.Model, err); err != nil {
			return nil, err
		}
		return res, nil
	})
}

// Embed returns the embedding of each text from the server's embeddings route, all of the same dimension and finite.
func (c *Client) Embed(ctx context.Context, model string, texts []string) ([][]float32, error) {
	const op = "vllm: embeddings"
	name := c.modelName(model)
	if name == nil || len(texts) == 0 {
		return nil, fault.Newf(fault.Item, op, "a model and at least one text are needed")
	}
	var out [][]float32
	err := c.http.Retry(ctx, op, func() error {
		r, err := c.plain.CreateEmbeddings(ctx, goopenai.EmbeddingRequestStrings{Input: texts, Model: goopenai.EmbeddingModel(*name)})
		if err != nil {
			return c.plainError(ctx, op, err)
		}
		out, err = embeddings(r.Data, len(texts))
		return transport.Suspect(op, err)
	})
	return out, err
}

func embeddings(data []goopenai.Embedding, n int) ([][]float32, error) {
	if len(data) != n {
		return nil, fmt.Errorf("%d embeddings for %d texts", len(data), n)
	}
	out := make([][]float32, n)
	for _, e := range data {
		if e.Index < 0 || e.Index >= n || out[e.Index] != nil || len(e.Embedding) == 0 || len(e.Embedding) != len(data[0].Embedding) {
			return nil, fmt.Errorf("embedding %d of dimension %d is out of place", e.Index, len(e.Embedding))
		}
		for _, v := range e.Embedding {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("embedding %d holds %v", e.Index, v)
			}
		}
		out[e.Index] = e.Embedding
	}
	return out, nil
}

// plainError gives go-openai's errors the same classes as the typed layer's.
func (c *Client) plainError(ctx context.Context, op string, err error) error {
	var api *goopenai.APIError
	var req *goopenai.RequestError
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	e := &openai.APIError{}
	switch {
	case errors.As(err, &api) && api.HTTPStatusCode != 0:
		e.Status, e.Type, e.Message, e.Param = api.HTTPStatusCode, api.Type, api.Message, deref(api.Param)
	case errors.As(err, &req) && req.HTTPStatusCode != 0:
		e = openai.ParseError(req.HTTPStatusCode, req.Body)
	case errors.As(err, &syntax), errors.As(err, &typ):
		return transport.Suspect(op, err)
	default:
		return c.http.Failed(ctx, op, err)
	}
	return transport.StatusError(op, e.Status, e.Class(), e.Hint(), e)
}
