package transport

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// direct is the way to a server over HTTP/1.1 with neither TLS nor a proxy on it. The goroutine that asks writes the request and
// reads the answer itself; net/http's Transport keeps two goroutines per connection for that, and handing a short request over to them
// and back costs more than writing and reading it (bench/client). The forms stay net/http's: Request.Write and ReadResponse.
type direct struct {
	dial func(context.Context) (net.Conn, error)
	keep int               // idle connections
	rest http.RoundTripper // takes what cannot be sent at once

	mu     sync.Mutex // guards what follows
	idle   []*line    // in the order in which they became idle
	reaper bool       // is set
}

// sentAtOnce is the largest body that is sent before the answer is read: the buffers of a connection hold it. A server may answer a
// larger one before it has read it, and wait for us to notice.
const sentAtOnce = 64 << 10

// RoundTrip sends a request and reads the head of its answer.
func (d *direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.ContentLength < 0 || req.ContentLength > sentAtOnce || req.Close {
		return d.rest.RoundTrip(req)
	}
	ctx := req.Context()
	if l := d.take(); l != nil {
		resp, begun, err := l.ask(req)
		if err == nil || begun || ctx.Err() != nil || req.Method != http.MethodGet {
			return resp, err
		}
		// The server gave the connection up while we took it. What changes nothing there may be asked again.
	}
	conn, err := d.dial(ctx)
	if err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	resp, _, err := newLine(d, conn).ask(req)
	return resp, err
}

// take returns the connection that has been idle for the shortest time, nil when there is none that can be used.
func (d *direct) take() *line {
	for {
		d.mu.Lock()
		last := len(d.idle) - 1
		if last < 0 {
			d.mu.Unlock()
			return nil
		}
		l := d.idle[last]
		d.idle[last] = nil
		d.idle = d.idle[:last]
		d.mu.Unlock()
		if time.Since(l.since) < idleConn && l.quiet() {
			return l
		}
		_ = l.conn.Close()
	}
}

// put keeps a connection for the next request.
func (d *direct) put(l *line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) >= d.keep {
		_ = l.conn.Close()
		return
	}
	l.since = time.Now()
	d.idle = append(d.idle, l)
	if !d.reaper {
		d.reaper = true
		time.AfterFunc(idleConn, d.reap)
	}
}

// reap closes the connections that have been idle for too long, and comes again when the next one will have been.
func (d *direct) reap() {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for n < len(d.idle) && time.Since(d.idle[n].since) >= idleConn {
		_ = d.idle[n].conn.Close()
		n++
	}
	kept := copy(d.idle, d.idle[n:])
	clear(d.idle[kept:])
	d.idle = d.idle[:kept]
	if d.reaper = kept > 0; d.reaper {
		time.AfterFunc(idleConn-time.Since(d.idle[0].since), d.reap)
	}
}

// CloseIdleConnections closes the connections that no request uses.
func (d *direct) CloseIdleConnections() {
	d.mu.Lock()
	for _, l := range d.idle {
		_ = l.conn.Close()
	}
	clear(d.idle)
	d.idle = d.idle[:0]
	d.mu.Unlock()
	if r, ok := d.rest.(interface{ CloseIdleConnections() }); ok {
		r.CloseIdleConnections()
	}
}
