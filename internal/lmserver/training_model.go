package lmserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"net/http"
	"time"

	"recpie/internal/fault"
	"recpie/internal/lm"
	"recpie/internal/wire/tinker"
)

// loraAlpha is the numerator of the adapter's scale, alpha/rank, in every server of this API.
const loraAlpha = 32

const maxRank = 512

func (t *training) createModel(w http.ResponseWriter, r *http.Request) {
	req := tinker.CreateModelRequest{LoRA: &tinker.LoRAConfig{Rank: 32, TrainMLP: true, TrainAttn: true}}
	body, ok := t.read(w, r, &req)
	if !ok {
		return
	}
	s, ok := t.live(w, req.SessionID)
	if !ok {
		return
	}
	lora := req.LoRA
	if lora != nil && lora.TrainUnembed && t.opt.DropUnembed {
		lora.TrainUnembed = false
		t.opt.Log.Warn("the adapter is made without the unembedding", "session", req.SessionID)
	}
	switch {
	case req.BaseModel != t.srv.base:
		writeDetail(w, http.StatusBadRequest, "unknown base model %q; this server has %s", req.BaseModel, t.srv.base)
		return
	case lora == nil || lora.Rank < 1 || lora.Rank > maxRank:
		writeDetail(w, http.StatusBadRequest, "lora_config.rank must be between 1 and %d", maxRank)
		return
	case req.ModelSeq < 0:
		writeDetail(w, http.StatusBadRequest, "model_seq_id must not be negative")
		return
	}
	cfg := lm.LoRAConfig{Rank: lora.Rank, Alpha: loraAlpha, Seed: or(lora.Seed, randomSeed()),
		Attn: lora.TrainAttn, MLP: lora.TrainMLP, Unembed: lora.TrainUnembed}
	t.addModel(w, s, req.ModelSeq, contentOf(r.URL.Path, body), cfg, req.UserMetadata, func(m *model) (any, error) {
		return tinker.CreateModelResult{ModelID: m.id, Type: "create_model"}, nil
	})
}

func randomSeed() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return int64(binary.LittleEndian.Uint64(b[:]) >> 1)
}

// addModel registers model number seq of the session and queues its creation: the trainer, the run's folder, then finish. The same
// number with the same content returns the first request; with other content it fails.
func (t *training) addModel(w http.ResponseWriter, s *session, seq int, content digest, cfg lm.LoRAConfig, meta map[string]string, finish func(*model) (any, error)) {
	id := fmt.Sprintf("%s:train:%d", s.id, seq)
	t.mu.Lock()
	defer t.mu.Unlock()
	if old, ok := s.created[seq]; ok {
		answer := tinker.Future{RequestID: old.id, ModelID: id}
		if old.content != content {
			f := t.futures.add(id)
			t.futures.settle(f, nil, userError("model_seq_id %d was used before with another content", seq))
			answer.RequestID = f.id
		}
		writeJSON(w, http.StatusOK, answer)
		return
	}
	if len(t.models) >= t.opt.MaxModels {
		writeDetail(w, http.StatusTooManyRequests, "%d models are under training; unload some", t.opt.MaxModels)
		return
	}
	if !modelID.MatchString(id) || s.finished || t.ctx.Err() != nil {
		writeDetail(w, http.StatusBadRequest, "model %s cannot be created", id)
		return
	}
	m := newModel(id, s, cfg, meta, t.futures, t.opt.GapTimeout)
	m.most, m.keep, m.forget = t.opt.MaxWaiting, t.keepModel, t.store.forgetState
	m.state = runState{Session: s.id, ModelSeq: seq, Content: hex.EncodeToString(content[:])}
	request, _ := m.submit(0, content, func(context.Context) (any, error) {
		if m.trainer, m.broken = t.newTrainer(cfg); m.broken == nil {
			m.broken = t.store.addRun(m.run(t.srv.base))
		}
		var result any
		if m.broken == nil {
			result, m.broken = finish(m)
		}
		if m.broken != nil {
			return nil, fault.New(fault.ClassOf(m.broken), "create "+id, m.broken)
		}
		return result, nil
	})
	s.created[seq] = seenRequest{content, request}
	t.models[id] = m
	t.work(m)
	writeJSON(w, http.StatusOK, tinker.Future{RequestID: request, ModelID: id})
}

func (m *model) run(base string) run {
	return run{ID: m.id, BaseModel: base, LoRA: m.cfg, Created: time.Now().UTC(), Meta: m.meta}
}

func (t *training) getInfo(w http.ResponseWriter, r *http.Request) {
	var req tinker.ModelRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	m, ok := t.lookup(w, req.ModelID)
	if !ok {
		return
	}
	base := t.opt.Model.Model
	writeJSON(w, http.StatusOK, tinker.Info{ModelID: m.id, IsLoRA: true, LoRARank: m.cfg.Rank, ModelName: t.srv.base, ModelData: tinker.ModelData{
		ModelName: t.srv.base, TokenizerID: t.srv.base, Arch: base.Cfg.ModelType, HiddenSize: base.Cfg.HiddenSize, VocabSize: base.Cfg.VocabSize,
		TokenEmbeddingNorm: base.EmbeddingNorm()}})
}

// unloadModel frees weights, moments and accumulated gradients. What waits in the queue fails.
func (t *training) unloadModel(w http.ResponseWriter, r *http.Request) {
	var req tinker.ModelRequest
	if _, ok := t.read(w, r, &req); !ok {
		return
	}
	m, ok := t.lookup(w, req.ModelID)
	if !ok {
		return
	}
	t.mu.Lock()
	delete(t.models, m.id)
	t.mu.Unlock()
	m.close()
	t.store.forgetState(m.id)
	f := t.futures.add(m.id)
	t.futures.settle(f, tinker.CreateModelResult{ModelID: m.id, Type: "unload_model"}, nil)
	writeJSON(w, http.StatusOK, tinker.Future{RequestID: f.id, ModelID: m.id})
}

// optimStep applies AdamW. Absent hyper-parameters take the official client's defaults.
func (t *training) optimStep(w http.ResponseWriter, r *http.Request) {
	req := tinker.OptimStepRequest{AdamParams: tinker.AdamParams{LearningRate: 1e-4, Beta1: 0.9, Beta2: 0.95, Eps: 1e-12}}
	body, ok := t.read(w, r, &req)
	if !ok {
		return
	}
	m, ok := t.lookup(w, req.ModelID)
	if !ok {
		return
	}
	p := lm.AdamParams{LearningRate: req.AdamParams.LearningRate, Beta1: req.AdamParams.Beta1, Beta2: req.AdamParams.Beta2,
		Eps: req.AdamParams.Eps, WeightDecay: req.AdamParams.WeightDecay, GradClipNorm: req.AdamParams.GradClipNorm}
	content := contentOf(r.URL.Path, body)
	t.enqueue(w, m, req.SeqID, content, func(context.Context) (any, error) {
		if m.lost {
			m.lost, m.state.Pending = false, false
			return nil, userError("gradients of this step were lost when the server was restarted, or could not write to its disk: send its forward_backward requests again, under new numbers, and the step after them")
		}
		if p.LearningRate < 0 || p.Beta1 < 0 || p.Beta1 >= 1 || p.Beta2 < 0 || p.Beta2 >= 1 || p.Eps <= 0 || p.WeightDecay < 0 {
			return nil, userError("adam_params are out of range: %+v", p)
		}
		m.started = true
		norm, err := m.trainer.OptimStep(p)
		if err != nil {
			return nil, err
		}
		m.changed, m.state.Pending = true, false
		if math.IsNaN(norm) || math.IsInf(norm, 0) {
			return nil, fault.Newf(fault.Fatal, "", "the gradient norm is %v", norm)
		}
		m.state.Last = &lastStep{Seq: req.SeqID, Content: hex.EncodeToString(content[:]), Metrics: map[string]float64{"grad_norm": norm}}
		return tinker.OptimStepResult{Metrics: m.state.Last.Metrics}, nil
	})
}
