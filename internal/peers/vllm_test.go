//go:build peers

package peers

import (
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"recpie/clients/transport"
	"recpie/clients/vllm"
	"recpie/internal/fault"
	"recpie/internal/safetensors"
	"recpie/internal/wire/openai"
)

func dial(t testing.TB, url, model string) *vllm.Client {
	t.Helper()
	c, err := vllm.New(vllm.Config{Settings: transport.Settings{BaseURL: url, Attempts: 2}, Model: model})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// embeddings reads a [vocabulary, hidden] matrix out of a checkpoint.
type embeddings struct {
	data   []float32
	hidden int
}

func readEmbeddings(t testing.TB, dir, tensor string) embeddings {
	t.Helper()
	f, err := safetensors.Open(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, shape, err := f.Float32(tensor)
	if err != nil {
		t.Fatal(err)
	}
	return embeddings{data, int(shape[1])}
}

func (e embeddings) vocab() int32 { return int32(len(e.data) / e.hidden) }

// soft is the soft prompt of the embeddings of real tokens.
func (e embeddings) soft(t testing.TB, ids []int32) vllm.Soft {
	t.Helper()
	var rows []float32
	for _, id := range ids {
		rows = append(rows, e.data[int(id)*e.hidden:(int(id)+1)*e.hidden]...)
	}
	return newSoft(t, rows, len(ids), e.hidden)
}

// random is a soft prompt of rows that belong to no token, about as long as the embeddings.
func (e embeddings) random(t testing.TB, seed uint64, rows int) vllm.Soft {
	t.Helper()
	return newSoft(t, e.rows(seed, rows), rows, e.hidden)
}

// rows are the numbers of random.
func (e embeddings) rows(seed uint64, rows int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 9))
	data := make([]float32, rows*e.hidden)
	for i := range data {
		data[i] = float32(0.2 * rng.NormFloat64())
	}
	return data
}

func newSoft(t testing.TB, data []float32, rows, hidden int) vllm.Soft {
	t.Helper()
	s, err := vllm.NewSoft(data, rows, hidden)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func greedy(model string, tokens int) vllm.Params {
	return vllm.Params{Model: model, MaxTokens: tokens, Logprobs: true, IgnoreEOS: true}
}

func complete(t testing.TB, c *vllm.Client, req vllm.CompletionRequest) *vllm.Result {
	t.Helper()
	r, err := c.Complete(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func chat(t testing.TB, c *vllm.Client, req vllm.ChatRequest) *vllm.Result {
	t.Helper()
	r, err := c.Chat(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tokenize(t testing.TB, c *vllm.Client, text string) []int32 {
	t.Helper()
	ids, err := c.Tokenize(t.Context(), text, false)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// score returns the log-probabilities of all tokens but the first.
func score(t testing.TB, c *vllm.Client, model string, ids []int32) []float64 {
	t.Helper()
	lps, err := c.Score(t.Context(), model, ids, 0)
	if err != nil {
		t.Fatal(err)
	}
	return lps
}

// same compares two answers: the same tokens, texts and ends, log-probabilities within tol. It returns the largest difference.
func same(t testing.TB, what string, got, want *vllm.Result, tol float64) float64 {
	t.Helper()
	worst := 0.0
	for i := range want.Choices {
		g, w := got.Choices[i], want.Choices[i]
		if !slices.Equal(g.TokenIDs, w.TokenIDs) || g.Text != w.Text || g.FinishReason != w.FinishReason {
			t.Errorf("%s: %v %q (%s), want %v %q (%s)", what, g.TokenIDs, g.Text, g.FinishReason, w.TokenIDs, w.Text, w.FinishReason)
			continue
		}
		worst = max(worst, near(t, what, g.Logprobs, w.Logprobs, tol))
	}
	return worst
}

// markers finds the soft rows in a rendered prompt, which must be consecutive, and returns where they begin.
func markers(t testing.TB, ids []int32, marker int32, rows int) int {
	t.Helper()
	at := slices.Index(ids, marker)
	if at < 0 || at+rows > len(ids) {
		t.Fatalf("no %d markers in %v", rows, ids)
	}
	for i, id := range ids {
		if (id == marker) != (i >= at && i < at+rows) {
			t.Fatalf("%v: want exactly %d markers %d from position %d", ids, rows, marker, at)
		}
	}
	return at
}

// refused checks class, status and parameter of an error answer.
func refused(t testing.TB, what string, err error, class fault.Class, status int, param string) {
	t.Helper()
	var e *openai.APIError
	if !errors.As(err, &e) {
		t.Errorf("%s: %v, want an error answer", what, err)
		return
	}
	if fault.ClassOf(err) != class || e.Status != status || e.Param != param {
		t.Errorf("%s: class %v, status %d, parameter %q, want %v, %d, %q (%v)", what, fault.ClassOf(err), e.Status, e.Param, class, status, param, err)
	}
}

// badRequests are refused by every server of this API in the same way; wide is one more than the model's width.
func badRequests(t *testing.T, c *vllm.Client, model string, wide int) {
	t.Helper()
	long := make([]int32, 600)
	for i := range long {
		long[i] = 20
	}
	_, err := c.Complete(t.Context(), vllm.CompletionRequest{Text: "The film", Params: greedy("no-such-model", 2)})
	refused(t, "unknown model", err, fault.Item, 404, "model")
	if !vllm.IsUnknownModel(err) {
		t.Errorf("not told apart as an unknown model: %v", err)
	}
	_, err = c.Complete(t.Context(), vllm.CompletionRequest{Tokens: long, Params: greedy(model, 2)})
	refused(t, "too long a prompt", err, fault.Item, 400, "input_tokens")
	_, err = c.Complete(t.Context(), vllm.CompletionRequest{Tokens: []int32{20, 1 << 20}, Params: greedy(model, 2)})
	refused(t, "a token out of vocabulary", err, fault.Item, 400, "")
	soft := newSoft(t, make([]float32, 2*wide), 2, wide)
	_, err = c.Complete(t.Context(), vllm.CompletionRequest{Soft: soft, Params: greedy(model, 2)})
	refused(t, "soft rows of another width", err, fault.Item, 400, "prompt_embeds")
	_, err = c.Chat(t.Context(), vllm.ChatRequest{Messages: []vllm.Message{vllm.User(soft, "x")}, Params: greedy(model, 2)})
	refused(t, "soft rows of another width in a chat", err, fault.Item, 400, "prompt_embeds")
	for _, v := range []float64{math.NaN(), math.Inf(1)} {
		if _, err := vllm.NewSoft([]float32{0, float32(v)}, 1, 2); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("soft rows with %v: %v", v, err)
		}
	}
	if err := c.Health(t.Context()); err != nil {
		t.Errorf("after the refusals: %v", err)
	}
}
