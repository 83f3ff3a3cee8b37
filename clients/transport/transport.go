package transport

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"

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
	Headers       time.Duration // until the answer's headers, connecting and sending included; generation happens here: 10 min
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
	s     Settings
	base  string
	url   *url.URL // base, parsed
	rt    http.RoundTripper
	sem   *semaphore.Weighted
	fixed http.Header // what every request carries; the lists are shared and never changed
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
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	c := &Client{s: s, base: u.String(), url: u, rt: s.RoundTripper, sem: semaphore.NewWeighted(int64(s.MaxConcurrent)), fixed: http.Header{"User-Agent": {"recpie"}}}
	switch {
	case s.Key.Empty():
	case s.KeyHeader == "Authorization":
		c.fixed.Set("Authorization", "Bearer "+s.Key.Reveal())
	default:
		c.fixed.Set(s.KeyHeader, s.Key.Reveal())
	}
	if c.rt == nil {
		c.rt, err = s.network(u)
	}
	return c, err
}

// network is the way to one endpoint: direct where that can go, else net/http's.
func (s Settings) network(u *url.URL) (http.RoundTripper, error) {
	through, err := http.ProxyFromEnvironment(&http.Request{URL: u}) // once: the endpoint does not change, and the environment is read once anyway
	if err != nil {
		return nil, fault.New(fault.Fatal, "endpoint", err)
	}
	dial := (&net.Dialer{Timeout: s.Dial}).DialContext
	t := &http.Transport{
		DialContext:            dial,
		TLSHandshakeTimeout:    s.Dial,
		MaxIdleConns:           s.MaxConcurrent,
		MaxIdleConnsPerHost:    s.MaxConcurrent,
		IdleConnTimeout:        idleConn,
		MaxResponseHeaderBytes: maxHead,
		DisableCompression:     true, // no transparent inflating: the limit on the body is a limit on bytes in memory
		ForceAttemptHTTP2:      true,
	}
	foreign := func(r rune) bool { return r > unicode.MaxASCII } // a name that is spelt otherwise for DNS
	switch {
	case through != nil:
		t.Proxy = http.ProxyURL(through)
	case u.Scheme == "http" && !strings.ContainsFunc(u.Host, foreign):
		addr := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
		return &direct{dial: func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", addr) }, keep: s.MaxConcurrent, rest: t}, nil
	}
	return t, nil
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
func (c *Client) Close() {
	if t, ok := c.rt.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
