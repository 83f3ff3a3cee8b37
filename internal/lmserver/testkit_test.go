package lmserver

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"recpie/internal/lm"
	"recpie/internal/tokenizer"
	"recpie/internal/torch"
	"recpie/internal/torch/reexec"
	"recpie/internal/wire/tinker"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) {
	reexec.Ensure()
	torch.SetThreads(1)
	goleak.VerifyTestMain(m)
}

// corpus yields made-up words, enough for a vocabulary of 2048.
func corpus(yield func(string) bool) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		word := make([]byte, 3+rng.IntN(8))
		for i := range word {
			word[i] = byte('a' + rng.IntN(26))
		}
		if !yield("def " + string(word)) {
			return
		}
	}
}

var trained = sync.OnceValues(func() (*tokenizer.Tokenizer, error) {
	return tokenizer.TrainBPE(corpus, tokenizer.TrainOptions{VocabSize: 2048, Special: lm.SpecialTokens(), MinFrequency: 1})
})

// bundle is a real but tiny GPT-2 with random weights: 2 layers of the width.
func bundle(t testing.TB, name string, width int) *lm.Bundle {
	t.Helper()
	tok, err := trained()
	if err != nil {
		t.Fatal(err)
	}
	if tok.VocabSize() != 2048 {
		t.Fatalf("the tokenizer has %d ids", tok.VocabSize())
	}
	model, err := lm.NewModel(lm.Config{VocabSize: 2048, MaxPositions: 512, HiddenSize: width, NumLayers: 2, NumHeads: 2, InitializerRange: 0.2}, 7)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lm.NewBundle(name, model, tok)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(model.Close)
	return b
}

// start serves until the test ends; stop may be called earlier.
func start(t testing.TB, opt Options) (s *Server, stop func()) {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		http.DefaultClient.CloseIdleConnections()
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
	t.Cleanup(stop)
	return s, stop
}

type reply struct {
	status int
	kind   string
	body   []byte
}

func (r reply) into(t testing.TB, v any) {
	t.Helper()
	if r.status != http.StatusOK {
		t.Fatalf("status %d: %s", r.status, r.body)
	}
	if err := json.Unmarshal(r.body, v); err != nil {
		t.Fatalf("%v in %s", err, r.body)
	}
}

func send(t testing.TB, method, url string, headers map[string]string, body []byte) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	if h := headers["Host"]; h != "" {
		req.Host = h
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header.Get("Content-Type"), data}
}

func post(t testing.TB, s *Server, path string, body any) reply {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, "POST", s.URL()+path, map[string]string{"Content-Type": jsonType}, data)
}

func get(t testing.TB, s *Server, path string) reply {
	t.Helper()
	return send(t, "GET", s.URL()+path, nil, nil)
}

type object = map[string]any

// client speaks the training dialect of one model.
type client struct {
	t       testing.TB
	s       *Server
	session string
	model   string
}

func newClient(t testing.TB, s *Server) *client {
	var res tinker.CreateSessionResponse
	post(t, s, tinker.PathCreateSession, object{"tags": []string{}}).into(t, &res)
	return &client{t: t, s: s, session: res.SessionID}
}

func newTrained(t testing.TB, s *Server) *client {
	c := newClient(t, s)
	var res tinker.CreateModelResult
	c.result(c.submit(tinker.PathCreateModel, object{"session_id": c.session, "model_seq_id": 0, "base_model": s.base,
		"lora_config": object{"rank": 4, "seed": 1, "train_attn": true, "train_mlp": false, "train_unembed": false}}), &res)
	c.model = res.ModelID
	return c
}

// submit posts and returns the request id.
func (c *client) submit(path string, body object) string {
	c.t.Helper()
	var f tinker.Future
	post(c.t, c.s, path, body).into(c.t, &f)
	if f.RequestID == "" {
		c.t.Fatalf("%s: no request_id", path)
	}
	return f.RequestID
}

func (c *client) submitPass(req proto.Message) string {
	c.t.Helper()
	data, err := proto.Marshal(req)
	if err != nil {
		c.t.Fatal(err)
	}
	var f tinker.Future
	send(c.t, "POST", c.s.URL()+tinker.PathForwardBackward, map[string]string{"Content-Type": protoType}, data).into(c.t, &f)
	return f.RequestID
}

// wait polls until the future has an outcome.
func (c *client) wait(id string) reply {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		r := post(c.t, c.s, tinker.PathRetrieveFuture, object{"request_id": id, "allow_metadata_only": true})
		var state tinker.FutureState
		if r.kind == jsonType && r.status == http.StatusOK {
			r.into(c.t, &state)
			if state.Type == tinker.TypeTryAgain {
				continue
			}
		}
		return r
	}
	c.t.Fatalf("future %s never ended", id)
	return reply{}
}

// result waits for a success and decodes it: a protobuf message or JSON.
func (c *client) result(id string, into any) {
	c.t.Helper()
	r := c.wait(id)
	if m, ok := into.(proto.Message); ok {
		if r.kind != protoType {
			c.t.Fatalf("want protobuf, got %s %s", r.kind, r.body)
		}
		if err := proto.Unmarshal(r.body, m); err != nil {
			c.t.Fatal(err)
		}
		return
	}
	var state tinker.FutureState
	r.into(c.t, &state)
	if state.Error != nil {
		c.t.Fatalf("future failed: %s", *state.Error)
	}
	r.into(c.t, into)
}

// failure waits for a failure and returns message and category.
func (c *client) failure(id string) (string, string) {
	c.t.Helper()
	var state tinker.FutureState
	c.wait(id).into(c.t, &state)
	if state.Error == nil {
		c.t.Fatal("the future did not fail")
	}
	return *state.Error, state.Category
}

func randomRows(seed uint64, rows, width int) []float32 {
	rng := rand.New(rand.NewPCG(seed, 0))
	out := make([]float32, rows*width)
	for i := range out {
		out[i] = float32(rng.NormFloat64())
	}
	return out
}

func mkdir(t testing.TB, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
