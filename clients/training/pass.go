package training

import (
	"context"
	"fmt"
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// Datum is one training sequence of N tokens: position i predicts Targets[i] (tokens = seq[:-1], targets = seq[1:]). Weights,
// Logprobs and Advantages are per position and empty when the loss does not use them; prompt positions carry 0.
// Embeds are k soft rows [k, hidden] that replace the tokens at EmbedPositions (ascending); any valid id stands in Tokens there.
type Datum struct {
	Tokens         []int32
	Targets        []int64
	Weights        []float32 // cross_entropy
	Logprobs       []float32 // ppo, importance_sampling: the sampler's
	Advantages     []float32 // ppo, importance_sampling
	Embeds         []float32
	EmbedPositions []int64
}

// Pass is the outcome of a forward or forward_backward: log-probabilities of the targets, [N] per datum in request order, and
// d(loss:sum)/d(Embeds), [k·hidden] per datum (empty for data without soft rows; nil after a forward pass). Metrics hold "loss:sum".
type Pass struct {
	Logprobs   [][]float32
	EmbedGrads [][]float32
	Metrics    map[string]float64

	elementwise []float32 // per-token losses of a server that returns these, and no sum
}

// fieldElementwise is the output field that holds them.
const fieldElementwise = "elementwise_loss"

// Forward computes log-probabilities and loss without touching any gradient.
func (m *Model) Forward(ctx context.Context, data []Datum, loss string, cfg map[string]float64) (*Pending[*Pass], error) {
	p, err := m.pass(ctx, "training: forward", data, loss, cfg, true)
	if err != nil {
		return nil, err
	}
	p.then(func(pass **Pass) { (*pass).complete(data, loss, cfg) })
	return p, nil
}

func (m *Model) pass(ctx context.Context, op string, data []Datum, loss string, cfg map[string]float64, forwardOnly bool) (*Pending[*Pass], error) {
	req := &pb.ForwardBackwardRequest{ModelId: m.id, LossFn: loss, LossFnConfig: cfg, ForwardOnly: forwardOnly}
	if len(cfg) > 0 {
		req.LossFnConfigV2 = make(map[string]*pb.LossConfigValue, len(cfg))
		for k, v := range cfg {
			req.LossFnConfigV2[k] = &pb.LossConfigValue{Value: &pb.LossConfigValue_Number{Number: v}}
		}
	}
	if len(data) == 0 {
		return nil, fault.Newf(fault.Item, op, "no data")
	}
	shapes := make([]shape, len(data))
	for i, d := range data {
		wire, err := d.wire()
		if err != nil {
			return nil, fault.Newf(fault.Item, op, "datum %d: %w", i, err)
		}
		if len(d.Embeds) > 0 && !m.s.PromptEmbeds() {
			// A server that does not know the input would train on the placeholders without a word.
			return nil, fault.Newf(fault.Fatal, op, "the training server does not offer %s: soft prompts cannot be trained there", tinker.ExtensionPromptEmbed)
		}
		req.Data = append(req.Data, wire)
		shapes[i] = shape{len(d.Tokens), len(d.Embeds)}
	}
	id, err := m.submit(ctx, op, tinker.PathForwardBackward, tinker.ProtobufType, effect(!forwardOnly), func(seq int32) ([]byte, error) {
		req.SeqId = seq
		return proto.MarshalOptions{Deterministic: true}.Marshal(req)
	})
	if err != nil {
		return nil, err
	}
	return &Pending[*Pass]{s: m.s, op: op, id: id, proto: true, decode: func(b []byte) (*Pass, error) { return decodePass(b, shapes, forwardOnly) }}, nil
}

// wire checks lengths and numbers and packs the datum.
func (d Datum) wire() (*pb.Datum, error) {
	n := len(d.Tokens)
	if n == 0 || len(d.Targets) != n {
		return nil, fmt.Errorf("%d tokens with %d targets", n, len(d.Targets))
	}
	in := map[string]*pb.Tensor{tinker.InputTargets: tinker.IntTensor(d.Targets)}
	for _, f := range []struct {
		name   string
		values []float32
	}{{tinker.InputWeights, d.Weights}, {tinker.InputLogprobs, d.Logprobs}, {tinker.InputAdvantages, d.Advantages}} {
		if len(f.values) == 0 {
			continue
		}
		if len(f.values) != n {
			return nil, fmt.Errorf("%d tokens with %d %s", n, len(f.values), f.name)
		}
		if i := notFinite(f.values); i >= 0 {
			return nil, fmt.Errorf("%s[%d] is %v", f.name, i, f.values[i])
		}
		in[f.name] = tinker.FloatTensor(f.values)
	}
	if k := len(d.EmbedPositions); k > 0 || len(d.Embeds) > 0 {
		if k == 0 || len(d.Embeds) == 0 || len(d.Embeds)%k != 0 {
			return nil, fmt.Errorf("%d values of soft rows at %d positions", len(d.Embeds), k)
		}
		for i, p := range d.EmbedPositions {
			if p < 0 || p >= int64(n) || (i > 0 && p <= d.EmbedPositions[i-1]) {
				return nil, fmt.Errorf("soft rows at positions %v of %d tokens", d.EmbedPositions, n)
			}
		}
		if i := notFinite(d.Embeds); i >= 0 {
			return nil, fmt.Errorf("soft value %d is %v", i, d.Embeds[i])
		}
		in[tinker.InputEmbeds] = tinker.FloatTensor(d.Embeds, int64(k), int64(len(d.Embeds)/k))
		in[tinker.InputEmbedsPositions] = tinker.IntTensor(d.EmbedPositions)
	}
	return &pb.Datum{ModelInput: []*pb.Chunk{tinker.Chunk(d.Tokens)}, LossFnInputs: in}, nil
}

type shape struct{ tokens, embeds int }

// decodePass reads a result and refuses one that does not match the request or holds a number that is not finite.
func decodePass(b []byte, shapes []shape, forwardOnly bool) (*Pass, error) {
	var out pb.ForwardBackwardOutput
	if err := proto.Unmarshal(b, &out); err != nil {
		return nil, fmt.Errorf("the result is not the protobuf expected: %w", err)
	}
	soft := false
	for _, s := range shapes {
		soft = soft || s.embeds > 0
	}
	p := &Pass{Metrics: out.GetMetrics()}
	if p.Metrics == nil {
		p.Metrics = map[string]float64{}
	}
	for i, rec := range out.GetLossFnOutputs() {
		left := len(shapes) - len(p.Logprobs)
		if rec.GetNumDatums() < 0 || rec.GetNumDatums() > int64(left) {
			return nil, fmt.Errorf("record %d holds %d data, %d are left", i, rec.GetNumDatums(), left)
		}
		n := int(rec.GetNumDatums())
		rows, err := tinker.Unbatch(rec.GetFields()[tinker.OutputLogprobs], n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tinker.OutputLogprobs, err)
		}
		p.Logprobs = append(p.Logprobs, rows...)
		if f := rec.GetFields()[fieldElementwise]; f != nil {
			losses, err := tinker.Unbatch(f, n)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", fieldElementwise, err)
			}
			p.elementwise = append(p.elementwise, slices.Concat(losses...)...)
		}
		if forwardOnly || !soft {
			continue
		}
		grads, err := tinker.Unbatch(rec.GetFields()[tinker.OutputEmbedsGrad], n)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", tinker.OutputEmbedsGrad, err)
		}
		p.EmbedGrads = append(p.EmbedGrads, grads...)
	}
	if len(p.Logprobs) != len(shapes) {
		return nil, fmt.Errorf("results for %d of %d data", len(p.Logprobs), len(shapes))
	}
	for i, s := range shapes {
		if len(p.Logprobs[i]) != s.tokens {
			return nil, fmt.Errorf("datum %d: %d log-probabilities for %d tokens", i, len(p.Logprobs[i]), s.tokens)
		}
		if j := notFinite(p.Logprobs[i]); j >= 0 {
			return nil, fmt.Errorf("datum %d: log-probability %d is %v", i, j, p.Logprobs[i][j])
		}
		if p.EmbedGrads == nil {
			continue
		}
		if len(p.EmbedGrads[i]) != s.embeds {
			return nil, fmt.Errorf("datum %d: a gradient of %d values for %d", i, len(p.EmbedGrads[i]), s.embeds)
		}
		if j := notFinite(p.EmbedGrads[i]); j >= 0 {
			return nil, fmt.Errorf("datum %d: gradient value %d is %v", i, j, p.EmbedGrads[i][j])
		}
	}
	if i := notFinite(p.elementwise); i >= 0 {
		return nil, fmt.Errorf("a token's loss is %v", p.elementwise[i])
	}
	if l := p.Metrics[tinker.MetricLossSum]; math.IsNaN(l) || math.IsInf(l, 0) {
		return nil, fmt.Errorf("the loss is %v", l)
	}
	return p, nil
}

func notFinite(v []float32) int {
	for i, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return i
		}
	}
	return -1
}
