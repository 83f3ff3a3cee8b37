package lmserver

import (
	"encoding/json"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"recpie/internal/lm"
	"recpie/internal/wire/openai"
	pb "recpie/internal/wire/tinker/tinkerpb"

	"google.golang.org/protobuf/proto"
)

// reader is a server that decodes but does not serve.
func reader(t testing.TB) *Server {
	t.Helper()
	opt, err := Options{Model: bundle(t, "m", 32), MaxRows: 16}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return &Server{opt: opt, base: "m"}
}

// Whatever the body, decoding ends with a refusal of the documented form or with prompts that the model can read.
func FuzzInferenceRequests(f *testing.F) {
	s := reader(f)
	for _, e := range exchanges(f) {
		if e.Method == "POST" && len(e.Body) < 2000 {
			f.Add([]byte(e.Body))
		}
		if e.RawBody != nil {
			f.Add([]byte(*e.RawBody))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { readRequest(t, s, body) })
}

// TestMutatedRequests does a little of the fuzzing in every test run: instrumented builds of libtorch's wrapper take minutes.
func TestMutatedRequests(t *testing.T) {
	s := reader(t)
	tr := &training{srv: s, opt: s.opt}
	rng := rand.New(rand.NewPCG(3, 4))
	var seeds [][]byte
	for _, e := range exchanges(t) {
		if e.Method == "POST" && len(e.Body) > 0 && len(e.Body) < 2000 {
			seeds = append(seeds, e.Body)
		}
	}
	one, err := proto.Marshal(pass("m", 2, randomRows(1, 2, 32)))
	if err != nil {
		t.Fatal(err)
	}
	mutate := func(seed []byte) []byte {
		out := slices.Clone(seed)
		for range 1 + rng.IntN(3) {
			at := rng.IntN(len(out))
			switch rng.IntN(4) {
			case 0:
				out[at] = byte(rng.IntN(256))
			case 1:
				out = slices.Delete(out, at, min(len(out)-1, at+rng.IntN(8)+1))
			case 2:
				out = slices.Insert(out, at, out[max(0, at-rng.IntN(12)):at]...)
			case 3:
				out = slices.Insert(out, at, []byte([]string{"null", "-1", "[]", "{}", "1e999", `"\ud800"`, "[[", "99999999999"}[rng.IntN(8)])...)
			}
			if len(out) == 0 {
				return seed
			}
		}
		return out
	}
	for range 3000 {
		readRequest(t, s, mutate(seeds[rng.IntN(len(seeds))]))
		readPass(t, tr, mutate(one))
	}
}

func readRequest(t *testing.T, s *Server, body []byte) {
	t.Helper()
	var prompts []prompt
	var completion completionRequest
	if check(t, decodeJSON(body, &completion)) && check(t, checkSampling(&completion.Sampling, &completion.extras)) {
		ps, err := s.completionPrompts(&completion)
		check(t, err)
		prompts = append(prompts, ps...)
	}
	var chat chatRequest
	if check(t, decodeJSON(body, &chat)) {
		if p, err := s.chatPrompt(chat.Messages, true); check(t, err) {
			prompts = append(prompts, *p)
		}
	}
	var tokenize openai.TokenizeRequest
	if check(t, decodeJSON(body, &tokenize)) && tokenize.Prompt != nil {
		s.opt.Model.Tok.Encode(*tokenize.Prompt, true)
	}
	for _, p := range prompts {
		readable(t, s, p)
	}
}

func check(t *testing.T, err error) bool {
	t.Helper()
	if err == nil {
		return true
	}
	e, ok := err.(*apiError)
	if !ok {
		t.Fatalf("error %T: %v", err, err)
	}
	if e.status < 400 || e.status >= 500 {
		t.Fatalf("a body leads to status %d: %s", e.status, e.message)
	}
	return false
}

func readable(t *testing.T, s *Server, p prompt) {
	t.Helper()
	markers := 0
	for _, id := range p.ids {
		if id < 0 || id > s.marker() {
			t.Fatalf("id %d", id)
		}
		if id == s.marker() {
			markers++
		}
	}
	for _, soft := range p.soft {
		markers -= soft.Rows
		if len(soft.Data) != soft.Rows*32 || p.ids[soft.Pos] != s.marker() || p.ids[soft.Pos+soft.Rows-1] != s.marker() {
			t.Fatalf("rows %d at %d do not fit", soft.Rows, soft.Pos)
		}
	}
	if markers != 0 {
		t.Fatalf("%d markers without rows", markers)
	}
}

// Whatever the message, a pass is refused as the caller's fault or has data of one length each, in range and finite.
func FuzzPass(f *testing.F) {
	s := reader(f)
	tr := &training{srv: s, opt: s.opt}
	for _, req := range []*pb.ForwardBackwardRequest{pass("m", 1, nil), pass("m", 2, randomRows(1, 2, 32))} {
		data, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, body []byte) { readPass(t, tr, body) })
}

func readPass(t *testing.T, tr *training, body []byte) {
	t.Helper()
	req := &pb.ForwardBackwardRequest{}
	if proto.Unmarshal(body, req) != nil {
		return
	}
	data, _, err := tr.decodePass(req)
	if err != nil {
		if category(err) != "user" {
			t.Fatalf("blamed on the %s: %v", category(err), err)
		}
		return
	}
	for _, d := range data {
		n := len(d.Tokens)
		if n == 0 || len(d.Targets) != n || len(d.Embeds) != 32*len(d.EmbedPos) || d.Weights != nil && len(d.Weights) != n || notFinite(d.Embeds) >= 0 {
			t.Fatalf("datum %+v", d)
		}
	}
}

func FuzzSampleRequest(f *testing.F) {
	s := reader(f)
	tr := &training{srv: s, opt: s.opt}
	f.Add([]byte(`{"prompt":{"chunks":[{"tokens":[1,2],"type":"encoded_text"}]},"sampling_params":{"max_tokens":8,"seed":11,"temperature":1.0,"top_k":-1,"top_p":1.0,"stop":[2]}}`))
	f.Add([]byte(`{"prompt":{"chunks":[{"tokens":[1]}]},"sampling_params":{"stop":["a","b"]},"topk_sample_logprobs":3}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		req := sampleRequest{NumSamples: 1}
		if decodeJSON(body, &req) != nil {
			return
		}
		gen, p, err := tr.sampleOf(&req)
		if err != nil {
			if category(err) != "user" {
				t.Fatalf("blamed on the %s: %v", category(err), err)
			}
			return
		}
		if gen.MaxTokens < 1 || gen.MaxTokens+len(p.ids) > s.opt.Model.MaxLen || gen.Logprobs < 0 || gen.Logprobs > maxLogprobs {
			t.Fatalf("%+v", gen)
		}
	})
}

// No path leads out of the root, whatever its spelling.
func FuzzBelowRoot(f *testing.F) {
	for _, p := range []string{"a", "../a", "/base/a", "/base/../a", "/baselike/a", "a/../../b", "", "/", "a//b", "\x00"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rel, err := belowRoot("/base", path)
		if err == nil && !strings.HasPrefix(filepath.Join("/base", rel)+"/", "/base/") {
			t.Fatalf("%q leads to %q", path, rel)
		}
	})
}

// The canonical form of a JSON request ignores the order of fields and nothing else.
func FuzzContent(f *testing.F) {
	f.Add([]byte(`{"a":1,"b":[1,2]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var v any
		if json.Unmarshal(body, &v) != nil {
			return
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Skip()
		}
		if contentOf("r", body) != contentOf("r", again) || contentOf("r", body) == contentOf("q", body) {
			t.Fatalf("%s", body)
		}
	})
}

func TestAlternativesBeyondTheRankAreDropped(t *testing.T) {
	top := []lm.TokenLogprob{{ID: 1, Rank: 40}, {ID: 2, Rank: 1}, {ID: 3, Rank: 2}, {ID: 4, Rank: 3}}
	if got := kept(top, 2); len(got) != 3 || got[0].ID != 1 || got[2].ID != 3 {
		t.Errorf("%+v", got)
	}
}
