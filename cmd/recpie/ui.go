package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"recpie/internal/fault"
	"recpie/internal/queue"
)

// tokenVariable holds what visitors of the web interface must know.
const tokenVariable = "RECPIE_UI_TOKEN"

// serveUI shows River's web interface over the jobs at an address until stop is called. Off loopback it asks for the token; without one
// it is not shown there at all.
func serveUI(ctx context.Context, db *queue.DB, addr string) (url string, stop func(), err error) {
	token := os.Getenv(tokenVariable)
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, &usageError{fmt.Errorf("--ui takes host:port, not %q", addr)}
	}
	if ip := net.ParseIP(host); token == "" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, &usageError{fault.WithHint(fmt.Errorf("--ui %s can be reached from other machines and has no token", addr), "set "+tokenVariable+", or use 127.0.0.1")}
	}
	ctx, cancel := context.WithCancel(ctx)
	h, err := db.UI(ctx, "")
	if err != nil {
		cancel()
		return "", nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		cancel()
		return "", nil, fault.WithHint(fault.New(fault.Fatal, "web interface", err), "choose a free port with --ui")
	}
	srv := &http.Server{Handler: guarded(h, token), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ended by Shutdown below
	}()
	return "http://" + l.Addr().String(), func() {
		cancel()
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer stop()
		if errors.Is(srv.Shutdown(end), context.DeadlineExceeded) {
			_ = srv.Close()
		}
		<-done
	}, nil
}

// guarded lets through who knows the token, as a bearer or, for browsers, as the password of basic authentication. Requests that a page
// of another site makes the browser send are refused.
func guarded(h http.Handler, token string) http.Handler {
	want := sha256.Sum256([]byte(token))
	return http.NewCrossOriginProtection().Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if token != "" {
			given := ""
			if _, password, ok := r.BasicAuth(); ok {
				given = password
			} else if len(r.Header.Get("Authorization")) > 7 && r.Header.Get("Authorization")[:7] == "Bearer " {
				given = r.Header.Get("Authorization")[7:]
			}
			got := sha256.Sum256([]byte(given))
			if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
				w.Header().Set("WWW-Authenticate", `Basic realm="recpie"`)
				http.Error(w, "the token is missing or wrong", http.StatusUnauthorized)
				return
			}
		}
		h.ServeHTTP(w, r)
	}))
}
