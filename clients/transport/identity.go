package transport

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
)

// Every attempt is sent under an id of its own, X-Request-Id, which vLLM makes part of the id of its answer. An answer that carries the id
// of another request belongs to that one: a server or a proxy that answers twice on a connection puts the second answer before the next
// request of that connection, and neither HTTP/1.1 nor the answer's form shows it.
const (
	idHeader = "X-Request-Id"
	idPrefix = "recpie-"
)

func newRequestID() string {
	id := [len(idPrefix) + 16]byte{}
	copy(id[:], idPrefix)
	for i, v := len(id)-1, rand.Uint64(); i >= len(idPrefix); i, v = i-1, v>>4 {
		id[i] = "0123456789abcdef"[v&15]
	}
	return string(id[:])
}

// RequestID returns the id under which the request of an answer was sent, "" when it had none.
func RequestID(resp *http.Response) string {
	if resp.Request == nil {
		return ""
	}
	return resp.Request.Header.Get(idHeader)
}

// CheckID refuses an answer whose id carries that of another request of ours. Servers that make up their own ids pass.
func CheckID(sent, answered string) error {
	_, other, ours := strings.Cut(answered, idPrefix)
	if sent == "" || !ours || strings.HasPrefix(idPrefix+other, sent) {
		return nil
	}
	return errors.New("the answer belongs to another request")
}
