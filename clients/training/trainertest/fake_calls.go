package trainertest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"recpie/internal/safetensors"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

type samplerRequest struct {
	ModelPath string `json:"model_path"`
}

type sampleRequest struct {
	SamplerID  string `json:"sampling_session_id"`
	NumSamples int    `json:"num_samples"`
	Prompt     struct {
		Chunks []struct {
			Tokens []int32 `json:"tokens"`
		} `json:"chunks"`
	} `json:"prompt"`
	Params struct {
		MaxTokens int    `json:"max_tokens"`
		Seed      uint64 `json:"seed"`
	} `json:"sampling_params"`
	PromptLogprobs bool `json:"prompt_logprobs"`
}

func (f *Fake) create(w http.ResponseWriter, session string, seq int, t *table) {
	id := fmt.Sprintf("%s:train:%d", session, seq)
	if f.how.OpaqueIDs {
		id = fmt.Sprintf("model_%d", len(f.models)+1)
	}
	if f.models[id] == nil { // else the request is sent again
		f.models[id] = &trained{table: t, requests: map[int32]string{}, first: true}
	}
	f.accept(w, &outcome{result: tinker.CreateModelResult{ModelID: id, Type: "create_model"}})
}

func (f *Fake) load(w http.ResponseWriter, req tinker.LoadWeightsRequest) {
	if f.how.NoViaLoad && req.ModelID == "" {
		refuse(w, http.StatusUnprocessableEntity, "model_id: Field required")
		return
	}
	from := f.saved[req.Path]
	if from == nil {
		refuse(w, http.StatusNotFound, "no such checkpoint")
		return
	}
	from = from.clone()
	if !req.Optimizer {
		from = &table{from.adapter, from.grad, make([]float64, tableSize), make([]float64, tableSize), 0}
	}
	if req.ModelID == "" {
		f.create(w, req.SessionID, *req.ModelSeq, from)
		return
	}
	m := f.models[req.ModelID]
	if m == nil || !m.first {
		refuse(w, http.StatusBadRequest, "LoadWeights is not permitted with seq_id %d", req.SeqID)
		return
	}
	f.request(w, req.ModelID, req.SeqID, func(m *trained) *outcome {
		m.table = from
		return &outcome{result: tinker.LoadWeightsResult{Path: req.Path, ModelID: req.ModelID}}
	})
}

func (f *Fake) save(w http.ResponseWriter, req tinker.SaveWeightsRequest, sampler bool) {
	path := tinker.Path{Model: req.ModelID, Kind: tinker.KindWeights, Name: req.Path}
	if sampler {
		path.Kind = tinker.KindSampler
		if f.how.PlainSamplerPaths {
			path.Kind = ""
		}
	}
	seq := req.SeqID
	if f.how.SavesByName {
		seq = 0
		if f.saved[path.String()] != nil {
			refuse(w, http.StatusConflict, "Checkpoint '%s' already exists for model '%s'", req.Path, req.ModelID)
			return
		}
	}
	f.request(w, req.ModelID, seq, func(m *trained) *outcome {
		f.saved[path.String()] = m.clone()
		return &outcome{result: tinker.SaveWeightsResult{Path: path.String()}}
	})
}

func (f *Fake) forwardBackward(w http.ResponseWriter, body []byte) {
	var req pb.ForwardBackwardRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		refuse(w, http.StatusUnprocessableEntity, "%v", err)
		return
	}
	known := req.LossFn == tinker.LossCrossEntropy || req.LossFn == tinker.LossPPO && !f.how.NoPPO || req.LossFn == tinker.LossImportanceSampling && !f.how.NoImportance
	if !known && f.how.RefusesAtOnce {
		refuse(w, http.StatusUnprocessableEntity, "loss_fn: Input should be 'cross_entropy' and so on")
		return
	}
	f.request(w, req.ModelId, req.SeqId, func(m *trained) *outcome {
		if !known {
			return &outcome{failure: fmt.Sprintf("loss_fn %q is not supported", req.LossFn)}
		}
		return f.pass(m, &req)
	})
}

func (f *Fake) pass(m *trained, req *pb.ForwardBackwardRequest) *outcome {
	low, high := .8, 1.2
	if cfg, err := tinker.LossConfig(req); err == nil && cfg[tinker.ConfigClipLow] > 0 {
		low, high = cfg[tinker.ConfigClipLow], cfg[tinker.ConfigClipHigh]
	}
	var lps, losses [][]float32
	var sum float64
	for _, d := range req.Data {
		var e example
		e.tokens, _ = tinker.Tokens(d.ModelInput)
		e.targets, _, _ = tinker.TensorInts(d.LossFnInputs[tinker.InputTargets])
		e.weights, _, _ = tinker.TensorFloats(d.LossFnInputs[tinker.InputWeights])
		e.logprobs, _, _ = tinker.TensorFloats(d.LossFnInputs[tinker.InputLogprobs])
		e.advantages, _, _ = tinker.TensorFloats(d.LossFnInputs[tinker.InputAdvantages])
		if d.LossFnInputs[tinker.InputEmbeds] != nil {
			f.softRows++
		}
		if e.weights == nil {
			e.weights = slices.Repeat([]float32{1}, len(e.tokens))
		}
		lp, loss := m.table.pass(e, req.LossFn, low, high, !req.ForwardOnly, f.how.MeanGradients)
		lps, losses = append(lps, lp), append(losses, loss)
		for _, l := range loss {
			sum += float64(l)
		}
	}
	rec := &pb.ArrayRecord{NumDatums: int64(len(lps)), Fields: map[string]*pb.BatchedTensor{tinker.OutputLogprobs: tinker.Batch(lps)}}
	out := &pb.ForwardBackwardOutput{LossFnOutputType: tinker.OutputArrayRecord, LossFnOutputs: []*pb.ArrayRecord{rec}}
	if f.how.NoLossSum {
		out.LossFnOutputType = "scalar"
		rec.Fields["elementwise_loss"] = tinker.Batch(losses)
	} else {
		out.Metrics = map[string]float64{tinker.MetricLossSum: sum}
	}
	return &outcome{result: out}
}

func (f *Fake) sample(w http.ResponseWriter, req sampleRequest) {
	path, weights := f.samplers[req.SamplerID], newTable()
	if path != "" {
		at, _ := tinker.ParsePath(path)
		weights = f.saved[path]
		if m := f.models[at.Model]; f.how.SharedSlot {
			if m.loaded != path {
				m.adapter, m.loaded = slices.Clone(weights.adapter), path
			}
			weights = m.table
		}
	}
	tokens := req.Prompt.Chunks[0].Tokens
	rng := rand.New(rand.NewPCG(req.Params.Seed, 1))
	out := &pb.SampleResponse{}
	var ids []string
	for i := range req.NumSamples {
		t, lp := weights.sample(tokens[len(tokens)-1], req.Params.MaxTokens, rng)
		out.Sequences = append(out.Sequences, &pb.SampledSequence{StopReason: pb.SampledSequence_LENGTH, Tokens: tinker.Int32Bytes(t), Logprobs: tinker.Float32Bytes(lp)})
		if !f.how.NoSequenceIDs {
			ids = append(ids, fmt.Sprintf("%s:0:%d", req.SamplerID, i))
		}
	}
	if req.PromptLogprobs {
		lp := []float32{float32(math.NaN())}
		for i, t := range tokens[1:] {
			lp = append(lp, float32(weights.logprobs(tokens[i])[t]))
		}
		if f.how.ShortPrompts {
			lp = lp[1:]
		}
		out.PromptLogprobs = tinker.Float32Bytes(lp)
	}
	f.accept(w, &outcome{result: out}, ids...)
}

// archive sends a snapshot as PEFT files would be sent.
func (f *Fake) archive(w http.ResponseWriter, route string) {
	run, _ := strings.CutPrefix(route, tinker.PathTrainingRuns+"/")
	model, rest, _ := strings.Cut(run, "/checkpoints/")
	t := f.saved["tinker://"+model+"/"+strings.TrimSuffix(rest, "/archive")]
	if t == nil {
		refuse(w, http.StatusNotFound, "Not Found")
		return
	}
	numbers := make([]float32, tableSize)
	for i, a := range t.adapter {
		numbers[i] = float32(a)
	}
	dir, err := os.MkdirTemp("", "fake")
	if err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "adapter_model.safetensors")
	if err := safetensors.WriteFile(file, nil, []safetensors.Tensor{safetensors.F32("adapter", []int64{vocabulary, vocabulary}, numbers)}); err != nil {
		refuse(w, http.StatusInternalServerError, "%v", err)
		return
	}
	data, _ := os.ReadFile(file)
	var b bytes.Buffer
	pack := tar.NewWriter(&b)
	if f.how.RootFolder {
		_ = pack.WriteHeader(&tar.Header{Name: "/", Typeflag: tar.TypeDir, Mode: 0o755})
	}
	_ = pack.WriteHeader(&tar.Header{Name: "adapter_model.safetensors", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))})
	_, _ = pack.Write(data)
	_ = pack.Close()
	_, _ = w.Write(b.Bytes())
}
