package lmserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
)

// generator samples and scores; concurrent calls are batched by it.
type generator interface {
	Generate(ctx context.Context, req *lm.GenRequest) (*lm.GenResult, error)
}

// trainer is one LoRA adapter under training. Calls come one at a time.
type trainer interface {
	ForwardBackward(ctx context.Context, data []lm.Datum, loss string, cfg map[string]float64, forwardOnly bool) (*lm.PassResult, error)
	OptimStep(lm.AdamParams) (gradNorm float64, err error)
	Save(dir string, optimizer bool) error // makes dir, whole and synced
	Load(dir string, optimizer bool) error
	Close()
}

// Server serves one model. Make it with New, run it with Serve; its address is known in between.
type Server struct {
	opt      Options
	base     string // the model's public name
	loopback bool
	listener net.Listener
	http     *http.Server

	engine   *lm.Engine
	gen      generator
	adapters *adapterSet
	training *training // nil without a state folder
	created  int64     // seconds, for the model list

	inFlight chan struct{}
	meter    *meter

	stop     context.CancelFunc // ends every request's context
	stopOnce sync.Once
	stopErr  error
}

// New checks the options, opens the state folder, starts the sampler and binds the address. Serve must follow, or Shutdown.
func New(opt Options) (*Server, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{opt: opt, base: opt.Model.Name, created: time.Now().Unix(), inFlight: make(chan struct{}, opt.MaxInFlight), meter: newMeter()}
	s.loopback, _ = isLoopback(opt.Listen)
	if opt.AdapterRoot != "" {
		if err := checkRoot(opt.AdapterRoot); err != nil {
			return nil, err
		}
	}
	s.engine = lm.NewEngine(opt.Model, opt.Engine)
	s.gen = s.engine
	s.adapters = newAdapterSet(s.engine)
	if opt.StateDir != "" {
		s.training, err = newTraining(s, opt, func(cfg lm.LoRAConfig) (trainer, error) {
			made, err := lm.NewTrainer(opt.Model, cfg, lm.TrainerOptions{Workers: opt.Engine.Workers, Checkpointing: opt.Checkpointing})
			if err != nil {
				return nil, err // not a nil *lm.Trainer, which as a trainer would not be nil
			}
			return made, nil
		})
		if err != nil {
			s.engine.Close()
			return nil, err
		}
	}
	s.listener, err = net.Listen("tcp", opt.Listen)
	if err != nil {
		s.closeModels()
		return nil, fault.New(fault.Fatal, "lmserver: listen", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	s.http = &http.Server{
		Handler:           s.guard(s.routes()),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute,
		WriteTimeout:      requestTimeout + time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
	}
	return s, nil
}

// Addr returns the bound address, as 127.0.0.1:41234.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL returns the base address of the inference dialect's routes without their /v1, as http://127.0.0.1:41234.
func (s *Server) URL() string { return "http://" + s.Addr() }

// Serve answers requests until ctx ends or Shutdown is called, then drains for at most ten seconds and cuts off
// what is left. A stop that was asked for is no error.
func (s *Server) Serve(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- s.http.Serve(s.listener) }()
	select {
	case err := <-done:
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		return errors.Join(fault.New(fault.Fatal, "lmserver: serve", err), s.Shutdown(context.Background()))
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err := s.Shutdown(drain)
		<-done
		if errors.Is(err, context.DeadlineExceeded) { // what did not finish in time was cut off
			err = nil
		}
		return err
	}
}

// Shutdown stops accepting, waits for running requests until ctx ends, cancels the rest, and frees trainers, adapters and the
// sampler. Checkpoints that were acknowledged are on disk already. It may be called more than once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopOnce.Do(func() {
		if s.training != nil {
			s.training.interruptPolls()
		}
		s.stopErr = s.http.Shutdown(ctx)
		s.stop()
		if s.stopErr != nil {
			_ = s.http.Close()
		}
		_ = s.listener.Close() // Serve may never have been called
		s.closeModels()
	})
	return s.stopErr
}

func (s *Server) closeModels() {
	if s.training != nil {
		s.training.close()
	}
	s.engine.Close()
}

// routes lists every route of both dialects. A known path with another method is 405, anything else 404, both as {"detail"}.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	known := map[string]bool{}
	handle := func(method, path string, h http.HandlerFunc) {
		mux.HandleFunc(method+" "+path, h)
		if !known[path] {
			known[path] = true
			mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
				writeDetail(w, http.StatusMethodNotAllowed, "Method Not Allowed")
			})
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { writeDetail(w, http.StatusNotFound, "Not Found") })

	handle("GET", "/health", emptyOK)
	handle("GET", "/ping", emptyOK)
	handle("POST", "/ping", emptyOK)
	handle("GET", "/version", s.version)
	handle("GET", "/metrics", s.metrics)
	handle("GET", "/v1/models", s.models)
	handle("POST", "/v1/completions", s.limited(s.completions))
	handle("POST", "/v1/chat/completions", s.limited(s.chat))
	handle("POST", "/v1/embeddings", s.limited(s.embeddings))
	handle("POST", "/tokenize", s.tokenize)
	handle("POST", "/detokenize", s.detokenize)
	if s.opt.AdapterRoot != "" {
		handle("POST", "/v1/load_lora_adapter", s.loadAdapter)
		handle("POST", "/v1/unload_lora_adapter", s.unloadAdapter)
	}
	if s.training != nil {
		s.training.routes(handle)
	}
	return mux
}

// limited bounds the generation requests that are held at a time.
func (s *Server) limited(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.inFlight <- struct{}{}:
			defer func() { <-s.inFlight }()
		default:
			w.Header().Set("Retry-After", "1")
			writeError(w, &apiError{http.StatusServiceUnavailable, "ServiceUnavailableError", "", "too many requests are waiting"})
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
		defer cancel()
		h(w, r.WithContext(ctx))
	}
}
