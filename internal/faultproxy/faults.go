package faultproxy

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"recpie/internal/fault"
	"recpie/internal/wire/openai"
)

// Fault is one way of spoiling an exchange, with what a client must make of it. The zero value spoils nothing.
type Fault struct {
	Name     string
	Want     fault.Class // of the error that the client reports, in the end
	Harmless bool        // no error: the answer that arrives is the true one
	Waits    bool        // ends by a deadline of the client's, not by itself

	do          func(*exchange)
	onlyChoices bool // spoils answers of generation alone, others pass
	refuse, tls bool // not met by a request: the connection does not come about
	dear        bool // costs a test more than it tells, among other faults
}

// Status answers with an error of vLLM's form: a 400 says that the prompt is too long, a 404 that the model is unknown, 401 and 403 repeat
// the key that they were sent. retryAfter is that header, "" for none.
func Status(code int, retryAfter string) Fault {
	e := openai.ErrorInfo{Message: "spoiled by the test: " + http.StatusText(code), Type: openai.TypeInternal, Code: code}
	class := fault.Endpoint
	switch code {
	case http.StatusBadRequest:
		class, e.Type, e.Message, e.Param = fault.Item, openai.TypeBadRequest, "This model's maximum context length is 512 tokens. However, your prompt contains 603 input tokens.", openai.Ptr("input_tokens")
	case http.StatusNotFound:
		class, e.Type, e.Message, e.Param = fault.Item, openai.TypeNotFound, "The model `x` does not exist.", openai.Ptr("model")
	case http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		class, e.Type = fault.Item, openai.TypeBadRequest
	case http.StatusUnauthorized, http.StatusForbidden:
		class, e.Type = fault.Fatal, openai.TypePermissionDenied
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusRequestTimeout:
		class = fault.Transient
	}
	name := strconv.Itoa(code)
	if retryAfter != "" {
		name += " retry-after " + retryAfter
	}
	return Fault{Name: name, Want: class, dear: retryAfter != "", do: func(x *exchange) {
		if retryAfter != "" {
			x.w.Header().Set("Retry-After", retryAfter)
		}
		e := e
		if code == http.StatusUnauthorized || code == http.StatusForbidden {
			e.Message += ": " + x.r.Header.Get("Authorization")
		}
		writeJSON(x.w, code, openai.ErrorResponse{Error: e})
	}}
}

func broken(name string, do func(*exchange)) Fault {
	return Fault{Name: name, Want: fault.Endpoint, do: do}
}

func waits(name string, do func(*exchange)) Fault {
	return Fault{Name: name, Want: fault.Endpoint, Waits: true, do: do}
}

// Refused refuses connections: with Always the port is shut. A single request (Rate, Script) can no longer be refused; its connection
// is reset.
func Refused() Fault {
	f := ResetBeforeHeaders()
	f.Name, f.refuse = "refused", true
	return f
}

// ResetBeforeHeaders resets the connection instead of answering.
func ResetBeforeHeaders() Fault {
	return broken("reset before headers", raw(func(c *conn, _ []byte) { c.reset() }))
}

// ResetAfterHeaders resets the connection between headers and body.
func ResetAfterHeaders() Fault {
	return broken("reset after headers", raw(func(c *conn, body []byte) { c.write(head(len(body))); c.reset() }))
}

// ResetMidBody resets the connection after half of the body.
func ResetMidBody() Fault {
	return broken("reset mid-body", raw(func(c *conn, body []byte) { c.write(head(len(body)), half(body)); c.reset() }))
}

// HalfBody ends the connection properly after half of the body.
func HalfBody() Fault {
	return broken("half body", raw(func(c *conn, body []byte) { c.write(head(len(body)), half(body)) }))
}

// LengthTooLong announces more bytes than come, and keeps the connection.
func LengthTooLong() Fault {
	return waits("content-length too long", raw(func(c *conn, body []byte) { c.write(head(len(body)+10), string(body)); c.hold() }))
}

// LengthTooShort announces fewer bytes than come: the answer ends early, the rest is in the way of the next one.
func LengthTooShort() Fault {
	return broken("content-length too short", raw(func(c *conn, body []byte) { c.write(head(len(body)/2), string(body)); c.hold() }))
}

// ChunkCut ends the connection inside a chunk.
func ChunkCut() Fault {
	return broken("cut inside a chunk", raw(func(c *conn, body []byte) {
		c.write(head(-1), fmt.Sprintf("%x\r\n", len(body)), half(body))
	}))
}

// ChunkedEndMissing ends the connection after the last chunk, without the end mark: all bytes are there, but nobody can know.
func ChunkedEndMissing() Fault {
	return broken("chunked end missing", raw(func(c *conn, body []byte) {
		c.write(head(-1), fmt.Sprintf("%x\r\n", len(body)), string(body), "\r\n")
	}))
}

// SlowHeaders sends the answer, from its first byte, byte by byte with the given pause.
func SlowHeaders(pause time.Duration) Fault {
	return waits("slow-loris headers", raw(func(c *conn, body []byte) { c.drip(head(len(body))+string(body), pause) }))
}

// SlowBody sends the headers at once and the body byte by byte with the given pause.
func SlowBody(pause time.Duration) Fault {
	return waits("slow-loris body", raw(func(c *conn, body []byte) { c.write(head(len(body))); c.drip(string(body), pause) }))
}

// Silent never answers.
func Silent() Fault { return waits("silent", func(x *exchange) { <-x.r.Context().Done() }) }

// SilentMidBody sends half of the answer and then nothing.
func SilentMidBody() Fault {
	return waits("silent mid-body", raw(func(c *conn, body []byte) { c.write(head(len(body)), half(body)); c.hold() }))
}

// TLSStall accepts connections and never answers the handshake. It is met at URLFor; a plain request is never answered either.
func TLSStall() Fault {
	f := Silent()
	f.Name, f.tls = "tls stall", true
	return f
}

// Late delivers the true answer after the given time, to a client that may have given up. The backend has done the work.
func Late(after time.Duration) Fault {
	return waits("late", func(x *exchange) {
		a := x.answer()
		if x.wait(after) {
			a.send(x.w)
		}
	})
}

// Twice sends the true answer two times on the connection; the second belongs to no request.
func Twice() Fault {
	f := broken("twice", raw(func(c *conn, body []byte) {
		c.write(head(len(body)), string(body), head(len(body)), string(body))
		c.hold()
	}))
	f.Harmless = true
	return f
}

// HugeBody streams a body of so many bytes, announced by a Content-Length or chunked.
func HugeBody(size int64, announced bool) Fault {
	name := "huge body, chunked"
	if announced {
		name = "huge body, announced"
	}
	f := broken(name, func(x *exchange) {
		if announced {
			x.w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		block := bytes.Repeat([]byte(" "), 64<<10)
		for left := size; left > 0; left -= int64(len(block)) {
			if _, err := x.w.Write(block[:min(left, int64(len(block)))]); err != nil {
				return
			}
		}
	})
	f.dear = true
	return f
}

// GzipBomb sends a body, unasked for, that inflates a thousand times, to so many MiB.
func GzipBomb(mib int) Fault {
	f := broken("gzip bomb", func(x *exchange) {
		var member bytes.Buffer // members follow one another in a gzip file
		z := gzip.NewWriter(&member)
		_, _ = z.Write(make([]byte, 1<<20)) // a buffer does not fail
		_ = z.Close()
		x.w.Header().Set("Content-Type", "application/json")
		x.w.Header().Set("Content-Encoding", "gzip")
		for range mib {
			if _, err := x.w.Write(member.Bytes()); err != nil {
				return
			}
		}
	})
	f.dear = true
	return f
}

// HugeHeader sends a header of so many bytes before the true answer.
func HugeHeader(size int) Fault {
	return broken("huge header", func(x *exchange) {
		a := x.answer()
		a.header.Set("X-Fill", strings.Repeat("x", size))
		a.send(x.w)
	})
}

// Redirects sends the client on to an address that sends it on, and so forth.
func Redirects() Fault { return broken("redirects", redirect) }

const hops = "/faultproxy/redirect/"

func redirected(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, hops) }

func redirect(x *exchange) {
	hop, _ := strconv.Atoi(strings.TrimPrefix(x.r.URL.Path, hops))
	x.w.Header().Set("Location", hops+strconv.Itoa(hop+1))
	x.w.WriteHeader(http.StatusTemporaryRedirect)
}

func half(body []byte) string { return string(body[:len(body)/2]) }
