package lmserver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/tinker"
)

// training is the state behind the training dialect: sessions, models with their queues, samplers, futures and checkpoints.
type training struct {
	srv        *Server
	opt        Options
	newTrainer func(lm.LoRAConfig) (trainer, error)
	store      *checkpoints
	futures    *futures
	snapshots  *adapterSet // adapters of sampling sessions, unlisted

	mu       sync.Mutex
	sessions map[string]*session
	models   map[string]*model
	samplers map[string]*sampler

	ctx      context.Context // ends with the server
	cancel   context.CancelFunc
	workers  sync.WaitGroup
	stopPoll chan struct{} // closed when long polls should end
	stopOnce sync.Once
}

// session owns models and samplers; they are freed when it finishes or falls silent.
type session struct {
	id       string
	last     time.Time
	finished bool
	created  map[int]seenRequest // by model_seq_id
	begun    time.Time
	meta     map[string]string
}

func newTraining(s *Server, opt Options, newTrainer func(lm.LoRAConfig) (trainer, error)) (*training, error) {
	store, err := openCheckpoints(opt.StateDir)
	if err != nil {
		return nil, err
	}
	t := &training{srv: s, opt: opt, newTrainer: newTrainer, store: store, snapshots: newAdapterSet(s.engine),
		sessions: map[string]*session{}, models: map[string]*model{}, samplers: map[string]*sampler{}, stopPoll: make(chan struct{})}
	t.futures = newFutures(opt.KeepFutures, func(m string) string { return strings.ReplaceAll(m, store.root, "<state>") })
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if err := t.restore(); err != nil {
		t.close()
		return nil, fault.New(fault.Fatal, "lmserver: state folder", err)
	}
	t.workers.Add(1)
	go func() {
		defer t.workers.Done()
		t.expire()
	}()
	return t, nil
}

func (t *training) routes(handle func(method, path string, h http.HandlerFunc)) {
	for path, h := range map[string]http.HandlerFunc{
		tinker.PathClientConfig:              t.clientConfig,
		tinker.PathDynamicConfig:             t.clientConfig,
		tinker.PathCreateSession:             t.createSession,
		tinker.PathHeartbeat:                 t.heartbeat,
		tinker.PathSessions + "/{id}/finish": t.finishSession,
		tinker.PathTelemetry:                 t.telemetry,
		tinker.PathCreateModel:               t.createModel,
		tinker.PathGetInfo:                   t.getInfo,
		tinker.PathUnloadModel:               t.unloadModel,
		tinker.PathForwardBackward:           t.forwardBackward,
		tinker.PathOptimStep:                 t.optimStep,
		tinker.PathSaveWeights:               t.saveWeights,
		tinker.PathSaveForSampler:            t.saveForSampler,
		tinker.PathLoadWeights:               t.loadWeights,
		tinker.PathWeightsInfo:               t.weightsInfo,
		tinker.PathRetrieveFuture:            t.retrieveFuture,
		tinker.PathSamplingSession:           t.createSampler,
		tinker.PathSample:                    t.sample,
	} {
		handle("POST", path, h)
	}
	handle("GET", tinker.PathHealth, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	handle("GET", tinker.PathCapabilities, t.capabilities)
	handle("GET", "/api/v1/samplers/{id}", t.getSampler)
	handle("POST", tinker.PathRetrieveFutures, t.retrieveFutures)
	handle("POST", tinker.PathCancelFuture, t.cancelFuture)
	handle("GET", tinker.PathSessions, t.listSessions)
	handle("GET", tinker.PathSessions+"/{id}", t.getSession)
	handle("GET", tinker.PathCheckpoints, t.listAllCheckpoints)
	handle("PUT", tinker.PathTrainingRuns+"/{id}/checkpoints/{kind}/{name}/ttl", t.setTTL)
	handle("POST", tinker.PathTrainingRuns+"/{id}/checkpoints/{kind}/{name}/publish", t.setPublic(true))
	handle("DELETE", tinker.PathTrainingRuns+"/{id}/checkpoints/{kind}/{name}/publish", t.setPublic(false))
	handle("GET", tinker.PathTrainingRuns, t.listRuns)
	handle("GET", tinker.PathTrainingRuns+"/{id}", t.getRun)
	handle("GET", tinker.PathTrainingRuns+"/{id}/checkpoints", t.listCheckpoints)
	handle("DELETE", tinker.PathTrainingRuns+"/{id}/checkpoints/{kind}/{name}", t.deleteCheckpoint)
	handle("GET", tinker.PathTrainingRuns+"/{id}/checkpoints/{kind}/{name}/archive", t.archive)
}

func (t *training) interruptPolls() { t.stopOnce.Do(func() { close(t.stopPoll) }) }

func (t *training) close() {
	t.interruptPolls()
	t.cancel()
	t.workers.Wait()
	t.store.close()
}

// expire closes sessions that have been silent for too long.
func (t *training) expire() {
	tick := time.NewTicker(max(t.opt.SessionTimeout/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case now := <-tick.C:
			t.mu.Lock()
			var silent []*session
			for id, s := range t.sessions {
				if s.finished && now.Sub(s.last) > 2*t.opt.SessionTimeout {
					delete(t.sessions, id) // until then a heartbeat is told that it finished
				}
				if !s.finished && now.Sub(s.last) > t.opt.SessionTimeout {
					silent = append(silent, s)
				}
			}
			t.mu.Unlock()
			for _, s := range silent {
				t.opt.Log.Warn("training session closed after silence", "session", s.id)
				t.end(s)
			}
		}
	}
}

// end frees everything a session made. Checkpoints stay.
func (t *training) end(s *session) {
	t.mu.Lock()
	s.finished = true
	var gone []*model
	for id, m := range t.models {
		if m.session == s {
			gone = append(gone, m)
			delete(t.models, id)
		}
	}
	var samplers []*sampler
	for id, sm := range t.samplers {
		if sm.session == s {
			samplers = append(samplers, sm)
			delete(t.samplers, id)
		}
	}
	t.mu.Unlock()
	for _, m := range gone {
		m.close()
		t.store.forgetState(m.id)
	}
	t.store.dropSession(s.id)
	for _, sm := range samplers {
		t.snapshots.unload(sm.id)
	}
}

// live returns the named session and notes the sign of life. When it is unknown (404) or finished (410) the answer is written.
func (t *training) live(w http.ResponseWriter, id string) (*session, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.sessions[id]
	switch {
	case !ok:
		writeDetail(w, http.StatusNotFound, "unknown session %q", id)
		return nil, false
	case s.finished:
		writeDetail(w, http.StatusGone, "session %q has finished", id)
		return nil, false
	}
	s.last = time.Now()
	return s, true
}

// lookup returns the named model; its session is alive. A missing one is answered 404.
func (t *training) lookup(w http.ResponseWriter, id string) (*model, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.models[id]
	if !ok {
		text := fmt.Sprintf("unknown model %q", id)
		if why := t.gone(id); why != "" {
			text = why
		}
		writeDetail(w, http.StatusNotFound, "%s", text)
		return nil, false
	}
	m.session.last = time.Now()
	return m, true
}

// read decodes a JSON body. A failure is answered with a body, because clients take an empty 400 for a proxy's fault.
func (t *training) read(w http.ResponseWriter, r *http.Request, v any) ([]byte, bool) {
	data, ok := t.body(w, r)
	if !ok {
		return nil, false
	}
	if err := decodeJSON(data, v); err != nil {
		writeDetail(w, http.StatusUnprocessableEntity, "%s", err.Error())
		return nil, false
	}
	return data, true
}

func (t *training) body(w http.ResponseWriter, r *http.Request) ([]byte, bool) {
	data, err := t.srv.readBody(r)
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		writeDetail(w, http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	case err != nil:
		writeDetail(w, http.StatusBadRequest, "the body cannot be read: %v", err)
	}
	return data, err == nil
}

// contentOf identifies a JSON request whatever the order and spacing of its fields.
func contentOf(route string, body []byte) digest {
	var v any
	if json.Unmarshal(body, &v) == nil {
		if canonical, err := json.Marshal(v); err == nil {
			body = canonical
		}
	}
	return sha256.Sum256(append([]byte(route+"\x00"), body...))
}

// enqueue puts work into a model's queue and answers with the future.
func (t *training) enqueue(w http.ResponseWriter, m *model, seq int32, content digest, run work) {
	if seq < 1 {
		f := t.futures.add(m.id)
		t.futures.settle(f, nil, userError("seq_id must be at least 1, got %d", seq))
		writeJSON(w, http.StatusOK, tinker.Future{RequestID: f.id, ModelID: m.id})
		return
	}
	id, busy := m.submit(seq, content, run)
	if busy {
		w.Header().Set("Retry-After", "1")
		writeDetail(w, http.StatusTooManyRequests, "%d requests of model %s are waiting", m.most, m.id)
		return
	}
	writeJSON(w, http.StatusOK, tinker.Future{RequestID: id, ModelID: m.id})
}

func (t *training) clientConfig(w http.ResponseWriter, r *http.Request) {
	if _, ok := t.read(w, r, &tinker.ClientConfigRequest{}); ok {
		writeJSON(w, http.StatusOK, tinker.ClientConfig{CreateViaLoad: true})
	}
}

func (t *training) capabilities(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, tinker.Capabilities{
		SupportedModels: []tinker.SupportedModel{{ModelName: t.srv.base, MaxContextLength: t.opt.Model.MaxLen, Trainable: true, Sampleable: true}},
		Extensions:      []string{tinker.ExtensionPromptEmbed},
	})
}

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

// retrieveFuture answers a result, or try_again after a while.
func (t *training) retrieveFuture(w http.ResponseWriter, r *http.Request) {
	var req tinker.RetrieveRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	f, ok := t.futures.get(req.RequestID)
	if !ok {
		writeDetail(w, http.StatusNotFound, "unknown request_id %q", req.RequestID)
		return
	}
	timer := time.NewTimer(t.opt.LongPoll)
	defer timer.Stop()
	select {
	case <-f.done:
		w.Header().Set("Content-Type", f.kind)
		w.Header().Set("Content-Length", fmt.Sprint(len(f.body)))
		_, _ = w.Write(f.body)
	case <-timer.C:
		tryAgain(w, f)
	case <-t.stopPoll:
		tryAgain(w, f)
	case <-r.Context().Done():
	}
}

func tryAgain(w http.ResponseWriter, f *future) {
	writeJSON(w, http.StatusOK, tinker.FutureState{Type: tinker.TypeTryAgain, RequestID: f.id, QueueState: "active"})
}
