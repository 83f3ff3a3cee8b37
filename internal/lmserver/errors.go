package lmserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"recpie/internal/fault"
	"recpie/internal/lm"
)

// apiError is a refusal in vLLM's form {"error":{"message","type","param","code"}}.
type apiError struct {
	status  int
	kind    string // as BadRequestError
	param   string // "" is sent as null
	message string
}

// Error returns the message.
func (e *apiError) Error() string { return e.message }

// badRequest is vLLM's semantic error. When param is named the message ends as vLLM's does.
func badRequest(param, format string, args ...any) *apiError {
	message := fmt.Sprintf(format, args...)
	if param != "" {
		message += " (parameter=" + param + ")"
	}
	return &apiError{http.StatusBadRequest, "BadRequestError", param, message}
}

// badValue is badRequest with the offending value appended, the form of vLLM's sampling-parameter errors.
func badValue(param string, value any, format string, args ...any) *apiError {
	return &apiError{http.StatusBadRequest, "BadRequestError", param,
		fmt.Sprintf(format, args...) + fmt.Sprintf(" (parameter=%s, value=%v)", param, value)}
}

// schemaError is vLLM's error for a body that does not fit the schema; loc is as "body.prompt".
func schemaError(loc, kind, msg, input string) *apiError {
	return &apiError{http.StatusBadRequest, "Bad Request", loc, fmt.Sprintf(
		"1 validation error:\n  {'type': '%s', 'loc': '%s', 'msg': '%s', 'input': '%s'}", kind, loc, msg, input)}
}

func unknownModel(name, base string) *apiError {
	return &apiError{http.StatusNotFound, "NotFoundError", "model",
		fmt.Sprintf("The model `%s` does not exist. Valid aliases: %s.", name, base)}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // only non-finite floats can do this, and they are filtered before
		http.Error(w, `{"detail":"the response cannot be encoded"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// writeDetail answers {"detail":…}, the form of routing errors and of the training dialect.
func writeDetail(w http.ResponseWriter, status int, format string, args ...any) {
	writeJSON(w, status, map[string]string{"detail": fmt.Sprintf(format, args...)})
}

// writeError answers err in vLLM's form.
func writeError(w http.ResponseWriter, err error) {
	writeJSON(w, asAPIError(err).status, errorBody(err))
}

// asAPIError gives an error a status. Errors of the model are classified by their fault class: an item's fault is a 400.
func asAPIError(err error) *apiError {
	var e *apiError
	switch {
	case errors.As(err, &e):
		return e
	case errors.Is(err, lm.ErrClosed):
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableError", "", "the server is stopping"}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableError", "", "the request was cancelled or took too long"}
	case fault.ClassOf(err) == fault.Item:
		return &apiError{http.StatusBadRequest, "BadRequestError", "", err.Error()}
	case fault.ClassOf(err) == fault.Transient:
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailableError", "", err.Error()}
	}
	return &apiError{http.StatusInternalServerError, "InternalServerError", "", err.Error()}
}

// errorBody is {"error":{"message","type","param","code"}}, with null for a parameter that is not named.
func errorBody(err error) any {
	e := asAPIError(err)
	var param any
	if e.param != "" {
		param = e.param
	}
	return map[string]any{"error": map[string]any{"message": e.message, "type": e.kind, "param": param, "code": e.status}}
}
