package lmserver

import (
	"net/http"
	"time"

	"recpie/internal/wire/tinker"
)

func (t *training) createSession(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Meta map[string]string `json:"user_metadata"`
	}
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	now := time.Now()
	s := &session{id: newID("s"), last: now, begun: now.UTC(), meta: req.Meta, created: map[int]seenRequest{}}
	if t.opt.DurableSteps {
		if err := t.store.keepSession(sessionState{ID: s.id, Created: s.begun, Meta: s.meta}); err != nil {
			t.opt.Log.Error("a session cannot be kept", "err", err)
			writeDetail(w, http.StatusInternalServerError, "the session cannot be kept on disk")
			return
		}
	}
	t.mu.Lock()
	full := len(t.sessions) >= t.opt.MaxSessions
	if !full {
		t.sessions[s.id] = s
	}
	t.mu.Unlock()
	if full {
		t.store.dropSession(s.id)
		writeDetail(w, http.StatusTooManyRequests, "%d sessions are known; finish some", t.opt.MaxSessions)
		return
	}
	writeJSON(w, http.StatusOK, tinker.CreateSessionResponse{Type: "create_session", SessionID: s.id})
}

func (t *training) heartbeat(w http.ResponseWriter, r *http.Request) {
	var req tinker.HeartbeatRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	if _, ok := t.live(w, req.SessionID); ok {
		writeJSON(w, http.StatusOK, map[string]string{"type": "session_heartbeat"})
	}
}

func (t *training) finishSession(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	s, ok := t.sessions[r.PathValue("id")]
	t.mu.Unlock()
	if !ok {
		writeDetail(w, http.StatusNotFound, "unknown session")
		return
	}
	t.end(s)
	writeJSON(w, http.StatusOK, map[string]string{"type": "finish_session"})
}

func (t *training) telemetry(w http.ResponseWriter, r *http.Request) {
	if _, ok := t.body(w, r); ok { // read, so that the connection stays usable, and forgotten
		writeJSON(w, http.StatusOK, map[string]string{"status": "accepted"})
	}
}
