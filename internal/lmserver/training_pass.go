package lmserver

import (
	"context"
	"crypto/sha256"
	"math"
	"mime"
	"net/http"

	"recpie/internal/lm"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"

	"google.golang.org/protobuf/proto"
)

// forwardBackward accepts a pass. Once the model and the number are known every fault of the data fails the future, never the
// request: the client has used up the number.
func (t *training) forwardBackward(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != protoType {
		writeDetail(w, http.StatusUnsupportedMediaType, "forward_backward takes %s (SDK 0.25 or newer)", protoType)
		return
	}
	body, ok := t.body(w, r)
	if !ok {
		return
	}
	req := &pb.ForwardBackwardRequest{}
	if err := proto.Unmarshal(body, req); err != nil {
		writeDetail(w, http.StatusUnprocessableEntity, "the body is no ForwardBackwardRequest")
		return
	}
	m, ok := t.lookup(w, req.GetModelId())
	if !ok {
		return
	}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		canonical = body
	}
	content := sha256.Sum256(canonical)
	data, cfg, invalid := t.decodePass(req)
	loss, forwardOnly := req.GetLossFn(), req.GetForwardOnly()
	t.enqueue(w, m, req.GetSeqId(), content, func(ctx context.Context) (any, error) {
		if invalid != nil {
			return nil, invalid
		}
		m.started = true
		res, err := m.trainer.ForwardBackward(ctx, data, loss, cfg, forwardOnly)
		if err != nil {
			return nil, err
		}
		if !forwardOnly {
			m.state.Pending = true
		}
		return t.encodePass(res, data, forwardOnly), nil
	})
}

func (t *training) decodePass(req *pb.ForwardBackwardRequest) ([]lm.Datum, map[string]float64, error) {
	switch req.GetLossFn() {
	case tinker.LossCrossEntropy, tinker.LossImportanceSampling, tinker.LossPPO, tinker.LossCISPO, tinker.LossDRO:
	default:
		return nil, nil, userError("loss_fn %q is not supported", req.GetLossFn())
	}
	if n := len(req.GetData()); n == 0 || n > t.opt.MaxData {
		return nil, nil, userError("a pass takes 1 to %d data, got %d", t.opt.MaxData, n)
	}
	cfg, err := tinker.LossConfig(req)
	if err != nil {
		return nil, nil, userError("%v", err)
	}
	for name, v := range cfg {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, nil, userError("loss config %s is %v", name, v)
		}
	}
	model := t.opt.Model
	shape := passShape{vocab: model.Model.Cfg.VocabSize, hidden: model.Model.Cfg.HiddenSize, maxLen: model.MaxLen, maxRows: t.opt.MaxRows}
	data := make([]lm.Datum, len(req.GetData()))
	for i, d := range req.GetData() {
		if data[i], err = shape.datum(d, req.GetLossFn()); err != nil {
			return nil, nil, userError("datum %d: %v", i, err)
		}
	}
	return data, cfg, nil
}

// passShape holds what every datum is checked against.
type passShape struct{ vocab, hidden, maxLen, maxRows int }

// datum checks and converts one datum: all per-token tensors have the length of the input, all numbers are finite, ids and
// positions are in range, soft rows are as wide as the model.
func (p passShape) datum(d *pb.Datum, loss string) (lm.Datum, error) {
	var out lm.Datum
	var err error
	if out.Tokens, err = tinker.Tokens(d.GetModelInput()); err != nil {
		return out, err
	}
	n := len(out.Tokens)
	if n == 0 || n > p.maxLen {
		return out, userError("the model takes 1 to %d tokens, got %d", p.maxLen, n)
	}
	for i, id := range out.Tokens {
		if id < 0 || int(id) >= p.vocab {
			return out, userError("token %d at position %d is out of vocabulary (%d)", id, i, p.vocab)
		}
	}
	in := d.GetLossFnInputs()
	if out.Targets, _, err = tinker.TensorInts(in[tinker.InputTargets]); err != nil {
		return out, userError("%s: %v", tinker.InputTargets, err)
	}
	if len(out.Targets) != n {
		return out, userError("%s has %d entries for %d tokens", tinker.InputTargets, len(out.Targets), n)
	}
	for i, id := range out.Targets {
		if id < 0 || id >= int64(p.vocab) {
			return out, userError("target %d at position %d is out of vocabulary (%d)", id, i, p.vocab)
		}
	}
	for _, f := range []struct {
		name     string
		into     *[]float32
		required bool
	}{
		{tinker.InputWeights, &out.Weights, false},
		{tinker.InputLogprobs, &out.Logprobs, loss != tinker.LossCrossEntropy},
		{tinker.InputAdvantages, &out.Advantages, loss != tinker.LossCrossEntropy},
	} {
		if in[f.name] == nil && !f.required {
			continue
		}
		if *f.into, _, err = tinker.TensorFloats(in[f.name]); err != nil {
			return out, userError("%s: %v", f.name, err)
		}
		if len(*f.into) != n {
			return out, userError("%s has %d entries for %d tokens", f.name, len(*f.into), n)
		}
		if at := notFinite(*f.into); at >= 0 {
			return out, userError("%s at position %d is not finite", f.name, at)
		}
	}
	return out, p.embeds(in, &out)
}

// embeds reads the extension prompt_embeds.v1: k rows that replace the embeddings of the placeholder tokens at k positions,
// 0 … k−1 unless they are given.
func (p passShape) embeds(in map[string]*pb.Tensor, out *lm.Datum) error {
	if in[tinker.InputEmbeds] == nil {
		if in[tinker.InputEmbedsPositions] != nil {
			return userError("%s without %s", tinker.InputEmbedsPositions, tinker.InputEmbeds)
		}
		return nil
	}
	rows, shape, err := tinker.TensorFloats(in[tinker.InputEmbeds])
	if err != nil {
		return userError("%s: %v", tinker.InputEmbeds, err)
	}
	if len(shape) != 2 || shape[1] != int64(p.hidden) || shape[0] > int64(min(p.maxRows, len(out.Tokens))) {
		return userError("%s has shape %v, want at most %d rows of %d", tinker.InputEmbeds, shape, min(p.maxRows, len(out.Tokens)), p.hidden)
	}
	if at := notFinite(rows); at >= 0 {
		return userError("%s: row %d is not finite", tinker.InputEmbeds, at/p.hidden)
	}
	k := int(shape[0])
	positions := make([]int64, k)
	for i := range positions {
		positions[i] = int64(i)
	}
	if given := in[tinker.InputEmbedsPositions]; given != nil {
		if positions, _, err = tinker.TensorInts(given); err != nil {
			return userError("%s: %v", tinker.InputEmbedsPositions, err)
		}
	}
	if len(positions) != k {
		return userError("%d positions for %d rows", len(positions), k)
	}
	seen := make(map[int64]bool, k)
	for _, at := range positions {
		if at < 0 || at >= int64(len(out.Tokens)) || seen[at] {
			return userError("%s: position %d is out of range or repeated", tinker.InputEmbedsPositions, at)
		}
		seen[at] = true
	}
	if k > 0 {
		out.Embeds, out.EmbedPos = rows, positions
	}
	return nil
}

func notFinite(v []float32) int {
	for i, x := range v {
		if math.Float32bits(x)&0x7f800000 == 0x7f800000 {
			return i
		}
	}
	return -1
}

// encodePass packs log-probabilities and, after a backward pass, the gradients of the soft rows; data without rows have none.
func (t *training) encodePass(res *lm.PassResult, data []lm.Datum, forwardOnly bool) *pb.ForwardBackwardOutput {
	fields := map[string]*pb.BatchedTensor{tinker.OutputLogprobs: tinker.Batch(res.Logprobs)}
	soft := false
	for _, d := range data {
		soft = soft || len(d.EmbedPos) > 0
	}
	if soft && !forwardOnly {
		fields[tinker.OutputEmbedsGrad] = tinker.Batch(res.EmbedGrads, int64(t.opt.Model.Model.Cfg.HiddenSize))
	}
	return &pb.ForwardBackwardOutput{
		LossFnOutputType: tinker.OutputArrayRecord,
		LossFnOutputs:    []*pb.ArrayRecord{{TypeTag: tinker.OutputArrayRecord, Fields: fields, NumDatums: int64(len(data))}},
		Metrics:          res.Metrics,
	}
}
