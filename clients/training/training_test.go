package training

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"recpie/internal/fault"
	"recpie/internal/wire/tinker"
	pb "recpie/internal/wire/tinker/tinkerpb"
)

func softDatum() Datum {
	return Datum{Tokens: []int32{5, 6, 7}, Targets: []int64{6, 7, 8}, Logprobs: []float32{0, -.5, -.25}, Advantages: []float32{0, 1, 1}, Embeds: []float32{.1, .2, .3, .4}, EmbedPositions: []int64{0, 1}}
}

func newModel(t *testing.T, s *Session) *Model {
	t.Helper()
	m, err := s.CreateModel(t.Context(), "base", tinker.LoRAConfig{Rank: 8, TrainAttn: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

var ppo = map[string]float64{tinker.ConfigClipLow: .8, tinker.ConfigClipHigh: 1.2}

func TestTraining(t *testing.T) {
	f := newFake(t)
	f.poll = func(n int, w http.ResponseWriter) bool { // still running, then a lost poll, then the result
		switch n {
		case 1:
			_, _ = io.WriteString(w, `{"type":"try_again","request_id":"x","queue_state":"active"}`)
		case 2:
			w.WriteHeader(408)
		default:
			return false
		}
		return true
	}
	ctx := t.Context()
	s := f.dial(t)
	m := newModel(t, s)
	info, err := m.Info(ctx)
	if err != nil || info.ModelData.HiddenSize != 2 || info.ModelData.TokenEmbeddingNorm != .5 || m.ID() != "S:train:0" {
		t.Fatalf("%s: %+v, %v", m.ID(), info, err)
	}
	plain := Datum{Tokens: []int32{1, 2}, Targets: []int64{2, 3}, Logprobs: []float32{-1, -1}, Advantages: []float32{1, -1}}
	pass, err := m.ForwardBackward(ctx, []Datum{softDatum(), plain}, tinker.LossPPO, ppo)
	if err != nil {
		t.Fatal(err)
	}
	step, err := m.OptimStep(ctx, tinker.AdamParams{LearningRate: 1e-4, Beta1: .9, Beta2: .95, Eps: 1e-12})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.ran, []int32{1, 2}) {
		t.Errorf("both requests must be in flight before a result is awaited: %v", f.ran)
	}
	r, err := step.Wait(ctx)
	if err != nil || r.Metrics["grad_norm"] != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	for range 2 { // results can be asked for again
		p, err := pass.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.Logprobs[0], []float32{-1, -2, -3}) || len(p.Logprobs[1]) != 2 || !slices.Equal(p.EmbedGrads[0], []float32{.1, .2, .3, .4}) || len(p.EmbedGrads[1]) != 0 || p.Metrics[tinker.MetricLossSum] != 1.5 {
			t.Errorf("%+v", p)
		}
	}
	if f.accept["RS:train:0/1"] != tinker.ProtobufType || f.accept["RS:train:0/2"] != "" {
		t.Errorf("Accept headers %v", f.accept)
	}
	req := f.passes[0]
	if req.LossFn != "ppo" || req.LossFnConfig[tinker.ConfigClipLow] != .8 || req.LossFnConfigV2[tinker.ConfigClipLow].GetNumber() != .8 || req.ForwardOnly {
		t.Errorf("request %v", req)
	}
	embeds, shape, err := tinker.TensorFloats(req.Data[0].LossFnInputs[tinker.InputEmbeds])
	if err != nil || !slices.Equal(shape, []int64{2, 2}) || embeds[3] != .4 || req.Data[1].LossFnInputs[tinker.InputEmbeds] != nil {
		t.Errorf("embeds %v %v, %v", embeds, shape, err)
	}
	save, err := m.SaveWeights(ctx, "step-1")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := save.Wait(ctx)
	if err != nil || saved.Path != "tinker://S:train:0/weights/step-1" {
		t.Errorf("%+v, %v", saved, err)
	}
	if _, err := m.SaveWeights(ctx, "../x"); fault.ClassOf(err) != fault.Item || err == nil {
		t.Errorf("a name with a path: %v", err)
	}
	again, err := s.CreateFromCheckpoint(ctx, saved.Path, "", true)
	if err != nil || again.ID() != "S:train:1" {
		t.Fatalf("%v, %v", again, err)
	}
	fw, err := again.Forward(ctx, []Datum{softDatum()}, tinker.LossPPO, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := fw.Wait(ctx); err != nil || p.EmbedGrads != nil || len(p.Logprobs[0]) != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	want := []string{
		`/api/v1/client/config {"sdk_version":"0.38.0"}`,
		`/api/v1/get_server_capabilities `,
		`/api/v1/create_session {"tags":[],"user_metadata":{},"sdk_version":"0.38.0","type":"create_session"}`,
		`/api/v1/create_model {"session_id":"S","model_seq_id":0,"base_model":"base","lora_config":{"rank":8,"train_unembed":false,"train_mlp":false,"train_attn":true},"optimizer_config":{"type":"adamw"},"type":"create_model"}`,
		`/api/v1/get_info {"model_id":"S:train:0","type":"get_info"}`,
		`/api/v1/forward_backward`,
		`/api/v1/optim_step {"model_id":"S:train:0","seq_id":2,"adam_params":{"learning_rate":0.0001,"beta1":0.9,"beta2":0.95,"eps":1e-12,"weight_decay":0,"grad_clip_norm":0},"type":"optim_step"}`,
		`/api/v1/save_weights {"model_id":"S:train:0","path":"step-1","seq_id":3,"type":"save_weights"}`,
		`/api/v1/load_weights {"session_id":"S","model_seq_id":1,"path":"tinker://S:train:0/weights/step-1","optimizer":true,"type":"load_weights"}`,
		`/api/v1/forward_backward`,
	}
	if !slices.Equal(f.log, want) {
		t.Errorf("requests\n%s\nwant\n%s", strings.Join(f.log, "\n"), strings.Join(want, "\n"))
	}
}

// TestLostAnswerIsResent: the server has accepted the request, the answer is lost twice, the same number is sent again and runs once.
func TestLostAnswerIsResent(t *testing.T) {
	f := newFake(t)
	s := f.dial(t)
	m := newModel(t, s)
	f.dropSubmit = 2
	pass, err := m.ForwardBackward(t.Context(), []Datum{softDatum()}, tinker.LossPPO, ppo)
	if err != nil {
		t.Fatal(err)
	}
	// the second pass is a forward one, by which the client finds out that the server recognises numbers
	if _, err := pass.Wait(t.Context()); err != nil || !slices.Equal(f.ran, []int32{1, 2}) || len(f.passes) != 2 || !f.passes[1].ForwardOnly || s.Traits().DeduplicatesSeqID != Yes {
		t.Errorf("ran %v, %v, %+v", f.ran, err, s.Traits())
	}
}

func TestUnknownFateGivesTheModelUp(t *testing.T) {
	f := newFake(t)
	m := newModel(t, f.dial(t))
	f.dropSubmit = 100
	_, err := m.OptimStep(t.Context(), tinker.AdamParams{})
	if !errors.Is(err, ErrAmbiguous) || fault.ClassOf(err) != fault.Endpoint || fault.HintOf(err) == "" {
		t.Errorf("%v (%v)", err, fault.ClassOf(err))
	}
	f.mu.Lock()
	f.dropSubmit = 0
	f.mu.Unlock()
	if _, again := m.OptimStep(t.Context(), tinker.AdamParams{}); again == nil {
		t.Error("a request was sent behind one whose fate is unknown")
	}
}

func TestRefusedSubmitUsesItsNumberUp(t *testing.T) {
	f := newFake(t)
	m := newModel(t, f.dial(t))
	f.submit = 422
	if _, err := m.OptimStep(t.Context(), tinker.AdamParams{}); err == nil || fault.ClassOf(err) != fault.Item || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v", err)
	}
	f.mu.Lock()
	f.submit = 0
	f.mu.Unlock()
	if _, err := m.OptimStep(t.Context(), tinker.AdamParams{}); err != nil || !slices.Equal(f.ran, []int32{2}) {
		t.Errorf("ran %v, %v", f.ran, err)
	}
}

func TestFailuresOfFutures(t *testing.T) {
	body := func(code int, text string) func(int, http.ResponseWriter) bool {
		return func(_ int, w http.ResponseWriter) bool {
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
			return true
		}
	}
	for name, tc := range map[string]struct {
		poll  func(int, http.ResponseWriter) bool
		class fault.Class
		says  string
	}{
		"user":    {body(200, `{"error":"lengths differ","category":"user"}`), fault.Item, "lengths differ"},
		"server":  {body(200, `{"error":"boom","category":"server"}`), fault.Endpoint, "boom"},
		"empty":   {body(200, `{"error":"","category":"unknown"}`), fault.Endpoint, "unknown"},
		"400":     {body(400, `{"detail":"no such thing"}`), fault.Item, "no such thing"},
		"404":     {body(404, `{"detail":"gone"}`), fault.Endpoint, "gone"},
		"410":     {body(410, ``), fault.Endpoint, "Gone"},
		"401":     {body(401, ``), fault.Fatal, "401"},
		"402":     {body(402, ``), fault.Fatal, "402"},
		"503":     {body(503, ``), fault.Transient, "503"},
		"500":     {body(500, ``), fault.Endpoint, "500"},
		"garbage": {body(200, `<html>`), fault.Endpoint, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			m := newModel(t, f.dial(t))
			p, err := m.OptimStep(t.Context(), tinker.AdamParams{})
			if err != nil {
				t.Fatal(err)
			}
			f.mu.Lock()
			f.poll = tc.poll
			f.mu.Unlock()
			if _, err := p.Wait(t.Context()); err == nil || fault.ClassOf(err) != tc.class || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%v (%v), want %v with %q", err, fault.ClassOf(err), tc.class, tc.says)
			}
		})
	}
}

// TestHungPollIsRepeated: a server that holds a poll longer than the client waits is asked again.
func TestHungPollIsRepeated(t *testing.T) {
	f := newFake(t)
	s := f.dial(t, func(c *Config) { c.Poll = 50 * time.Millisecond })
	m := newModel(t, s)
	p, err := m.OptimStep(t.Context(), tinker.AdamParams{})
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.poll = func(n int, _ http.ResponseWriter) bool {
		if n > 2 {
			return false
		}
		time.Sleep(120 * time.Millisecond)
		return true
	}
	f.mu.Unlock()
	if r, err := p.Wait(t.Context()); err != nil || r.Metrics["grad_norm"] != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	f.mu.Lock()
	f.poll = func(_ int, w http.ResponseWriter) bool {
		_, _ = io.WriteString(w, `{"type":"try_again"}`)
		return true
	}
	f.mu.Unlock()
	if _, err := p.Wait(ctx); fault.ClassOf(err) != fault.Transient || err == nil {
		t.Errorf("a cancelled wait: %v", err)
	}
}

func TestHeartbeats(t *testing.T) {
	f := newFake(t)
	s := f.dial(t, func(c *Config) { c.Heartbeat = 5 * time.Millisecond })
	m := newModel(t, s)
	eventually(t, func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.beats >= 3 })
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	f.mu.Lock()
	f.beatStatus = 410
	f.mu.Unlock()
	eventually(t, func() bool { return s.Err() != nil })
	if _, err := m.OptimStep(t.Context(), tinker.AdamParams{}); fault.ClassOf(err) != fault.Endpoint || err == nil || fault.HintOf(err) == "" {
		t.Errorf("a request after the end of the session: %v", err)
	}
	if err := s.Close(t.Context()); err != nil || !f.finished {
		t.Errorf("finished %v, %v", f.finished, err)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for range 2000 {
		if ok() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it did not happen in 2 s")
}

func TestSoftPromptsNeedTheExtension(t *testing.T) {
	f := newFake(t)
	f.extensions = nil
	m := newModel(t, f.dial(t))
	if _, err := m.ForwardBackward(t.Context(), []Datum{softDatum()}, tinker.LossPPO, ppo); fault.ClassOf(err) != fault.Fatal || err == nil || len(f.passes) != 0 {
		t.Errorf("%v", err)
	}
}

func TestBadDataIsNotSent(t *testing.T) {
	f := newFake(t)
	m := newModel(t, f.dial(t))
	nan := float32(math.NaN())
	for name, spoil := range map[string]func(*Datum){
		"no tokens":         func(d *Datum) { d.Tokens, d.Targets = nil, nil },
		"targets":           func(d *Datum) { d.Targets = d.Targets[:2] },
		"advantages":        func(d *Datum) { d.Advantages = d.Advantages[:2] },
		"nan advantage":     func(d *Datum) { d.Advantages = []float32{0, nan, 0} },
		"nan embeds":        func(d *Datum) { d.Embeds = []float32{0, nan, 0, 0} },
		"ragged embeds":     func(d *Datum) { d.Embeds = d.Embeds[:3] },
		"no positions":      func(d *Datum) { d.EmbedPositions = nil },
		"position outside":  func(d *Datum) { d.EmbedPositions = []int64{0, 3} },
		"position negative": func(d *Datum) { d.EmbedPositions = []int64{-1, 0} },
		"positions repeat":  func(d *Datum) { d.EmbedPositions = []int64{1, 1} },
	} {
		d := softDatum()
		spoil(&d)
		if _, err := m.ForwardBackward(t.Context(), []Datum{d}, tinker.LossPPO, ppo); fault.ClassOf(err) != fault.Item || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := m.ForwardBackward(t.Context(), nil, tinker.LossPPO, ppo); err == nil {
		t.Error("an empty batch was sent")
	}
	if len(f.passes) != 0 || m.seq != 0 {
		t.Errorf("%d passes, seq %d", len(f.passes), m.seq)
	}
}

func TestBadResultsAreRefused(t *testing.T) {
	nan := float32(math.NaN())
	record := func(n int64, fields map[string]*pb.BatchedTensor) *pb.ForwardBackwardOutput {
		return &pb.ForwardBackwardOutput{LossFnOutputs: []*pb.ArrayRecord{{NumDatums: n, Fields: fields}}}
	}
	lp := func(v ...float32) *pb.BatchedTensor { return tinker.Batch([][]float32{v}) }
	grad := func(v ...float32) *pb.BatchedTensor { return tinker.Batch([][]float32{v}, 2) }
	fields := func(l, g *pb.BatchedTensor) map[string]*pb.BatchedTensor {
		return map[string]*pb.BatchedTensor{tinker.OutputLogprobs: l, tinker.OutputEmbedsGrad: g}
	}
	for name, out := range map[string]*pb.ForwardBackwardOutput{
		"nothing":        {},
		"too many data":  record(2, fields(tinker.Batch([][]float32{{1}, {2}}), nil)),
		"negative data":  record(-1, nil),
		"no logprobs":    record(1, nil),
		"short logprobs": record(1, fields(lp(-1, -2), grad(1, 2, 3, 4))),
		"nan logprob":    record(1, fields(lp(-1, nan, -2), grad(1, 2, 3, 4))),
		"no gradient":    record(1, map[string]*pb.BatchedTensor{tinker.OutputLogprobs: lp(-1, -2, -3)}),
		"short gradient": record(1, fields(lp(-1, -2, -3), grad(1, 2))),
		"nan gradient":   record(1, fields(lp(-1, -2, -3), grad(1, 2, nan, 4))),
		"nan loss":       {LossFnOutputs: record(1, fields(lp(-1, -2, -3), grad(1, 2, 3, 4))).LossFnOutputs, Metrics: map[string]float64{tinker.MetricLossSum: math.NaN()}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t)
			f.result = func(*pb.ForwardBackwardRequest) (string, []byte) { return tinker.ProtobufType, marshal(t, out) }
			m := newModel(t, f.dial(t))
			p, err := m.ForwardBackward(t.Context(), []Datum{softDatum()}, tinker.LossPPO, ppo)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.Wait(t.Context()); err == nil || fault.ClassOf(err) != fault.Endpoint {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	f := newFake(t)
	f.result = func(*pb.ForwardBackwardRequest) (string, []byte) { return tinker.ProtobufType, []byte{0xff} }
	p, err := newModel(t, f.dial(t)).ForwardBackward(t.Context(), []Datum{softDatum()}, tinker.LossPPO, ppo)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(t.Context()); err == nil || fault.ClassOf(err) != fault.Endpoint {
		t.Errorf("garbage: %v", err)
	}
}
