package training

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// Model is an adapter in training. Its methods are safe for concurrent use; requests are sent one after the other in the order of the
// calls, results are awaited independently.
type Model struct {
	s    *Session
	id   string
	base string

	mu   sync.Mutex
	seq  int32 // of the last request
	gone error // set when the order of requests can no longer be kept
}

// CreateModel makes a new LoRA adapter on a base model and waits until it exists.
func (s *Session) CreateModel(ctx context.Context, base string, lora tinker.LoRAConfig) (*Model, error) {
	const op = "training: create model"
	req := tinker.CreateModelRequest{SessionID: s.id, ModelSeq: s.nextModel(), BaseModel: base, LoRA: &lora, OptimizerConfig: &tinker.OptimizerConfig{Type: "adamw"}, Type: "create_model"}
	var f tinker.Future
	if err := s.post(ctx, op, tinker.PathCreateModel, req, &f); err != nil {
		return nil, err
	}
	p := &Pending[tinker.CreateModelResult]{s, op, f.RequestID, false, jsonResult[tinker.CreateModelResult]}
	r, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.model(op, base, r.ModelID, f.ModelID)
}

// CreateFromCheckpoint makes a model from a saved state, with its optimizer moments and step count when optimizer is set, and waits
// until it is loaded. The rank comes from the checkpoint; base may be empty.
func (s *Session) CreateFromCheckpoint(ctx context.Context, path, base string, optimizer bool) (*Model, error) {
	const op = "training: load weights"
	seq := s.nextModel()
	req := tinker.LoadWeightsRequest{SessionID: s.id, ModelSeq: &seq, Path: path, Optimizer: optimizer, BaseModel: base, Type: "load_weights"}
	var f tinker.Future
	if err := s.post(ctx, op, tinker.PathLoadWeights, req, &f); err != nil {
		return nil, err
	}
	p := &Pending[tinker.LoadWeightsResult]{s, op, f.RequestID, false, jsonResult[tinker.LoadWeightsResult]}
	r, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.model(op, base, r.ModelID, f.ModelID, fmt.Sprintf("%s:train:%d", s.id, seq))
}

func (s *Session) nextModel() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.models++
	return s.models - 1
}

func (s *Session) model(op, base string, ids ...string) (*Model, error) {
	for _, id := range ids {
		if id != "" {
			return &Model{s: s, id: id, base: base}, nil
		}
	}
	return nil, fault.Newf(fault.Endpoint, op, "the answer has no model id")
}

// ID returns the model's id.
func (m *Model) ID() string { return m.id }

// Info returns what the server knows of the model: base, hidden size, vocabulary size, norm of the token embeddings.
func (m *Model) Info(ctx context.Context) (tinker.Info, error) {
	var info tinker.Info
	err := m.s.post(ctx, "training: get info", tinker.PathGetInfo, tinker.ModelRequest{ModelID: m.id, Type: "get_info"}, &info)
	if n := info.ModelData.TokenEmbeddingNorm; err == nil && (math.IsNaN(n) || n < 0 || info.ModelData.HiddenSize < 0 || info.ModelData.VocabSize < 0) {
		err = fault.Newf(fault.Endpoint, "training: get info", "model data %+v", info.ModelData)
	}
	return info, err
}

// submit sends the request that build makes for the next seq_id and returns its future's id. The number is used up whatever the
// server answers; when no answer comes at all, the model is given up.
func (m *Model) submit(ctx context.Context, op, path, contentType string, build func(seq int32) ([]byte, error)) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone != nil {
		return "", m.gone
	}
	if err := m.s.Err(); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", fault.New(fault.Transient, op, context.Cause(ctx))
	}
	body, err := build(m.seq + 1)
	if err != nil {
		return "", fault.New(fault.Item, op, err)
	}
	m.seq++
	var f tinker.Future
	err = m.s.send(ctx, op, path, contentType, body, &f)
	if err == nil && f.RequestID == "" {
		err = fault.Newf(fault.Endpoint, op, "the answer has no request id")
	}
	if err == nil {
		return f.RequestID, nil
	}
	if class := fault.ClassOf(err); class == fault.Transient || class == fault.Endpoint {
		m.gone = fault.WithHint(fault.Newf(fault.Endpoint, op, "it is unknown whether request %d of model %s arrived: %w", m.seq, m.id, err),
			"restore the model from its last checkpoint")
		return "", m.gone
	}
	return "", err
}

func submitJSON[T any](ctx context.Context, m *Model, op, path string, request func(seq int32) any) (*Pending[T], error) {
	id, err := m.submit(ctx, op, path, "application/json", func(seq int32) ([]byte, error) { return json.Marshal(request(seq)) })
	if err != nil {
		return nil, err
	}
	return &Pending[T]{m.s, op, id, false, jsonResult[T]}, nil
}

// OptimStep applies AdamW to the gradients summed since the last step.
func (m *Model) OptimStep(ctx context.Context, p tinker.AdamParams) (*Pending[tinker.OptimStepResult], error) {
	return submitJSON[tinker.OptimStepResult](ctx, m, "training: optim step", tinker.PathOptimStep, func(seq int32) any {
		return tinker.OptimStepRequest{ModelID: m.id, SeqID: seq, AdamParams: p, Type: "optim_step"}
	})
}

// SaveWeights saves weights and optimizer moments under a name; the result is the tinker:// path for CreateFromCheckpoint.
func (m *Model) SaveWeights(ctx context.Context, name string) (*Pending[tinker.SaveWeightsResult], error) {
	return m.save(ctx, "training: save weights", tinker.PathSaveWeights, tinker.SaveWeightsRequest{Path: name, Type: "save_weights"})
}

// SaveWeightsForSampler saves the weights alone, as they are now, under a name; the result is the tinker:// path for Download.
func (m *Model) SaveWeightsForSampler(ctx context.Context, name string) (*Pending[tinker.SaveWeightsResult], error) {
	return m.save(ctx, "training: save weights for sampler", tinker.PathSaveForSampler, tinker.SaveWeightsRequest{Path: name, Kind: "snapshot", Type: "save_weights_for_sampler"})
}

func (m *Model) save(ctx context.Context, op, path string, req tinker.SaveWeightsRequest) (*Pending[tinker.SaveWeightsResult], error) {
	if !tinker.ValidName(req.Path) {
		return nil, fault.Newf(fault.Item, op, "checkpoint name %q: letters, digits, \"_\" and \"-\", at most 255", req.Path)
	}
	return submitJSON[tinker.SaveWeightsResult](ctx, m, op, path, func(seq int32) any {
		req.ModelID, req.SeqID = m.id, seq
		return req
	})
}

// Unload frees the model on the server. Nothing can be asked of it afterwards.
func (m *Model) Unload(ctx context.Context) error {
	const op = "training: unload model"
	m.mu.Lock()
	m.gone = fault.Newf(fault.Fatal, op, "model %s has been unloaded", m.id)
	m.mu.Unlock()
	var f tinker.Future
	if err := m.s.post(ctx, op, tinker.PathUnloadModel, tinker.ModelRequest{ModelID: m.id, Type: "unload_model"}, &f); err != nil {
		return err
	}
	p := &Pending[tinker.CreateModelResult]{m.s, op, f.RequestID, false, jsonResult[tinker.CreateModelResult]}
	_, err := p.Wait(ctx)
	return err
}
