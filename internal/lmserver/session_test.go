package lmserver

import (
	"net/http"
	"testing"
	"time"

	"recpie/internal/wire/tinker"
)

// A session that falls silent is closed and its models are freed; the heartbeat says so.
func TestSilentSessionExpires(t *testing.T) {
	s, _ := start(t, Options{Model: bundle(t, "m", 32), StateDir: t.TempDir(), SessionTimeout: 300 * time.Millisecond})
	c := newTrained(t, s)
	waitFor(t, func() bool {
		s.training.mu.Lock()
		defer s.training.mu.Unlock()
		return len(s.training.models) == 0
	})
	if r := post(t, s, tinker.PathHeartbeat, object{"session_id": c.session}); r.status != http.StatusGone {
		t.Errorf("heartbeat: %d %s", r.status, r.body)
	}
}

// A stop answers the polls that wait, and fails what was queued.
func TestShutdownEndsPolls(t *testing.T) {
	s, stop := start(t, Options{Model: bundle(t, "m", 32), StateDir: t.TempDir(), LongPoll: 25 * time.Second})
	c := newTrained(t, s)
	id := c.submit(tinker.PathOptimStep, step(c.model, 5, 0.01)) // behind a gap
	answered := make(chan reply, 1)
	go func() {
		answered <- send(t, "POST", s.URL()+tinker.PathRetrieveFuture, map[string]string{"Content-Type": jsonType}, []byte(`{"request_id":"`+id+`"}`))
	}()
	time.Sleep(50 * time.Millisecond)
	begin := time.Now()
	stop()
	r := <-answered
	var state tinker.FutureState
	r.into(t, &state)
	if state.Type != tinker.TypeTryAgain || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %s", time.Since(begin), r.body)
	}
	f, _ := s.training.futures.get(id)
	if <-f.done; len(f.body) == 0 {
		t.Error("the queued request has no outcome")
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never happens")
		}
	}
}
