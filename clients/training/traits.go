package training

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// Known is the answer to a question that may not have been asked yet.
type Known int8

// The answers.
const (
	Unknown Known = iota
	Yes
	No
)

func known(yes bool) Known {
	if yes {
		return Yes
	}
	return No
}

// String returns unknown, yes or no.
func (k Known) String() string { return [...]string{"unknown", "yes", "no"}[k] }

// Traits are what a server does where the protocol leaves room and where servers differ. They are learned from its answers, once per
// session and when something first depends on them.
type Traits struct {
	SoftPrompts       bool   // gradients of soft prompts (prompt_embeds.v1), as the server states; without them soft rows are never sent and stay as they are
	PPO               string // the loss that carries ppo's gradient there: ppo itself, importance_sampling or cross_entropy; "" before the first pass
	DeduplicatesSeqID Known  // a request sent again under its number is answered with the original future and does not run twice
	CreateViaLoad     Known  // load_weights makes models; else a fresh model is filled by its first request
	MeanGradients     Known  // gradients are means over a datum's tokens instead of sums: SkyRL's JAX backend. The client scales advantages against it
	SharedSlot        bool   // model ids are the server's own, as SkyRL's, where sampling may replace the weights in training
}

// Traits returns what is known of the server so far.
func (s *Session) Traits() Traits {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.traits
	t.SoftPrompts = s.PromptEmbeds()
	return t
}

func (s *Session) learn(set func(*Traits)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set(&s.traits)
}

// recognise draws what a model's id tells: servers that do not form it as the protocol says are SkyRL or its kin.
func (s *Session) recognise(id string) {
	if !strings.Contains(id, ":train:") {
		s.learn(func(t *Traits) { t.SharedSlot = true })
	}
}

// Probe finds out what passes and numbers mean on the server, with a forward pass over one token that is sent twice under one number
// and changes nothing there.
func (m *Model) Probe(ctx context.Context) error {
	m.mu.Lock()
	id, err := m.sendTwice(ctx)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	const op = "training: probe"
	body, err := m.s.retrieve(ctx, op, id, true)
	if err != nil {
		return err
	}
	var out pb.ForwardBackwardOutput
	if err := proto.Unmarshal(body, &out); err != nil {
		return fault.Newf(fault.Endpoint, op, "the result is not the protobuf expected: %w", err)
	}
	m.s.learn(func(t *Traits) { t.MeanGradients = known(t.SharedSlot && jaxBackend(&out)) })
	return nil
}

// jaxBackend recognises a pass of SkyRL's JAX backend (backends/jax.py of 0.4.0), whose loss_for_lora divides a datum's loss by the sum
// of its weights, 1 each when left out: it alone returns per-token losses without any metric.
func jaxBackend(out *pb.ForwardBackwardOutput) bool {
	if len(out.GetMetrics()) > 0 || len(out.GetLossFnOutputs()) == 0 {
		return false
	}
	return out.GetLossFnOutputs()[0].GetFields()[fieldElementwise] != nil
}

// sendTwice submits the pass of Probe twice under the next number and returns the first future; m.mu is held.
func (m *Model) sendTwice(ctx context.Context) (string, error) {
	const op = "training: probe"
	d, err := Datum{Tokens: []int32{0}, Targets: []int64{0}, Weights: []float32{1}}.wire()
	if err != nil {
		return "", fault.New(fault.Fatal, op, err)
	}
	m.seq++
	req := &pb.ForwardBackwardRequest{ModelId: m.id, SeqId: m.seq, LossFn: tinker.LossCrossEntropy, ForwardOnly: true, Data: []*pb.Datum{d}}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return "", fault.New(fault.Fatal, op, err)
	}
	var f [2]tinker.Future
	for i := range f {
		if err := m.s.send(ctx, op, tinker.PathForwardBackward, tinker.ProtobufType, body, &f[i]); err != nil {
			return "", err
		}
		if f[i].RequestID == "" {
			return "", fault.Newf(fault.Endpoint, op, "the answer has no request id")
		}
	}
	m.s.learn(func(t *Traits) { t.DeduplicatesSeqID = known(f[0].RequestID == f[1].RequestID) })
	return f[0].RequestID, nil
}

// ErrAmbiguous marks errors after which nobody knows whether the server has carried a request out, so that neither sending it again nor
// going on is safe. The model is given up; restore the state before the request from a checkpoint.
var ErrAmbiguous = errors.New("it is unknown whether the request was carried out")
