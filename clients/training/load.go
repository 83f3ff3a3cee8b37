package training

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
)

// CreateFromCheckpoint makes a model from a saved state, with its optimizer moments and step count when optimizer is set, and waits
// until it is loaded. The rank comes from the checkpoint; base may be empty. Where load_weights does not make models, a fresh one of
// the checkpoint's rank is made and filled by its first request.
func (s *Session) CreateFromCheckpoint(ctx context.Context, path, base string, optimizer bool) (*Model, error) {
	seq := s.nextModel()
	if s.Traits().CreateViaLoad == No {
		return s.fill(ctx, seq, path, optimizer)
	}
	m, refused, err := s.viaLoad(ctx, seq, path, base, optimizer)
	if !refused {
		if err == nil {
			s.learn(func(t *Traits) { t.CreateViaLoad = Yes })
		}
		return m, err
	}
	if m, err = s.fill(ctx, seq, path, optimizer); err == nil {
		s.learn(func(t *Traits) { t.CreateViaLoad = No })
	}
	return m, err
}

const opLoad = "training: load weights"

// viaLoad has load_weights make the model. refused: the server answered that it does not do that, or has no such checkpoint.
func (s *Session) viaLoad(ctx context.Context, seq int, path, base string, optimizer bool) (m *Model, refused bool, err error) {
	req := tinker.LoadWeightsRequest{SessionID: s.id, ModelSeq: &seq, Path: path, Optimizer: optimizer, BaseModel: base, Type: "load_weights"}
	var f tinker.Future
	if err := s.post(ctx, opLoad, tinker.PathLoadWeights, req, &f); err != nil {
		var status *StatusError
		no := errors.As(err, &status) && (status.Status == 400 || status.Status == 404 || status.Status == 405 || status.Status == 422)
		return nil, no && s.Traits().CreateViaLoad == Unknown, err
	}
	p := &Pending[tinker.LoadWeightsResult]{s: s, op: opLoad, id: f.RequestID, decode: jsonResult[tinker.LoadWeightsResult]}
	r, err := p.Wait(ctx)
	if err != nil {
		return nil, false, err
	}
	m, err = s.model(opLoad, base, r.ModelID, f.ModelID, fmt.Sprintf("%s:train:%d", s.id, seq))
	return m, false, err
}

// fill makes a fresh model as the checkpoint's was and loads it with the model's first request.
func (s *Session) fill(ctx context.Context, seq int, path string, optimizer bool) (*Model, error) {
	var info tinker.WeightsInfo
	if err := s.post(ctx, opLoad, tinker.PathWeightsInfo, tinker.WeightsInfoRequest{TinkerPath: path}, &info); err != nil {
		return nil, err
	}
	if !info.IsLoRA || info.LoRARank <= 0 {
		return nil, fault.Newf(fault.Item, opLoad, "%s holds no LoRA adapter", path)
	}
	lora := tinker.LoRAConfig{Rank: info.LoRARank, TrainAttn: stated(info.TrainAttn, true), TrainMLP: stated(info.TrainMLP, false), TrainUnembed: stated(info.TrainUnembed, false)}
	m, err := s.create(ctx, seq, info.BaseModel, lora)
	if err != nil {
		return nil, err
	}
	id, err := m.submit(ctx, opLoad, tinker.PathLoadWeights, "application/json", repeatable, func(seq int32) ([]byte, error) {
		return json.Marshal(tinker.LoadWeightsRequest{ModelID: m.id, SeqID: seq, Path: path, Optimizer: optimizer, Type: "load_weights"})
	})
	if err != nil {
		return nil, err
	}
	p := &Pending[tinker.LoadWeightsResult]{s: s, op: opLoad, id: id, decode: jsonResult[tinker.LoadWeightsResult]}
	if _, err := p.Wait(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

func stated(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}
