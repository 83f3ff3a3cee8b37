package lmserver

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/internal/wire/openai"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// pass is a cross-entropy request over one short sequence; with rows, soft rows stand at positions 1 and 2.
func pass(model string, seq int32, rows []float32) *pb.ForwardBackwardRequest {
	in := map[string]*pb.Tensor{tinker.InputTargets: tinker.IntTensor([]int64{11, 12, 13, 14, 15}), tinker.InputWeights: tinker.FloatTensor([]float32{0, 0, 1, 1, 1})}
	if rows != nil {
		in[tinker.InputEmbeds] = tinker.FloatTensor(rows, 2, int64(len(rows)/2))
		in[tinker.InputEmbedsPositions] = tinker.IntTensor([]int64{1, 2})
	}
	return &pb.ForwardBackwardRequest{ModelId: model, SeqId: seq, LossFn: tinker.LossCrossEntropy,
		Data: []*pb.Datum{{ModelInput: []*pb.Chunk{tinker.Chunk([]int32{10, 11, 12, 13, 14})}, LossFnInputs: in}}}
}

func step(model string, seq int32, lr float64) object {
	return object{"model_id": model, "seq_id": seq, "adam_params": object{"learning_rate": lr}}
}

func logprobs(t testing.TB, out *pb.ForwardBackwardOutput) []float32 {
	t.Helper()
	rows, err := tinker.Unbatch(out.LossFnOutputs[0].Fields[tinker.OutputLogprobs], 1)
	if err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

func trainingServer(t testing.TB, dir string) (*Server, func()) {
	return start(t, Options{Model: bundle(t, "m", 32), StateDir: dir, AdapterRoot: mkdir(t, filepath.Join(dir, "..", filepath.Base(dir)+"-adapters")),
		LongPoll: 200 * time.Millisecond, GapTimeout: 300 * time.Millisecond})
}

// The handshake, training until the loss falls, a save, the archive, publication, and a sampler that agrees with the trainer.
func TestTrainSavePublishAndSample(t *testing.T) {
	dir := t.TempDir()
	s, stop := trainingServer(t, dir)
	var caps tinker.Capabilities
	get(t, s, tinker.PathCapabilities).into(t, &caps)
	if !slices.Contains(caps.Extensions, "prompt_embeds.v1") {
		t.Error("prompt_embeds.v1 is not announced")
	}
	c := newTrained(t, s)
	if c.model != c.session+":train:0" {
		t.Errorf("model id %q", c.model)
	}
	var info tinker.Info
	post(t, s, tinker.PathGetInfo, object{"model_id": c.model}).into(t, &info)
	if info.ModelData.HiddenSize != 32 || info.ModelData.VocabSize != 2048 || info.ModelData.TokenEmbeddingNorm <= 0 {
		t.Errorf("info %+v", info)
	}
	var before, after pb.ForwardBackwardOutput
	c.result(c.submitPass(pass(c.model, 1, nil)), &before)
	ids := []string{c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))}
	for seq := int32(3); seq < 9; seq += 2 {
		ids = append(ids, c.submitPass(pass(c.model, seq, nil)), c.submit(tinker.PathOptimStep, step(c.model, seq+1, 0.01)))
	}
	var optim tinker.OptimStepResult
	c.result(ids[0], &optim)
	if optim.Metrics["grad_norm"] <= 0 {
		t.Errorf("metrics %v", optim.Metrics)
	}
	last := pass(c.model, 9, nil)
	last.ForwardOnly = true
	c.result(c.submitPass(last), &after)
	if before.Metrics[tinker.MetricLossSum] <= after.Metrics[tinker.MetricLossSum] {
		t.Errorf("the loss went from %g to %g", before.Metrics[tinker.MetricLossSum], after.Metrics[tinker.MetricLossSum])
	}

	var saved tinker.SaveWeightsResult
	c.result(c.submit(tinker.PathSaveForSampler, object{"model_id": c.model, "path": "v1", "kind": "snapshot", "seq_id": 10}), &saved)
	if saved.Path != "tinker://"+c.model+"/sampler_weights/v1" {
		t.Errorf("path %q", saved.Path)
	}
	// Later training does not reach the snapshot.
	c.result(c.submitPass(pass(c.model, 11, nil)), &pb.ForwardBackwardOutput{})
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 12, 0.1)), &optim)

	r := get(t, s, tinker.PathTrainingRuns+"/"+c.model+"/checkpoints/sampler_weights/v1/archive")
	published := mkdir(t, filepath.Join(s.opt.AdapterRoot, "v1"))
	untar(t, r.body, published)
	if r := post(t, s, "/v1/load_lora_adapter", object{"lora_name": "v1", "lora_path": "v1"}); r.status != http.StatusOK {
		t.Fatalf("load: %d %s", r.status, r.body)
	}
	want := logprobs(t, &after)
	var scored openai.CompletionResponse
	post(t, s, "/v1/completions", object{"model": "v1", "prompt": []int32{10, 11, 12, 13, 14, 15}, "max_tokens": 0, "echo": true, "logprobs": 0}).into(t, &scored)
	for i, lp := range scored.Choices[0].Logprobs.TokenLogprobs[1:] {
		if d := math.Abs(*lp - float64(want[i])); d > 1e-3 {
			t.Errorf("position %d: served %g, trained %g", i, *lp, want[i])
		}
	}

	var sampler struct {
		ID string `json:"sampling_session_id"`
	}
	post(t, s, tinker.PathSamplingSession, object{"session_id": c.session, "sampling_session_seq_id": 0, "model_path": saved.Path}).into(t, &sampler)
	var future tinker.Future
	ask := object{"sampling_session_id": sampler.ID, "seq_id": 0, "num_samples": 1, "prompt_logprobs": true, "sampling_params": object{"max_tokens": 1, "temperature": 0},
		"prompt": object{"chunks": []object{{"type": "encoded_text", "tokens": []int{10, 11, 12, 13, 14, 15}}}}}
	post(t, s, tinker.PathSample, ask).into(t, &future)
	again := future
	post(t, s, tinker.PathSample, ask).into(t, &again)
	if len(future.SampleSequenceIDs) != 1 || again.RequestID != future.RequestID {
		t.Errorf("futures %+v, %+v", future, again)
	}
	var sample pb.SampleResponse
	c.result(future.RequestID, &sample)
	lps, _ := tinker.Float32s(sample.PromptLogprobs)
	if len(lps) != 6 || !math.IsNaN(float64(lps[0])) || math.Abs(float64(lps[3]-want[2])) > 1e-3 {
		t.Errorf("prompt logprobs %v, want NaN and %v", lps, want)
	}

	ask["seq_id"], ask["prompt_logprobs_last_n"] = 1, 2
	var end pb.SampleResponse
	c.result(c.submit(tinker.PathSample, ask), &end)
	if last, _ := tinker.Float32s(end.PromptLogprobs); len(last) != 6 || !math.IsNaN(float64(last[3])) || math.Abs(float64(last[4]-lps[4])) > 1e-4 || math.Abs(float64(last[5]-lps[5])) > 1e-4 {
		t.Errorf("the last two of %v are asked for, got %v", lps, last)
	}
	ask["seq_id"], ask["prompt_logprobs_last_n"] = 2, 6
	if message, category := c.failure(c.submit(tinker.PathSample, ask)); category != tinker.CategoryUser || !strings.Contains(message, "prompt_logprobs_last_n") {
		t.Errorf("the first token has no log-probability: %s (%s)", message, category)
	}
	stop()
}

// An adapter that cannot be made fails its future; the model and the server end without it.
func TestAModelThatCannotBeMade(t *testing.T) {
	s, stop := trainingServer(t, t.TempDir())
	c := newClient(t, s)
	message, category := c.failure(c.submit(tinker.PathCreateModel, object{"session_id": c.session, "model_seq_id": 0, "base_model": s.base,
		"lora_config": object{"rank": 4, "seed": 1, "train_attn": true, "train_unembed": true}}))
	if category != tinker.CategoryUser || !strings.Contains(message, "train_unembed") {
		t.Errorf("%s (%s)", message, category)
	}
	post(t, s, tinker.PathSessions+"/"+c.session+"/finish", object{"reason": object{"type": "success"}}).into(t, &struct{}{})
	stop()
}

func untar(t testing.TB, data []byte, dir string) {
	t.Helper()
	in := tar.NewReader(bytes.NewReader(data))
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || filepath.Base(h.Name) != h.Name {
			t.Fatalf("entry %q of type %c", h.Name, h.Typeflag)
		}
		body, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, h.Name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The returned gradient is the derivative of loss:sum by the soft rows.
func TestPromptEmbedsGradient(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	rows := randomRows(5, 2, 32)
	var out pb.ForwardBackwardOutput
	c.result(c.submitPass(pass(c.model, 1, rows)), &out)
	grads, err := tinker.Unbatch(out.LossFnOutputs[0].Fields[tinker.OutputEmbedsGrad], 1)
	if err != nil || len(grads[0]) != 64 {
		t.Fatalf("gradient %d, %v", len(grads[0]), err)
	}
	seq := int32(2)
	loss := func(at int, by float32) float64 {
		moved := slices.Clone(rows)
		moved[at] += by
		req := pass(c.model, seq, moved)
		req.ForwardOnly = true
		seq++
		var out pb.ForwardBackwardOutput
		c.result(c.submitPass(req), &out)
		if out.LossFnOutputs[0].Fields[tinker.OutputEmbedsGrad] != nil {
			t.Error("a forward-only pass returns gradients")
		}
		return out.Metrics[tinker.MetricLossSum]
	}
	for _, at := range []int{0, 17, 40, 63} {
		const h = 1e-2
		numeric := (loss(at, h) - loss(at, -h)) / (2 * h)
		if d := math.Abs(numeric - float64(grads[0][at])); d > 2e-3*math.Max(1, math.Abs(numeric)) {
			t.Errorf("row element %d: numeric %g, returned %g", at, numeric, grads[0][at])
		}
	}
}

// What was acknowledged survives a restart, moments included: a loaded model goes on exactly as the saved one does.
func TestRestartContinuesFromTheCheckpoint(t *testing.T) {
	dir := t.TempDir()
	s, stop := trainingServer(t, dir)
	c := newTrained(t, s)
	c.submitPass(pass(c.model, 1, nil))
	c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))
	var saved tinker.SaveWeightsResult
	c.result(c.submit(tinker.PathSaveWeights, object{"model_id": c.model, "path": "s1", "seq_id": 3}), &saved)
	goOn := func(c *client, seq int32) []float32 {
		c.submitPass(pass(c.model, seq, nil))
		c.submit(tinker.PathOptimStep, step(c.model, seq+1, 0.01))
		req := pass(c.model, seq+2, nil)
		req.ForwardOnly = true
		var out pb.ForwardBackwardOutput
		c.result(c.submitPass(req), &out)
		return logprobs(t, &out)
	}
	want := goOn(c, 4)
	junk := mkdir(t, filepath.Join(s.training.store.dir(c.model), "data", "torn"))
	stop()

	s, _ = trainingServer(t, dir)
	if _, err := os.Stat(junk); !os.IsNotExist(err) {
		t.Error("what a crash left behind is still there")
	}
	var info tinker.WeightsInfo
	post(t, s, tinker.PathWeightsInfo, object{"tinker_path": saved.Path}).into(t, &info)
	if info.LoRARank != 4 || info.BaseModel != "m" || !*info.TrainAttn || *info.TrainMLP {
		t.Errorf("info %+v", info)
	}
	viaLoad := newClient(t, s)
	var loaded tinker.LoadWeightsResult
	viaLoad.result(viaLoad.submit(tinker.PathLoadWeights, object{"session_id": viaLoad.session, "model_seq_id": 0, "path": saved.Path, "optimizer": true}), &loaded)
	viaLoad.model = loaded.ModelID
	fresh := newTrained(t, s)
	fresh.result(fresh.submit(tinker.PathLoadWeights, object{"model_id": fresh.model, "seq_id": 1, "path": saved.Path, "optimizer": true}), &loaded)
	for name, got := range map[string][]float32{"session": goOn(viaLoad, 1), "model": goOn(fresh, 2)} {
		if !slices.Equal(got, want) {
			t.Errorf("loaded by %s: %v, unbroken %v", name, got, want)
		}
	}
	if msg, who := fresh.failure(fresh.submit(tinker.PathLoadWeights, object{"model_id": fresh.model, "seq_id": 5, "path": saved.Path})); who != "user" {
		t.Errorf("a second load: %s, %s", msg, who)
	}
}

func TestCheckpointNamesAndListing(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	save := func(seq int, name string, overwrite bool) string {
		return c.submit(tinker.PathSaveWeights, object{"model_id": c.model, "path": name, "seq_id": seq, "overwrite": overwrite})
	}
	var res tinker.SaveWeightsResult
	c.result(save(1, "a", false), &res)
	if msg, who := c.failure(save(2, "a", false)); who != "user" || !strings.Contains(msg, "exists") {
		t.Errorf("saved twice: %s (%s)", msg, who)
	}
	c.result(save(3, "a", true), &res)
	for i, name := range []string{"", "../x", "a/b", ".hidden", strings.Repeat("x", 201), "ü"} {
		if _, who := c.failure(save(4+i, name, false)); who != "user" {
			t.Errorf("name %q accepted or blamed on the %s", name, who)
		}
	}
	var list tinker.Checkpoints
	get(t, s, tinker.PathTrainingRuns+"/"+c.model+"/checkpoints").into(t, &list)
	if len(list.Checkpoints) != 1 || list.Checkpoints[0].CheckpointID != "weights/a" || list.Checkpoints[0].CheckpointType != "training" {
		t.Errorf("listing %+v", list)
	}
	data, _ := os.ReadDir(filepath.Join(s.training.store.dir(c.model), "data"))
	if len(data) != 1 {
		t.Errorf("%d data folders, want 1", len(data))
	}
	var runs struct {
		Runs []tinker.TrainingRun `json:"training_runs"`
	}
	get(t, s, tinker.PathTrainingRuns+"?limit=5").into(t, &runs)
	if len(runs.Runs) != 1 || runs.Runs[0].TrainingRunID != c.model || runs.Runs[0].LoRARank != 4 {
		t.Errorf("runs %+v", runs)
	}
	path := tinker.PathTrainingRuns + "/" + c.model + "/checkpoints/weights/a"
	if r := send(t, "DELETE", s.URL()+path, nil, nil); r.status != http.StatusNoContent {
		t.Errorf("delete: %d %s", r.status, r.body)
	}
	for _, path := range []string{path + "/archive", tinker.PathTrainingRuns + "/..%2f..%2fetc", tinker.PathTrainingRuns + "/x:train:0",
		tinker.PathTrainingRuns + "/" + c.model + "/checkpoints/weights/..%2f..%2frun/archive"} {
		if r := get(t, s, path); r.status != http.StatusNotFound {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}
