package lmserver

import (
	"net/http"
	"slices"
	"sync"
	"time"

	"recpie/internal/wire/tinker"
)

// completions lists the finished samples of a sampling session, in the order in which they finished, for clients that wait for all of them
// with one request.
type completions struct {
	mu      sync.Mutex
	first   int // number of the first in list; older ones are forgotten
	list    []tinker.Completion
	changed chan struct{} // closed and replaced with every addition
}

const maxCompletions = 20_000

func newCompletions() completions { return completions{changed: make(chan struct{})} }

func (c *completions) add(one tinker.Completion) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.list = append(c.list, one); len(c.list) > maxCompletions {
		c.list = slices.Clone(c.list[maxCompletions/2:])
		c.first += maxCompletions / 2
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

// since returns what finished after the cursor, the next cursor, and what is closed when there is more.
func (c *completions) since(cursor int) ([]tinker.Completion, int, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	from := min(max(0, cursor-c.first), len(c.list))
	return slices.Clone(c.list[from:]), c.first + len(c.list), c.changed
}

func outcomeOf(err error) string {
	if err != nil {
		return "failed"
	}
	return "finished"
}

// retrieveFutures answers which samples of a session finished after a cursor, at once or as soon as one does.
func (t *training) retrieveFutures(w http.ResponseWriter, r *http.Request) {
	var req tinker.RetrieveFuturesRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	t.mu.Lock()
	sm, ok := t.samplers[req.Target.SamplerID]
	t.mu.Unlock()
	if req.Target.Type != "sampling_session" {
		writeDetail(w, http.StatusUnprocessableEntity, "target.type must be sampling_session")
		return
	}
	if !ok {
		writeDetail(w, http.StatusGone, "the sampling session is over")
		return
	}
	wait := t.opt.LongPoll
	if req.Timeout != nil {
		wait = min(wait, time.Duration(max(0, *req.Timeout)*float64(time.Second)))
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for over := false; ; {
		list, cursor, changed := sm.ended.since(req.PrevCursor)
		list = slices.DeleteFunc(list, func(c tinker.Completion) bool { return slices.Contains(req.Retrieved, c.RequestID) })
		if len(list) > 0 || over {
			writeJSON(w, http.StatusOK, tinker.RetrieveFuturesResponse{Completions: list, Cursor: cursor})
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-t.stopPoll:
			over = true
		case <-r.Context().Done():
			return
		}
	}
}

// cancelFuture calls off a sample. What has finished, or changes a model, goes on.
func (t *training) cancelFuture(w http.ResponseWriter, r *http.Request) {
	var req tinker.RetrieveRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	f, ok := t.futures.get(req.RequestID)
	switch {
	case !ok:
		writeDetail(w, http.StatusNotFound, "unknown request_id %q", req.RequestID)
		return
	case f.cancel == nil:
		writeDetail(w, http.StatusBadRequest, "only samples can be called off")
		return
	}
	f.cancel()
	writeJSON(w, http.StatusOK, map[string]string{"type": "cancel_future", "request_id": f.id})
}
