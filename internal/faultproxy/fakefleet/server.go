// Package fakefleet is an inference server for tests and benchmarks: it speaks vLLM's API and answers by arithmetic. An answer depends
// on nothing but the request, the served weights (a number) and, for an adapter, its path: the same request gives the same bytes from
// every server, in every process, in any order (X-Request-Id, when sent, becomes part of the answer's id). So a test can tell a lost, doubled, exchanged or stale answer from the right one.
//
// The forms of answers and errors are those recorded from vLLM 0.32.0. Left out: stop strings, prompt_logprobs, suffix, sampling
// parameters other than the lengths (they change the answer only by being part of the request).
package fakefleet

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"recpie/internal/wire/openai"
)

// Config describes a server. Zero fields take the defaults named beside them.
type Config struct {
	Model       string        // name of the base model: "tiny"
	Version     string        // "0.32.0"
	Key         string        // asked for on /v1 as a bearer token; "": none
	MaxModelLen int           // tokens of prompt and answer: 4096
	Weights     uint64        // servers with other weights give other answers
	Service     time.Duration // how long a request takes once it has a place: 0
	Capacity    int           // requests served at once, the others wait: 0 means any number
	Count       bool          // count distinct request bodies, at some 40 bytes of memory each
}

// Server is the handler. It is safe for concurrent use.
type Server struct {
	model, version, key string
	maxLen              int
	service             atomic.Int64 // nanoseconds
	gate                gate
	answered, tokens    atomic.Int64
	count               bool
	routes              map[string]http.HandlerFunc // by method and path

	mu       sync.RWMutex // guards what follows
	weights  uint64
	adapters []adapter

	seenMu sync.Mutex
	seen   map[uint64]int32 // how often each body came
	sent   int64
}

// New makes a server.
func New(c Config) *Server {
	s := &Server{model: c.Model, version: c.Version, key: c.Key, maxLen: c.MaxModelLen, weights: c.Weights, count: c.Count, seen: map[uint64]int32{}}
	if s.model == "" {
		s.model = "tiny"
	}
	if s.version == "" {
		s.version = "0.32.0"
	}
	if s.maxLen == 0 {
		s.maxLen = 4096
	}
	s.routes = map[string]http.HandlerFunc{
		"GET /health":  func(http.ResponseWriter, *http.Request) {},
		"GET /version": s.serveVersion, "GET /metrics": s.serveMetrics, "GET /v1/models": s.serveModels,
		"POST /v1/chat/completions": s.serveChat, "POST /v1/completions": s.serveCompletions,
		"POST /v1/load_lora_adapter": s.serveLoad, "POST /v1/unload_lora_adapter": s.serveUnload,
		"POST /tokenize": s.serveTokenize, "POST /detokenize": s.serveDetokenize,
	}
	s.SetService(c.Service)
	s.SetCapacity(c.Capacity)
	return s
}

// SetService changes how long a request takes once it has a place.
func (s *Server) SetService(d time.Duration) { s.service.Store(int64(d)) }

// SetCapacity changes how many requests are served at once, 0 for any number. Those that wait are let in as places come free.
func (s *Server) SetCapacity(n int) { s.gate.resize(n) }

// Restart forgets the adapters loaded at run time, as a restarted vLLM does, and serves the given weights from now on.
func (s *Server) Restart(weights uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.weights, s.adapters = weights, nil
}

// Stats is what a server has seen of generation requests since it was made; scores, which generate nothing, are not among them. Distinct and Repeated stay 0 unless Config.Count is set.
type Stats struct {
	Requests int64 // received
	Distinct int64 // different bodies among them
	Repeated int64 // requests whose body had come before
	Answered int64 // ended with 200, the client still there
	Tokens   int64 // generated
	Running  int   // being served now
	Waiting  int   // waiting for a place now
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	running, waiting := s.gate.load()
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	st := Stats{Requests: s.sent, Answered: s.answered.Load(), Tokens: s.tokens.Load(), Running: running, Waiting: waiting}
	if s.count {
		st.Distinct = int64(len(s.seen))
		st.Repeated = s.sent - st.Distinct
	}
	return st
}

func (s *Server) note(body uint64) {
	s.seenMu.Lock()
	defer s.seenMu.Unlock()
	s.sent++
	if s.count {
		s.seen[body]++
	}
}

// maxRequest bounds a request's body, soft prompts included.
const maxRequest = 64 << 20

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.key != "" && strings.HasPrefix(r.URL.Path, "/v1") && r.Header.Get("Authorization") != "Bearer "+s.key {
		reply(w, http.StatusUnauthorized, openai.UnauthorizedError{Error: "Unauthorized"})
		return
	}
	route, ok := s.routes[r.Method+" "+r.URL.Path]
	if !ok {
		reply(w, http.StatusNotFound, openai.DetailError{Detail: "Not Found"})
		return
	}
	route(w, r)
}

// read decodes the request's body and returns its bytes. When it fails it has answered.
func read(w http.ResponseWriter, r *http.Request, into any) ([]byte, bool) {
	var body []byte
	var err error
	if n := r.ContentLength; n >= 0 && n <= maxRequest {
		body = make([]byte, n)
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, openai.TypeSchema, "", "1 validation error: "+err.Error())
		return nil, false
	}
	return body, true
}

// reply writes an answer with its length.
func reply(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"detail":"the answer cannot be written"}`)
	}
	w.Header()["Content-Type"] = []string{"application/json"}
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may be gone
}

func refuse(w http.ResponseWriter, status int, typ, param, message string) {
	e := openai.ErrorInfo{Message: message, Type: typ, Code: status}
	if param != "" {
		e.Param = &param
	}
	reply(w, status, openai.ErrorResponse{Error: e})
}
