package tgi

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"go.uber.org/goleak"

	"recpie/clients/tgi/tgitest"
	"recpie/clients/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial makes a client whose retries do not wait.
func dial(t testing.TB, url string, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Settings: transport.Settings{BaseURL: url, Attempts: 3, BackoffFirst: time.Millisecond, BackoffMax: 20 * time.Millisecond}, Model: "base", Adapters: []string{"lora"}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// start runs the imitation with a client of it.
func start(t testing.TB, opt tgitest.Options, change ...func(*Config)) (*Client, *tgitest.Server) {
	t.Helper()
	opt.Adapters = []string{"lora"}
	s := tgitest.New(t, opt)
	return dial(t, s.URL, change...), s
}

func seeded(n int64) *int64 { return &n }

// always answers every request with a body of the given type.
func always(status int, kind, body string) tgitest.Options {
	return tgitest.Options{Intercept: func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", kind)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
		return true
	}}
}

// raw writes bytes on the connection and ends it: with a reset when rst is set.
func raw(text string, rst bool) tgitest.Options {
	return tgitest.Options{Intercept: func(w http.ResponseWriter, _ *http.Request) bool {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return true
		}
		fmt.Fprint(conn, text)
		if tcp, ok := conn.(*net.TCPConn); ok && rst {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
		return true
	}}
}
