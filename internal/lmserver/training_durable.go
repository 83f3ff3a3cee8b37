package lmserver

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"recpie/internal/durable"
	"recpie/internal/failpoint"
	"recpie/internal/wire/tinker"
)

// With Options.DurableSteps whatever a model acknowledges is on disk before: sessions, models, and after each request the number of the
// next, with weights and moments when they changed. A server that starts over the same folder goes on from there. What is in memory alone are
// gradients that no step has applied yet, and results that were not fetched.

// runState is a model's state.json: what its last acknowledged request left behind.
type runState struct {
	Session  string    `json:"session"`
	ModelSeq int       `json:"model_seq"`
	Content  string    `json:"content"` // of the request that created it, to know it again
	Next     int32     `json:"next"`    // seq_id
	Data     string    `json:"data"`    // folder of weights and moments below data/, "" as created from the seed
	Started  bool      `json:"started"`
	Pending  bool      `json:"pending"` // gradients were accumulated after the last step
	Last     *lastStep `json:"last,omitempty"`
}

// lastStep lets a step be sent again whose answer was lost.
type lastStep struct {
	Seq     int32              `json:"seq"`
	Content string             `json:"content"`
	Metrics map[string]float64 `json:"metrics"`
}

// sessionState is a session's file; it exists as long as the session.
type sessionState struct {
	ID      string            `json:"id"`
	Created time.Time         `json:"created"`
	Meta    map[string]string `json:"user_metadata,omitempty"`
}

func (c *checkpoints) stateFile(id string) string { return filepath.Join(c.dir(id), "state.json") }

func (c *checkpoints) sessionFile(id string) string {
	return filepath.Join(c.root, "sessions", id+".json")
}

// keepSession puts a session on disk.
func (c *checkpoints) keepSession(s sessionState) error {
	if err := os.MkdirAll(filepath.Join(c.root, "sessions"), 0o700); err != nil {
		return err
	}
	return writeJSONFile(c.sessionFile(s.ID), s)
}

func (c *checkpoints) dropSession(id string) {
	if os.Remove(c.sessionFile(id)) == nil {
		_ = durable.SyncDir(filepath.Dir(c.sessionFile(id)))
	}
}

// keptSessions reads the sessions that had not ended.
func (c *checkpoints) keptSessions() (out []sessionState, err error) {
	files, err := filepath.Glob(filepath.Join(escapeGlob(c.root), "sessions", "*.json"))
	for _, file := range files {
		var s sessionState
		if err := readJSONFile(file, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, s)
	}
	return out, err
}

// state reads a model's state; errNotStored when none was kept.
func (c *checkpoints) state(id string) (*runState, error) {
	var s runState
	if err := readJSONFile(c.stateFile(id), &s); err != nil {
		return nil, err
	}
	if s.Data != "" && (filepath.Base(s.Data) != s.Data || s.Data[0] == '.') {
		return nil, fmt.Errorf("state.json of %s is damaged", id)
	}
	return &s, nil
}

// keep writes the state, with what save puts into a new folder where save is not nil.
func (c *checkpoints) keep(id string, s *runState, save func(dir string) error) error {
	old := s.Data
	if save != nil {
		s.Data = newID("")
		if err := save(filepath.Join(c.dir(id), "data", s.Data)); err != nil {
			s.Data = old
			return err
		}
		failpoint.Hit("lmserver.keep.data") // the data are there, nothing names them
	}
	if err := writeJSONFile(c.stateFile(id), s); err != nil {
		return err
	}
	failpoint.Hit("lmserver.keep.state") // kept, not yet acknowledged
	if save != nil && old != "" {
		_ = os.RemoveAll(filepath.Join(c.dir(id), "data", old))
	}
	return nil
}

// forgetState lets go of a model that was unloaded or whose session ended. Checkpoints stay.
func (c *checkpoints) forgetState(id string) {
	s, err := c.state(id)
	if err != nil {
		return
	}
	if os.Remove(c.stateFile(id)) == nil && s.Data != "" {
		_ = durable.SyncDir(c.dir(id))
		_ = os.RemoveAll(filepath.Join(c.dir(id), "data", s.Data))
	}
}

// keptData is the folder that a model's state names, "" without one.
func (c *checkpoints) keptData(id string) (string, error) {
	s, err := c.state(id)
	if errors.Is(err, errNotStored) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return s.Data, nil
}

// keepModel is called by a model's worker after each request, before its result can be fetched.
func (t *training) keepModel(m *model, next int32) error {
	if !t.opt.DurableSteps {
		return nil
	}
	m.state.Next, m.state.Started = next, m.started
	var save func(dir string) error
	if m.changed {
		save = func(dir string) error { return m.trainer.Save(dir, true) }
	}
	if err := t.store.keep(m.id, &m.state, save); err != nil {
		t.opt.Log.Error("a model's state cannot be kept", "model", m.id, "err", err)
		return fmt.Errorf("the state of %s cannot be kept on disk: %w", m.id, err)
	}
	m.changed = false
	return nil
}

// restore brings back the sessions that were open when the server stopped. Their models follow when they are asked for.
func (t *training) restore() error {
	if !t.opt.DurableSteps {
		return nil
	}
	kept, err := t.store.keptSessions()
	if err != nil {
		return err
	}
	for _, k := range kept {
		t.sessions[k.ID] = &session{id: k.ID, last: time.Now(), begun: k.Created, meta: k.Meta, created: map[int]seenRequest{}}
	}
	runs, err := t.store.runs()
	if err != nil {
		return err
	}
	for _, r := range runs {
		s, err := t.store.state(r.ID)
		if errors.Is(err, errNotStored) {
			continue
		}
		if err != nil { // its checkpoints are there still
			t.opt.Log.Error("a model's state cannot be read: it is not taken up", "model", r.ID, "err", err)
			continue
		}
		owner := t.sessions[s.Session]
		if owner == nil {
			t.store.forgetState(r.ID)
			continue
		}
		t.revive(owner, r, *s)
	}
	if len(kept) > 0 {
		t.opt.Log.Info("went on from the state folder", "sessions", len(kept), "models", len(t.models))
	}
	return nil
}

// revive registers a model as its state says; its worker loads the weights.
func (t *training) revive(s *session, r run, state runState) {
	m := newModel(r.ID, s, r.LoRA, r.Meta, t.futures, t.opt.GapTimeout)
	m.most, m.keep, m.forget = t.opt.MaxWaiting, t.keepModel, t.store.forgetState
	m.next, m.state, m.started = state.Next, state, state.Started
	m.revived, m.lost = true, state.Pending
	m.prepare = func() error {
		if r.BaseModel != t.srv.base {
			return userError("%s belongs to base model %s, this server has %s", r.ID, r.BaseModel, t.srv.base)
		}
		var err error
		if m.trainer, err = t.newTrainer(r.LoRA); err == nil && state.Data != "" {
			err = m.trainer.Load(filepath.Join(t.store.dir(r.ID), "data", state.Data), true)
		}
		return err
	}
	settled := func(v any) *future {
		f := t.futures.add(r.ID)
		t.futures.settle(f, v, nil)
		return f
	}
	var content digest
	if n, err := hex.Decode(content[:], []byte(state.Content)); err == nil && n == len(content) {
		s.created[state.ModelSeq] = seenRequest{content, settled(tinker.CreateModelResult{ModelID: r.ID, Type: "create_model"}).id}
	}
	if l := state.Last; l != nil {
		if n, err := hex.Decode(content[:], []byte(l.Content)); err == nil && n == len(content) {
			m.seen[l.Seq] = seenRequest{content, settled(tinker.OptimStepResult{Metrics: l.Metrics}).id}
		}
	}
	t.models[r.ID] = m
	t.work(m)
}

// reload puts a model back to its last state on disk, after one that could not be written.
func (t *training) reload(m *model) error {
	kept, err := t.store.state(m.id)
	if errors.Is(err, errNotStored) {
		kept, err = &runState{Session: m.state.Session, ModelSeq: m.state.ModelSeq, Content: m.state.Content}, nil
	}
	if err != nil {
		return err
	}
	fresh, err := t.newTrainer(m.cfg)
	if err == nil && kept.Data != "" {
		if err = fresh.Load(filepath.Join(t.store.dir(m.id), "data", kept.Data), true); err != nil {
			fresh.Close()
		}
	}
	if err != nil {
		return err
	}
	m.trainer.Close()
	m.trainer, m.state, m.started, m.changed, m.lost = fresh, *kept, kept.Started, false, true
	return nil
}

// work starts a model's worker.
func (t *training) work(m *model) {
	m.reload = func() error { return t.reload(m) }
	t.workers.Add(1)
	go func() {
		defer t.workers.Done()
		m.work(t.ctx)
	}()
}

// gone says why a model that the folder knows is not live, and what to do; "" for one that never was.
func (t *training) gone(id string) string {
	if _, err := t.store.run(id); err != nil {
		return ""
	}
	saved, err := t.store.list(id)
	if err == nil {
		for i := len(saved) - 1; i >= 0; i-- {
			if saved[i].Kind == tinker.KindWeights {
				return fmt.Sprintf("model %s is not live any more: it was unloaded, or the server was restarted; create a model from its last checkpoint, %s", id, saved[i].path())
			}
		}
	}
	return fmt.Sprintf("model %s is not live any more: it was unloaded, or the server was restarted, and no state of it was saved; create it anew", id)
}
