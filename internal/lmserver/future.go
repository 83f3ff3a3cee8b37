package lmserver

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"

	"google.golang.org/protobuf/proto"
)

// maxFutureBytes bounds what finished results hold in memory; the oldest are forgotten first.
const maxFutureBytes = 512 << 20

// future is accepted work. Its result can be fetched many times until it is forgotten.
type future struct {
	id, model string
	done      chan struct{} // closed once body is set
	kind      string        // content type of body
	body      []byte
	finished  time.Time
	cancel    func() // of a sample; nil for what cannot be called off
}

// futures holds the accepted work of every model.
type futures struct {
	keep  time.Duration
	scrub func(string) string // takes the machine's paths out of messages

	mu    sync.Mutex
	byID  map[string]*future
	order []*future // finished, oldest first
	bytes int
}

func newFutures(keep time.Duration, scrub func(string) string) *futures {
	return &futures{keep: keep, scrub: scrub, byID: map[string]*future{}}
}

func (fs *futures) add(model string) *future {
	f := &future{id: newID("req-"), model: model, done: make(chan struct{})}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.byID[f.id] = f
	fs.forget()
	return f
}

// cancelBy notes how the work is called off.
func (fs *futures) cancelBy(f *future, cancel func()) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.cancel = cancel
}

func (fs *futures) get(id string) (*future, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f, ok := fs.byID[id]
	return f, ok
}

// forget drops finished results that are old or too many. fs.mu is held.
func (fs *futures) forget() {
	now := time.Now()
	for len(fs.order) > 0 && (fs.bytes > maxFutureBytes || now.Sub(fs.order[0].finished) > fs.keep) {
		old := fs.order[0]
		fs.order[0] = nil
		fs.order = fs.order[1:]
		fs.bytes -= len(old.body)
		delete(fs.byID, old.id)
	}
}

func (fs *futures) finish(f *future, kind string, body []byte) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.kind, f.body, f.finished = kind, body, time.Now()
	fs.order = append(fs.order, f)
	fs.bytes += len(body)
	fs.forget()
	close(f.done)
}

// settle stores the outcome of the work: a protobuf message, a value that becomes JSON, or an error.
func (fs *futures) settle(f *future, result any, err error) {
	var body []byte
	kind := jsonType
	if err == nil {
		if m, ok := result.(proto.Message); ok {
			kind = protoType
			body, err = proto.MarshalOptions{Deterministic: true}.Marshal(m)
		} else {
			body, err = json.Marshal(result)
		}
	}
	if err != nil {
		kind = jsonType
		message := fs.scrub(err.Error())
		body, _ = json.Marshal(tinker.FutureState{Error: &message, Category: category(err)})
	}
	fs.finish(f, kind, body)
}

// category says who is to blame, in the training API's words.
func category(err error) string {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return tinker.CategoryUnknown
	case fault.ClassOf(err) == fault.Item:
		return tinker.CategoryUser
	default:
		return tinker.CategoryServer
	}
}

// userError is a failure that the caller's data caused.
func userError(format string, args ...any) error { return fault.Newf(fault.Item, "", format, args...) }
