package tinker

import (
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "recpie/internal/wire/tinker/tinkerpb"
)

func TestBatchRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		block := rapid.IntRange(1, 5).Draw(t, "block")
		n := rapid.IntRange(0, 6).Draw(t, "n")
		rows := make([][]float32, n)
		for i := range rows {
			rows[i] = make([]float32, block*rapid.IntRange(0, 4).Draw(t, "k"))
			for j := range rows[i] {
				rows[i][j] = rapid.Float32().Draw(t, "v")
			}
		}
		got, err := Unbatch(Batch(rows, int64(block)), n)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if !slices.Equal(got[i], rows[i]) {
				t.Fatalf("row %d: %v, want %v", i, got[i], rows[i])
			}
		}
	})
}

func TestUnbatchRefuses(t *testing.T) {
	ok := func() *pb.BatchedTensor { return Batch([][]float32{{1, 2}, {3, 4, 5, 6}}, 2) }
	tests := map[string]func(*pb.BatchedTensor){
		"wrong dtype":         func(b *pb.BatchedTensor) { b.Dtype = pb.DType_DTYPE_INT64 },
		"too few offsets":     func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{0, 24}) },
		"ragged offsets":      func(b *pb.BatchedTensor) { b.Offsets = b.Offsets[:20] },
		"backwards":           func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{0, 32, 24}) },
		"negative":            func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{0, -8, 24}) },
		"cut block":           func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{0, 4, 24}) },
		"beyond the data":     func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{0, 8, 32}) },
		"bytes left over":     func(b *pb.BatchedTensor) { b.Data = append(b.Data, 0, 0, 0, 0) },
		"zero trailing":       func(b *pb.BatchedTensor) { b.TrailingShape = []int64{0} },
		"huge trailing":       func(b *pb.BatchedTensor) { b.TrailingShape = []int64{math.MaxInt64, math.MaxInt64} },
		"negative trailing":   func(b *pb.BatchedTensor) { b.TrailingShape = []int64{-2} },
		"does not start at 0": func(b *pb.BatchedTensor) { b.Offsets = Int64Bytes([]int64{8, 16, 24}) },
	}
	for name, spoil := range tests {
		b := ok()
		spoil(b)
		if got, err := Unbatch(b, 2); err == nil {
			t.Errorf("%s: accepted as %v", name, got)
		}
	}
	if _, err := Unbatch(nil, 0); err == nil {
		t.Error("a missing field was accepted")
	}
}

func TestTensorRefuses(t *testing.T) {
	for name, tensor := range map[string]*pb.Tensor{
		"nil":              nil,
		"wrong dtype":      IntTensor([]int64{1}),
		"shape too large":  FloatTensor([]float32{1}, 2),
		"negative shape":   FloatTensor([]float32{1}, -1, -1),
		"sparse":           {Encoding: &pb.Tensor_SparseCsr{SparseCsr: &pb.SparseCsr{}}, Dtype: pb.DType_DTYPE_FLOAT32},
		"odd bytes":        {Encoding: &pb.Tensor_Dense{Dense: []byte{1, 2, 3}}, Dtype: pb.DType_DTYPE_FLOAT32, Shape: []int64{1}},
		"empty, one value": {Dtype: pb.DType_DTYPE_FLOAT32, Shape: []int64{1}},
	} {
		if v, _, err := TensorFloats(tensor); err == nil {
			t.Errorf("%s: accepted as %v", name, v)
		}
	}
	if v, _, err := TensorFloats(FloatTensor(nil, 0, 16)); err != nil || len(v) != 0 {
		t.Errorf("an empty [0,16] tensor: %v, %v", v, err)
	}
	if _, err := Tokens([]*pb.Chunk{{Chunk: &pb.Chunk_Dmel{Dmel: &pb.Dmel{}}}}); err == nil {
		t.Error("an audio chunk was accepted as tokens")
	}
}

func TestPaths(t *testing.T) {
	for in, want := range map[string]Path{
		"tinker://S:train:0/weights/a-1":         {"S:train:0", KindWeights, "a-1"},
		"tinker://S:train:0/sampler_weights/a_1": {"S:train:0", KindSampler, "a_1"},
		"tinker://model_1f/a":                    {"model_1f", "", "a"},
	} {
		p, err := ParsePath(in)
		if err != nil || p != want || p.String() != in {
			t.Errorf("%s: %+v, %v", in, p, err)
		}
	}
	for _, bad := range []string{"", "tinker://", "m/weights/a", "tinker://m", "tinker://../weights/a", "tinker://m/weights/..", "tinker://m/weights/a/b",
		"tinker://m/other/a", "tinker://m/weights/", "tinker:///weights/a", "tinker://m/weights/a b", "tinker://m/weights/" + strings.Repeat("a", 256)} {
		if p, err := ParsePath(bad); err == nil {
			t.Errorf("%q accepted as %+v", bad, p)
		}
	}
}

// FuzzOutput feeds a server's bytes to everything a client reads from them.
func FuzzOutput(f *testing.F) {
	for _, h := range []string{requestHex, outputHex, sampleHex} {
		b := make([]byte, len(h)/2)
		for i := range b {
			b[i] = hexByte(h[2*i:])
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var out pb.ForwardBackwardOutput
		if proto.Unmarshal(data, &out) == nil {
			for _, r := range out.LossFnOutputs {
				for _, field := range r.Fields {
					_, _ = Unbatch(field, int(min(r.NumDatums, 100)))
				}
			}
		}
		var req pb.ForwardBackwardRequest
		if proto.Unmarshal(data, &req) == nil {
			_, _ = LossConfig(&req)
			for _, d := range req.Data {
				_, _ = Tokens(d.ModelInput)
				for _, in := range d.LossFnInputs {
					_, _, _ = TensorFloats(in)
					_, _, _ = TensorInts(in)
				}
			}
		}
	})
}

func hexByte(s string) byte {
	digit := func(c byte) byte {
		if c >= 'a' {
			return c - 'a' + 10
		}
		return c - '0'
	}
	return digit(s[0])<<4 | digit(s[1])
}
