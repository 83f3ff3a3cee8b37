package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"

	"recpie/internal/fault"
)

// Call is one request with its retries.
type Call struct {
	Op          string // for messages, as "vllm: chat"
	Method      string
	Path        string // below the base URL, with a leading slash
	ContentType string // of Body; "" without one
	Accept      string // header; may be empty
	Body        []byte // sent again on every attempt
	Once        bool   // no retries: the caller has its own rule
	Aside       bool   // a look at the server that does not wait for its turn: outside the limit on concurrency
	Lent        bool   // Check does not keep the answer's body, which is used again
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
	to, err := c.at(call.Path)
	if err != nil {
		return nil, fault.New(fault.Fatal, call.Op, err)
	}
	req := http.Request{Method: call.Method, URL: to, Host: to.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 8)}
	switch call.ContentType {
	case "":
	case jsonType[0]:
		req.Header["Content-Type"] = jsonType
	default:
		req.Header["Content-Type"] = []string{call.ContentType}
	}
	if call.Accept != "" {
		req.Header["Accept"] = []string{call.Accept}
	}
	if data := call.Body; len(data) > 0 {
		req.ContentLength = int64(len(data))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
		req.Body, _ = req.GetBody() // net/http knows the type and sends headers and body at once
	}
	resp, err := c.fly(ctx, &req, call.Aside)
	if err != nil {
		return nil, c.Failed(ctx, call.Op, err)
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
		resp.Body.Close()
		return nil, Suspect(call.Op, fmt.Errorf("the answer is encoded as %q although nothing was offered", enc))
	}
	return resp, nil
}

// at is the address of a path below the base URL.
func (c *Client) at(path string) (*url.URL, error) {
	for i := range len(path) {
		switch b := path[i]; {
		case b >= 'a' && b <= 'z', b >= 'A' && b <= 'Z', b >= '0' && b <= '9', b == '/', b == '_', b == '-', b == '.':
		default:
			return url.Parse(c.base + path)
		}
	}
	if c.url.RawPath != "" {
		return url.Parse(c.base + path)
	}
	u := *c.url // the path is as it will be sent
	u.Path += path
	return &u, nil
}

var jsonType = []string{"application/json"}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// whole reads an answer to its end and has it checked.
func (c *Client) whole(ctx context.Context, call Call, resp *http.Response) error {
	buf := buffers.Get().(*bytes.Buffer)
	defer func() {
		if !call.Lent || buf.Cap() > 64<<10 {
			*buf = bytes.Buffer{}
		}
		buf.Reset()
		buffers.Put(buf)
	}()
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
