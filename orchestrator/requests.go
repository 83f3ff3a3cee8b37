package orchestrator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"recpie/clients/pool"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/queue"
	"recpie/internal/wire/openai"
)

// Call is a request that its author wrote out: a body in its one form, for one of the routes of generation.
type Call struct {
	Path string
	Body json.RawMessage
	User string // whom it is about, "" when it does not say
}

// Forwarder sends calls on as they are.
type Forwarder interface {
	Forward(ctx context.Context, c Call) (json.RawMessage, *vllm.Result, error)
}

// Forward implements Forwarder.
func (s VLLM) Forward(ctx context.Context, c Call) (json.RawMessage, *vllm.Result, error) {
	return s.Client.Forward(ctx, c.Path, c.Body)
}

// Forward implements Forwarder. Calls stick to a server by all that comes before their last message, and its beginning: what they may
// share with others they do share there, and what differs spreads them.
func (f Fleet) Forward(ctx context.Context, c Call) (answer json.RawMessage, res *vllm.Result, err error) {
	longest, _ := c.longest()
	call := pool.Call{Op: "request", Key: c.sticky(), Tokens: len(c.Body)/4 + longest}
	err = f.Pool.Do(ctx, call, func(ctx context.Context, s Server) (err error) {
		to, ok := s.(Forwarder)
		if !ok {
			return fault.WithHint(fault.Newf(fault.Fatal, "request", "a server does not take requests as they are written"), "name servers with OpenAI's API in inference.endpoints, not TGI")
		}
		answer, res, err = to.Forward(ctx, c)
		return err
	})
	return answer, res, err
}

// UsualAnswer is how many tokens an answer is taken to have when its request sets no bound.
const UsualAnswer = 256

// longest is how many tokens the answer has at most, and whether the request itself says so.
func (c Call) longest() (tokens int, bounded bool) {
	var s openai.Sampling
	_ = json.Unmarshal(c.Body, &s) // a slip costs precision of a cap or an estimate only
	n, most := 1, UsualAnswer
	if s.N != nil {
		n = *s.N
	}
	if s.MaxTokens != nil {
		most = *s.MaxTokens
	}
	return n * most, s.MaxTokens != nil
}

// prompt is the text that the model reads, without a chat template, and how many tokens stand in it as ids.
func (c Call) prompt() (text string, ids int) {
	var body struct {
		Messages []openai.Message `json:"messages"`
		Prompt   openai.Prompt    `json:"prompt"`
	}
	_ = json.Unmarshal(c.Body, &body) // it was checked when it was read
	all := slices.Clone(body.Prompt.Texts)
	for _, m := range body.Messages {
		all = append(all, textOf(m))
	}
	for _, run := range body.Prompt.Tokens {
		ids += len(run)
	}
	return strings.Join(all, "\n"), ids
}

// textOf is the text of a message, its parts together.
func textOf(m openai.Message) string {
	text := m.Content.Text
	for _, p := range m.Content.Parts {
		text += p.Text
	}
	return text
}

func (c Call) sticky() string {
	var body struct {
		Model    string           `json:"model"`
		Messages []openai.Message `json:"messages"`
		Prompt   json.RawMessage  `json:"prompt"`
	}
	_ = json.Unmarshal(c.Body, &body) // without a key any server will do
	var key strings.Builder
	key.WriteString(body.Model)
	for i, m := range body.Messages {
		text := textOf(m)
		if i == len(body.Messages)-1 {
			text = text[:min(len(text), stickyText)]
		}
		key.WriteString("\x00" + text)
	}
	key.Write(body.Prompt[:min(len(body.Prompt), stickyText)])
	return key.String()
}

// Requests is a batch of calls for the batch engine: it makes the rows to plan, and answers them. A row's text is the body of its
// answer, a dead letter's payload the server's refusal.
type Requests struct {
	Calls  func(n int64) (Call, error) // in the order of the rows
	Server Forwarder
	Author string // digest of what the served model is
}

// Inputs gives the rows of the first n calls. A row keeps the number of its call, and the user.
func (b *Requests) Inputs(n int64) iter.Seq2[queue.Input, error] {
	return func(yield func(queue.Input, error) bool) {
		for row := range n {
			c, err := b.Calls(row)
			if !yield(queue.Input{Row: row, Identity: b.identity(c), Data: encodeAsk(Ask{Record: int32(row)}, c.User)}, err) || err != nil {
				return
			}
		}
	}
}

func (b *Requests) identity(c Call) [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "recpie request 1\n%q %q %s", b.Author, c.Path, c.Body))
}

// Refusal is the payload of a request that a server refused.
type Refusal struct {
	Status int              `json:"status"`
	Error  openai.ErrorInfo `json:"error"`
}

// Do answers a chunk of rows.
func (b *Requests) Do(ctx context.Context, _ queue.Batch, rows []queue.Input) ([]queue.Result, error) {
	return atOnce(ctx, rows, func(ctx context.Context, row queue.Input) (queue.Result, error) {
		ask, _, ok := decodeAsk(row.Data)
		if !ok {
			return queue.Result{}, fault.Newf(fault.Fatal, "request", "row %d names no request", row.Row)
		}
		c, err := b.Calls(int64(ask.Record))
		if err != nil {
			return queue.Result{}, err
		}
		if b.identity(c) != row.Identity {
			return queue.Result{}, fault.WithHint(fault.Newf(fault.Fatal, "request", "row %d is another request here than where it was planned", row.Row),
				"this worker's program differs from the planner's: use the same version everywhere")
		}
		out, err := b.answer(ctx, row, c)
		if err != nil {
			err = fmt.Errorf("row %d: %w", row.Row, err)
		}
		return out, err
	})
}

func (b *Requests) answer(ctx context.Context, row queue.Input, c Call) (queue.Result, error) {
	answer, res, err := b.Server.Forward(ctx, c)
	if err != nil && fault.ClassOf(err) == fault.Item {
		out := queue.Result{Row: row.Row, Reason: "refused: " + err.Error()}
		var api *openai.APIError
		if errors.As(err, &api) {
			info := openai.ErrorInfo{Message: api.Message, Type: api.Type, Code: api.Status}
			if api.Param != "" {
				info.Param = &api.Param
			}
			out.Payload, err = json.Marshal(Refusal{api.Status, info})
			return out, fault.New(fault.Fatal, "request", err)
		}
		return out, nil
	}
	if err != nil {
		return queue.Result{}, err
	}
	body, err := named(answer, c.Path, row.Identity)
	return queue.Result{Row: row.Row, Text: string(body), Tokens: res.CompletionTokens}, err
}

// named gives an answer the id that its request decides, so that a row's bytes do not depend on when and by whom it was answered, and
// leaves out what says nothing.
func named(answer json.RawMessage, path string, identity [32]byte) ([]byte, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(answer, &members); err != nil {
		return nil, fault.New(fault.Endpoint, "request", err)
	}
	for name, v := range members {
		if string(v) == "null" {
			delete(members, name)
		}
	}
	prefix := "chatcmpl-"
	if path == "/v1/completions" {
		prefix = "cmpl-"
	}
	members["id"] = json.RawMessage(`"` + prefix + hex.EncodeToString(identity[:16]) + `"`)
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(members)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), fault.New(fault.Endpoint, "request", err)
}
