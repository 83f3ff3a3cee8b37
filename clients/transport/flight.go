package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"sync"
	"time"
)

// Do sends one request as it is, under the limit on concurrency and with the key set, and returns the answer with a bounded body:
// reading beyond the bound, or waiting too long for the next byte, fails. It makes a Client the HTTPDoer that go-openai asks for.
// The caller closes the body.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	r := *req
	if r.Header = req.Header.Clone(); r.Header == nil {
		r.Header = http.Header{}
	}
	r.Header.Del("Authorization") // go-openai sets an empty bearer
	return c.fly(req.Context(), &r, false)
}

var (
	errTooLarge = errors.New("the answer is larger than the limit")
	errHeaders  = errors.New("the answer did not begin within its deadline")
	errIdle     = errors.New("the answer stopped arriving")
	errTotal    = errors.New("the request took longer than its deadline")
)

// flight is one request under way and, once it is answered, the answer's body. One timer serves the deadlines of all its phases: it
// looks again when the present phase has moved on meanwhile.
type flight struct {
	c      *Client
	aside  bool            // holds no place in the limit
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	left   int64

	mu      sync.Mutex // guards what follows
	timer   *time.Timer
	end     time.Time // of the request as a whole
	due     time.Time // when the answer must begin or go on
	begun   bool      // the answer
	untimed bool      // reading does not move due: who reads does it
	closed  bool
}

// fly sends a request, whose header is its own to change. The flight ends with an error, or when the answer's body is closed.
func (c *Client) fly(ctx context.Context, req *http.Request, aside bool) (*http.Response, error) {
	if !aside {
		if err := c.sem.Acquire(ctx, 1); err != nil {
			return nil, err
		}
	}
	now := time.Now()
	f := &flight{c: c, aside: aside, end: now.Add(c.s.Total), due: now.Add(c.s.Headers)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	f.mu.Lock()
	f.timer = time.AfterFunc(min(c.s.Headers, c.s.Total), f.look)
	f.mu.Unlock()
	id := newRequestID()
	maps.Copy(req.Header, c.fixed)
	req.Header[idHeader] = []string{id}
	resp, err := c.rt.RoundTrip(req.WithContext(f.ctx))
	if err != nil {
		err = f.cause(err)
		f.over()
		return nil, err
	}
	f.body, f.left = resp.Body, c.s.MaxBody
	resp.Body = f
	if err := CheckID(id, resp.Header.Get(idHeader)); err != nil {
		f.Close()
		return nil, err
	}
	if resp.ContentLength > c.s.MaxBody {
		f.Close()
		return nil, fmt.Errorf("answer of %d bytes: %w", resp.ContentLength, errTooLarge)
	}
	f.within(c.s.Idle)
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

// look runs when the timer fires: a deadline has passed, or the request has moved on since the timer was set.
func (f *flight) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	now := time.Now()
	due, why := f.due, errIdle
	if !f.begun {
		why = errHeaders
	}
	if f.end.Before(due) {
		due, why = f.end, errTotal
	}
	if now.Before(due) {
		f.timer.Reset(due.Sub(now))
		return
	}
	f.cancel(why)
}

// within begins a phase in which the answer must go on within d.
func (f *flight) within(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.due, f.begun = now.Add(d), true
	f.timer.Reset(min(d, f.end.Sub(now)))
}

// cause says why the request failed: the deadline that ended it, when it was one.
func (f *flight) cause(err error) error {
	switch cause := context.Cause(f.ctx); cause {
	case errTotal, errHeaders, errIdle:
		return cause
	}
	return err
}

// Read reads from the answer. An answer of exactly the limit is whole; one byte more is an error.
func (f *flight) Read(p []byte) (int, error) {
	if int64(len(p)) > f.left+1 {
		p = p[:f.left+1]
	}
	n, err := f.body.Read(p)
	if err != nil && err != io.EOF {
		return n, f.cause(err)
	}
	if n > 0 && err == nil && !f.untimed {
		f.mu.Lock()
		f.due = time.Now().Add(f.c.s.Idle)
		f.mu.Unlock()
	}
	if int64(n) > f.left {
		return 0, errTooLarge
	}
	f.left -= int64(n)
	return n, err
}

// Close ends the answer and frees its place in the limit.
func (f *flight) Close() error {
	err := f.body.Close()
	f.over()
	return err
}

// over ends the flight.
func (f *flight) over() {
	f.mu.Lock()
	was := f.closed
	f.closed = true
	f.timer.Stop()
	f.mu.Unlock()
	if was {
		return
	}
	f.cancel(nil)
	if !f.aside {
		f.c.sem.Release(1)
	}
}
