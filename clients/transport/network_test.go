package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"recpie/internal/fault"
)

// names answers every question for an address with the one it holds.
type names struct{ addr atomic.Pointer[net.IP] }

// serve answers one packet after another. A question for IPv4 gets the address, every other one none.
func (n *names) serve(conn net.PacketConn) {
	buf := make([]byte, 512)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12
		for end < size && buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		end += 5 // the name's last byte, type and class
		if end > size {
			continue
		}
		out := append([]byte{}, buf[:end]...)
		out[2], out[3] = 0x84, 0x00 // an answer, with authority
		copy(out[6:12], make([]byte, 6))
		if binary.BigEndian.Uint16(buf[end-4:]) == 1 {
			out[7] = 1
			out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the name again, type A, class IN, valid for 0 s, 4 bytes
			out = append(out, n.addr.Load().To4()...)
		}
		_, _ = conn.WriteTo(out, from)
	}
}

// TestNameMoves: a server that is started again elsewhere is found under its name, by the client that used the old one.
func TestNameMoves(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var n names
	go n.serve(conn)
	was := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	defer func() { net.DefaultResolver = was }()

	start := func(host, port string) *httptest.Server {
		l, err := net.Listen("tcp", net.JoinHostPort(host, port))
		if err != nil {
			t.Skip("no second loopback address here:", err)
		}
		ip := net.ParseIP(host)
		n.addr.Store(&ip)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, host) }))
		s.Listener.Close()
		s.Listener = l
		s.Start()
		return s
	}
	first := start("127.0.0.1", "0")
	_, port, err := net.SplitHostPort(first.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Settings{BaseURL: "http://inference.recpie.test:" + port, Attempts: 4, BackoffFirst: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() (said string, err error) {
		return said, c.Call(t.Context(), Call{Op: "ask", Method: http.MethodGet, Path: "/", Check: func(r *Reply) error { said = string(r.Body); return nil }})
	}
	if said, err := ask(); err != nil || said != "127.0.0.1" {
		t.Fatalf("%q, %v", said, err)
	}
	first.Close()
	second := start("127.0.0.2", port)
	defer second.Close()
	if said, err := ask(); err != nil || said != "127.0.0.2" {
		t.Errorf("after the move: %q, %v", said, err)
	}
}

// lazy is a server that is silent for a while before its answer, and inside it.
type lazy struct {
	before, within time.Duration
	ctx            context.Context
	read           int
}

func (l *lazy) wait(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-l.ctx.Done():
		return l.ctx.Err()
	}
}

// RoundTrip answers.
func (l *lazy) RoundTrip(req *http.Request) (*http.Response, error) {
	l.ctx = req.Context()
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, ContentLength: -1, Body: l}, l.wait(l.before)
}

// Read gives a byte, then after a while another, then the end.
func (l *lazy) Read(p []byte) (int, error) {
	l.read++
	switch l.read {
	case 1:
		return copy(p, "a"), nil
	case 2:
		err := l.wait(l.within)
		return copy(p, "b"), err
	}
	return 0, io.EOF
}

// Close ends the answer.
func (l *lazy) Close() error { return nil }

// TestPhases: each phase has its own deadline, and the error says which one passed, when it did.
func TestPhases(t *testing.T) {
	s := Settings{BaseURL: "http://h", Headers: 10 * time.Second, Idle: 4 * time.Second, Total: 15 * time.Second, Attempts: 1}
	for _, tc := range []struct {
		before, within, takes time.Duration
		want                  error
	}{
		{time.Hour, 0, 10 * time.Second, errHeaders},
		{0, time.Hour, 4 * time.Second, errIdle},
		{9 * time.Second, time.Hour, 13 * time.Second, errIdle},
		{9 * time.Second, 3 * time.Second, 12 * time.Second, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.RoundTripper = &lazy{before: tc.before, within: tc.within}
			c, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			err = c.Call(t.Context(), Call{Op: "ask", Method: http.MethodGet, Path: "/", Check: func(*Reply) error { return nil }})
			if took := time.Since(begun); !errors.Is(err, tc.want) || (err != nil) != (tc.want != nil) || took != tc.takes || err != nil && fault.ClassOf(err) != fault.Endpoint {
				t.Errorf("silent for %v and %v: %v after %v, want %v after %v", tc.before, tc.within, err, took, tc.want, tc.takes)
			}
		})
	}
	s.Total = 8 * time.Second
	for _, l := range []*lazy{{before: time.Hour}, {before: 6 * time.Second, within: time.Hour}} {
		synctest.Test(t, func(t *testing.T) {
			s.RoundTripper = l
			c, err := New(s)
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			err = c.Call(t.Context(), Call{Op: "ask", Method: http.MethodGet, Path: "/", Check: func(*Reply) error { return nil }})
			if took := time.Since(begun); !errors.Is(err, errTotal) || took != s.Total {
				t.Errorf("%v after %v", err, took)
			}
		})
	}
}
