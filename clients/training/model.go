package training

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
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

	mu    sync.Mutex
	seq   int32          // of the last request
	gone  error          // set when the order of requests can no longer be kept
	steps int            // optimizer steps submitted
	saved map[string]int // sampler snapshots by path: the steps before them

	sampling sync.RWMutex // held for reading while a sample runs on a server where it may touch the weights in training
}

// CreateModel makes a new LoRA adapter on a base model and waits until it exists.
func (s *Session) CreateModel(ctx context.Context, base string, lora tinker.LoRAConfig) (*Model, error) {
	return s.create(ctx, s.nextModel(), base, lora)
}

func (s *Session) create(ctx context.Context, seq int, base string, lora tinker.LoRAConfig) (*Model, error) {
	const op = "training: create model"
	req := tinker.CreateModelRequest{SessionID: s.id, ModelSeq: seq, BaseModel: base, LoRA: &lora, OptimizerConfig: &tinker.OptimizerConfig{Type: "adamw"}, Type: "create_model"}
	var f tinker.Future
	if err := s.post(ctx, op, tinker.PathCreateModel, req, &f); err != nil {
		return nil, err
	}
	p := &Pending[tinker.CreateModelResult]{s: s, op: op, id: f.RequestID, decode: jsonResult[tinker.CreateModelResult]}
	r, err := p.Wait(ctx)
	if err != nil {
		return nil, err
	}
	return s.model(op, base, r.ModelID, f.ModelID)
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
			s.recognise(id)
			m := &Model{s: s, id: id, base: base, saved: map[string]int{}}
			s.mu.Lock()
			s.live = append(s.live, m)
			s.mu.Unlock()
			return m, nil
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

// OptimStep applies AdamW to the gradients summed since the last step.
func (m *Model) OptimStep(ctx context.Context, p tinker.AdamParams) (*Pending[tinker.OptimStepResult], error) {
	m.sampling.Lock()
	defer m.sampling.Unlock()
	step, err := submitJSON[tinker.OptimStepResult](ctx, m, "training: optim step", tinker.PathOptimStep, once, func(seq int32) any {
		m.steps++ // under m.mu
		return tinker.OptimStepRequest{ModelID: m.id, SeqID: seq, AdamParams: p, Type: "optim_step"}
	})
	return step, err
}

// SaveWeights saves weights and optimizer moments under a name; the result is the tinker:// path for CreateFromCheckpoint.
func (m *Model) SaveWeights(ctx context.Context, name string) (*Pending[tinker.SaveWeightsResult], error) {
	return m.save(ctx, "training: save weights", tinker.PathSaveWeights, tinker.SaveWeightsRequest{Path: name, Type: "save_weights"})
}

// SaveWeightsForSampler saves the weights alone, as they are now, under a name; the result is the tinker:// path for Download and Sampler.
func (m *Model) SaveWeightsForSampler(ctx context.Context, name string) (*Pending[tinker.SaveWeightsResult], error) {
	return m.save(ctx, "training: save weights for sampler", tinker.PathSaveForSampler, tinker.SaveWeightsRequest{Path: name, Kind: "snapshot", Type: "save_weights_for_sampler"})
}

// save asks for a checkpoint. Where a lost answer makes the name taken, it is saved again under the next name: the result's path says which.
func (m *Model) save(ctx context.Context, op, path string, req tinker.SaveWeightsRequest) (*Pending[tinker.SaveWeightsResult], error) {
	if !tinker.ValidName(req.Path) {
		return nil, fault.Newf(fault.Item, op, "checkpoint name %q: letters, digits, \"_\" and \"-\", at most 255", req.Path)
	}
	name, steps := req.Path, 0
	for again := 2; ; again++ {
		p, err := submitJSON[tinker.SaveWeightsResult](ctx, m, op, path, repeatable, func(seq int32) any {
			req.ModelID, req.SeqID, steps = m.id, seq, m.steps
			return req
		})
		var status *StatusError
		if again < 4 && errors.As(err, &status) && status.Status == http.StatusConflict && fault.ClassOf(err) == fault.Item {
			req.Path = fmt.Sprintf("%s-%d", name, again)
			continue
		}
		if err == nil && req.Kind != "" {
			p.then(func(r *tinker.SaveWeightsResult) { m.snapshot(r.Path, steps) })
		}
		return p, err
	}
}

// snapshot remembers after how many steps a sampler's snapshot was taken.
func (m *Model) snapshot(path string, steps int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved[path] = steps
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
	p := &Pending[tinker.CreateModelResult]{s: m.s, op: op, id: f.RequestID, decode: jsonResult[tinker.CreateModelResult]}
	_, err := p.Wait(ctx)
	return err
}
