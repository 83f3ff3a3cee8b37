package tinker

import (
	"encoding/hex"
	"math"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "recpie/internal/wire/tinker/tinkerpb"
)

// The three vectors were made with the official SDK's own protobuf classes (deterministic map order).
const (
	requestHex = "0a026d3110011a88010a100a0e0a0c05000000060000000700000012210a0a616476616e746167657312130a0c000000000000803f0000803f1801220103121f0a086c6f6770726f627312130a0c00000000000000bf000080be180122010312300a0d7461726765745f746f6b656e73121f0a180600000000000000070000000000000008000000000000001802220103220370706f2a1d0a12636c69705f6c6f775f7468726573686f6c64119a9999999999e93f3a1f0a12636c69705f6c6f775f7468726573686f6c641209099a9999999999e93f"
	outputHex  = "0a0b41727261795265636f7264123a12360a086c6f6770726f6273122a0a0c000080bf000000c0000040c01218000000000000000008000000000000000c00000000000000180118021a130a086c6f73733a73756d11000000000000f8bf"
	sampleHex  = "0a1608011208090000000a0000001a08000000bf000080be12080000c07f000080bf"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRequestVector compares decoded messages: Go writes a oneof after its siblings, so the bytes may differ and mean the same.
func TestRequestVector(t *testing.T) {
	ours := &pb.ForwardBackwardRequest{
		ModelId: "m1", SeqId: 1, LossFn: LossPPO,
		LossFnConfig:   map[string]float64{ConfigClipLow: .8},
		LossFnConfigV2: map[string]*pb.LossConfigValue{ConfigClipLow: {Value: &pb.LossConfigValue_Number{Number: .8}}},
		Data: []*pb.Datum{{
			ModelInput: []*pb.Chunk{Chunk([]int32{5, 6, 7})},
			LossFnInputs: map[string]*pb.Tensor{
				InputTargets:    IntTensor([]int64{6, 7, 8}),
				InputLogprobs:   FloatTensor([]float32{0, -.5, -.25}),
				InputAdvantages: FloatTensor([]float32{0, 1, 1}),
			},
		}},
	}
	raw := unhex(t, requestHex)
	var theirs pb.ForwardBackwardRequest
	if err := proto.Unmarshal(raw, &theirs); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(ours, &theirs) {
		t.Errorf("decoded %v\nwant %v", &theirs, ours)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(ours)
	if err != nil || len(again) != len(raw) {
		t.Errorf("our encoding has %d bytes, the vector %d (%v)", len(again), len(raw), err)
	}
	ids, err := Tokens(theirs.Data[0].ModelInput)
	if err != nil || len(ids) != 3 || ids[2] != 7 {
		t.Errorf("tokens %v, %v", ids, err)
	}
	targets, shape, err := TensorInts(theirs.Data[0].LossFnInputs[InputTargets])
	if err != nil || targets[2] != 8 || len(shape) != 1 {
		t.Errorf("targets %v %v, %v", targets, shape, err)
	}
	cfg, err := LossConfig(&theirs)
	if err != nil || cfg[ConfigClipLow] != .8 {
		t.Errorf("config %v, %v", cfg, err)
	}
}

func TestOutputVectorBytes(t *testing.T) {
	out := &pb.ForwardBackwardOutput{
		LossFnOutputType: OutputArrayRecord,
		LossFnOutputs: []*pb.ArrayRecord{{NumDatums: 2, Fields: map[string]*pb.BatchedTensor{
			OutputLogprobs: Batch([][]float32{{-1, -2}, {-3}}),
		}}},
		Metrics: map[string]float64{MetricLossSum: -1.5},
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != outputHex {
		t.Errorf("got  %s\nwant %s", got, outputHex)
	}
	rows, err := Unbatch(out.LossFnOutputs[0].Fields[OutputLogprobs], 2)
	if err != nil || len(rows) != 2 || len(rows[0]) != 2 || rows[1][0] != -3 {
		t.Errorf("unbatched %v, %v", rows, err)
	}
}

func TestSampleVectorBytes(t *testing.T) {
	out := &pb.SampleResponse{
		Sequences: []*pb.SampledSequence{{StopReason: pb.SampledSequence_LENGTH, Tokens: Int32Bytes([]int32{9, 10}), Logprobs: Float32Bytes([]float32{-.5, -.25})}},
		// The vector's NaN is the quiet one without sign: 0x7fc00000.
		PromptLogprobs: Float32Bytes([]float32{math.Float32frombits(0x7fc00000), -1}),
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(b); got != sampleHex {
		t.Errorf("got  %s\nwant %s", got, sampleHex)
	}
}
