package training

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"time"

	"recpie/clients/transport"
	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// Pending is the result of a request that the server has accepted. Wait may be called more than once and from several goroutines:
// servers keep results for some minutes.
type Pending[T any] struct {
	s      *Session
	op, id string
	proto  bool
	decode func([]byte) (T, error)
	known  *T // the result, where it was awaited before the Pending was handed out
}

// then has f complete every result that is decoded.
func (p *Pending[T]) then(f func(*T)) {
	inner := p.decode
	p.decode = func(b []byte) (T, error) {
		v, err := inner(b)
		if err == nil {
			f(&v)
		}
		return v, err
	}
}

// Wait polls the server until the result is there, fails, or ctx ends. A failure of the accepted work is an item error when the server
// blames the request (category user), else the endpoint's.
func (p *Pending[T]) Wait(ctx context.Context) (T, error) {
	var zero T
	if p.known != nil {
		return *p.known, nil
	}
	body, err := p.s.retrieve(ctx, p.op, p.id, p.proto)
	if err != nil {
		return zero, err
	}
	v, err := p.decode(body)
	if err != nil {
		return zero, fault.New(fault.Endpoint, p.op, err)
	}
	return v, nil
}

// minPoll is the shortest time between two polls: a server that answers try_again at once must not be asked in a tight loop.
const minPoll = 20 * time.Millisecond

// retrieve long-polls a future. A poll that is not answered in time is repeated: some servers hold it longer than clients wait.
func (s *Session) retrieve(ctx context.Context, op, id string, proto bool) ([]byte, error) {
	body, err := json.Marshal(tinker.RetrieveRequest{RequestID: id})
	if err != nil {
		return nil, fault.New(fault.Fatal, op, err)
	}
	call := transport.Call{Op: op, Method: http.MethodPost, Path: tinker.PathRetrieveFuture, ContentType: "application/json", Body: body}
	if proto {
		call.Accept = tinker.ProtobufType
	}
	for {
		var result []byte
		ready := false
		call.Check = func(r *transport.Reply) (err error) {
			result, ready, err = readFuture(op, r, proto)
			return err
		}
		start := time.Now()
		poll, cancel := context.WithTimeout(ctx, s.cfg.Poll)
		err := s.http.Call(poll, call)
		over := poll.Err() != nil
		cancel()
		switch {
		case ready && err == nil:
			return result, nil
		case ctx.Err() != nil:
			return nil, fault.New(fault.Transient, op, context.Cause(ctx))
		case err != nil && !over:
			return nil, err
		}
		if lost := s.Err(); lost != nil {
			return nil, lost
		}
		if wait := minPoll - time.Since(start); wait > 0 {
			select {
			case <-time.After(wait):
			case <-ctx.Done():
				return nil, fault.New(fault.Transient, op, context.Cause(ctx))
			}
		}
	}
}

// readFuture tells a result from the states "still running" and "failed".
func readFuture(op string, r *transport.Reply, proto bool) (result []byte, ready bool, err error) {
	if r.Status == http.StatusRequestTimeout {
		return nil, false, nil
	}
	if err := classify(op, r); err != nil {
		return nil, false, err
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == tinker.ProtobufType {
		if !proto {
			return nil, false, transport.Suspect(op, fmt.Errorf("a protobuf answer where JSON was expected"))
		}
		return r.Body, true, nil
	}
	var st tinker.FutureState
	if err := json.Unmarshal(r.Body, &st); err != nil {
		return nil, false, transport.Suspect(op, fmt.Errorf("the answer is not the JSON expected: %w", err))
	}
	switch {
	case st.Error != nil:
		class := fault.Endpoint
		if st.Category == tinker.CategoryUser {
			class = fault.Item
		}
		return nil, false, fault.Newf(class, op, "the server failed (%s): %s", st.Category, clip(*st.Error))
	case st.Type == tinker.TypeTryAgain, st.Status == tinker.StatusCompleteMetadata:
		return nil, false, nil
	case proto:
		return nil, false, transport.Suspect(op, fmt.Errorf("a JSON answer where protobuf was expected"))
	}
	return r.Body, true, nil
}

// jsonResult decodes a future's JSON.
func jsonResult[T any](b []byte) (T, error) {
	var v T
	err := json.Unmarshal(b, &v)
	return v, err
}
