package lmserver

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
)

var errUnknownEncoding = errors.New("the Content-Encoding is not supported")

// newID returns prefix followed by 16 random hexadecimal digits.
func newID(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + hex.EncodeToString(b[:])
}

func missing(loc string) *apiError { return schemaError(loc, "missing", "Field required", "<dict>") }

// decode reads a JSON body into v; unknown fields are ignored. Its errors are vLLM's schema errors: the parameter names the place.
func (s *Server) decode(r *http.Request, v any) error {
	data, err := s.readBody(r)
	if err != nil {
		return bodyError(err)
	}
	return decodeJSON(data, v)
}

func bodyError(err error) *apiError {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &apiError{http.StatusRequestEntityTooLarge, "BadRequestError", "", fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	return badRequest("", "the body cannot be read: %v", err)
}

// decodeJSON decodes one JSON object into the struct v points at.
func decodeJSON(data []byte, v any) error {
	trimmed := bytes.TrimSpace(data)
	if len(trimmed) == 0 {
		return schemaError("body", "missing", "Field required", "None")
	}
	var fields map[string]json.RawMessage
	err := json.Unmarshal(data, &fields)
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		at := syntax.Offset
		if at < int64(len(data)) || trimmed[len(trimmed)-1] == '}' {
			at-- // the offset is behind the offending byte, except at the end of the input
		}
		loc := fmt.Sprintf("body.%d", at)
		return schemaError(loc, "json_invalid", "JSON decode error", "<dict of 0 items>")
	case err != nil || fields == nil:
		return schemaError("body", "model_attributes_type", "Input should be a valid dictionary or object to extract fields from", "<value>")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return blame(fields, v, err)
	}
	return nil
}

// blame finds the field that does not decode, by decoding each alone.
func blame(fields map[string]json.RawMessage, v any, whole error) error {
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		one, _ := json.Marshal(map[string]json.RawMessage{name: fields[name]})
		if err := json.Unmarshal(one, reflect.New(reflect.TypeOf(v).Elem()).Interface()); err != nil {
			return schemaError("body."+name, "type_error", plainJSONError(err), "<value>")
		}
	}
	return schemaError("body", "type_error", plainJSONError(whole), "<value>")
}

// plainJSONError says what is wrong without Go's type names.
func plainJSONError(err error) string {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return "Input should not be a " + wrong.Value
	}
	return err.Error()
}

// or returns the value of p, or the default for nil.
func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}
