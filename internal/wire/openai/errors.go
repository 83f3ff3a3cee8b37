package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"recpie/internal/fault"
)

// ErrorResponse is the main form of an error body.
type ErrorResponse struct {
	Error ErrorInfo `json:"error"`
}

// ErrorInfo names the fault; Code repeats the HTTP status.
type ErrorInfo struct {
	Message string  `json:"message"`
	Type    string  `json:"type"` // one of the Type constants
	Param   *string `json:"param"`
	Code    int     `json:"code"`
}

// The error types of vLLM.
const (
	TypeBadRequest       = "BadRequestError"
	TypeSchema           = "Bad Request" // with a space: the body does not fit the schema
	TypeNotFound         = "NotFoundError"
	TypeInvalidInput     = "InvalidUserInput" // the LoRA routes
	TypeInternal         = "InternalServerError"
	TypePermissionDenied = "PermissionDeniedError"
)

// UnauthorizedError is the second form of an error body: the 401 with a plain string.
type UnauthorizedError struct {
	Error string `json:"error"` // Unauthorized
}

// DetailError is the third form: unknown routes and methods, and the LoRA routes when they are switched off.
type DetailError struct {
	Detail string `json:"detail"`
}

// APIError is an error answer of any form, parsed. The fourth form is text that is no JSON at all (a proxy's page, a plain message).
type APIError struct {
	Status  int
	Type    string // "" in the forms that have none
	Param   string
	Message string
}

// Error returns status, type, message and parameter.
func (e *APIError) Error() string {
	s := fmt.Sprintf("HTTP %d", e.Status)
	if e.Type != "" {
		s += " " + e.Type
	}
	s += ": " + e.Message
	if e.Param != "" && !strings.Contains(e.Message, "parameter="+e.Param) {
		s += " (parameter=" + e.Param + ")"
	}
	return s
}

// maxMessage bounds what is kept of an error body: messages end in logs and dead letters.
const maxMessage = 2000

// ParseError reads an error body of any form. It never fails: what cannot be parsed becomes the message.
func ParseError(status int, body []byte) *APIError {
	e := &APIError{Status: status}
	var form struct {
		Error     json.RawMessage `json:"error"`
		ErrorType string          `json:"error_type"` // text-generation-inference beside a string error
		Detail    json.RawMessage `json:"detail"`
		Message   string          `json:"message"`
	}
	if err := json.Unmarshal(body, &form); err != nil {
		e.Message = clip(string(bytes.ToValidUTF8(bytes.TrimSpace(body), []byte("\uFFFD"))))
		if e.Message == "" {
			e.Message = http.StatusText(status)
		}
		return e
	}
	var info struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Param   json.RawMessage `json:"param"`
	}
	switch {
	case firstByte(form.Error) == '{' && json.Unmarshal(form.Error, &info) == nil:
		e.Message, e.Type = info.Message, info.Type
		if firstByte(info.Param) == '"' {
			_ = json.Unmarshal(info.Param, &e.Param)
		}
	case len(form.Error) > 0 && firstByte(form.Error) != 'n':
		e.Message, e.Type = textOf(form.Error), form.ErrorType
	case len(form.Detail) > 0 && firstByte(form.Detail) != 'n':
		e.Message = textOf(form.Detail)
	default:
		e.Message = form.Message
	}
	if e.Message == "" {
		e.Message = http.StatusText(status)
	}
	e.Message = clip(e.Message)
	return e
}

// Class returns who is to blame: 401 and 403 are fatal, 408, 429 and 503 transient, other 5xx the endpoint's, other 4xx the item's.
// Two kinds of 4xx say that the server is not set up for the work, whatever the item: they are fatal.
func (e *APIError) Class() fault.Class {
	switch {
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden, e.Hint() != "":
		return fault.Fatal
	case e.Status == http.StatusRequestTimeout, e.Status == http.StatusTooManyRequests, e.Status == http.StatusServiceUnavailable:
		return fault.Transient
	case e.Status >= 400 && e.Status < 500:
		return fault.Item
	default:
		return fault.Endpoint
	}
}

// Hint returns the remedy for answers that mean a missing server switch or key, "" for the others.
func (e *APIError) Hint() string {
	switch {
	case e.Status == http.StatusUnauthorized:
		return "set the API key: name its environment variable or file in the configuration"
	case e.Status == http.StatusForbidden:
		return "the key is not allowed to do this"
	case e.Status == http.StatusBadRequest && strings.Contains(e.Message, "--enable-prompt-embeds"):
		return "start the server with --enable-prompt-embeds"
	case (e.Status == http.StatusNotFound || e.Status == http.StatusMethodNotAllowed) && e.Type == "":
		return "the server has no such route: check base_url; for adapters start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"
	}
	return ""
}

// UnknownModel tells whether the answer says that the model or adapter named in the request is not served.
func (e *APIError) UnknownModel() bool {
	return e.Status == http.StatusNotFound && e.Type == TypeNotFound && e.Param == "model"
}

func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func clip(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	return strings.ToValidUTF8(s[:maxMessage], "") + "…"
}
