package tgi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"recpie/clients/transport"
	"recpie/internal/fault"
)

// answerError is an error answer of the server.
type answerError struct {
	Status  int
	Type    string // error_type: validation, overloaded, generation, incomplete_generation, template_error, healthcheck …; "" when there is none
	Message string
}

// Error returns status, type and message.
func (e *answerError) Error() string {
	s := fmt.Sprintf("HTTP %d", e.Status)
	if e.Type != "" {
		s += " " + e.Type
	}
	return s + ": " + e.Message
}

// maxMessage bounds what is kept of an error body, in bytes: some repeat the request.
const maxMessage = 512

// parseError reads {"error", "error_type"}. Other bodies (axum's own refusals are plain text, a proxy's are pages) are kept as text.
func parseError(status int, body []byte) *answerError {
	var w struct {
		Error *string `json:"error"`
		Type  string  `json:"error_type"`
	}
	e := &answerError{Status: status}
	if json.Unmarshal(body, &w) == nil && w.Error != nil {
		e.Type, e.Message = shorten(w.Type), shorten(*w.Error)
	} else {
		e.Message = shorten(string(bytes.TrimSpace(body)))
	}
	if e.Message == "" {
		e.Message = "no message"
	}
	return e
}

func shorten(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxMessage {
		return s
	}
	cut := maxMessage
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// classify gives the class and the remedy of an error answer, by the house's rule for HTTP with one more: a 404 does not speak of the
// item, for no path of this API names one.
func (e *answerError) classify() (fault.Class, string) {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fault.Fatal, "check the endpoint's API key"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fault.Fatal, "check that the endpoint is a TGI of version 2.4 or later, with a fast tokenizer"
	case http.StatusTooManyRequests:
		return fault.Transient, "the server takes no more requests: lower the endpoint's concurrency or raise its --max-concurrent-requests"
	case http.StatusServiceUnavailable, http.StatusRequestTimeout:
		return fault.Transient, ""
	case http.StatusFailedDependency: // the model failed while generating
		return fault.Endpoint, "see the server's log"
	}
	switch {
	case e.Type == "template_error" && e.Status < 500:
		return fault.Fatal, "the model has no usable chat template: switch the endpoint's chat off"
	case e.Status >= 500:
		return fault.Endpoint, ""
	}
	return fault.Item, ""
}

// statusError classifies an answer that is not 200.
func statusError(op string, r *transport.Reply) error {
	if r.Status == http.StatusOK {
		return nil
	}
	e := parseError(r.Status, r.Body)
	class, hint := e.classify()
	return transport.StatusError(op, e.Status, class, hint, e)
}

// eventStatus is the status with which an error would have come, had the stream not begun with 200.
var eventStatus = map[string]int{
	"validation": http.StatusUnprocessableEntity, "tool_error": http.StatusUnprocessableEntity, "template_error": http.StatusUnprocessableEntity,
	"missing_template_variable": http.StatusUnprocessableEntity, "overloaded": http.StatusTooManyRequests, "generation": http.StatusFailedDependency,
	"healthcheck": http.StatusServiceUnavailable,
}

// eventError classifies an error event of a stream by its type; an unknown type is the server's fault.
func (c *Client) eventError(op string, data []byte) error {
	e := parseError(http.StatusInternalServerError, data)
	if status, ok := eventStatus[e.Type]; ok {
		e.Status = status
	}
	if !c.key.Empty() {
		e.Message = strings.ReplaceAll(e.Message, c.key.Reveal(), c.key.String()) // the transport does so for refusals alone
	}
	class, hint := e.classify()
	return transport.StatusError(op, e.Status, class, hint, e)
}
