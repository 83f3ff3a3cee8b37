package doctor

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"recpie/clients/transport"
)

// link sends single requests to a server, with its key and without, and shows the answers as they are.
type link struct {
	url           *url.URL
	with, without *transport.Client
}

// answer is one HTTP answer of any status.
type answer struct {
	status     int
	header     http.Header
	body       []byte
	sent, came time.Time
	tls        *tls.ConnectionState // nil over plain http
}

// dial makes a link. Nothing is sent yet.
func dial(s transport.Settings) (*link, error) {
	s.Attempts, s.Dial, s.Headers, s.Total, s.MaxBody = 1, 5*time.Second, 15*time.Second, 20*time.Second, 8<<20
	with, err := transport.New(s)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(with.BaseURL())
	if err != nil {
		return nil, err // transport.New has parsed it
	}
	s.Key = transport.Secret{}
	without, err := transport.New(s)
	if err != nil {
		return nil, err
	}
	return &link{u, with, without}, nil
}

func (l *link) close() {
	l.with.Close()
	l.without.Close()
}

// ask sends one request without a body.
func (l *link) ask(ctx context.Context, c *transport.Client, method, path string) (*answer, error) {
	const op = "connect"
	req, err := http.NewRequestWithContext(ctx, method, c.BaseURL()+path, nil)
	if err != nil {
		return nil, err
	}
	a := &answer{sent: time.Now()}
	resp, err := c.Do(req)
	if err != nil {
		return nil, c.Failed(ctx, op, err)
	}
	defer resp.Body.Close()
	a.came, a.status, a.header, a.tls = time.Now(), resp.StatusCode, resp.Header, resp.TLS
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, c.Failed(ctx, op, fmt.Errorf("reading the answer: %w", err))
	}
	return a, nil
}

// get asks with the key.
func (l *link) get(ctx context.Context, path string) (*answer, error) {
	return l.ask(ctx, l.with, http.MethodGet, path)
}

// bare asks as someone would who has no key.
func (l *link) bare(ctx context.Context, method, path string) (*answer, error) {
	return l.ask(ctx, l.without, method, path)
}

// denied tells whether an answer says that a key is needed, or another one.
func (a *answer) denied() bool {
	return a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status == http.StatusProxyAuthRequired
}
