package training

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// sdkVersion is the version of the official SDK whose wire this client speaks.
const sdkVersion = "0.38.0"

// Config describes one training server.
type Config struct {
	transport.Settings                   // BaseURL may carry a path prefix; the key travels as X-API-Key
	Metadata           map[string]string // attached to the session
	Heartbeat          time.Duration     // 10 s
	Poll               time.Duration     // one long poll of a future, then it is asked again: 45 s
}

// Session is a session on the server with its heartbeat. Close it.
type Session struct {
	http *transport.Client
	cfg  Config
	id   string
	caps tinker.Capabilities

	mu               sync.Mutex
	models, samplers int      // made so far, each numbered from 0
	live             []*Model // made in this session
	traits           Traits
	lost             error

	stop context.CancelFunc
	done chan struct{}
}

// Dial shakes hands: client configuration, capabilities, session; then heartbeats run until Close.
func Dial(ctx context.Context, cfg Config) (*Session, error) {
	cfg.KeyHeader = tinker.HeaderAPIKey
	setDefault(&cfg.Heartbeat, 10*time.Second)
	setDefault(&cfg.Poll, 45*time.Second)
	setDefault(&cfg.Headers, time.Minute)
	setDefault(&cfg.MaxBody, 1<<30)
	t, err := transport.New(cfg.Settings)
	if err != nil {
		return nil, err
	}
	s := &Session{http: t, cfg: cfg, done: make(chan struct{})}
	if err := s.handshake(ctx); err != nil {
		t.Close()
		return nil, err
	}
	beat, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.heartbeats(beat)
	return s, nil
}

func (s *Session) handshake(ctx context.Context) error {
	var flags tinker.ClientConfig
	if err := s.post(ctx, "training: client config", tinker.PathClientConfig, tinker.ClientConfigRequest{SDKVersion: sdkVersion}, &flags); err != nil {
		return err
	}
	if flags.JWTAuth {
		return fault.Newf(fault.Fatal, "training: client config", "the server wants keys exchanged for tokens, which this client does not do")
	}
	if err := s.get(ctx, "training: capabilities", tinker.PathCapabilities, &s.caps); err != nil {
		return err
	}
	var r tinker.CreateSessionResponse
	meta := s.cfg.Metadata
	if meta == nil {
		meta = map[string]string{}
	}
	err := s.post(ctx, "training: create session", tinker.PathCreateSession, tinker.CreateSessionRequest{Tags: []string{}, UserMetadata: meta, SDKVersion: sdkVersion, Type: "create_session"}, &r)
	if err != nil {
		return err
	}
	if r.SessionID == "" {
		return fault.Newf(fault.Endpoint, "training: create session", "the answer has no session id: %s", r.ErrorMessage)
	}
	s.id = r.SessionID
	if flags.CreateViaLoad {
		s.traits.CreateViaLoad = Yes
	}
	return nil
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// Capabilities returns what the server said it can do.
func (s *Session) Capabilities() tinker.Capabilities { return s.caps }

// PromptEmbeds tells whether the server returns gradients of soft prompts (prompt_embeds.v1).
func (s *Session) PromptEmbeds() bool {
	return slices.Contains(s.caps.Extensions, tinker.ExtensionPromptEmbed)
}

// heartbeats keeps the session alive. A beat that fails is followed by the next one; 410 says that the session is over.
func (s *Session) heartbeats(ctx context.Context) {
	defer close(s.done)
	tick := time.NewTicker(s.cfg.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		beat, cancel := context.WithTimeout(ctx, s.cfg.Heartbeat)
		err := s.post(beat, "training: heartbeat", tinker.PathHeartbeat, tinker.HeartbeatRequest{SessionID: s.id, Type: "session_heartbeat"}, nil)
		cancel()
		var e *StatusError
		if errors.As(err, &e) && e.Status == http.StatusGone {
			s.mu.Lock()
			s.lost = fault.WithHint(fault.Newf(fault.Endpoint, "training: heartbeat", "the server has ended the session: %w", err), "open a new session and restore the model from its checkpoint")
			s.mu.Unlock()
			return
		}
	}
}

// Err returns why the session is over on the server's side, nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Close stops the heartbeats and tells the server that the session is over, best effort: servers without that call forget it by time.
func (s *Session) Close(ctx context.Context) error {
	s.stop()
	<-s.done
	path := tinker.PathSessions + "/" + url.PathEscape(s.id) + "/finish"
	err := s.post(ctx, "training: finish session", path, tinker.FinishSessionRequest{Reason: tinker.FinishReason{Type: "success"}}, nil)
	s.http.Close()
	var e *StatusError
	if errors.As(err, &e) {
		return nil
	}
	return err
}

// StatusError is an HTTP error answer.
type StatusError struct {
	Status  int
	Message string
}

// Error returns status and message.
func (e *StatusError) Error() string { return fmt.Sprintf("HTTP %d: %s", e.Status, e.Message) }

// classify turns an answer that is not 2xx into an error. 409 asks to try again, 402 (billing) and credentials stop the run, 404 and
// 410 mean that the server no longer knows what it gave out, so it is the endpoint's. Text is bounded.
func classify(op string, r *transport.Reply) error {
	if r.Status >= 200 && r.Status < 300 {
		return nil
	}
	msg := tinker.Detail(r.Body)
	if strings.TrimSpace(msg) == "" {
		msg = http.StatusText(r.Status)
	}
	e := &StatusError{r.Status, clip(msg)}
	class, hint := fault.Endpoint, ""
	switch r.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		class, hint = fault.Fatal, "set the training server's API key: name its environment variable or file in the configuration"
	case http.StatusPaymentRequired, http.StatusMethodNotAllowed:
		class = fault.Fatal
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		class = fault.Transient
	case http.StatusNotFound, http.StatusGone:
	default:
		if r.Status >= 400 && r.Status < 500 {
			class = fault.Item
		}
		if r.Status == http.StatusInternalServerError {
			return transport.Suspect(op, e)
		}
	}
	return transport.StatusError(op, r.Status, class, hint, e)
}

func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > 2000 {
		return strings.ToValidUTF8(s[:2000], "") + "…"
	}
	return s
}

func (s *Session) get(ctx context.Context, op, path string, out any) error {
	return s.http.Call(ctx, transport.Call{Op: op, Method: http.MethodGet, Path: path, Check: decoder(op, out)})
}

func (s *Session) post(ctx context.Context, op, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fault.New(fault.Fatal, op, err)
	}
	return s.send(ctx, op, path, "application/json", body, out)
}

func (s *Session) send(ctx context.Context, op, path, contentType string, body []byte, out any) error {
	return s.http.Call(ctx, transport.Call{Op: op, Method: http.MethodPost, Path: path, ContentType: contentType, Body: body, Check: decoder(op, out)})
}

// decoder reads a JSON answer into out; a nil out ignores the body.
func decoder(op string, out any) func(*transport.Reply) error {
	return func(r *transport.Reply) error {
		if err := classify(op, r); err != nil || out == nil {
			return err
		}
		if err := json.Unmarshal(r.Body, out); err != nil {
			return transport.Suspect(op, fmt.Errorf("the answer is not the JSON expected: %w", err))
		}
		return nil
	}
}
