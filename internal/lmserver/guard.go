package lmserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"mime"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const (
	jsonType  = "application/json"
	protoType = "application/x-protobuf"
)

// guard wraps the routes with what every request must pass: the right host, no foreign web page, the key, a declared body of
// bounded size. The order tells a stranger as little as possible.
func (s *Server) guard(next http.Handler) http.Handler {
	pages := http.NewCrossOriginProtection()
	pages.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeDetail(w, http.StatusForbidden, "requests from other origins are refused")
	}))
	return pages.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		switch {
		case s.loopback && !isLoopbackHost(hostOnly(r.Host)):
			// A page of another site can point its own name at 127.0.0.1; its requests carry that name.
			writeDetail(w, http.StatusForbidden, "the Host header does not name this machine")
			return
		case !s.authorized(r):
			refuse(w, r)
			return
		case r.Method == http.MethodPost && !declared(r):
			refuseType(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, s.opt.MaxBody)
		next.ServeHTTP(w, r)
	}))
}

// recovered turns a panic of one request into its 500: the process serves others, and trains.
func (s *Server) recovered(w http.ResponseWriter) {
	if p := recover(); p != nil {
		s.opt.Log.Error("request failed", "panic", p, "stack", string(debug.Stack()))
		writeDetail(w, http.StatusInternalServerError, "internal error")
	}
}

func hostOnly(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func isTraining(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/api/v1/") }

// authorized compares digests in constant time. The liveness routes and /metrics stay open, as in vLLM; the training dialect
// carries the key in X-API-Key, whose official client wants it to begin with tml-.
func (s *Server) authorized(r *http.Request) bool {
	if s.opt.APIKey == "" {
		return true
	}
	switch r.URL.Path {
	case "/health", "/ping", "/version", "/metrics", "/api/v1/healthz":
		return true
	}
	if isTraining(r) {
		given := r.Header.Get("X-API-Key")
		return equalKey(given, s.opt.APIKey) || equalKey(given, "tml-"+s.opt.APIKey)
	}
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Bearer") && equalKey(given, s.opt.APIKey)
}

func equalKey(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func refuse(w http.ResponseWriter, r *http.Request) {
	if isTraining(r) {
		writeDetail(w, http.StatusUnauthorized, "the X-API-Key header is missing or wrong")
		return
	}
	writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "Unauthorized"})
}

// declared says whether the body's type is one the routes read. A form or text/plain body is what a web page can send without
// asking, so anything else is refused before it is read.
func declared(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && (kind == jsonType || kind == protoType && isTraining(r))
}

func refuseType(w http.ResponseWriter, r *http.Request) {
	if isTraining(r) {
		writeDetail(w, http.StatusUnsupportedMediaType, "Content-Type must be %s or %s", jsonType, protoType)
		return
	}
	writeError(w, &apiError{http.StatusBadRequest, "Bad Request", "",
		"1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"})
}

// readBody returns the whole body, unpacked when it says zstd. Both sides of the decompression are bounded by MaxBody.
func (s *Server) readBody(r *http.Request) ([]byte, error) {
	switch strings.ToLower(r.Header.Get("Content-Encoding")) {
	case "", "identity":
		return io.ReadAll(r.Body)
	case "zstd":
		z, err := zstd.NewReader(r.Body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(s.opt.MaxBody)))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		data, err := io.ReadAll(io.LimitReader(z, s.opt.MaxBody+1))
		if err == nil && int64(len(data)) > s.opt.MaxBody {
			err = &http.MaxBytesError{Limit: s.opt.MaxBody}
		}
		return data, err
	default:
		return nil, errUnknownEncoding
	}
}
