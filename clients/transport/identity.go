package transport

import (
	"errors"
	"fmt"
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

func newRequestID() string { return fmt.Sprintf("%s%016x", idPrefix, rand.Uint64()) }

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
