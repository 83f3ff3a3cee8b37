package faultproxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"
)

// exchange is one request on its way to a spoiled answer.
type exchange struct {
	p    *Proxy
	w    http.ResponseWriter
	r    *http.Request
	said *answer // the backend's, once asked
}

// answer is what a backend said.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

// Header returns the header to be sent.
func (a *answer) Header() http.Header { return a.header }

// Write adds to the body.
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

// WriteHeader sets the status, once.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// answer asks the backend, once.
func (x *exchange) answer() *answer {
	if x.said == nil {
		x.said = &answer{header: http.Header{}}
		x.p.backend.ServeHTTP(x.said, x.r)
		x.said.WriteHeader(http.StatusOK)
	}
	return x.said
}

// send passes the answer on as it is.
func (a *answer) send(w http.ResponseWriter) {
	h := w.Header()
	for k, v := range a.header {
		h[k] = v
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the client may be gone
}

// say answers with the backend's status and header but another body, whose length is told rightly.
func (x *exchange) say(body []byte) {
	a := x.answer()
	a.header.Del("Content-Length")
	a.body.Reset()
	a.body.Write(body)
	a.send(x.w)
}

// hasChoices tells whether the true answer is one of generation, which the faults of JSON can spoil.
func (x *exchange) hasChoices() bool {
	var v struct {
		Choices []json.RawMessage `json:"choices"`
	}
	a := x.answer()
	return a.status == http.StatusOK && json.Unmarshal(a.body.Bytes(), &v) == nil && len(v.Choices) > 0
}

// wait tells whether the time passed before the client left.
func (x *exchange) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// take takes the connection out of the server's hands, nil when the client has left.
func (x *exchange) take() *conn {
	c, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		return nil
	}
	return c.(*conn)
}

// head is the beginning of a good answer on the wire. A length below 0 means chunked.
func head(length int) string {
	if length < 0 {
		return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	}
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", length)
}

// raw makes a fault of what do writes on the connection. The true answer's body is at hand.
func raw(do func(c *conn, body []byte)) func(*exchange) {
	return func(x *exchange) {
		body := x.answer().body.Bytes()
		if c := x.take(); c != nil {
			do(c, body)
			_ = c.Close()
		}
	}
}

// reset makes Close send RST instead of FIN. What was written before gets a moment to arrive: a reset overtakes it otherwise.
func (c *conn) reset() {
	time.Sleep(5 * time.Millisecond)
	_ = c.SetLinger(0)
}

func (c *conn) write(text ...string) {
	var b net.Buffers
	for _, t := range text {
		b = append(b, []byte(t))
	}
	_, _ = b.WriteTo(c.TCPConn) // the client may be gone
}

// hold keeps the connection until the client closes it, or sends something although it has not got its answer.
func (c *conn) hold() { _, _ = c.TCPConn.Read(make([]byte, 1)) }

// drip writes byte by byte until the client has left.
func (c *conn) drip(text string, pause time.Duration) {
	left := make(chan struct{})
	go func() { defer close(left); c.hold() }()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for i := range len(text) {
		c.write(text[i : i+1])
		select {
		case <-tick.C:
		case <-left:
			return
		}
	}
	<-left
}
