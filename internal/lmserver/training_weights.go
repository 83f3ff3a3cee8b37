package lmserver

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"recpie/internal/wire/tinker"
)

const maxTTL = int64(1) << 31 // seconds

type saveRequest struct {
	tinker.SaveWeightsRequest
	Meta map[string]string `json:"user_metadata"`
}

func (t *training) saveWeights(w http.ResponseWriter, r *http.Request) {
	t.save(w, r, tinker.KindWeights, "save_weights")
}

// saveForSampler saves the weights alone: under a name, or without one as a snapshot that a new sampling session holds.
func (t *training) saveForSampler(w http.ResponseWriter, r *http.Request) {
	t.save(w, r, tinker.KindSampler, "save_weights_for_sampler")
}

func (t *training) save(w http.ResponseWriter, r *http.Request, kind, typ string) {
	var req saveRequest
	body, ok := t.read(w, r, &req)
	if !ok {
		return
	}
	m, ok := t.lookup(w, req.ModelID)
	if !ok {
		return
	}
	t.enqueue(w, m, req.SeqID, contentOf(r.URL.Path, body), func(context.Context) (any, error) {
		m.started = true
		if kind == tinker.KindSampler && req.Path == "" && req.SamplingSessionSeq != nil {
			id, err := t.ephemeral(m)
			if err != nil {
				return nil, err
			}
			return tinker.SaveWeightsResult{SamplingSessionID: id, Type: typ}, nil
		}
		ck := checkpoint{Run: m.run(t.srv.base), Kind: kind, Name: req.Path, Optimizer: kind == tinker.KindWeights, Created: time.Now().UTC(), Meta: req.Meta}
		if req.TTLSeconds != nil {
			if *req.TTLSeconds < 1 || int64(*req.TTLSeconds) > maxTTL {
				return nil, userError("ttl_seconds must be between 1 and %d", maxTTL)
			}
			at := ck.Created.Add(time.Duration(*req.TTLSeconds) * time.Second)
			ck.Expires = &at
		}
		if err := t.store.save(ck, req.Overwrite, func(dir string) error { return m.trainer.Save(dir, ck.Optimizer) }); err != nil {
			return nil, err
		}
		t.opt.Log.Info("checkpoint saved", "path", ck.path().String())
		return tinker.SaveWeightsResult{Path: ck.path().String(), Type: typ}, nil
	})
}

// ephemeral opens a sampling session on a copy of the model's weights as they are now. Later training does not change it.
func (t *training) ephemeral(m *model) (string, error) {
	dir := filepath.Join(t.store.ephemeral(), newID("snapshot-"))
	defer os.RemoveAll(dir) // the sampler holds the weights in memory
	if err := m.trainer.Save(dir, false); err != nil {
		return "", err
	}
	return t.openSampler(m.session, "", dir)
}

// loadWeights fills a fresh model from a checkpoint, or creates one from it when a session and a number are given instead of a model.
func (t *training) loadWeights(w http.ResponseWriter, r *http.Request) {
	var req struct {
		tinker.LoadWeightsRequest
		Meta map[string]string `json:"user_metadata"`
	}
	body, ok := t.read(w, r, &req)
	if !ok {
		return
	}
	content := contentOf(r.URL.Path, body)
	done := func(id string) tinker.LoadWeightsResult {
		return tinker.LoadWeightsResult{Path: req.Path, ModelID: id, Type: "load_weights"}
	}
	if req.ModelID != "" {
		m, ok := t.lookup(w, req.ModelID)
		if !ok {
			return
		}
		t.enqueue(w, m, req.SeqID, content, func(context.Context) (any, error) {
			if m.started {
				return nil, userError("load_weights must be the model's first request")
			}
			ck, dir, err := t.stored(req.Path, req.Optimizer)
			if err != nil {
				return nil, err
			}
			if a, b := ck.Run.LoRA, m.cfg; a.Rank != b.Rank || a.Attn != b.Attn || a.MLP != b.MLP || a.Unembed != b.Unembed {
				return nil, userError("%s is of rank %d (attention %v, MLP %v), the model of rank %d (%v, %v)", req.Path, a.Rank, a.Attn, a.MLP, b.Rank, b.Attn, b.MLP)
			}
			if err := m.trainer.Load(dir, req.Optimizer); err != nil {
				return nil, err
			}
			m.started, m.changed = true, true
			return done(m.id), nil
		})
		return
	}
	if req.ModelSeq == nil || *req.ModelSeq < 0 {
		writeDetail(w, http.StatusUnprocessableEntity, "load_weights needs model_id and seq_id, or session_id and model_seq_id")
		return
	}
	s, ok := t.live(w, req.SessionID)
	if !ok {
		return
	}
	ck, dir, err := t.stored(req.Path, req.Optimizer)
	if err != nil {
		t.notStored(w, req.Path, err)
		return
	}
	t.addModel(w, s, *req.ModelSeq, content, ck.Run.LoRA, req.Meta, func(m *model) (any, error) {
		if err := m.trainer.Load(dir, req.Optimizer); err != nil {
			return nil, err
		}
		m.changed = true
		return done(m.id), nil
	})
}

// stored finds a checkpoint of this server's base model.
func (t *training) stored(path string, optimizer bool) (*checkpoint, string, error) {
	ck, dir, err := t.store.get(path)
	switch {
	case errors.Is(err, errNotStored):
		return nil, "", userError("%s: %w", path, errNotStored)
	case err != nil:
		return nil, "", err
	case ck.Run.BaseModel != t.srv.base:
		return nil, "", userError("%s belongs to base model %s, this server has %s", path, ck.Run.BaseModel, t.srv.base)
	case optimizer && !ck.Optimizer:
		return nil, "", userError("%s holds no optimizer state", path)
	}
	return ck, dir, nil
}

func (t *training) notStored(w http.ResponseWriter, path string, err error) {
	switch {
	case errors.Is(err, errNotStored):
		writeDetail(w, http.StatusNotFound, "%s: no such checkpoint", path)
	case category(err) == tinker.CategoryUser:
		writeDetail(w, http.StatusBadRequest, "%s", err.Error())
	default:
		t.opt.Log.Error("checkpoint cannot be read", "path", path, "err", err)
		writeDetail(w, http.StatusInternalServerError, "%s cannot be read", path)
	}
}

func (t *training) weightsInfo(w http.ResponseWriter, r *http.Request) {
	var req tinker.WeightsInfoRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	ck, _, err := t.store.get(req.TinkerPath)
	if err != nil {
		t.notStored(w, req.TinkerPath, err)
		return
	}
	l := ck.Run.LoRA
	writeJSON(w, http.StatusOK, tinker.WeightsInfo{BaseModel: ck.Run.BaseModel, IsLoRA: true, LoRARank: l.Rank, TrainUnembed: &l.Unembed, TrainMLP: &l.MLP, TrainAttn: &l.Attn})
}
