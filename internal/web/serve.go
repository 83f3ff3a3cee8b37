// Package web serves what people look at with a browser.
package web

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"recpie/internal/fault"
)

// TokenVariable names the environment variable that holds what visitors must know.
const TokenVariable = "RECPIE_UI_TOKEN"

// Serve answers with h at an address (host:port) until stop is called, and returns the URL. Visitors must know the token unless it is "",
// and without one nothing is served off loopback.
func Serve(addr, token string, h http.Handler) (url string, stop func(), err error) {
	const op = "web interface"
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", nil, fault.Newf(fault.Fatal, op, "an address is host:port, not %q", addr)
	}
	if ip := net.ParseIP(host); token == "" && (ip == nil || !ip.IsLoopback()) {
		return "", nil, fault.WithHint(fault.Newf(fault.Fatal, op, "%s can be reached from other machines and has no token", addr), "set "+TokenVariable+", or use 127.0.0.1")
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", nil, fault.WithHint(fault.New(fault.Fatal, op, err), "choose a free port")
	}
	srv := &http.Server{Handler: guarded(h, token), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ended by Shutdown below
	}()
	return "http://" + l.Addr().String(), func() {
		end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
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
			} else if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
				given = bearer
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
