// Package tgitest is an imitation of Hugging Face's text-generation-inference for tests: its routes, validation, error forms and
// streams as its sources show them, over a language model without weights. It was written from the same reading of those sources as
// package tgi, so that it can show that the client keeps to what was understood, not that this is right.
//
// It is stricter than the original where that finds mistakes: fields it does not know are refused. Like the original it answers with
// the base model when it does not know an adapter, and its tokenizer puts <s> before every text.
package tgitest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"recpie/internal/tokenizer"
)

// Options set a server up. The zero value serves a base model without a chat template.
type Options struct {
	Adapters      []string
	Chat          bool          // the model has a chat template: "<s>[INST] … [/INST]"
	NoPrefill     bool          // input log-probabilities are off, the default from version 3
	MaxInput      int           // tokens of a prompt: 512
	MaxTotal      int           // tokens of prompt and answer: 1024
	MaxConcurrent int           // requests at a time, more get 429: 128
	Key           string        // asked for as a bearer token; "": none
	TokenTime     time.Duration // how long a token takes
	// Intercept may answer a request instead of the server, and then returns true.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
}

// Server is a running imitation.
type Server struct {
	URL       string
	Tokenizer *tokenizer.Tokenizer // the server's own, as its tokenizer.json

	opt     Options
	model   *model
	running atomic.Int64
	mu      sync.Mutex
	bodies  map[string][]string
}

// New starts a server that runs until the test ends.
func New(t testing.TB, opt Options) *Server {
	t.Helper()
	setDefault(&opt.MaxInput, 512)
	setDefault(&opt.MaxTotal, 1024)
	setDefault(&opt.MaxConcurrent, 128)
	m, err := newModel()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Tokenizer: m.tok, opt: opt, model: m, bodies: map[string][]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /info", s.info)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("POST /tokenize", s.authorised(s.tokenize))
	mux.HandleFunc("POST /chat_tokenize", s.authorised(s.chatTokenize))
	mux.HandleFunc("POST /generate", s.authorised(s.generate))
	mux.HandleFunc("POST /generate_stream", s.authorised(s.generateStream))
	ts := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if opt.Intercept == nil || !opt.Intercept(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(ts.Close)
	s.URL = ts.URL
	return s
}

func setDefault(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// Bodies returns the bodies that reached a route, in the order of their arrival.
func (s *Server) Bodies(path string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies[path])
}

func (s *Server) authorised(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.opt.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.opt.Key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		next(w, r)
	}
}

// read decodes a request. A refusal is plain text, as axum's.
func (s *Server) read(w http.ResponseWriter, r *http.Request, into any) bool {
	var raw strings.Builder
	dec := json.NewDecoder(io.TeeReader(r.Body, &raw))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	s.mu.Lock()
	s.bodies[r.URL.Path] = append(s.bodies[r.URL.Path], raw.String())
	s.mu.Unlock()
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "Expected request with `Content-Type: application/json`", http.StatusUnsupportedMediaType)
		return false
	}
	if err != nil {
		http.Error(w, "Failed to deserialize the JSON body into the target type: "+err.Error(), http.StatusUnprocessableEntity)
	}
	return err == nil
}

func (s *Server) info(w http.ResponseWriter, _ *http.Request) {
	answer(w, map[string]any{"model_id": "imitation", "model_sha": nil, "model_pipeline_tag": "text-generation", "max_concurrent_requests": s.opt.MaxConcurrent,
		"max_best_of": 2, "max_stop_sequences": maxStop, "max_input_tokens": s.opt.MaxInput, "max_total_tokens": s.opt.MaxTotal,
		"validation_workers": 2, "max_client_batch_size": 4, "router": "text-generation-router", "version": "3.3.4"})
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprintf(w, "# TYPE tgi_queue_size gauge\ntgi_queue_size 0\n\n# TYPE tgi_batch_current_size gauge\ntgi_batch_current_size %d\n\n"+
		"# TYPE tgi_batch_current_max_tokens gauge\ntgi_batch_current_max_tokens 512\n", s.running.Load())
}

type simpleToken struct {
	ID    int32  `json:"id"`
	Text  string `json:"text"`
	Start int    `json:"start"`
	Stop  int    `json:"stop"`
}

// simple lists a text's tokens with where they stand in it, in characters; what the tokenizer adds stands nowhere.
func (s *Server) simple(text string, special bool) []simpleToken {
	ids := s.model.tok.Encode(text, special)
	out := make([]simpleToken, len(ids))
	at, extra := 0, len(ids)-len(s.model.tok.Encode(text, false))
	for i, id := range ids {
		out[i].ID = id
		if i < extra {
			continue
		}
		next := at + len(s.model.tok.TokenBytes(id))
		if s.model.tok.Special(id) {
			next = at + len(s.model.tok.Token(id))
		}
		out[i].Start, out[i].Stop = utf8.RuneCountInString(text[:at]), utf8.RuneCountInString(text[:next])
		out[i].Text, at = text[at:next], next
	}
	return out
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	var req struct{ Inputs string }
	if s.read(w, r, &req) {
		answer(w, s.simple(req.Inputs, true))
	}
}

func (s *Server) chatTokenize(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Model    string
		Messages []struct{ Role, Content string }
	}
	if !s.read(w, r, &req) {
		return
	}
	if !s.opt.Chat || len(req.Messages) != 1 || req.Messages[0].Role != "user" {
		refuse(w, &failure{http.StatusUnprocessableEntity, "Template error: template not found", "template_error"})
		return
	}
	text := "<s>[INST] " + req.Messages[0].Content + " [/INST]"
	answer(w, map[string]any{"tokenize_response": s.simple(text, false), "templated_text": text})
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the test is gone when this fails
}

// failure is an error of the router.
type failure struct {
	status       int
	message, typ string
}

func (f *failure) body() map[string]string {
	return map[string]string{"error": f.message, "error_type": f.typ}
}

func refuse(w http.ResponseWriter, f *failure) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(f.body())
}
