package training

import (
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

func TestBadSamplesAreRefused(t *testing.T) {
	good := func() *pb.SampleResponse {
		return &pb.SampleResponse{Sequences: []*pb.SampledSequence{{Tokens: tinker.Int32Bytes([]int32{3, 4}), Logprobs: tinker.Float32Bytes([]float32{-1, -2})}},
			PromptLogprobs: tinker.Float32Bytes([]float32{float32(math.NaN()), -1, -2})}
	}
	set := Sampling{Samples: 1, MaxTokens: 2, PromptLogprobs: true}
	if _, err := decodeSample(marshal(t, good()), 3, set); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*pb.SampleResponse){
		"no sequence":  func(r *pb.SampleResponse) { r.Sequences = nil },
		"two":          func(r *pb.SampleResponse) { r.Sequences = append(r.Sequences, r.Sequences[0]) },
		"no tokens":    func(r *pb.SampleResponse) { r.Sequences[0].Tokens, r.Sequences[0].Logprobs = nil, nil },
		"too long":     func(r *pb.SampleResponse) { r.Sequences[0].Tokens = tinker.Int32Bytes([]int32{1, 2, 3}) },
		"cut off":      func(r *pb.SampleResponse) { r.Sequences[0].Tokens = r.Sequences[0].Tokens[:7] },
		"few logprobs": func(r *pb.SampleResponse) { r.Sequences[0].Logprobs = r.Sequences[0].Logprobs[:4] },
		"infinite": func(r *pb.SampleResponse) {
			r.Sequences[0].Logprobs = tinker.Float32Bytes([]float32{-1, float32(math.Inf(-1))})
		},
		"no prompt":        func(r *pb.SampleResponse) { r.PromptLogprobs = nil },
		"prompt two short": func(r *pb.SampleResponse) { r.PromptLogprobs = r.PromptLogprobs[:4] },
		"undefined in it": func(r *pb.SampleResponse) {
			r.PromptLogprobs = tinker.Float32Bytes([]float32{0, float32(math.NaN()), -1})
		},
		"undefined, shorter": func(r *pb.SampleResponse) { r.PromptLogprobs = tinker.Float32Bytes([]float32{float32(math.NaN()), -1}) },
	} {
		r := good()
		spoil(r)
		if got, err := decodeSample(marshal(t, r), 3, set); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// FuzzSample: whatever bytes a server sends, a result that is accepted has the promised shape.
func FuzzSample(f *testing.F) {
	b, err := proto.Marshal(&pb.SampleResponse{Sequences: []*pb.SampledSequence{{Tokens: tinker.Int32Bytes([]int32{9}), Logprobs: tinker.Float32Bytes([]float32{-1})}}, PromptLogprobs: tinker.Float32Bytes([]float32{-1})})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeSample(data, 2, Sampling{Samples: 1, MaxTokens: 2, PromptLogprobs: true})
		if err != nil {
			return
		}
		if q := r.Sequences; len(q) != 1 || len(q[0].Tokens) == 0 || len(q[0].Tokens) > 2 || len(q[0].Logprobs) != len(q[0].Tokens) || notFinite(q[0].Logprobs) >= 0 || len(r.PromptLogprobs) != 2 || notFinite(r.PromptLogprobs[1:]) >= 0 {
			t.Errorf("%+v", r)
		}
	})
}

// FuzzPass: the same for a pass, with and without the losses per token that some servers send.
func FuzzPass(f *testing.F) {
	fields := map[string]*pb.BatchedTensor{tinker.OutputLogprobs: tinker.Batch([][]float32{{-1, -2}}), fieldElementwise: tinker.Batch([][]float32{{1, 2}})}
	b, err := proto.Marshal(&pb.ForwardBackwardOutput{LossFnOutputs: []*pb.ArrayRecord{{NumDatums: 1, Fields: fields}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePass(data, []shape{{2, 0}}, false)
		if err != nil {
			return
		}
		p.complete([]Datum{{Tokens: []int32{1, 2}, Targets: []int64{2, 3}}}, tinker.LossCrossEntropy, nil)
		if loss, ok := p.Metrics[tinker.MetricLossSum]; len(p.Logprobs) != 1 || len(p.Logprobs[0]) != 2 || notFinite(p.Logprobs[0]) >= 0 || notFinite(p.elementwise) >= 0 || !ok || math.IsNaN(loss) || math.IsInf(loss, 0) {
			t.Errorf("%+v", p)
		}
	})
}
