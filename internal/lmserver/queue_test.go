package lmserver

import (
	"net/http"
	"strings"
	"testing"

	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

// Requests run in the order of their numbers, not of their arrival.
func TestOutOfOrderArrival(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c, ref := newTrained(t, s), newTrained(t, s)
	var want, got pb.ForwardBackwardOutput
	ref.submitPass(pass(ref.model, 1, nil))
	ref.submit(tinker.PathOptimStep, step(ref.model, 2, 0.01))
	ref.result(ref.submitPass(pass(ref.model, 3, nil)), &want)

	id := c.submitPass(pass(c.model, 3, nil))
	c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))
	c.submitPass(pass(c.model, 1, nil))
	c.result(id, &got)
	if got.Metrics[tinker.MetricLossSum] != want.Metrics[tinker.MetricLossSum] {
		t.Errorf("loss %v, in order %v", got.Metrics, want.Metrics)
	}
}

// The same number with the same content is one request; with other content, or below what has run, it fails alone.
func TestIdempotency(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	a, b := c.submitPass(pass(c.model, 1, nil)), c.submitPass(pass(c.model, 1, nil))
	if a != b {
		t.Errorf("requests %s and %s", a, b)
	}
	var optim tinker.OptimStepResult
	first := c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))
	c.result(first, &optim)
	again := c.submit(tinker.PathOptimStep, object{"seq_id": 2, "adam_params": object{"learning_rate": 0.01}, "model_id": c.model})
	if again != first {
		t.Error("the order of the fields makes another request")
	}
	if msg, who := c.failure(c.submit(tinker.PathOptimStep, step(c.model, 2, 0.02))); who != "user" || !strings.Contains(msg, "another content") {
		t.Errorf("%s (%s)", msg, who)
	}
	if _, who := c.failure(c.submit(tinker.PathOptimStep, step(c.model, 0, 0.02))); who != "user" {
		t.Error("seq_id 0 is accepted")
	}
	create := object{"session_id": c.session, "model_seq_id": 0, "base_model": "m", "lora_config": object{"rank": 8}}
	if _, who := c.failure(c.submit(tinker.PathCreateModel, create)); who != "user" {
		t.Error("model_seq_id 0 is used twice")
	}
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 3, 0.01)), &optim) // the model goes on
}

// A number that never comes is waited for, then left out; when it comes late it fails.
func TestGapIsWaitedForOnlySoLong(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	var optim tinker.OptimStepResult
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 3, 0.01)), &optim)
	if msg, who := c.failure(c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))); who != "user" || !strings.Contains(msg, "is over") {
		t.Errorf("%s (%s)", msg, who)
	}
}

// Faults of the data fail the future, and the number counts as used.
func TestFaultsOfTheData(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	seq := int32(0)
	for name, change := range map[string]func(*pb.ForwardBackwardRequest){
		"unknown loss": func(r *pb.ForwardBackwardRequest) { r.LossFn = "gspo" },
		"no data":      func(r *pb.ForwardBackwardRequest) { r.Data = nil },
		"length of targets": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].LossFnInputs[tinker.InputTargets] = tinker.IntTensor([]int64{1})
		},
		"missing targets": func(r *pb.ForwardBackwardRequest) { delete(r.Data[0].LossFnInputs, tinker.InputTargets) },
		"target range": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].LossFnInputs[tinker.InputTargets] = tinker.IntTensor([]int64{1, 2, 3, 4, 2048})
		},
		"token range": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].ModelInput = []*pb.Chunk{tinker.Chunk([]int32{1, 2, 3, 4, -1})}
		},
		"ppo without advantages": func(r *pb.ForwardBackwardRequest) { r.LossFn = tinker.LossPPO },
		"width of rows": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].LossFnInputs[tinker.InputEmbeds] = tinker.FloatTensor(make([]float32, 32), 2, 16)
		},
		"repeated position": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].LossFnInputs[tinker.InputEmbedsPositions] = tinker.IntTensor([]int64{1, 1})
		},
		"not finite": func(r *pb.ForwardBackwardRequest) {
			r.Data[0].LossFnInputs[tinker.InputEmbeds].Encoding.(*pb.Tensor_Dense).Dense[3] = 0x7f
			r.Data[0].LossFnInputs[tinker.InputEmbeds].Encoding.(*pb.Tensor_Dense).Dense[2] = 0x80
		},
	} {
		seq++
		req := pass(c.model, seq, randomRows(1, 2, 32))
		change(req)
		if msg, who := c.failure(c.submitPass(req)); who != "user" {
			t.Errorf("%s: %s (%s)", name, msg, who)
		}
	}
	var out pb.ForwardBackwardOutput
	c.result(c.submitPass(pass(c.model, seq+1, nil)), &out)
}

func TestSessionsAndUnloading(t *testing.T) {
	s, _ := trainingServer(t, t.TempDir())
	c := newTrained(t, s)
	var sampler struct {
		ID string `json:"sampling_session_id"`
	}
	var saved tinker.SaveWeightsResult
	c.result(c.submit(tinker.PathSaveForSampler, object{"model_id": c.model, "sampling_session_seq_id": 0, "kind": "snapshot", "seq_id": 1}), &saved)
	if saved.SamplingSessionID == "" || saved.Path != "" {
		t.Errorf("unnamed snapshot: %+v", saved)
	}
	post(t, s, tinker.PathSamplingSession, object{"session_id": c.session, "base_model": "m"}).into(t, &sampler)
	waiting := c.submit(tinker.PathOptimStep, step(c.model, 9, 0.01)) // behind a gap
	c.result(c.submit(tinker.PathUnloadModel, object{"model_id": c.model}), &object{})
	if msg, _ := c.failure(waiting); !strings.Contains(msg, "unloaded") {
		t.Errorf("waiting request: %s", msg)
	}
	if r := post(t, s, tinker.PathGetInfo, object{"model_id": c.model}); r.status != http.StatusNotFound {
		t.Errorf("an unloaded model answers %d", r.status)
	}
	post(t, s, tinker.PathHeartbeat, object{"session_id": c.session}).into(t, &object{})
	post(t, s, tinker.PathSessions+"/"+c.session+"/finish", object{"reason": object{"type": "success"}}).into(t, &object{})
	if r := post(t, s, tinker.PathHeartbeat, object{"session_id": c.session}); r.status != http.StatusGone {
		t.Errorf("heartbeat of a finished session: %d", r.status)
	}
	if left := s.engine.Adapters(); len(left) != 0 {
		t.Errorf("samplers left in the engine: %v", left)
	}
	for path, body := range map[string]object{
		tinker.PathCreateModel:    {"session_id": "nope", "base_model": "m"},
		tinker.PathRetrieveFuture: {"request_id": "nope"},
		tinker.PathOptimStep:      {"model_id": "nope", "seq_id": 1},
		tinker.PathWeightsInfo:    {"tinker_path": "tinker://x/../y"},
	} {
		if r := post(t, s, path, body); r.status != http.StatusNotFound || len(r.body) == 0 {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	fresh := newClient(t, s)
	if r := post(t, s, tinker.PathCreateModel, object{"session_id": fresh.session, "base_model": "other"}); r.status != http.StatusBadRequest {
		t.Errorf("unknown base model: %d", r.status)
	}
}
