package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	"recpie/internal/fault"
)

// Settings describe one endpoint. Zero fields take the defaults named beside them.
type Settings struct {
	BaseURL       string        // scheme, host and an optional path prefix
	Key           Secret        // sent in KeyHeader when not empty
	KeyHeader     string        // "Authorization" (with "Bearer "): default; or another header, as X-API-Key (bare)
	MaxConcurrent int           // requests in flight: 64
	MaxBody       int64         // bytes of an answer: 64 MiB
	Dial          time.Duration // connecting: 5 s
	Headers       time.Duration // from the request sent to the answer's headers; generation happens here: 10 min
	Idle          time.Duration // between two reads of an answer's body: 30 s
	Total         time.Duration // one attempt as a whole: 15 min
	Attempts      int           // tries per call: 6
	BackoffFirst  time.Duration // first pause, doubling with jitter: 250 ms
	BackoffMax    time.Duration // longest pause, and the cap on what a server's Retry-After may ask: 30 s
	RoundTripper  http.RoundTripper
}

func (s Settings) withDefaults() Settings {
	def(&s.KeyHeader, "Authorization")
	def(&s.MaxConcurrent, 64)
	def(&s.MaxBody, 64<<20)
	def(&s.Dial, 5*time.Second)
	def(&s.Headers, 10*time.Minute)
	def(&s.Idle, 30*time.Second)
	def(&s.Total, 15*time.Minute)
	def(&s.Attempts, 6)
	def(&s.BackoffFirst, 250*time.Millisecond)
	def(&s.BackoffMax, 30*time.Second)
	return s
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Client sends requests to one endpoint. It is safe for concurrent use.
type Client struct {
	s    Settings
	base string
	http *http.Client
	sem  *semaphore.Weighted
}

// idleConn is how long an unused connection is kept. vLLM closes its own after 5 s (uvicorn's keep-alive): a request that is sent at that
// moment fails with a reset.
const idleConn = 4 * time.Second

// New checks the settings and makes a client. Nothing is sent yet.
func New(s Settings) (*Client, error) {
	s = s.withDefaults()
	u, err := url.Parse(s.BaseURL)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fault.Newf(fault.Fatal, "endpoint", "base URL %q must be http(s)://host[:port][/prefix] without user, query or fragment", redactURL(u, s.BaseURL))
	}
	if s.MaxConcurrent < 1 || s.Attempts < 1 || s.MaxBody < 1 {
		return nil, fault.Newf(fault.Fatal, "endpoint", "max_concurrent %d, attempts %d and max_body %d must be positive", s.MaxConcurrent, s.Attempts, s.MaxBody)
	}
	rt := s.RoundTripper
	if rt == nil {
		rt = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: s.Dial}).DialContext,
			TLSHandshakeTimeout:    s.Dial,
			ResponseHeaderTimeout:  s.Headers,
			MaxIdleConns:           s.MaxConcurrent,
			MaxIdleConnsPerHost:    s.MaxConcurrent,
			IdleConnTimeout:        idleConn,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // no transparent inflating: the limit on the body is a limit on bytes in memory
			ForceAttemptHTTP2:      true,
		}
	}
	return &Client{
		s: s, base: strings.TrimRight(u.String(), "/"), sem: semaphore.NewWeighted(int64(s.MaxConcurrent)),
		http: &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

func redactURL(u *url.URL, raw string) string {
	if u == nil {
		return "(unreadable)"
	}
	if u.User != nil {
		return u.Redacted()
	}
	return raw
}

// BaseURL returns the endpoint's address, without a trailing slash.
func (c *Client) BaseURL() string { return c.base }

// MaxConcurrent returns the limit on requests in flight.
func (c *Client) MaxConcurrent() int { return c.s.MaxConcurrent }

// Close drops idle connections. Requests in flight are not touched.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Do sends one request as it is, under the limit on concurrency and with the key set, and returns the answer with a bounded body:
// reading beyond the bound, or waiting too long for the next byte, fails. It makes a Client the HTTPDoer that go-openai asks for.
// The caller closes the body.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	return c.do(req.Clone(req.Context()))
}

// do is Do for a request whose headers are ours to change.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	if err := c.sem.Acquire(req.Context(), 1); err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancelCause(req.Context())
	total := time.AfterFunc(c.s.Total, func() { stop(errTotal) })
	done := func() { total.Stop(); stop(nil); c.sem.Release(1) }
	req = req.WithContext(ctx)
	req.Header.Set("User-Agent", "recpie")
	req.Header.Set(idHeader, newRequestID())
	if !c.s.Key.Empty() {
		if c.s.KeyHeader == "Authorization" {
			req.Header.Set("Authorization", "Bearer "+c.s.Key.Reveal())
		} else {
			req.Header.Set(c.s.KeyHeader, c.s.Key.Reveal())
		}
	} else {
		req.Header.Del("Authorization") // go-openai sets an empty bearer
	}
	resp, err := c.http.Do(req)
	if err != nil {
		err = causeOf(ctx, err)
		done()
		return nil, err
	}
	if err := CheckID(req.Header.Get(idHeader), resp.Header.Get(idHeader)); err != nil {
		resp.Body.Close()
		done()
		return nil, err
	}
	if resp.ContentLength > c.s.MaxBody {
		resp.Body.Close()
		done()
		return nil, fmt.Errorf("answer of %d bytes: %w", resp.ContentLength, errTooLarge)
	}
	b := &boundedBody{ctx: ctx, body: resp.Body, left: c.s.MaxBody, idle: c.s.Idle, done: done}
	b.timer = time.AfterFunc(c.s.Idle, func() { stop(errIdle) })
	resp.Body = b
	if resp.StatusCode >= 400 && !c.s.Key.Empty() {
		if err := hideKey(resp, c.s.Key); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// hideKey takes the key out of a refusal, which will be quoted in messages: some servers repeat what they were sent.
func hideKey(resp *http.Response, key Secret) error {
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		resp.Body.Close()
		return fmt.Errorf("reading the answer: %w", err)
	}
	body = bytes.ReplaceAll(body, []byte(key.Reveal()), []byte(key.String()))
	resp.ContentLength = int64(len(body))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(body), resp.Body}
	return nil
}

var (
	errTooLarge = errors.New("the answer is larger than the limit")
	errIdle     = errors.New("the answer stopped arriving")
	errTotal    = errors.New("the request took longer than its deadline")
)

func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errTotal) || errors.Is(cause, errIdle) {
		return cause
	}
	// http.Client wraps errors with method and URL, which the caller's operation name says better.
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// boundedBody fails instead of delivering more than the limit, and gives the request up when no byte arrives for too long.
type boundedBody struct {
	ctx     context.Context // of the request
	body    io.ReadCloser
	left    int64
	idle    time.Duration
	timer   *time.Timer
	untimed bool // the reader keeps the timer
	done    func()
}

// Read reads from the answer. An answer of exactly the limit is whole; one byte more is an error.
func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	if err != nil && err != io.EOF {
		return n, causeOf(b.ctx, err)
	}
	if !b.untimed {
		b.timer.Reset(b.idle)
	}
	if int64(n) > b.left {
		return 0, errTooLarge
	}
	b.left -= int64(n)
	return n, err
}

// Close ends the answer and frees its place in the limit.
func (b *boundedBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	if b.done != nil {
		b.done()
		b.done = nil
	}
	return err
}

// Call is one request with its retries.
type Call struct {
	Op          string // for messages, as "vllm: chat"
	Method      string
	Path        string // below the base URL, with a leading slash
	ContentType string // of Body; "" without one
	Accept      string // header; may be empty
	Body        []byte // sent again on every attempt
	Once        bool   // no retries: the caller has its own rule
	// Check reads an answer of any status. An error of class transient is retried; an endpoint error is retried when it is
	// marked by Suspect; every other error ends the call.
	Check func(*Reply) error
}

// Reply is a whole answer.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte
	SentID string // under which the request was sent, for CheckID
}

// once makes one attempt. Errors are classified.
func (c *Client) once(ctx context.Context, call Call) error {
	resp, err := c.send(ctx, call)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return c.whole(ctx, call, resp)
}

// send makes one request and returns the answer, its body unread and the caller's to close, unless it is one that no call can use.
func (c *Client) send(ctx context.Context, call Call) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, call.Method, c.base+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return nil, fault.New(fault.Fatal, call.Op, err)
	}
	if call.ContentType != "" {
		req.Header.Set("Content-Type", call.ContentType)
	}
	if call.Accept != "" {
		req.Header.Set("Accept", call.Accept)
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, c.Failed(ctx, call.Op, err)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		resp.Body.Close()
		return nil, Suspect(call.Op, fmt.Errorf("the answer is encoded as %q although nothing was offered", enc))
	}
	return resp, nil
}

// whole reads an answer to its end and has it checked.
func (c *Client) whole(ctx context.Context, call Call, resp *http.Response) error {
	var buf bytes.Buffer
	buf.Grow(int(min(max(0, resp.ContentLength), 64<<10)) + bytes.MinRead) // what is announced may never come
	_, err := buf.ReadFrom(resp.Body)
	body := buf.Bytes()
	if err != nil {
		return c.Failed(ctx, call.Op, fmt.Errorf("reading the answer: %w", err))
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusFound {
		return fault.WithHint(fault.Newf(fault.Endpoint, call.Op, "HTTP %d: the server redirects", resp.StatusCode), "give the server's final address as base URL; a sign-in page before it redirects, too")
	}
	err = call.Check(&Reply{resp.StatusCode, resp.Header, body, RequestID(resp)})
	if err == nil {
		return nil
	}
	return withRetryAfter(err, resp.Header, c.s.BackoffMax)
}

// Failed classifies an error of Do or of reading its answer. The caller's own cancellation is told apart from a deadline of ours.
func (c *Client) Failed(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fault.New(fault.Transient, op, context.Cause(ctx))
	}
	if errors.Is(err, errTooLarge) {
		return fault.New(fault.Endpoint, op, err)
	}
	return Suspect(op, err)
}
