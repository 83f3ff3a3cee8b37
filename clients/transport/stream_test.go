package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"recpie/internal/fault"
)

// all reads events to the end.
func all(r io.Reader, most int) (out []string, err error) {
	e := newEvents(r, most)
	for {
		data, err := e.next()
		if err != nil {
			return out, err
		}
		out = append(out, string(data))
	}
}

func TestEvents(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want []string
	}{
		{"", nil},
		{"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		{"data: a\r\n\r\ndata: b\r\n\r\n", []string{"a", "b"}},
		{"data: a\r\rdata: b\r\r", []string{"a", "b"}},
		{"data: a\ndata: b\n\n", []string{"a\nb"}},
		{"data:a\n\ndata:  a\n\n", []string{"a", " a"}},
		{"data\n\n", []string{""}},
		{"\ufeffdata: a\n\n", []string{"a"}},
		{"data: a\n\n\ufeffdata: b\n\n", []string{"a"}},
		{": ping\n\nevent: x\nid: 1\nretry: 5\n\ndata: a\n: more\n\n", []string{"a"}},
		{"data: a\n\ndata: not whole\n", []string{"a"}},
		{"data: a\n\ndata: not whole", []string{"a"}},
		{"\n\n\ndata: a: b\n\n", []string{"a: b"}},
	} {
		for name, r := range map[string]io.Reader{"whole": strings.NewReader(tc.in), "byte by byte": iotest.OneByteReader(strings.NewReader(tc.in))} {
			if got, err := all(r, 100); !slices.Equal(got, tc.want) || err != io.EOF {
				t.Errorf("%q, %s: %q, %v, want %q", tc.in, name, got, err, tc.want)
			}
		}
	}
	for _, in := range []string{"data: " + strings.Repeat("x", 200), strings.Repeat("x", 200), strings.Repeat("data: xxxxxxxxxx\n", 20), strings.Repeat("data\n", 200)} {
		if got, err := all(strings.NewReader(in), 100); len(got) > 0 || !errors.Is(err, errEventTooLarge) {
			t.Errorf("%.20q: %q, %v", in, got, err)
		}
	}
}

// FuzzEvents: how the bytes are cut does not matter, nothing exceeds the bound, and what was read is read again from its own encoding.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", "data: a\r\n\r\ndata: b\r\rdata\n\n", ": c\n\n\ufeffdata: a\ndata: b\n\n", "data: a\r\n\ndata:b", "event: e\ndata: {\"x\":1}\n\ndata: [DONE]\n\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		const most = 64
		whole, err := all(bytes.NewReader(in), most)
		single, err1 := all(iotest.OneByteReader(bytes.NewReader(in)), most)
		if !slices.Equal(whole, single) || !errors.Is(err1, err) {
			t.Fatalf("%q, %v; byte by byte %q, %v", whole, err, single, err1)
		}
		var again strings.Builder
		for _, data := range whole {
			if len(data) > most || strings.Contains(data, "\r") {
				t.Fatalf("event %q", data)
			}
			for line := range strings.SplitSeq(data, "\n") {
				again.WriteString("data: " + line + "\n")
			}
			again.WriteString("\n")
		}
		if back, _ := all(strings.NewReader(again.String()), 1<<20); !slices.Equal(whole, back) {
			t.Fatalf("%q came back as %q", whole, back)
		}
	})
}

// streaming serves handler as an event stream and makes a client with short deadlines.
func streaming(t *testing.T, s Settings, handler func(w io.Writer, flush func(), r *http.Request)) *Client {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		f := w.(http.Flusher)
		f.Flush()
		handler(w, f.Flush, r)
	}))
	t.Cleanup(srv.Close)
	s.BaseURL = srv.URL
	c, err := New(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var get = Call{Op: "stream", Method: http.MethodGet, Path: "/", Check: func(r *Reply) error {
	return StatusError("stream", r.Status, fault.Transient, "", errors.New("refused"))
}}

// TestStreamDeadlines: a server may think before the first event, but then neither silence nor a dripping byte keeps it alive.
func TestStreamDeadlines(t *testing.T) {
	s := Settings{Idle: 60 * time.Millisecond, Headers: time.Minute, Total: 10 * time.Second}
	c := streaming(t, s, func(w io.Writer, flush func(), r *http.Request) {
		time.Sleep(3 * s.Idle)
		_, _ = io.WriteString(w, "data: a\n\n")
		flush()
		for r.Context().Err() == nil {
			_, _ = io.WriteString(w, ":")
			flush()
			time.Sleep(5 * time.Millisecond)
		}
	})
	var got []string
	err := c.Stream(context.Background(), get, func(data []byte, at time.Time) error {
		if d := time.Since(at); d < 0 || d > time.Second {
			t.Errorf("arrived %v ago", d)
		}
		got = append(got, string(data))
		return nil
	})
	if !errors.Is(err, errIdle) || fault.ClassOf(err) != fault.Endpoint || !slices.Equal(got, []string{"a"}) {
		t.Errorf("%q, %v (%v)", got, err, fault.ClassOf(err))
	}
	s.Headers = 50 * time.Millisecond
	c = streaming(t, s, func(_ io.Writer, _ func(), r *http.Request) { <-r.Context().Done() })
	if err := c.Stream(context.Background(), get, nil); !errors.Is(err, errIdle) {
		t.Errorf("no first event: %v", err)
	}
}

func TestStreamEnds(t *testing.T) {
	conns := map[string]bool{}
	c := streaming(t, Settings{MaxConcurrent: 1, Idle: time.Second, MaxBody: 1 << 10}, func(w io.Writer, flush func(), r *http.Request) {
		conns[r.RemoteAddr] = true
		if r.URL.Query().Has("big") {
			for range 100 {
				_, _ = io.WriteString(w, "data: "+strings.Repeat("x", 100)+"\n\n")
			}
			return
		}
		_, _ = io.WriteString(w, "data: a\n\ndata: end\n\n")
	})
	for range 3 { // the place in the limit and the connection come back
		err := c.Stream(context.Background(), get, func(data []byte, _ time.Time) error {
			if string(data) == "end" {
				return ErrStop
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(conns) != 1 {
		t.Errorf("%d connections for 3 streams", len(conns))
	}
	err := c.Stream(context.Background(), get, func([]byte, time.Time) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "before its end mark") || fault.ClassOf(err) != fault.Endpoint {
		t.Errorf("no end mark: %v", err)
	}
	mine := errors.New("mine")
	if err := c.Stream(context.Background(), get, func([]byte, time.Time) error { return mine }); err != mine {
		t.Errorf("the callback's error came back as %v", err)
	}
	big := get
	big.Path = "/?big"
	if err := c.Stream(context.Background(), big, func([]byte, time.Time) error { return nil }); !errors.Is(err, errTooLarge) {
		t.Errorf("a body over the limit: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = c.Stream(ctx, get, func([]byte, time.Time) error { cancel(); return nil })
	if fault.ClassOf(err) == fault.Fatal {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStreamRefused(t *testing.T) {
	for _, tc := range []struct {
		status int
		kind   string
		class  fault.Class
		after  time.Duration
	}{
		{429, "application/json", fault.Transient, 2 * time.Second},
		{200, "text/html", fault.Endpoint, 0},
		{307, "text/event-stream", fault.Endpoint, 0},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tc.kind)
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(tc.status)
			_, _ = io.WriteString(w, "data: a\n\n")
		}))
		c, err := New(Settings{BaseURL: srv.URL})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Stream(context.Background(), get, func([]byte, time.Time) error { return ErrStop })
		if err == nil || fault.ClassOf(err) != tc.class || fault.RetryAfter(err) != tc.after {
			t.Errorf("%d %s: %v (%v, after %v)", tc.status, tc.kind, err, fault.ClassOf(err), fault.RetryAfter(err))
		}
		c.Close()
		srv.Close()
	}
}
