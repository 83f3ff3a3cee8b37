package lmserver

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

func durableServer(t testing.TB, dir string) (*Server, func()) {
	return start(t, Options{Model: bundle(t, "m", 32), StateDir: dir, DurableSteps: true, LongPoll: 200 * time.Millisecond, GapTimeout: 200 * time.Millisecond})
}

// on talks to another server for the same session and model.
func (c *client) on(s *Server) *client {
	next := *c
	next.s = s
	return &next
}

func (c *client) logprobs(seq int32) []float32 {
	req := pass(c.model, seq, nil)
	req.ForwardOnly = true
	var out pb.ForwardBackwardOutput
	c.result(c.submitPass(req), &out)
	return logprobs(c.t, &out)
}

// A server that starts over the folder of another goes on with its sessions and models: weights, moments, numbers. What the first one
// acknowledged is not done twice, and a later step moves the weights as it would have without the restart.
func TestRestartGoesOn(t *testing.T) {
	train := func(restart bool) []float32 {
		dir := filepath.Join(t.TempDir(), "state")
		s, stop := durableServer(t, dir)
		c := newTrained(t, s)
		for seq := int32(1); seq < 7; seq += 2 {
			c.result(c.submitPass(pass(c.model, seq, nil)), &pb.ForwardBackwardOutput{})
			c.result(c.submit(tinker.PathOptimStep, step(c.model, seq+1, 0.01)), &tinker.OptimStepResult{})
		}
		before := c.logprobs(7)
		if restart {
			stop()
			s, stop = durableServer(t, dir)
			c = c.on(s)
			post(t, s, tinker.PathHeartbeat, object{"session_id": c.session}).into(t, &struct{}{})
			var again tinker.OptimStepResult
			c.result(c.submit(tinker.PathOptimStep, step(c.model, 6, 0.01)), &again) // its answer was lost
			if again.Metrics["grad_norm"] <= 0 {
				t.Errorf("the step sent again answers %v", again.Metrics)
			}
			if text, _ := c.failure(c.submitPass(pass(c.model, 5, nil))); !strings.Contains(text, "is over") {
				t.Errorf("an old pass: %q", text)
			}
		}
		if after := c.logprobs(8); !slices.Equal(before, after) {
			t.Errorf("restart %t: the weights changed: %v, %v", restart, before, after)
		}
		c.result(c.submitPass(pass(c.model, 9, nil)), &pb.ForwardBackwardOutput{})
		c.result(c.submit(tinker.PathOptimStep, step(c.model, 10, 0.01)), &tinker.OptimStepResult{})
		out := c.logprobs(11)
		stop()
		return out
	}
	if a, b := train(false), train(true); !slices.Equal(a, b) {
		t.Errorf("after the next step %v with a restart, %v without", b, a)
	}
}

// Gradients live in memory alone. The step that they were for says that they are gone, instead of stepping without them.
func TestLostGradients(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, stop := durableServer(t, dir)
	c := newTrained(t, s)
	c.result(c.submitPass(pass(c.model, 1, nil)), &pb.ForwardBackwardOutput{})
	stop()
	s, stop = durableServer(t, dir)
	c = c.on(s)
	if text, category := c.failure(c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01))); category != tinker.CategoryUser || !strings.Contains(text, "lost") {
		t.Errorf("the step of lost gradients: %s, %q", category, text)
	}
	c.result(c.submitPass(pass(c.model, 3, nil)), &pb.ForwardBackwardOutput{})
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 4, 0.01)), &tinker.OptimStepResult{})
	stop()

	// Requests that had only been accepted are named, too.
	s, stop = durableServer(t, dir)
	defer stop()
	c = c.on(s)
	c.result(c.submitPass(pass(c.model, 7, nil)), &pb.ForwardBackwardOutput{}) // 5 and 6 never come: the client has gone on
	if text, _ := c.failure(c.submit(tinker.PathOptimStep, step(c.model, 8, 0.01))); !strings.Contains(text, "lost") {
		t.Errorf("the step behind lost requests: %q", text)
	}
	c.result(c.submitPass(pass(c.model, 9, nil)), &pb.ForwardBackwardOutput{})
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 10, 0.01)), &tinker.OptimStepResult{})
}

// A step that cannot be written is not acknowledged and does not count: the weights are those before it.
func TestStepThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, stop := durableServer(t, dir)
	c := newTrained(t, s)
	c.result(c.submitPass(pass(c.model, 1, nil)), &pb.ForwardBackwardOutput{})
	c.result(c.submit(tinker.PathOptimStep, step(c.model, 2, 0.01)), &tinker.OptimStepResult{})
	before := c.logprobs(3)
	c.result(c.submitPass(pass(c.model, 4, nil)), &pb.ForwardBackwardOutput{})
	data := filepath.Join(dir, "runs", strings.ReplaceAll(c.model, ":", "."), "data")
	if err := os.Rename(data, data+"-away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(data, nil, 0o600); err != nil { // no folder can be made there
		t.Fatal(err)
	}
	id := c.submit(tinker.PathOptimStep, step(c.model, 5, 0.01))
	if reply := c.wait(id); !strings.Contains(string(reply.body), "cannot be kept") {
		t.Errorf("a step without a disk: %s", reply.body)
	}
	_ = os.Remove(data)
	if err := os.Rename(data+"-away", data); err != nil {
		t.Fatal(err)
	}
	// The reload failed too, as the weights were away: the model says so until the server is started again.
	stop()
	s, stop = durableServer(t, dir)
	defer stop()
	if after := c.on(s).logprobs(6); !slices.Equal(before, after) {
		t.Errorf("log probabilities %v, want those before the step that was refused, %v", after, before)
	}
}

// One damaged file does not keep the server from starting, and takes nothing else with it.
func TestDamagedFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, stop := durableServer(t, dir)
	a, b := newTrained(t, s), newTrained(t, s)
	for _, c := range []*client{a, b} {
		c.result(c.submit(tinker.PathSaveWeights, object{"model_id": c.model, "seq_id": 1, "path": "kept"}), &tinker.SaveWeightsResult{})
	}
	stop()
	run := filepath.Join(dir, "runs", strings.ReplaceAll(a.model, ":", "."))
	for _, name := range []string{"state.json", "weights/kept.json"} {
		if err := os.WriteFile(filepath.Join(run, name), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, stop = durableServer(t, dir)
	defer stop()
	b.on(s).logprobs(2)
	if r := post(t, s, tinker.PathWeightsInfo, object{"tinker_path": "tinker://" + a.model + "/weights/kept"}); r.status != http.StatusInternalServerError {
		t.Errorf("a damaged manifest: %d %s", r.status, r.body)
	}
	if r := post(t, s, tinker.PathOptimStep, step(a.model, 2, 0.1)); r.status != http.StatusNotFound {
		t.Errorf("a model whose state is damaged: %d", r.status)
	}
	if entries, err := os.ReadDir(filepath.Join(run, "data")); err != nil || len(entries) == 0 {
		t.Errorf("what the damaged manifest named was deleted: %v, %v", entries, err)
	}
}

// What ended before the restart stays ended, and whoever asks for it is told what to do.
func TestEndedStaysEnded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s, stop := durableServer(t, dir)
	a, b := newTrained(t, s), newTrained(t, s)
	a.result(a.submit(tinker.PathSaveWeights, object{"model_id": a.model, "seq_id": 1, "path": "kept"}), &tinker.SaveWeightsResult{})
	a.result(a.submit(tinker.PathUnloadModel, object{"model_id": a.model}), &struct{}{})
	post(t, s, tinker.PathSessions+"/"+b.session+"/finish", object{}).into(t, &struct{}{})
	stop()
	s, stop = durableServer(t, dir)
	defer stop()
	r := post(t, s, tinker.PathOptimStep, step(a.model, 2, 0.1))
	if r.status != http.StatusNotFound || !strings.Contains(string(r.body), "tinker://"+a.model+"/weights/kept") {
		t.Errorf("an unloaded model: %d %s", r.status, r.body)
	}
	if r := post(t, s, tinker.PathHeartbeat, object{"session_id": b.session}); r.status != http.StatusNotFound {
		t.Errorf("a finished session: %d", r.status)
	}
	if r := post(t, s, tinker.PathOptimStep, step(b.model, 1, 0.1)); r.status != http.StatusNotFound || !strings.Contains(string(r.body), "no state of it was saved") {
		t.Errorf("its model: %d %s", r.status, r.body)
	}
}

func TestRESTOfSessionsAndCheckpoints(t *testing.T) {
	s, stop := durableServer(t, filepath.Join(t.TempDir(), "state"))
	defer stop()
	c := newTrained(t, s)
	c.result(c.submit(tinker.PathSaveWeights, object{"model_id": c.model, "seq_id": 1, "path": "one", "user_metadata": object{"k": "v"}}), &tinker.SaveWeightsResult{})
	c.result(c.submit(tinker.PathSaveForSampler, object{"model_id": c.model, "seq_id": 2, "path": "two"}), &tinker.SaveWeightsResult{})
	var sessions struct{ Sessions []string }
	get(t, s, tinker.PathSessions).into(t, &sessions)
	if !slices.Equal(sessions.Sessions, []string{c.session}) {
		t.Errorf("sessions %v", sessions)
	}
	var one tinker.SessionView
	get(t, s, tinker.PathSessions+"/"+c.session).into(t, &one)
	if !slices.Equal(one.TrainingRunIDs, []string{c.model}) || one.SamplerIDs == nil {
		t.Errorf("session %+v", one)
	}
	if r := get(t, s, tinker.PathSessions+"/nobody"); r.status != http.StatusNotFound {
		t.Errorf("an unknown session: %d", r.status)
	}
	var run tinker.TrainingRun
	get(t, s, tinker.PathTrainingRuns+"/"+c.model).into(t, &run)
	if run.LastCheckpoint == nil || run.LastCheckpoint.CheckpointID != "weights/one" || run.LastSamplerCheckpoint == nil || run.LastCheckpoint.UserMetadata["k"] != "v" || run.LastCheckpoint.SizeBytes < 1000 {
		t.Errorf("training run %+v, %+v", run, run.LastCheckpoint)
	}
	path := tinker.PathTrainingRuns + "/" + c.model + "/checkpoints/weights/one"
	all := func() tinker.Checkpoints {
		var out tinker.Checkpoints
		get(t, s, tinker.PathCheckpoints+"?limit=1").into(t, &out)
		if out.Cursor == nil || len(out.Checkpoints) > 1 {
			t.Fatalf("%+v", out)
		}
		get(t, s, tinker.PathCheckpoints).into(t, &out)
		return out
	}
	if l := all(); l.Cursor.TotalCount != 2 || l.Checkpoints[0].CheckpointID != "sampler_weights/two" { // newest first
		t.Errorf("%+v", l)
	}
	change := func(method, end, body string, want int) {
		t.Helper()
		r := send(t, method, s.URL()+path+end, map[string]string{"Content-Type": "application/json"}, []byte(body))
		if r.status != want {
			t.Errorf("%s %s %s: %d %s", method, end, body, r.status, r.body)
		}
	}
	change("POST", "/publish", "", http.StatusNoContent)
	change("PUT", "/ttl", `{"ttl_seconds":3600}`, http.StatusNoContent)
	if ck := all().Checkpoints[1]; !ck.Public || ck.ExpiresAt == "" {
		t.Errorf("%+v", ck)
	}
	change("DELETE", "/publish", "", http.StatusNoContent)
	change("PUT", "/ttl", `{"ttl_seconds":null}`, http.StatusNoContent)
	if ck := all().Checkpoints[1]; ck.Public || ck.ExpiresAt != "" {
		t.Errorf("%+v", ck)
	}
	change("PUT", "/ttl", `{"ttl_seconds":0}`, http.StatusBadRequest)
	change("DELETE", "", "", http.StatusNoContent)
	change("PUT", "/ttl", `{"ttl_seconds":5}`, http.StatusNotFound)
}

// Samples can be waited for together and called off, and take soft prompts.
func TestSamplesTogether(t *testing.T) {
	s, stop := start(t, Options{Model: bundle(t, "m", 32), StateDir: t.TempDir(), LongPoll: 200 * time.Millisecond, MaxSamplers: 1})
	defer stop()
	c := newClient(t, s)
	var sampler struct {
		ID string `json:"sampling_session_id"`
	}
	post(t, s, tinker.PathSamplingSession, object{"session_id": c.session, "base_model": "m"}).into(t, &sampler)
	if r := post(t, s, tinker.PathSamplingSession, object{"session_id": c.session, "base_model": "m"}); r.status != http.StatusTooManyRequests {
		t.Errorf("a second sampler: %d %s", r.status, r.body)
	}
	sample := func(seq, tokens int, more object) string {
		req := object{"sampling_session_id": sampler.ID, "seq_id": seq, "prompt": object{"chunks": []object{{"type": "encoded_text", "tokens": []int{10, 11, 12}}}},
			"sampling_params": object{"max_tokens": tokens, "temperature": 0, "stop": []int{}}}
		for k, v := range more {
			req[k] = v
		}
		return c.submit(tinker.PathSample, req)
	}
	rows := randomRows(1, 2, 32)
	plain := sample(0, 8, nil)
	soft := sample(1, 8, object{"prompt_embeds": object{"data": rows, "dtype": "float32", "shape": []int{2, 32}}})
	wrong := sample(2, 8, object{"prompt_embeds": object{"data": rows, "dtype": "float32", "shape": []int{2, 31}}})
	ended, cursor := map[string]string{}, 0
	for len(ended) < 3 {
		var got tinker.RetrieveFuturesResponse
		post(t, s, tinker.PathRetrieveFutures, object{"target": object{"type": "sampling_session", "sampling_session_id": sampler.ID}, "prev_cursor": cursor}).into(t, &got)
		for _, one := range got.Completions {
			ended[one.RequestID] = one.State
		}
		cursor = got.Cursor
	}
	if ended[plain] != "finished" || ended[soft] != "finished" || ended[wrong] != "failed" || cursor != 3 {
		t.Errorf("%v, cursor %d", ended, cursor)
	}
	var a, b pb.SampleResponse
	c.result(plain, &a)
	c.result(soft, &b)
	if len(b.Sequences[0].Tokens) != len(a.Sequences[0].Tokens) || slices.Equal(a.Sequences[0].Logprobs, b.Sequences[0].Logprobs) {
		t.Error("the soft prompt changed nothing")
	}
	if text, _ := c.failure(wrong); !strings.Contains(text, "prompt_embeds must be") {
		t.Errorf("a wrong shape: %q", text)
	}
	long := sample(3, 400, nil)
	post(t, s, tinker.PathCancelFuture, object{"request_id": long}).into(t, &struct{}{})
	if c.wait(long).status != http.StatusOK { // called off, or finished before
		t.Error("a sample that was called off has no answer")
	}
	if r := post(t, s, tinker.PathCancelFuture, object{"request_id": "nothing"}); r.status != http.StatusNotFound {
		t.Errorf("calling off nothing: %d", r.status)
	}
}

// The official client asks for an adapter on the unembedding unless told otherwise; a server may be told to make it without.
func TestDropUnembed(t *testing.T) {
	for _, drop := range []bool{false, true} {
		s, stop := start(t, Options{Model: bundle(t, "m", 32), StateDir: t.TempDir(), LongPoll: 200 * time.Millisecond, DropUnembed: drop})
		c := newClient(t, s)
		id := c.submit(tinker.PathCreateModel, object{"session_id": c.session, "model_seq_id": 0, "base_model": "m", "lora_config": object{"rank": 4, "train_unembed": true, "train_mlp": true, "train_attn": true}})
		if drop {
			c.result(id, &tinker.CreateModelResult{})
		} else if text, _ := c.failure(id); !strings.Contains(text, "unembedding") {
			t.Errorf("%q", text)
		}
		stop()
	}
}
