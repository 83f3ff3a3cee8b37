package transport

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rude is a server that answers the first request of a path with the bytes held for it, every later one with its own name, and closes
// a connection after an answer that ends with hangUp. A path without bytes is not answered at all.
type rude struct {
	net.Listener
	answers map[string]string
	before  bool // reading the request's body

	mu    sync.Mutex
	asked map[string]int
	ended atomic.Int64 // connections that the client closed
	taken atomic.Int64 // connections
	hung  atomic.Int64 // connections that it closed itself
}

const (
	hangUp = "<hang up>"
	silent = "<silent>"
	again  = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain"
)

func newRude(t *testing.T, answers map[string]string) *rude {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rude{Listener: l, answers: answers, asked: map[string]int{}}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.taken.Add(1)
			conns.Go(func() { s.serve(conn) })
		}
	})
	t.Cleanup(func() { l.Close(); conns.Wait() })
	return s
}

func (s *rude) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			s.ended.Add(1)
			return
		}
		if !s.before {
			_, _ = io.Copy(io.Discard, req.Body)
		}
		s.mu.Lock()
		reply := s.answers[req.URL.Path]
		if s.asked[req.URL.Path]++; s.asked[req.URL.Path] > 1 {
			reply = again
		}
		s.mu.Unlock()
		reply, last := strings.CutSuffix(reply, hangUp)
		reply, quiet := strings.CutSuffix(reply, silent)
		_, err = io.WriteString(conn, reply)
		if last {
			conn.Close()
			s.hung.Add(1)
		}
		if err != nil || last {
			return
		}
		if s.before || quiet {
			_, _ = io.Copy(io.Discard, conn) // until the client ends it
			s.ended.Add(1)
			return
		}
	}
}

// ways are all the ways to a server over plain HTTP/1.1.
func ways(t *testing.T, addr net.Addr) map[string]http.RoundTripper {
	u := &url.URL{Scheme: "http", Host: addr.String()}
	rt, err := Settings{}.withDefaults().network(u)
	if err != nil {
		t.Fatal(err)
	}
	d, ok := rt.(*direct)
	if !ok {
		t.Skip("a proxy is set for loopback addresses")
	}
	t.Cleanup(d.CloseIdleConnections)
	return map[string]http.RoundTripper{"direct": d, "net/http": d.rest}
}

// through sends a request and reads its answer to the end.
func through(ctx context.Context, rt http.RoundTripper, method, url, body string) (int, string, error) {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, r)
	if err != nil {
		return 0, "", err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(got), err
}

// TestWaysToAServer holds the ways to the same answers, the same refusals and the same care for connections.
func TestWaysToAServer(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	cases := map[string]struct {
		answer string
		status int
		body   string
		fails  bool
		keeps  bool // the connection serves the next request
	}{
		"length":           {head + "Content-Length: 2\r\n\r\nab", 200, "ab", false, true},
		"chunks":           {head + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 200, "ab", false, true},
		"trailer":          {head + "Transfer-Encoding: chunked\r\nTrailer: X\r\n\r\n1\r\na\r\n0\r\nX: 1\r\n\r\n", 200, "a", false, true},
		"no content":       {"HTTP/1.1 204 No Content\r\n\r\n", 204, "", false, true},
		"empty":            {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 503, "", false, true},
		"announced":        {"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + head + "Content-Length: 1\r\n\r\na", 200, "a", false, true},
		"until the end":    {head + "\r\nab" + hangUp, 200, "ab", false, false},
		"its last":         {head + "Connection: close\r\nContent-Length: 1\r\n\r\na", 200, "a", false, false},
		"old":              {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 200, "a", false, false},
		"other protocol":   {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + hangUp, 101, "", false, false},
		"cut body":         {head + "Content-Length: 5\r\n\r\nab" + hangUp, 0, "", true, false},
		"cut chunk":        {head + "Transfer-Encoding: chunked\r\n\r\n5\r\nab" + hangUp, 0, "", true, false},
		"cut head":         {head + "Content-Len" + hangUp, 0, "", true, false},
		"nothing":          {hangUp, 0, "", true, false},
		"no HTTP":          {"SSH-2.0-x\r\n" + hangUp, 0, "", true, false},
		"two lengths":      {head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 0, "", true, false},
		"bad chunk":        {head + "Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n" + hangUp, 0, "", true, false},
		"large head":       {head + strings.Repeat("X-Fill: "+strings.Repeat("a", 1000)+"\r\n", 100) + "Content-Length: 1\r\n\r\na", 0, "", true, false},
		"endless announce": {strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: "+strings.Repeat("a", 1000)+"\r\n\r\n", 100) + hangUp, 0, "", true, false},
	}
	for name, tc := range cases {
		for _, way := range []string{"direct", "net/http"} {
			t.Run(name+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newRude(t, map[string]string{"/": tc.answer})
				rt := ways(t, s.Addr())[way]
				at := "http://" + s.Addr().String() + "/"
				status, body, err := through(t.Context(), rt, http.MethodPost, at, "question")
				if (err != nil) != tc.fails || !tc.fails && (status != tc.status || tc.status != 101 && body != tc.body) {
					t.Fatalf("%d %q, %v", status, body, err)
				}
				if _, body, err := through(t.Context(), rt, http.MethodPost, at, "question"); err != nil || body != "again" {
					t.Errorf("the next: %q, %v", body, err)
				}
				if n := s.taken.Load(); (n == 1) != tc.keeps {
					t.Errorf("%d connections for two requests", n)
				}
			})
		}
	}
}

// TestConnectionGivenUp: a server closes a connection that was kept, before the next request or in answer to it.
func TestConnectionGivenUp(t *testing.T) {
	for _, way := range []string{"direct", "net/http"} {
		t.Run(way, func(t *testing.T) {
			s := newRude(t, map[string]string{"/kept": again, "/left": again + hangUp, "/cut": hangUp})
			rt := ways(t, s.Addr())[way]
			at := "http://" + s.Addr().String()
			ask := func(method, path, body string) error {
				_, got, err := through(t.Context(), rt, method, at+path, body)
				if err == nil && got != "again" {
					err = fmt.Errorf("the answer is %q", got)
				}
				return err
			}
			if err := ask(http.MethodPost, "/left", "a"); err != nil {
				t.Fatal(err)
			}
			for wait := time.Now(); s.hung.Load() == 0 && time.Since(wait) < 10*time.Second; {
				time.Sleep(time.Millisecond)
			}
			if err := ask(http.MethodPost, "/kept", "a"); err != nil {
				t.Error("after a connection that was closed in between:", err)
			}
			if err := ask(http.MethodGet, "/cut", ""); err != nil {
				t.Error("a question that changes nothing is not asked again:", err)
			}
			s.mu.Lock()
			s.asked["/cut"] = 0
			s.mu.Unlock()
			if err := ask(http.MethodPost, "/cut", "a"); err == nil {
				t.Error("a request that may have been carried out is sent again")
			}
		})
	}
}

// TestSurplusAnswer: what a server sends beyond the answer is never taken for the answer to the next request.
func TestSurplusAnswer(t *testing.T) {
	for _, surplus := range []string{again, "x"} {
		s := newRude(t, map[string]string{"/": again + surplus, "/late": again})
		d := ways(t, s.Addr())["direct"]
		for _, path := range []string{"/", "/", "/late"} {
			if status, body, err := through(t.Context(), d, http.MethodPost, "http://"+s.Addr().String()+path, "a"); err != nil || status != 200 || body != "again" {
				t.Errorf("%d %q, %v", status, body, err)
			}
		}
		if n := s.taken.Load(); n != 2 {
			t.Errorf("%d connections, want one that was given up and one that was kept", n)
		}
	}
}

// TestAnswerBeforeTheBody: a refusal is read though the server never reads what is refused.
func TestAnswerBeforeTheBody(t *testing.T) {
	const refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"
	for _, size := range []int{1 << 10, sentAtOnce, 32 << 20} {
		for _, way := range []string{"direct", "net/http"} {
			s := newRude(t, map[string]string{"/": refusal})
			s.before = true
			status, body, err := through(t.Context(), ways(t, s.Addr())[way], http.MethodPost, "http://"+s.Addr().String()+"/", strings.Repeat("a", size))
			if err != nil || status != 413 || body != "no" {
				t.Errorf("%s, %d bytes: %d %q, %v", way, size, status, body, err)
			}
		}
	}
}

// TestGivenUpByTheClient: the end of a context ends waiting at once with its cause, and the connection with it; so does closing the body.
func TestGivenUpByTheClient(t *testing.T) {
	why := errors.New("not needed")
	for _, path := range []string{"/none", "/half", "/close"} {
		for _, way := range []string{"direct", "net/http"} {
			s := newRude(t, map[string]string{"/none": silent, "/half": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab" + silent, "/close": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab" + silent})
			rt := ways(t, s.Addr())[way]
			ctx, cancel := context.WithCancelCause(t.Context())
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Addr().String()+path, strings.NewReader("a"))
			if err != nil {
				t.Fatal(err)
			}
			end := time.AfterFunc(50*time.Millisecond, func() { cancel(why) })
			resp, err := rt.RoundTrip(req)
			switch {
			case err != nil:
			case path == "/close":
				end.Stop()
				err = why
				resp.Body.Close()
			default:
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			if !errors.Is(err, why) {
				t.Errorf("%s, %s: %v", way, path, err)
			}
			for wait := time.Now(); s.ended.Load() == 0; time.Sleep(time.Millisecond) {
				if time.Since(wait) > 10*time.Second {
					t.Fatalf("%s, %s: the connection is still open", way, path)
				}
			}
			cancel(nil)
		}
	}
}

// TestAnswersStayApart sends many requests at once, gives some of them up at any time, and wants each answer to be that of its request.
func TestAnswersStayApart(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(body)%3 == 0 {
			w.(http.Flusher).Flush() // in chunks
		}
		_, _ = w.Write(body)
	}))
	defer srv.Close()
	d := ways(t, srv.Listener.Addr())["direct"].(*direct)
	var all sync.WaitGroup
	var whole, cut atomic.Int64
	for i := range 16 {
		all.Go(func() {
			for j := range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				if j%4 == 0 {
					time.AfterFunc(time.Duration(j*i)*time.Microsecond/8, cancel)
				}
				body := strings.Repeat(fmt.Sprintf("%d/%d,", i, j), 1+j*j%600)
				_, got, err := through(ctx, d, http.MethodPost, srv.URL, body)
				switch {
				case err == nil && got == body:
					whole.Add(1)
				case err != nil && errors.Is(err, context.Canceled):
					cut.Add(1)
				default:
					t.Errorf("%d bytes for %d, %v", len(got), len(body), err)
				}
				cancel()
			}
		})
	}
	all.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.idle) == 0 || len(d.idle) > 16 || whole.Load() == 0 || cut.Load() == 0 {
		t.Errorf("%d answers, %d given up, %d connections kept", whole.Load(), cut.Load(), len(d.idle))
	}
}

// FuzzAnswer: whatever a server sends, an answer is read within bounds and the next request has its own connection or its own answer.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{again, again + again, "HTTP/1.1 100 Continue\r\n\r\n" + again, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "HTTP/1.0 200\r\n\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		here, there := net.Pipe()
		d := &direct{keep: 1, dial: func(context.Context) (net.Conn, error) { return here, nil }}
		defer d.CloseIdleConnections()
		go func() {
			_, _ = http.ReadRequest(bufio.NewReader(there))
			_, _ = there.Write(sent)
			there.Close()
		}()
		status, body, err := through(t.Context(), d, http.MethodGet, "http://h/", "")
		if err == nil && (status < 100 || len(body) > len(sent)) {
			t.Errorf("%d, %d bytes from %d", status, len(body), len(sent))
		}
		if len(d.idle) == 1 && (err != nil || d.idle[0].r.Buffered() > 0 || bytes.Count(sent, []byte("HTTP/1.")) == 0) {
			t.Errorf("a connection is kept after %d, %v", status, err)
		}
	})
}
