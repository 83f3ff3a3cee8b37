package training

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// effect says what it means when a request of a model runs twice.
type effect bool

const (
	repeatable effect = false // nothing: passes without gradient, saves
	once       effect = true  // a gradient counts twice, a step is made twice
)

// submit sends the request that build makes for the next seq_id and returns its future's id. The number is used up whatever the
// server answers. What may not run twice is sent again after a network failure only to a server that is known to recognise the number,
// or found to when the question comes up; otherwise, and when no answer comes at all, the model is given up with ErrAmbiguous.
func (m *Model) submit(ctx context.Context, op, path, contentType string, e effect, build func(seq int32) ([]byte, error)) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone != nil {
		return "", m.gone
	}
	if err := m.s.Err(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", fault.New(fault.Transient, op, context.Cause(ctx))
	}
	seq := m.seq + 1
	body, err := build(seq)
	if err != nil {
		return "", fault.New(fault.Item, op, err)
	}
	m.seq = seq
	var f tinker.Future
	doubt := false // an attempt has failed after which the server may have the request
	err = m.s.http.Retry(ctx, op, func() error {
		if doubt && e == once {
			if err := m.mayResend(ctx, op); err != nil {
				return err
			}
		}
		err := m.s.http.Call(ctx, transport.Call{Op: op, Method: http.MethodPost, Path: path, ContentType: contentType, Body: body, Once: true, Check: m.decoder(op, e, &f)})
		doubt = doubt || uncertain(err)
		return err
	})
	if err == nil && f.RequestID == "" {
		err, doubt = fault.Newf(fault.Endpoint, op, "the answer has no request id"), true
	}
	if err == nil {
		return f.RequestID, nil
	}
	if class := fault.ClassOf(err); doubt && e == once || class == fault.Transient || class == fault.Endpoint {
		m.gone = fault.WithHint(fault.Newf(fault.Endpoint, op, "%w (number %d of model %s): %w", ErrAmbiguous, seq, m.id, err), "restore the model from its last checkpoint")
		return "", m.gone
	}
	return "", err
}

// decoder reads a future. 409 to a save means, on servers that do not recognise numbers, that the name is taken: trying again is no use.
func (m *Model) decoder(op string, e effect, f *tinker.Future) func(*transport.Reply) error {
	read := decoder(op, f)
	return func(r *transport.Reply) error {
		if e == repeatable && r.Status == http.StatusConflict && m.s.Traits().SharedSlot {
			return fault.New(fault.Item, op, &StatusError{r.Status, clip(tinker.Detail(r.Body))})
		}
		return read(r)
	}
}

// mayResend returns nil when the server recognises numbers that it has seen. It asks when that is not known yet; m.mu is held.
func (m *Model) mayResend(ctx context.Context, op string) error {
	if m.s.Traits().DeduplicatesSeqID == Unknown {
		if _, err := m.sendTwice(ctx); err != nil {
			return fault.Newf(fault.Endpoint, op, "and whether the server recognises requests that are sent again cannot be found out: %v", err)
		}
	}
	if m.s.Traits().DeduplicatesSeqID == No {
		return fault.Newf(fault.Endpoint, op, "the server runs a request that is sent again a second time")
	}
	return nil
}

// uncertain tells whether the server may have carried out a request that ended with err. It has not when it was never reached, and when it
// said no; 5xx other than 503 can come from a proxy or from a server that fell over its answer.
func uncertain(err error) bool {
	if err == nil {
		return false
	}
	var status *StatusError
	if errors.As(err, &status) {
		return status.Status >= 500 && status.Status != http.StatusServiceUnavailable
	}
	var dial *net.OpError
	return !(errors.As(err, &dial) && dial.Op == "dial")
}

func submitJSON[T any](ctx context.Context, m *Model, op, path string, e effect, request func(seq int32) any) (*Pending[T], error) {
	id, err := m.submit(ctx, op, path, "application/json", e, func(seq int32) ([]byte, error) { return json.Marshal(request(seq)) })
	if err != nil {
		return nil, err
	}
	return &Pending[T]{s: m.s, op: op, id: id, decode: jsonResult[T]}, nil
}
