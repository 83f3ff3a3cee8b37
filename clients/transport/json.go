package transport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"

	"recpie/internal/fault"
	"recpie/internal/wire/strictjson"
)

// JSON asks a server that answers in JSON.
type JSON struct {
	*Client
	Status func(op string, r *Reply) error // classifies an answer by its status, nil where it is the one asked for
}

// Get reads the answer into out, a pointer to a struct or slice. check, if any, looks at what was read: its errors are the server's, worth another
// attempt, unless they have a class of their own.
func (j JSON) Get(ctx context.Context, op, path string, out any, check func() error) error {
	return j.Call(ctx, Call{Op: op, Method: http.MethodGet, Path: path, Check: j.decoder(op, out, check)})
}

// Post sends in and otherwise does as Get. An in without a JSON form is an item error.
func (j JSON) Post(ctx context.Context, op, path string, in, out any, check func() error) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fault.New(fault.Item, op, err)
	}
	return j.Call(ctx, Call{Op: op, Method: http.MethodPost, Path: path, ContentType: "application/json", Body: body, Check: j.decoder(op, out, check)})
}

func (j JSON) decoder(op string, out any, check func() error) func(*Reply) error {
	return func(r *Reply) error {
		if err := j.Status(op, r); err != nil {
			return err
		}
		reflect.ValueOf(out).Elem().SetZero() // an earlier attempt may have left half an answer
		if err := Unmarshal(r.Body, out); err != nil {
			return Suspect(op, fmt.Errorf("the answer is not the JSON expected: %w", err))
		}
		if check == nil {
			return nil
		}
		err := check()
		if f := (*fault.Error)(nil); errors.As(err, &f) {
			return err
		}
		return Suspect(op, err)
	}
}

// Unmarshal reads the JSON of an answer into out, and refuses what encoding/json lets pass although it says that the answer is not what
// the server meant: bytes that are no UTF-8 (they would become U+FFFD inside a text) and an object with one key twice (the last would
// count, for other readers the first).
func Unmarshal(data []byte, out any) error {
	r := strictjson.New(data)
	r.Skip()
	if err := r.Close(); err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}
