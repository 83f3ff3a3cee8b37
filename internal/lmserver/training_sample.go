package lmserver

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/tinker"
)

const maxSamples = 1024

// sampler is a sampling session: the base model, or a snapshot of an adapter that is held in memory until the session ends.
type sampler struct {
	id      string
	session *session
	path    string // tinker path, "" for the base model and for unnamed snapshots
	base    bool
	made    time.Time
	seen    map[int64]seenRequest
	ended   completions
}

// openSampler loads the adapter files of dir ("" for the base model) for a new sampling session.
func (t *training) openSampler(s *session, path, dir string) (string, error) {
	sm := &sampler{id: newID("sampler/"), session: s, path: path, base: dir == "", made: time.Now(), seen: map[int64]seenRequest{}, ended: newCompletions()}
	t.mu.Lock()
	full := len(t.samplers) >= t.opt.MaxSamplers
	t.mu.Unlock()
	if full {
		return "", fault.Newf(fault.Transient, "", "%d sampling sessions are open: finish their sessions, or raise the limit of samplers", t.opt.MaxSamplers)
	}
	if !sm.base {
		if err := t.snapshots.load(sm.id, path, dir); err != nil {
			return "", err
		}
	}
	t.mu.Lock()
	gone := s.finished
	if !gone {
		t.samplers[filepath.Base(sm.id)] = sm
	}
	t.mu.Unlock()
	for _, old := range t.oldSnapshots(s) {
		t.snapshots.unload(old)
	}
	if gone {
		t.snapshots.unload(sm.id)
		return "", userError("session %q has finished", s.id)
	}
	return filepath.Base(sm.id), nil
}

// keptSnapshots is how many unnamed snapshots of a session are held. Loops make one for every step and never say that they are done with it.
const keptSnapshots = 32

// oldSnapshots takes the oldest unnamed ones out of the list and returns what is to be unloaded; samples in flight are finished.
func (t *training) oldSnapshots(s *session) (gone []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*sampler
	for _, sm := range t.samplers {
		if sm.session == s && !sm.base && sm.path == "" {
			all = append(all, sm)
		}
	}
	slices.SortFunc(all, func(a, b *sampler) int { return a.made.Compare(b.made) })
	for len(all) > keptSnapshots {
		delete(t.samplers, filepath.Base(all[0].id))
		gone, all = append(gone, all[0].id), all[1:]
	}
	return gone
}

func (t *training) createSampler(w http.ResponseWriter, r *http.Request) {
	var req struct {
		SessionID string `json:"session_id"`
		ModelPath string `json:"model_path"`
		BaseModel string `json:"base_model"`
	}
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	s, ok := t.live(w, req.SessionID)
	if !ok {
		return
	}
	dir := ""
	switch {
	case req.ModelPath != "":
		var err error
		if _, dir, err = t.stored(req.ModelPath, false); err != nil {
			t.notStored(w, req.ModelPath, err)
			return
		}
	case req.BaseModel != t.srv.base:
		writeDetail(w, http.StatusBadRequest, "unknown base model %q; this server has %s", req.BaseModel, t.srv.base)
		return
	}
	id, err := t.openSampler(s, req.ModelPath, dir)
	if err != nil {
		status := http.StatusBadRequest
		if fault.ClassOf(err) == fault.Transient {
			status = http.StatusTooManyRequests
			w.Header().Set("Retry-After", "1")
		}
		writeDetail(w, status, "%s", t.futures.scrub(err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"type": "create_sampling_session", "sampling_session_id": id})
}

func (t *training) getSampler(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	sm, ok := t.samplers[r.PathValue("id")]
	t.mu.Unlock()
	if !ok {
		writeDetail(w, http.StatusNotFound, "unknown sampler")
		return
	}
	out := map[string]string{"sampler_id": filepath.Base(sm.id), "base_model": t.srv.base}
	if sm.path != "" {
		out["model_path"] = sm.path
	}
	writeJSON(w, http.StatusOK, out)
}

type sampleRequest struct {
	SamplerID  string `json:"sampling_session_id"`
	SeqID      int64  `json:"seq_id"`
	NumSamples int    `json:"num_samples"`
	Prompt     struct {
		Chunks []struct {
			Type   string  `json:"type"`
			Tokens []int32 `json:"tokens"`
		} `json:"chunks"`
	} `json:"prompt"`
	Params struct {
		MaxTokens   *int            `json:"max_tokens"`
		Seed        *int64          `json:"seed"`
		Temperature *float64        `json:"temperature"`
		TopK        *int            `json:"top_k"`
		TopP        *float64        `json:"top_p"`
		Stop        json.RawMessage `json:"stop"`
	} `json:"sampling_params"`
	PromptEmbeds *struct { // prompt_embeds.v1: rows for placeholder tokens of the prompt
		Data  []float32 `json:"data"`
		Shape []int     `json:"shape"` // [rows, hidden]
	} `json:"prompt_embeds"`
	EmbedsAt       *int `json:"prompt_embeds_position"` // of the first placeholder, default 0
	PromptLogprobs bool `json:"prompt_logprobs"`
	PromptLast     *int `json:"prompt_logprobs_last_n"` // only the last n positions are wanted
	TopKPrompt     int  `json:"topk_prompt_logprobs"`
	TopKSample     int  `json:"topk_sample_logprobs"`
}

// sample accepts an asample request. (sampling session, seq_id) is the idempotency key; samples have no order.
func (t *training) sample(w http.ResponseWriter, r *http.Request) {
	req := sampleRequest{NumSamples: 1}
	body, ok := t.read(w, r, &req)
	if !ok {
		return
	}
	if req.NumSamples < 1 || req.NumSamples > maxSamples {
		writeDetail(w, http.StatusBadRequest, "num_samples must be between 1 and %d", maxSamples)
		return
	}
	content := contentOf(r.URL.Path, body)
	t.mu.Lock()
	defer t.mu.Unlock()
	sm, ok := t.samplers[req.SamplerID]
	if !ok {
		writeDetail(w, http.StatusGone, "the sampling session is over")
		return
	}
	answer := tinker.Future{}
	for i := range req.NumSamples {
		answer.SampleSequenceIDs = append(answer.SampleSequenceIDs, fmt.Sprintf("%s:%d:%d", req.SamplerID, req.SeqID, i))
	}
	if old, ok := sm.seen[req.SeqID]; ok {
		answer.RequestID = old.id
		if old.content != content {
			f := t.futures.add("")
			t.futures.settle(f, nil, userError("seq_id %d was used before with another content", req.SeqID))
			answer.RequestID = f.id
		}
		writeJSON(w, http.StatusOK, answer)
		return
	}
	select {
	case t.srv.inFlight <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		writeDetail(w, http.StatusTooManyRequests, "too many samples are waiting")
		return
	}
	f := t.futures.add("")
	t.forgetSamples(sm)
	sm.seen[req.SeqID] = seenRequest{content, f.id}
	sm.session.last = time.Now()
	answer.RequestID = f.id
	ctx, cancel := context.WithCancel(t.ctx)
	t.futures.cancelBy(f, cancel)
	t.workers.Add(1)
	go func() {
		defer t.workers.Done()
		defer cancel()
		defer func() { <-t.srv.inFlight }()
		result, err := t.draw(ctx, sm, &req)
		t.futures.settle(f, result, err)
		sm.ended.add(tinker.Completion{State: outcomeOf(err), RequestID: f.id, Size: len(f.body)})
	}()
	writeJSON(w, http.StatusOK, answer)
}

// forgetSamples drops the keys of results that are no longer kept, now and then. t.mu is held.
func (t *training) forgetSamples(sm *sampler) {
	if len(sm.seen)%maxSeen != maxSeen-1 {
		return
	}
	for seq, old := range sm.seen {
		if _, kept := t.futures.get(old.id); !kept {
			delete(sm.seen, seq)
		}
	}
}

func (t *training) draw(ctx context.Context, sm *sampler, req *sampleRequest) (any, error) {
	gen, p, err := t.sampleOf(req)
	if err != nil {
		return nil, err
	}
	if !sm.base {
		a, ok := t.snapshots.acquire(sm.id)
		if !ok {
			return nil, userError("the sampling session is over")
		}
		defer t.snapshots.release(a)
		gen.Adapter = a.key
	}
	results, err := t.srv.generate(ctx, []*lm.GenRequest{gen})
	if err != nil {
		return nil, err
	}
	return encodeSample(results[0], req, len(p.ids)), nil
}

// sampleOf turns the request into the sampler's own. Absent stop means the end token; [] means not even that.
func (t *training) sampleOf(req *sampleRequest) (*lm.GenRequest, *prompt, error) {
	p := &prompt{}
	for i, c := range req.Prompt.Chunks {
		if c.Type != "encoded_text" && c.Type != "" {
			return nil, nil, userError("chunk %d: %s is not supported", i, c.Type)
		}
		p.ids = append(p.ids, c.Tokens...)
	}
	for _, id := range p.ids {
		if id < 0 || id >= t.srv.marker() {
			return nil, nil, userError("token %d is out of vocabulary", id)
		}
	}
	soft, err := t.softPrompt(req, p.ids)
	if err != nil {
		return nil, nil, err
	}
	s := &req.Params
	if s.MaxTokens != nil && *s.MaxTokens < 1 {
		return nil, nil, userError("max_tokens must be at least 1")
	}
	room, err := p.fit(t.opt.Model.MaxLen, s.MaxTokens, false)
	if err != nil {
		return nil, nil, userError("%v", err)
	}
	gen := &lm.GenRequest{Prompt: p.ids, Soft: soft, N: req.NumSamples, MaxTokens: room, Temperature: or(s.Temperature, 1), TopP: or(s.TopP, 1),
		TopK: or(s.TopK, -1), Seed: s.Seed, Logprobs: min(max(req.TopKSample, 0), maxLogprobs), PromptLogprobs: -1}
	if req.PromptLogprobs || req.TopKPrompt > 0 {
		gen.PromptLogprobs = min(max(req.TopKPrompt, 0), maxLogprobs)
		if n := req.PromptLast; n != nil {
			if *n < 1 || *n >= len(p.ids) {
				return nil, nil, userError("prompt_logprobs_last_n must be between 1 and %d, got %d", len(p.ids)-1, *n)
			}
			gen.PromptFrom = len(p.ids) - *n
		}
	}
	if gen.Temperature < 0 || gen.TopP <= 0 || gen.TopP > 1 {
		return nil, nil, userError("temperature must not be negative and top_p must be in (0, 1]")
	}
	if len(s.Stop) > 0 && string(s.Stop) != "null" {
		var one string
		var ids []int32
		switch {
		case json.Unmarshal(s.Stop, &one) == nil:
			gen.Stop = []string{one}
		case json.Unmarshal(s.Stop, &ids) == nil:
			gen.StopIDs, gen.IgnoreEOS = ids, true
		case json.Unmarshal(s.Stop, &gen.Stop) != nil:
			return nil, nil, userError("stop must be a string, a list of strings or a list of token ids")
		}
	}
	return gen, p, nil
}

// softPrompt puts the request's rows in place of the placeholders.
func (t *training) softPrompt(req *sampleRequest, ids []int32) ([]lm.SoftRows, error) {
	e := req.PromptEmbeds
	if e == nil {
		return nil, nil
	}
	hidden, at := t.opt.Model.Model.Cfg.HiddenSize, or(req.EmbedsAt, 0)
	if len(e.Shape) != 2 || e.Shape[1] != hidden || e.Shape[0] < 1 || e.Shape[0] > t.opt.MaxRows || len(e.Data) != e.Shape[0]*hidden {
		return nil, userError("prompt_embeds must be [1 to %d, %d], its shape is %v with %d numbers", t.opt.MaxRows, hidden, e.Shape, len(e.Data))
	}
	for i, v := range e.Data {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, userError("prompt_embeds number %d is %v", i, v)
		}
	}
	if at < 0 || at+e.Shape[0] > len(ids) {
		return nil, userError("%d rows at position %d do not fit a prompt of %d tokens", e.Shape[0], at, len(ids))
	}
	for i := range e.Shape[0] {
		ids[at+i] = t.srv.marker()
	}
	return []lm.SoftRows{{Pos: at, Rows: e.Shape[0], Data: e.Data}}, nil
}
